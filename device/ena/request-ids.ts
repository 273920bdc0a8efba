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

/**
 * The ids of receive buffers. A buffer is in flight from the moment its descriptor is consumed
 * until its completion. A driver may use the id again only after it has seen the completion. If a
 * descriptor that was announced earlier carries the id, the device still owns that buffer:
 *
 *   descriptors   taken | announced      | not yet
 *                       | id: in flight  | id: free        `id` was completed just now
 *
 * An id that is in flight twice is free again after its first completion.
 */
export class RxIds {
  readonly #inFlight = new IdSet();
  /** Completed ids, oldest first, and the number of the descriptor from which on each is free. */
  readonly #ids: Uint16Array;
  readonly #from: Uint32Array;
  #first = 0;
  #count = 0;
  /** Number of descriptors consumed since the ring was created, modulo 2^32. */
  #taken: number;

  /**
   * `most` is the number of descriptors that can be announced or held at one time. With `start` a
   * test begins just before the wrap.
   */
  constructor(most: number, start = 0) {
    this.#taken = start;
    this.#ids = new Uint16Array(most);
    this.#from = new Uint32Array(most);
  }

  /** Records that the ring's next descriptor is consumed. Returns false if its id is in flight. */
  take(id: number): boolean {
    const size = this.#ids.length;
    while (this.#count > 0 && ((this.#from[this.#first]! - this.#taken) | 0) <= 0) {
      this.#inFlight.delete(this.#ids[this.#first]!);
      this.#first = this.#first + 1 === size ? 0 : this.#first + 1;
      this.#count--;
    }
    this.#taken = (this.#taken + 1) >>> 0;
    const free = !this.#inFlight.has(id);
    this.#inFlight.add(id);
    return free;
  }

  /** Records that `id` is completed while `announced` descriptors wait in the ring. */
  complete(id: number, announced: number): void {
    const size = this.#ids.length;
    if (this.#count === size) throw new Error("more receive ids were completed than were taken");
    const at = (this.#first + this.#count) % size;
    this.#ids[at] = id;
    this.#from[at] = (this.#taken + announced) >>> 0;
    this.#count++;
  }
}
