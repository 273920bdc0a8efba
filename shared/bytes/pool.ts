import { allocate, arena } from "./arena.ts";

/**
 * A pool of buffers of equal size, last in first out, because the lines of the buffer that was
 * used last are still in the cache.
 */
export class BufferPool {
  readonly #bytes: number;
  readonly #keep: number;
  readonly #free: Uint8Array[] = [];

  /**
   * Creates a pool of buffers of `bytes` bytes. It keeps at most `keep` returned buffers, and all of
   * the arena.
   */
  constructor(bytes: number, keep: number) {
    this.#bytes = bytes;
    this.#keep = keep;
  }

  get(): Uint8Array {
    return this.#free.pop() ?? allocate(this.#bytes);
  }

  put(buffer: Uint8Array): void {
    if (buffer.byteLength !== this.#bytes) throw new RangeError("not a buffer of this pool");
    if (this.#free.length < this.#keep || buffer.buffer === arena) this.#free.push(buffer);
  }
}
