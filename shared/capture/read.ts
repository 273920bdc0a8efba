/** Capture files of either format, told apart by their first word, compressed by gzip or not. */

import { BlockType } from "../pcapng/layout.ts";
import { type CapturedPacket, CaptureFormatError, type PacketReader } from "../pcapng/packet.ts";
import { PcapngReader } from "../pcapng/reader.ts";
import { FileInput } from "./file-input.ts";
import { GzipInput, isGzip } from "./gzip-input.ts";
import { isPcapMagic, PcapReader } from "./pcap-reader.ts";

const BUFFER_BYTES = 1024 * 1024;
const MAGIC_BYTES = 4;
/** First words, big-endian, of files of other compressors, and the program that reads those. */
const COMPRESSED: ReadonlyMap<number, string> = new Map([
  [0x28b52ffd, "zstdcat"],
  [0xfd377a58, "xzcat"],
  [0x04224d18, "lz4cat"],
  [0x504b0304, "unzip -p"],
]);
/** "BZh" and a digit. */
const BZIP2 = 0x425a68;

/** A reader for what begins with `head` (four bytes or more). Throws CaptureFormatError. */
export function readerFor(head: Uint8Array): PcapReader | PcapngReader {
  if (head.length < MAGIC_BYTES) {
    throw new CaptureFormatError("FORMAT", 0, `${head.length} bytes are no capture file`);
  }
  const view = new DataView(head.buffer, head.byteOffset, head.length);
  if (view.getUint32(0) === BlockType.SECTION) return new PcapngReader();
  if (isPcapMagic(view.getUint32(0)) || isPcapMagic(view.getUint32(0, true))) {
    return new PcapReader();
  }
  const first = view.getUint32(0);
  const reads = first >>> 8 === BZIP2 ? "bzcat" : COMPRESSED.get(first);
  const hint = reads === undefined ? "" : `; it is compressed: give the output of ${reads}`;
  throw new CaptureFormatError("FORMAT", 0, `neither pcap nor pcapng${hint}`);
}

/**
 * The packets of a file in memory, as views of it. A file that ends within a packet ends in front
 * of that packet. Throws CaptureFormatError where it stops making sense.
 */
export function* readCapture(bytes: Uint8Array): Generator<CapturedPacket, void, undefined> {
  const reader = readerFor(bytes);
  reader.feed(bytes);
  if (reader instanceof PcapReader) reader.end();
  yield* packets(reader);
}

/** The return value of `readCaptureFile`. */
export interface ReadEnd {
  /** Bytes behind the last whole packet. */
  readonly cutBytes: number;
}

/**
 * The packets of a file on disk, each good until the next is asked for. Besides CaptureFormatError
 * it throws what the file system says.
 */
export async function* readCaptureFile(
  path: string,
): AsyncGenerator<CapturedPacket, ReadEnd, undefined> {
  await using file = await CaptureFileReader.open(path);
  while (await file.more()) yield* packets(file);
  return { cutBytes: file.pending };
}

/**
 * The packets of a file on disk, for callers that read many of them without a promise each: `next`
 * until it has none, then `more`. A file of any size is read through one buffer, which grows to
 * twice the longest block.
 */
export class CaptureFileReader implements AsyncDisposable {
  readonly #path: string;
  #file: FileInput | GzipInput;
  #reader: PcapReader | PcapngReader | undefined;
  #buffer = new Uint8Array(BUFFER_BYTES);
  /** Bytes in the buffer; the reader has not taken the last `pending` of them. */
  #have = 0;
  /** Bytes read so far, of what a compressed file becomes. */
  bytes = 0;

  private constructor(path: string, file: FileInput) {
    this.#path = path;
    this.#file = file;
  }

  /** Rejects with what the file system says. */
  static async open(path: string): Promise<CaptureFileReader> {
    return new CaptureFileReader(path, await FileInput.open(path));
  }

  /** Bytes behind the last whole packet: at the end of the file, those that were cut off. */
  get pending(): number {
    return this.#reader?.pending ?? 0;
  }

  /**
   * At the end of the file: where what is cut off begins, in bytes of what a compressed file becomes;
   * undefined when the file is whole. A compressed file may be cut off behind a whole packet.
   */
  get cutAt(): number | undefined {
    const { pending } = this;
    const isCut = pending > 0 || (this.#file instanceof GzipInput && this.#file.isCut);
    return isCut ? this.bytes - pending : undefined;
  }

  /**
   * The next packet of what was read, a view that is good until `more` is called; undefined: call
   * `more`. Throws CaptureFormatError.
   */
  next(): CapturedPacket | undefined {
    return this.#reader?.next();
  }

  /**
   * Reads on. False at the end of the file. Rejects with CaptureFormatError when the file is no
   * capture at all, and with what the file system says.
   */
  async more(): Promise<boolean> {
    this.#makeRoom();
    const before = this.#have;
    await this.#fill();
    if (this.#reader === undefined && this.#file instanceof FileInput) {
      const head = this.#buffer.slice(0, this.#have);
      if (isGzip(head)) {
        this.#file = new GzipInput(this.#file, head);
        this.#have = 0;
        await this.#fill();
      }
    }
    const bytes = this.#buffer.subarray(0, this.#have);
    this.#reader ??= readerFor(bytes);
    this.#reader.refill(bytes);
    this.bytes += this.#have - before;
    if (this.#have > before) return true;
    return this.#reader instanceof PcapReader && this.#reader.end();
  }

  /** Reads something, and at first enough to tell the formats apart. */
  async #fill(): Promise<void> {
    do {
      const bytes = await this.#file.read(this.#buffer, this.#have);
      if (bytes === 0) break;
      this.#have += bytes;
    } while (this.#reader === undefined && this.#have < MAGIC_BYTES);
  }

  /** A pipe is not waited for any longer: it has ended where it is. */
  abandon(): void {
    this.#file.abandon();
  }

  /** Back to the first packet: opens the file anew. */
  async rewind(): Promise<void> {
    const file = await FileInput.open(this.#path);
    await this.#file.close();
    this.#file = file;
    this.#reader = undefined;
    this.#have = 0;
    this.bytes = 0;
  }

  /** Closes the file. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#file.close();
  }

  /** Moves the waiting bytes to the front; a block that fills half of the buffer gets a larger one. */
  #makeRoom(): void {
    const { pending } = this;
    const waiting = this.#buffer.subarray(this.#have - pending, this.#have);
    if (2 * pending > this.#buffer.length) this.#buffer = new Uint8Array(2 * this.#buffer.length);
    if (waiting.byteOffset > 0 || waiting.buffer !== this.#buffer.buffer) this.#buffer.set(waiting);
    this.#have = pending;
    if (this.#reader instanceof PcapngReader) {
      // Nobody here asks for them, and a large file may have many.
      this.#reader.names.length = 0;
      this.#reader.statistics.length = 0;
    }
  }
}

function* packets(reader: Pick<PacketReader, "next">): Generator<CapturedPacket, void, undefined> {
  for (let packet = reader.next(); packet !== undefined; packet = reader.next()) yield packet;
}
