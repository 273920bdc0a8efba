/**
 * Between recorder and output: full buffers wait here, one write is under way at a time, and a
 * failure ends everything once.
 *
 *   recorder ── give() ──► [buffer][buffer][buffer, last of its file] ── write ──► sink
 *            ◄─ empty() ───────────── buffers that were written ◄──────────┘
 */

import { BlockBuffer } from "../pcapng/block-buffer.ts";
import { BLOCK_LENGTH, BLOCK_TYPE, BlockType, LE } from "../pcapng/layout.ts";
import { type CaptureOutput, type CaptureSink, SinkError } from "./output.ts";

/** One file, or the one stream: what whole blocks it holds. */
export interface CaptureFile {
  readonly name: string;
  readonly packets: number;
  readonly bytes: number;
}

/** Packets and bytes of all files. */
export function totalOf(files: readonly CaptureFile[]): { packets: number; bytes: number } {
  let packets = 0;
  let bytes = 0;
  for (const file of files) {
    packets += file.packets;
    bytes += file.bytes;
  }
  return { packets, bytes };
}

interface Item {
  readonly buffer: BlockBuffer;
  readonly packets: number;
  /** The file ends behind this buffer. */
  readonly last: boolean;
  /** When the file that this buffer belongs to began. */
  readonly startMs: number;
}

/** Room for a batch of usual length, and for a burst of frames. */
const BUFFER_BYTES = 512 * 1024;
/** Buffers kept for reuse: 4 MiB. */
const KEEP = 8;

export class Pump {
  /** True while a write is under way. */
  busy = false;
  /** Bytes given and not yet written. */
  queuedBytes = 0;
  /** Called when everything given has been written. */
  onIdle: () => void = () => {};

  readonly files: CaptureFile[] = [];
  readonly #output: CaptureOutput;
  readonly #onFailure: (error: SinkError) => void;
  readonly #items: Item[] = [];
  readonly #free: BlockBuffer[] = [];
  #failed = false;
  #fileNumber = 0;
  #sink: CaptureSink | undefined;
  /** The reader said that it leaves. */
  #gone: SinkError | undefined;
  #packets = 0;
  #bytes = 0;
  #whenIdle: (() => void)[] = [];

  constructor(output: CaptureOutput, onFailure: (error: SinkError) => void) {
    this.#output = output;
    this.#onFailure = onFailure;
  }

  /** An empty buffer. */
  empty(): BlockBuffer {
    return this.#free.pop() ?? new BlockBuffer(BUFFER_BYTES);
  }

  /** Takes a buffer of whole blocks, `packets` of them packets. It is the pump's from now on. */
  give(buffer: BlockBuffer, packets: number, last: boolean, startMs: number): void {
    if (this.#failed) return;
    this.#items.push({ buffer, packets, last, startMs });
    this.queuedBytes += buffer.used;
    if (!this.busy) void this.#run();
  }

  /** Settles when everything given has been written, or the output has failed. */
  drained(): Promise<void> {
    if (!this.busy) return Promise.resolve();
    return new Promise((resolve) => this.#whenIdle.push(resolve));
  }

  async #run(): Promise<void> {
    this.busy = true;
    try {
      for (let item = this.#items.shift(); item !== undefined; item = this.#items.shift()) {
        this.#sink ??= await this.#open(item.startMs);
        await this.#write(this.#sink, item);
        if (item.last) await this.#close();
      }
      if (this.#gone !== undefined && this.#sink !== undefined) throw this.#gone;
    } catch (error) {
      await this.#fail(SinkError.from(error));
    }
    this.busy = false;
    for (const resolve of this.#whenIdle.splice(0)) resolve();
    if (!this.#failed) this.onIdle();
  }

  #open(startMs: number): Promise<CaptureSink> {
    this.#fileNumber++;
    return this.#output.open(this.#fileNumber, startMs, (error) => {
      // While a write is under way it fails by itself, and knows how far it came.
      this.#gone = error;
      if (this.#sink !== undefined && !this.busy) void this.#fail(error);
    });
  }

  async #write(sink: CaptureSink, { buffer, packets }: Item): Promise<void> {
    const bytes = buffer.used;
    try {
      await sink.write(buffer.written());
    } catch (error) {
      const failure = SinkError.from(error);
      const whole = wholeBlocks(buffer, failure.written);
      this.#packets += whole.packets;
      this.#bytes += whole.bytes;
      throw failure;
    }
    this.#packets += packets;
    this.#bytes += bytes;
    this.queuedBytes -= bytes;
    buffer.used = 0;
    if (buffer.bytes.length === BUFFER_BYTES && this.#free.length < KEEP) this.#free.push(buffer);
  }

  async #close(): Promise<void> {
    const sink = this.#sink;
    if (sink === undefined) return;
    this.#sink = undefined;
    this.files.push({ name: sink.name, packets: this.#packets, bytes: this.#bytes });
    const bytes = this.#bytes;
    this.#packets = 0;
    this.#bytes = 0;
    await sink.close(bytes);
  }

  async #fail(error: SinkError): Promise<void> {
    if (this.#failed) return;
    this.#failed = true;
    this.#items.length = 0;
    this.queuedBytes = 0;
    // The output has said what is wrong: what it says while closing adds nothing.
    await this.#close().catch(() => undefined);
    this.#onFailure(error);
  }
}

/** How much of the first `bytes` bytes is whole blocks. */
function wholeBlocks(buffer: BlockBuffer, bytes: number): { bytes: number; packets: number } {
  const { view } = buffer;
  let at = 0;
  let packets = 0;
  while (at + BLOCK_LENGTH + 4 <= bytes) {
    const end = at + view.getUint32(at + BLOCK_LENGTH, LE);
    if (end > bytes) break;
    if (view.getUint32(at + BLOCK_TYPE, LE) === BlockType.ENHANCED_PACKET) packets++;
    at = end;
  }
  return { bytes: at, packets };
}
