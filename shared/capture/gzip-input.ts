/**
 * The bytes of a gzip file, of one member or several, decompressed as they are asked for. What waits
 * is bounded, however much a few bytes become: a little is read, and no more until that is taken.
 *
 *   FileInput ── 4 KiB ──► scout ──► gunzip ──► at most 4 MiB ──► read
 *
 * zlib fails with all that one call was given, also with what it made of the bytes in front of the
 * damage. So a scout decompresses each piece first. A piece that fails there goes on byte by byte,
 * and all in front of the damage arrives. A file that is cut off ends where it ends, and `isCut` says
 * so. Behind a whole member anything may follow that does not begin as one: it is left alone, as
 * gzip(1) does.
 */
import { createGunzip, type Gunzip } from "node:zlib";
import { CaptureFormatError } from "../pcapng/packet.ts";
import type { FileInput } from "./file-input.ts";

/** deflate makes at most 1032 bytes of one. */
const READ_BYTES = 4096;
const CHUNK_BYTES = 256 * 1024;
const MAGIC = [0x1f, 0x8b] as const;
/** zlib's words for a member that does not begin with MAGIC. */
const NO_MEMBER = "incorrect header check";

/** True for what begins as gzip files do. */
export const isGzip = (head: Uint8Array): boolean => head[0] === MAGIC[0] && head[1] === MAGIC[1];

export class GzipInput {
  readonly #file: FileInput;
  readonly #scout = new Member();
  readonly #gunzip = new Member();
  /** The file ended before its gzip data did. */
  #isCut = false;
  /** Bytes that were read from the file before and are not decompressed yet. */
  #head: Uint8Array;
  readonly #waiting: Buffer[] = [];
  /** Compressed bytes in front of the damage, or all that were read; and the last byte. */
  #bytes = 0;
  #last = 0;
  #ended = false;

  /** `head` is what was read of the file already. */
  constructor(file: FileInput, head: Uint8Array) {
    this.#file = file;
    this.#head = head;
    this.#scout.stream.resume();
    this.#gunzip.stream.on("data", (chunk: Buffer) => this.#waiting.push(chunk));
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
      if (this.#ended) return this.#end();
      await this.#more();
    }
  }

  abandon(): void {
    this.#file.abandon();
  }

  async close(): Promise<void> {
    this.#scout.stream.destroy();
    this.#gunzip.stream.destroy();
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
    if (compressed.length === 0) {
      await this.#finish();
      return;
    }
    await this.#scout.write(compressed);
    const step = this.#scout.failed === undefined ? compressed.length : 1;
    for (let at = 0; at < compressed.length && !this.#gunzip.stream.closed; at += step) {
      await this.#gunzip.write(compressed.subarray(at, at + step));
      if (this.#gunzip.failed === undefined) this.#bytes += step;
    }
    this.#last = compressed.at(-1)!;
    this.#ended = this.#gunzip.stream.closed;
  }

  /** The file has ended: behind a member, or within one. */
  async #finish(): Promise<void> {
    this.#ended = true;
    // One byte alone is no member, unless it begins as one. The scout knows with one more.
    await this.#scout.write(Uint8Array.of(0));
    if (this.#scout.failed?.message === NO_MEMBER && this.#last !== MAGIC[0]) return;
    await this.#gunzip.end();
    // The bytes so far are decompressed already, and more were to come.
    this.#isCut = this.#gunzip.failed?.code === "Z_BUF_ERROR";
  }

  /** 0 at the end. Throws CaptureFormatError at damage. */
  #end(): 0 {
    const { failed } = this.#gunzip;
    if (failed === undefined || this.#isCut || failed.message === NO_MEMBER) return 0;
    const why = `the gzip data is damaged: ${failed.message}`;
    throw new CaptureFormatError("FORMAT", this.#bytes, why);
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

/** A gunzip whose writes can be waited for, also when it fails. It closes behind its last member. */
class Member {
  readonly stream: Gunzip = createGunzip({ chunkSize: CHUNK_BYTES });
  failed: NodeJS.ErrnoException | undefined;
  /** Ends the wait for what gunzip is doing. */
  #wake: () => void = () => {};

  constructor() {
    this.stream.on("error", (error) => {
      this.failed ??= error;
    });
    // After a failure gunzip answers nothing else.
    this.stream.once("close", () => this.#wake());
  }

  write(bytes: Uint8Array): Promise<void> {
    return this.#done((done) => this.stream.write(bytes, done));
  }

  end(): Promise<void> {
    return this.#done(() => this.stream.end());
  }

  /** Settles when gunzip has done what `begin` begins, or has closed, as it does when it fails. */
  #done(begin: (done: (error?: Error | null) => void) => void): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = resolve;
      if (this.stream.closed) resolve();
      else begin((error) => error ?? resolve());
    });
  }
}
