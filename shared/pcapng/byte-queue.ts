/**
 * Bytes that arrive in pieces and are taken in pieces of another size. They are joined only when
 * a piece that is wanted crosses a border, and then once, so a stream of single bytes costs no
 * more than its length.
 */
export class ByteQueue {
  /** Without the bytes that have been taken. */
  #chunks: Uint8Array[] = [];
  /** Bytes that wait. */
  length = 0;
  /** Bytes that have been taken since the start. */
  offset = 0;

  feed(bytes: Uint8Array): void {
    if (bytes.length === 0) return;
    this.#chunks.push(bytes);
    this.length += bytes.length;
  }

  /** Instead of what waits: the same bytes at another place, with more behind them. */
  refill(bytes: Uint8Array): void {
    this.#chunks = [bytes];
    this.length = bytes.length;
  }

  /** The next `bytes` bytes, left in place; undefined when so many are not there. */
  peek(bytes: number): Uint8Array | undefined {
    if (this.length < bytes) return undefined;
    if ((this.#chunks[0] ?? NOTHING).length < bytes) this.#join(bytes);
    return (this.#chunks[0] ?? NOTHING).subarray(0, bytes);
  }

  /** Drops the next `bytes` bytes, which are there. */
  skip(bytes: number): void {
    if (bytes > this.length) throw new RangeError(`skip ${bytes} of ${this.length}`);
    this.length -= bytes;
    this.offset += bytes;
    let gone = 0;
    let left = bytes;
    while (left > 0 && left >= this.#chunks[gone]!.length) left -= this.#chunks[gone++]!.length;
    if (gone > 0) this.#chunks.splice(0, gone);
    if (left > 0) this.#chunks[0] = this.#chunks[0]!.subarray(left);
  }

  /** Puts as many chunks together as hold `bytes` bytes. */
  #join(bytes: number): void {
    let count = 0;
    let have = 0;
    while (have < bytes) have += this.#chunks[count++]!.length;
    const whole = new Uint8Array(have);
    let at = 0;
    for (const chunk of this.#chunks.slice(0, count)) {
      whole.set(chunk, at);
      at += chunk.length;
    }
    this.#chunks.splice(0, count, whole);
  }
}

const NOTHING = new Uint8Array(0);
