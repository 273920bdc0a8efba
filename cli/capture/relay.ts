/**
 * Writes a capture that arrives over the network to files. Blocks are written unchanged. Each file
 * begins with the descriptions of the stream and ends with statistics, so it is complete.
 *
 *   bytes ── feed ──► whole blocks ──► Pump ──► file 1 | file 2 | ...
 *                     descriptions kept, packets counted; statistics kept back
 *
 * A file is complete in all three cases: the stream ended, it was cut, or the user stopped it.
 */
import type { CaptureOutput, SinkError } from "../../shared/capture/output.ts";
import { readerGone } from "../../shared/capture/output.ts";
import { Pump, totalOf } from "../../shared/capture/pump.ts";
import type { CaptureSummary } from "../../shared/capture/recorder-types.ts";
import type { BlockBuffer } from "../../shared/pcapng/block-buffer.ts";
import { type Block, nextBlock } from "../../shared/pcapng/block-reader.ts";
import { ByteQueue } from "../../shared/pcapng/byte-queue.ts";
import {
  BlockType,
  EPB_CAPTURED,
  EPB_DATA,
  EPB_INTERFACE,
  EPB_TIME_HIGH,
  EPB_TIME_LOW,
  EpbOption,
  OPT_END,
  OPTION_CODE,
  OPTION_HEADER_BYTES,
  OPTION_LENGTH,
  padded,
} from "../../shared/pcapng/layout.ts";
import { PcapngReader } from "../../shared/pcapng/reader.ts";
import { type InterfaceCounts, PcapngWriter } from "../../shared/pcapng/writer.ts";

export interface RelayOptions {
  /** Bytes after which a new file begins. No file gets longer; 0, the default: no limit. */
  readonly rotateBytes?: number;
  /** Time (ms) after the file's first packet from which on a packet begins a new file. */
  readonly rotateMs?: number;
}

/** Bytes that may wait for the output. Above, `feed` waits too; the sender has its own queue. */
const WAIT_BYTES = 4 * 1024 * 1024;
/**
 * Types of the blocks with which every file begins, and the maximum bytes of all these blocks. A
 * device has at most 1024 interfaces, of some hundred bytes each.
 */
const DESCRIPTIONS: ReadonlySet<number> = new Set([
  BlockType.SECTION,
  BlockType.INTERFACE,
  BlockType.NAMES,
]);
const MAX_DESCRIPTION_BYTES = 4 * 1024 * 1024;
/** Bytes of an Interface Statistics Block. */
const STATISTICS_BYTES = 24 + 7 * 12 + 4;
const WORD = 2 ** 32;

/** The counts of one interface of the stream. */
interface Counts {
  /** Counts from the stream's own statistics, which come early when a NIC leaves. */
  told: Omit<InterfaceCounts, "delivered"> | undefined;
  delivered: number;
  lost: number;
}

const countsOf = ({ told, delivered, lost }: Counts): InterfaceCounts => ({
  received: Math.max(told?.received ?? 0, delivered + lost),
  accepted: Math.max(told?.accepted ?? 0, delivered + lost),
  dropped: Math.max(told?.dropped ?? 0, lost),
  delivered,
});

export class CaptureRelay {
  /** Resolves when everything has been written, or the output has failed. Never rejects. */
  readonly done: Promise<CaptureSummary>;
  readonly #input = new ByteQueue();
  readonly #pump: Pump;
  readonly #writer: PcapngWriter;
  /** Parses the blocks that are not packets. */
  readonly #reader = new PcapngReader();
  readonly #rotateBytes: number;
  readonly #rotateNs: number;
  readonly #counts: Counts[] = [];
  /** Blocks of the section, interfaces and names, unchanged. Every file begins with them. */
  readonly #descriptions: Uint8Array[] = [];
  #descriptionBytes = 0;
  #out: BlockBuffer;
  #outPackets = 0;
  #fileBytes = 0;
  #filePackets = 0;
  /** Times (ns since 1970, two words): stream's first packet, file's first packet, last packet. */
  #startHigh = 0;
  #startLow = 0;
  #fileHigh = 0;
  #fileLow = 0;
  #high = 0;
  #low = 0;
  #ended = false;
  #resolve: (summary: CaptureSummary) => void;

