/**
 * The bytes of a stream that were received and not processed yet.
 *
 *   | processed | held: the begin of a message | room for the next read |
 *               ^ start                        ^ end
 *
 * The next read continues behind the held bytes, so that a message is never collected. All streams
 * share a few large buffers, whose lines are still in the cache: a stream has one only while it is
 * read, or while it holds a large part of a message.
 */
import { BufferPool, type PooledBuffer } from "../bytes/pool.ts";
import { giveBuffer, takeBuffer } from "./message-buffers.ts";

/** Most bytes of one read. */
const READ_BYTES = 256 * 1024;
/** Least room for a read. */
const LEAST_BYTES = 4096;
const SHARED_BYTES = 2 * READ_BYTES;
/** Held bytes up to which a stream moves to a buffer of its own, instead of keeping a shared one. */
const SMALL_BYTES = 16 * 1024;
/** Most shared buffers that streams keep for large parts. Further parts move as small ones do. */
const MOST_KEPT = 16;

const pool = new BufferPool(SHARED_BYTES, 4);
const NONE = new Uint8Array(0);
/** Number of shared buffers in use, for the whole process. */
let inUse = 0;

export class ReadBuffer {
  bytes: Uint8Array = NONE;
  start = 0;
  end = 0;
  /** The shared buffer that `bytes` is, or undefined when `bytes` is this stream's own. */
  #shared: PooledBuffer | undefined;

  /** Makes room behind `end`. Returns the number of bytes that may be read there. */
  room(): number {
    const held = this.end - this.start;
    if (this.#shared !== undefined) {
      if (this.bytes.length - this.end < READ_BYTES) this.#toFront();
      if (this.bytes.length - this.end < LEAST_BYTES) this.#grow(held);
    } else if (held <= SMALL_BYTES) {
      const shared = pool.get();
      inUse++;
      this.#moveTo(shared.bytes);
      this.#shared = shared;
    } else if (this.bytes.length - this.end < LEAST_BYTES) this.#grow(held);
    return Math.min(READ_BYTES, this.bytes.length - this.end);
  }

  /** Called when the stream waits for more input. Gives a large buffer back if possible. */
  settle(): void {
    if (this.bytes.length <= SMALL_BYTES) return;
    const held = this.end - this.start;
    if (held === 0) this.clear();
    else if (held <= SMALL_BYTES) this.#moveTo(new Uint8Array(Math.max(held, LEAST_BYTES)));
    else if (this.#shared !== undefined && inUse > MOST_KEPT) this.#grow(held);
  }

  /** Bytes of memory beyond those that every stream may hold. */
  get extraBytes(): number {
    return this.bytes.length <= SMALL_BYTES ? 0 : this.bytes.length;
  }

  /** Drops all bytes. */
  clear(): void {
    this.start = 0;
    this.end = 0;
    this.#moveTo(NONE);
  }

  #grow(held: number): void {
    this.#moveTo(takeBuffer(held + LEAST_BYTES));
  }

  /** Moves the held bytes, and gives the old buffer back. */
  #moveTo(buffer: Uint8Array): void {
    const old = this.bytes;
    if (this.end > this.start) buffer.set(old.subarray(this.start, this.end));
    this.bytes = buffer;
    this.end -= this.start;
    this.start = 0;
    if (this.#shared !== undefined) {
      this.#shared.release();
      this.#shared = undefined;
      inUse--;
    } else if (old.length > SMALL_BYTES) giveBuffer(old);
  }

  #toFront(): void {
    this.bytes.copyWithin(0, this.start, this.end);
    this.end -= this.start;
    this.start = 0;
  }
}
