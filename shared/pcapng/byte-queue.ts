/**
 * Bytes that arrive in pieces and are taken in pieces of another size. They are joined only when
 * a piece that is wanted crosses a border, and then once, so a stream of single bytes costs no
 * more than its length.
 */
export class ByteQueue {
  #chunks: Uint8Array[] = [];
  /** Bytes of the first chunk that have been taken. */
  #at = 0;
  /** Bytes that wait. */
  length = 0;

  feed(bytes: Uint8Array): void {
    if (bytes.length === 0) return;
    this.#chunks.push(bytes);
    this.length += bytes.length;
  }

  /** Instead of what waits: the same bytes at another place, with more behind them. */
  refill(bytes: Uint8Array): void {
    this.#chunks = [bytes];
    this.#at = 0;
    this.length = bytes.length;
  }

  /** The next `bytes` bytes, left in place; undefined when so many are not there. */
  peek(bytes: number): Uint8Array | undefined {
    if (this.length < bytes) return undefined;
    const first = this.#chunks[0] ?? NOTHING;
    if (first.length - this.#at >= bytes) return first.subarray(this.#at, this.#at + bytes);
    return this.#join(bytes).subarray(0, bytes);
  }

  /** Drops the next `bytes` bytes, which are there. */
  skip(bytes: number): void {
    if (bytes > this.length) throw new RangeError(`skip ${bytes} of ${this.length}`);
    this.length -= bytes;
    this.#at += bytes;
    let gone = 0;
    for (let first = this.#chunks[0]; first !== undefined && this.#at >= first.length; ) {
      this.#at -= first.length;
      gone++;
      first = this.#chunks[gone];
    }
    if (gone > 0) this.#chunks.splice(0, gone);
  }

  /** Puts as many chunks together as hold `bytes` bytes. */
  #join(bytes: number): Uint8Array {
    const joined: Uint8Array[] = [];
    let have = -this.#at;
    while (have < bytes) {
      const chunk = this.#chunks[joined.length]!;
      joined.push(chunk);
      have += chunk.length;
    }
    const whole = new Uint8Array(have);
    let at = -this.#at;
    for (const chunk of joined) {
      if (at < 0) whole.set(chunk.subarray(-at), 0);
      else whole.set(chunk, at);
      at += chunk.length;
    }
    this.#chunks.splice(0, joined.length, whole);
    this.#at = 0;
    return whole;
  }
}

const NOTHING = new Uint8Array(0);
