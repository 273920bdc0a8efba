import { allocate, arena } from "./arena.ts";

/** A buffer of a pool, with what its users would make for each use. */
export class PooledBuffer {
  readonly bytes: Uint8Array;
  /** View of all bytes. */
  readonly view: DataView;
  /** Gives the buffer back to its pool. Call it once for each `get`. */
  readonly release: () => void;

  /** Called by BufferPool. */
  constructor(bytes: Uint8Array, put: (buffer: PooledBuffer) => void) {
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.release = () => put(this);
  }
}

/**
 * A pool of buffers of equal size, last in first out, because the lines of the buffer that was
 * used last are still in the cache.
 */
export class BufferPool {
  readonly #bytes: number;
  readonly #keep: number;
  readonly #free: PooledBuffer[] = [];
  readonly #put = (buffer: PooledBuffer): void => {
    if (this.#free.length < this.#keep || buffer.bytes.buffer === arena) this.#free.push(buffer);
  };

  /**
   * Creates a pool of buffers of `bytes` bytes. It keeps at most `keep` returned buffers, and all of
   * the arena.
   */
  constructor(bytes: number, keep: number) {
    this.#bytes = bytes;
    this.#keep = keep;
  }

  get(): PooledBuffer {
    return this.#free.pop() ?? new PooledBuffer(allocate(this.#bytes), this.#put);
  }
}
