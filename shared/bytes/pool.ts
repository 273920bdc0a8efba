/**
 * A pool of equal buffers, last in first out: the buffer that was used last is the one whose
 * lines are still in the cache.
 */
export class BufferPool {
  readonly #bytes: number;
  readonly #keep: number;
  readonly #free: Uint8Array[] = [];

  /** Buffers of `bytes`; at most `keep` of them are held back for reuse. */
  constructor(bytes: number, keep: number) {
    this.#bytes = bytes;
    this.#keep = keep;
  }

  get(): Uint8Array {
    // Not from Node's shared slab: a buffer handed to a socket must be ours alone.
    return this.#free.pop() ?? Buffer.allocUnsafeSlow(this.#bytes);
  }

  put(buffer: Uint8Array): void {
    if (buffer.byteLength !== this.#bytes) throw new RangeError("not a buffer of this pool");
    if (this.#free.length < this.#keep) this.#free.push(buffer);
  }
}
