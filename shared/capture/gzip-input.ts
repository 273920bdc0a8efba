/**
 * The bytes of a gzip file, of one member or several, decompressed as they are asked for. What waits
 * is bounded, however much a few bytes become: a little is read, and no more until that is taken.
 *
 *   FileInput ── 4 KiB ──► gunzip ──► at most 4 MiB ──► read
 *
 * A file that is cut off ends where it ends, and `isCut` says so.
 */
import { createGunzip } from "node:zlib";
import type { FileInput } from "./file-input.ts";
import { CaptureFormatError } from "./pcapng/packet.ts";

/** deflate makes at most 1032 bytes of one. */
const READ_BYTES = 4096;
const CHUNK_BYTES = 256 * 1024;
const MAGIC = [0x1f, 0x8b] as const;

/** True for what begins as gzip files do. */
export const isGzip = (head: Uint8Array): boolean => head[0] === MAGIC[0] && head[1] === MAGIC[1];

export class GzipInput {
  readonly #file: FileInput;
  readonly #gunzip = createGunzip({ chunkSize: CHUNK_BYTES });
  /** The file ended before its gzip data did. */
  #isCut = false;
  /** What was read of the file before, as far as it has not been decompressed. */
  #head: Uint8Array;
  readonly #waiting: Buffer[] = [];
  /** Compressed bytes that were read. */
  #bytes = 0;
  #failed: Error | undefined;
  #ended = false;
  /** Ends the wait for what gunzip is doing. */
  #wake: () => void = () => {};

  /** `head` is what was read of the file already. */
  constructor(file: FileInput, head: Uint8Array) {
    this.#file = file;
    this.#head = head;
    this.#gunzip.on("data", (chunk: Buffer) => this.#waiting.push(chunk));
    this.#gunzip.on("error", (error: NodeJS.ErrnoException) => {
      // Z_BUF_ERROR at the end: what had come is decompressed already, and more was to come.
      if (this.#ended && error.code === "Z_BUF_ERROR") this.#isCut = true;
      else this.#failed ??= error;
    });
    // After a failure gunzip answers nothing else.
    this.#gunzip.once("close", () => this.#wake());
  }

  /** True at the end of a file that is cut off. */
  get isCut(): boolean {
    return this.#isCut;
  }

  /** As FileInput's. Rejects with CaptureFormatError where the file makes no sense. */
  async read(into: Uint8Array, at: number): Promise<number> {
    for (;;) {
      const bytes = this.#take(into, at);
      if (bytes > 0) return bytes;
      if (this.#failed !== undefined) {
        const why = `the gzip data is damaged: ${this.#failed.message}`;
        throw new CaptureFormatError("FORMAT", this.#bytes, why);
      }
      if (this.#ended) return 0;
      await this.#more();
    }
  }

  abandon(): void {
    this.#file.abandon();
  }

  async close(): Promise<void> {
    this.#gunzip.destroy();
    await this.#file.close();
  }

  #take(into: Uint8Array, at: number): number {
    const from = at;
    let chunks = 0;
    for (; chunks < this.#waiting.length && at < into.length; chunks++) {
      const chunk = this.#waiting[chunks]!;
      const bytes = Math.min(chunk.length, into.length - at);
      into.set(chunk.subarray(0, bytes), at);
      at += bytes;
      if (bytes === chunk.length) continue;
      this.#waiting[chunks] = chunk.subarray(bytes);
      break;
    }
    this.#waiting.splice(0, chunks);
    return at - from;
  }

  async #more(): Promise<void> {
    const compressed = await this.#compressed();
    this.#bytes += compressed.length;
    if (compressed.length > 0) {
      await this.#done((done) => this.#gunzip.write(compressed, done));
      return;
    }
    this.#ended = true;
    await this.#done(() => this.#gunzip.end());
  }

  /** Settles when gunzip has done what `begin` begins, or has closed. */
  #done(begin: (done: () => void) => void): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = resolve;
      if (this.#gunzip.closed) resolve();
      else begin(resolve);
    });
  }

  /** A little of the file, in memory of its own; nothing: it has ended. */
  async #compressed(): Promise<Uint8Array> {
    if (this.#head.length > 0) {
      const some = this.#head.slice(0, READ_BYTES);
      this.#head = this.#head.subarray(some.length);
      return some;
    }
    const into = new Uint8Array(READ_BYTES);
    return into.subarray(0, await this.#file.read(into, 0));
  }
}
