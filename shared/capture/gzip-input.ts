/**
 * Decompresses a gzip file of one or several members on demand. A few compressed bytes can become
 * many, so it reads a small piece, and the next one only after the caller has read the result. So
 * the bytes that wait here are bounded.
 *
 *   FileInput ── 4 KiB ──► scout ──► gunzip ──► at most 4 MiB ──► read
 *
 * When zlib fails, it drops the whole output of that call, also the output of the bytes in front
 * of the damage. So a second decompressor, the scout, gets each piece first. If the scout fails,
 * gunzip gets the piece byte by byte, and all bytes in front of the damage arrive. For a truncated
 * file the bytes end early, and `isCut` is true. Bytes behind a whole member that do not begin as a
 * member are ignored, as by gzip(1).
 */
import { createGunzip, type Gunzip } from "node:zlib";
import { CaptureFormatError } from "../pcapng/packet.ts";
import type { FileInput } from "./file-input.ts";

/** Bytes of a piece. deflate makes at most 1032 bytes of one. */
const READ_BYTES = 4096;
const CHUNK_BYTES = 256 * 1024;
const MAGIC = [0x1f, 0x8b] as const;
/** Error message of zlib for a member that does not begin with MAGIC. */
const NO_MEMBER = "incorrect header check";

/** Returns true for bytes that begin like a gzip file. */
export const isGzip = (head: Uint8Array): boolean => head[0] === MAGIC[0] && head[1] === MAGIC[1];

export class GzipInput {
  readonly #file: FileInput;
  readonly #scout = new Member();
  readonly #gunzip = new Member();
  /** True at the end of a truncated file, whose gzip data is not complete. */
  isCut = false;
  /** Bytes that the caller had read from the file and that are not decompressed yet. */
  #head: Uint8Array;
  readonly #waiting: Buffer[] = [];
  /** Number of compressed bytes in front of the damage, or read so far; and the last byte. */
  #bytes = 0;
  #last = 0;
  #ended = false;

  /** `head` holds the bytes that the caller has already read from the file. */
  constructor(file: FileInput, head: Uint8Array) {
    this.#file = file;
    this.#head = head;
    this.#scout.stream.resume();
    this.#gunzip.stream.on("data", (chunk: Buffer) => this.#waiting.push(chunk));
  }

  /** Reads as FileInput's `read`. Rejects with CaptureFormatError where the file is damaged. */
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
    while (this.#waiting.length > 0 && at < into.length) {
      const chunk = this.#waiting.shift()!;
      const bytes = Math.min(chunk.length, into.length - at);
      into.set(chunk.subarray(0, bytes), at);
      at += bytes;
      if (bytes < chunk.length) this.#waiting.unshift(chunk.subarray(bytes));
    }
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

  /** Handles the end of the file, which is behind a member or within one. */
  async #finish(): Promise<void> {
    this.#ended = true;
    // A single byte behind a member begins the next one only if it is the first byte of MAGIC. zlib
    // rejects it after a second byte only, so the scout gets one more.
    await this.#scout.write(Uint8Array.of(0));
    if (this.#scout.failed?.message === NO_MEMBER && this.#last !== MAGIC[0]) return;
    await this.#gunzip.end();
    // All bytes so far are decompressed, and the member is not complete.
    this.isCut = this.#gunzip.failed?.code === "Z_BUF_ERROR";
  }

  /** Returns 0 at the end of the data. Throws CaptureFormatError at damage. */
  #end(): 0 {
    const { failed } = this.#gunzip;
    if (failed === undefined || this.isCut || failed.message === NO_MEMBER) return 0;
    const why = `the gzip data is damaged: ${failed.message}`;
    throw new CaptureFormatError("FORMAT", this.#bytes, why);
  }

  /** Returns the next piece of the file, in its own memory; no bytes at the end of the file. */
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

/** A gunzip with writes that settle, also when it fails. It closes behind the last member. */
class Member {
  readonly stream: Gunzip = createGunzip({ chunkSize: CHUNK_BYTES });
  failed: NodeJS.ErrnoException | undefined;
  /** Settles the current write or end. */
  #wake: () => void = () => {};

  constructor() {
    this.stream.on("error", (error) => {
      this.failed ??= error;
    });
    // After a failure gunzip calls no callback of a write.
    this.stream.once("close", () => this.#wake());
  }

  write(bytes: Uint8Array): Promise<void> {
    return this.#done((done) => this.stream.write(bytes, done));
  }

  end(): Promise<void> {
    return this.#done(() => this.stream.end());
  }

  /** Settles when gunzip has done the step of `begin`, or has closed. It closes when it fails. */
  #done(begin: (done: (error?: Error | null) => void) => void): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = resolve;
      if (this.stream.closed) resolve();
      else begin((error) => error ?? resolve());
    });
  }
}
