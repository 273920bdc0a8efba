/**
 * Request ids of a queue. An id is a 16-bit number of the driver. The device echoes it and checks
 * only that no id is in flight twice. A set needs one bit for each possible id, so its memory does
 * not depend on the ids that a driver uses.
 */
const IDS = 1 << 16;

/** A set of request ids, 8 KiB. */
export class IdSet {
  readonly #words = new Uint32Array(IDS / 32);

  has(id: number): boolean {
    return (this.#words[id >>> 5]! & (1 << (id & 31))) !== 0;
  }

  add(id: number): void {
    this.#words[id >>> 5]! |= 1 << (id & 31);
  }

  delete(id: number): void {
    this.#words[id >>> 5]! &= ~(1 << (id & 31));
  }

  /** Returns all ids of the set, in ascending order. */
  list(): number[] {
    const ids: number[] = [];
    this.#words.forEach((word, at) => {
      for (let bit = 0; word !== 0; bit++, word >>>= 1) if (word & 1) ids.push(at * 32 + bit);
    });
    return ids;
  }
}
