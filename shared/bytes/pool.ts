/**
 * A pool of buffers of equal size, last in first out, because the lines of the buffer that was
 * used last are still in the cache.
 */
export class BufferPool {
  readonly #bytes: number;
  readonly #keep: number;
  readonly #free: Uint8Array[] = [];

  /** Creates a pool of buffers of `bytes` bytes. It keeps at most `keep` returned buffers. */
  constructor(bytes: number, keep: number) {
    this.#bytes = bytes;
    this.#keep = keep;
  }

  get(): Uint8Array {
    // Not from Node's shared slab, because no other code may share a buffer given to a socket.
    return this.#free.pop() ?? Buffer.allocUnsafeSlow(this.#bytes);
  }

  put(buffer: Uint8Array): void {
    if (buffer.byteLength !== this.#bytes) throw new RangeError("not a buffer of this pool");
    if (this.#free.length < this.#keep) this.#free.push(buffer);
  }
}