  constructor(output: CaptureOutput, options: RelayOptions = {}) {
    this.#rotateBytes = options.rotateBytes || Number.POSITIVE_INFINITY;
    this.#rotateNs = (options.rotateMs || Number.POSITIVE_INFINITY) * 1e6;
    const { promise, resolve } = Promise.withResolvers<CaptureSummary>();
    this.done = promise;
    this.#resolve = resolve;
    this.#pump = new Pump(output, (error) => this.#fail(error));
    this.#out = this.#pump.empty();
    this.#writer = new PcapngWriter(this.#out);
  }

  /** Number of packets received. */
  get packets(): number {
    return this.#counts.reduce((sum, { delivered }) => sum + delivered, 0);
  }

  /**
   * Accepts more bytes of the stream, and keeps them without a copy. Settles when there is room for
   * more. Rejects with CaptureFormatError when the bytes are not the stream of a device.
   */
  async feed(bytes: Uint8Array): Promise<void> {
    if (this.#ended) return;
    this.#input.feed(bytes);
    for (;;) {
      const block = nextBlock(this.#input, true);
      if (block === undefined) break;
      this.#take(block);
    }
    if (this.#out.used > 0) this.#handOver(false);
    if (this.#pump.queuedBytes > WAIT_BYTES) await this.#pump.drained();
  }

  /** Ends the capture, at the end of the stream or before it. */
  end(reason: string): Promise<CaptureSummary> {
    if (!this.#ended) {
      this.#ended = true;
      if (this.#descriptions.length > 0) this.#endFile();
      void this.#pump.drained().then(() => this.#finish(reason));
    }
    return this.done;
  }

  #take(block: Block): void {
    const { type } = block;
    if (type === BlockType.ENHANCED_PACKET) {
      this.#packet(block);
      return;
    }
    if (type === BlockType.SECTION) {
      if (this.#descriptions.length > 0) throw block.fail("FORMAT", "a second section");
      if (!block.little) throw block.fail("FORMAT", "no capture of a device");
    }
    const copy = new Uint8Array(block.bytes);
    this.#reader.feed(copy);
    if (this.#reader.next() !== undefined) {
      // If it were passed on, the file would hold a packet that no counter includes.
      throw block.fail("FORMAT", "a packet block of an old kind");
    }
    if (type === BlockType.STATISTICS) {
      this.#statistics();
      return;
    }
    if (type === BlockType.INTERFACE) this.#counts.push({ told: undefined, delivered: 0, lost: 0 });
    if (DESCRIPTIONS.has(type)) this.#describe(block, copy);
    this.#append(copy);
  }

  #describe(block: Block, copy: Uint8Array): void {
    this.#descriptionBytes += copy.length;
    if (this.#descriptionBytes > MAX_DESCRIPTION_BYTES) {
      throw block.fail("FORMAT", "descriptions without end");
    }
    this.#descriptions.push(copy);
    this.#reader.names.length = 0;
  }

  #packet(block: Block): void {
    const { length } = block.bytes;
    const room = block.end - EPB_DATA;
    if (room < 0 || block.u32(EPB_CAPTURED) > room) {
      throw block.fail("BLOCK_LENGTH", "a packet that is longer than its block");
    }
    const counts = this.#counts[block.u32(EPB_INTERFACE)];
    if (counts === undefined) throw block.fail("INTERFACE", "a packet of no interface");
    const drops = dropsOf(block);
    if (drops < 0) throw block.fail("OPTION", "options that can't be read");
    this.#high = block.u32(EPB_TIME_HIGH);
    this.#low = block.u32(EPB_TIME_LOW);
    this.#rotateIfDue(length);
    if (this.#filePackets === 0) {
      this.#fileHigh = this.#high;
      this.#fileLow = this.#low;
      if (this.#startHigh === 0) {
        this.#startHigh = this.#high;
        this.#startLow = this.#low;
      }
    }
    counts.delivered++;
    counts.lost += drops;
    this.#append(block.bytes);
    this.#outPackets++;
    this.#filePackets++;
  }

  /** Keeps the stream's own statistics for the statistics at the end of the files. */
  #statistics(): void {
    // They are removed from the reader, because a stream may run for weeks.
    for (const {
      interface: described,
      received,
      accepted,
      dropped,
      tsNs,
    } of this.#reader.statistics.splice(0)) {
      const counts = this.#counts[described.index]!;
      const { delivered } = counts;
      counts.told = {
        received: Number(received ?? delivered),
        accepted: Number(accepted ?? delivered),
        dropped: Number(dropped ?? 0),
      };
      this.#high = Number(tsNs >> 32n);
      this.#low = Number(tsNs & 0xffff_ffffn);
    }
  }

  #append(bytes: Uint8Array): void {
    if (this.#out.used + bytes.length > this.#out.bytes.length && this.#out.used > 0) {
      this.#handOver(false);
    }
    this.#out.reserve(bytes.length);
    this.#out.bytes.set(bytes, this.#out.used);
    this.#out.used += bytes.length;
    this.#fileBytes += bytes.length;
  }

  #rotateIfDue(length: number): void {
    if (this.#filePackets === 0) return;
    const end = this.#fileBytes + length + this.#counts.length * STATISTICS_BYTES;
    const age = (this.#high - this.#fileHigh) * WORD + (this.#low - this.#fileLow);
    if (end <= this.#rotateBytes && age < this.#rotateNs) return;
    this.#endFile();
    for (const description of this.#descriptions) this.#append(description);
  }

  #endFile(): void {
    for (const [number, counts] of this.#counts.entries()) {
      const [high, low] = [this.#high, this.#low];
      this.#writer.statistics(number, this.#startHigh, this.#startLow, high, low, countsOf(counts));
    }
    this.#handOver(true);
    this.#fileBytes = 0;
    this.#filePackets = 0;
  }

  #handOver(last: boolean): void {
    const full = this.#out;
    this.#out = this.#pump.empty();
    this.#writer.out = this.#out;
    const startMs =
      this.#fileHigh === 0 ? Date.now() : (this.#fileHigh * WORD + this.#fileLow) / 1e6;
    this.#pump.give(full, this.#outPackets, last, startMs);
    this.#outPackets = 0;
  }

  #fail(error: SinkError): void {
    this.#ended = true;
    if (readerGone(error.code)) this.#finish("reader gone", error.code);
    else this.#finish(`failed: ${error.message}`, error.code);
  }

  #finish(reason: string, code?: string): void {
    const { files } = this.#pump;
    this.#resolve({
      reason,
      code,
      ...totalOf(files),
      files,
      interfaces: this.#counts.map((counts, i) => ({
        name: this.#reader.interfaces[i]?.name ?? "",
        ...countsOf(counts),
      })),
    });
  }
}

/** Bytes of the options that readers parse as numbers. */
const NUMBER_BYTES: readonly (number | undefined)[] = Object.assign([], {
  [EpbOption.FLAGS]: 4,
  [EpbOption.DROP_COUNT]: 8,
  [EpbOption.PACKET_ID]: 8,
  [EpbOption.QUEUE]: 4,
});

/**
 * Returns the epb_dropcount of a packet block, 0 without that option, or -1 for options that a
 * reader can't parse. The caller has checked that the packet lies within the block.
 */
function dropsOf(block: Block): number {
  const { end } = block;
  let at = EPB_DATA + padded(block.u32(EPB_CAPTURED));
  let drops = 0;
  // Blocks and all their parts are padded to whole words.
  while (at < end) {
    const code = block.u16(at + OPTION_CODE);
    const length = block.u16(at + OPTION_LENGTH);
    if (code === OPT_END) break;
    at += OPTION_HEADER_BYTES;
    if (length > end - at || length !== (NUMBER_BYTES[code] ?? length)) return -1;
    if (code === EpbOption.DROP_COUNT) {
      drops = block.u32(at) + block.u32(at + 4) * WORD;
    }
    at += padded(length);
  }
  return drops;
}
