/**
 * Request ids of a queue. An id is the driver's own 16-bit number; the device echoes it and looks
 * for one thing only: that no id is in flight twice. The memory is the same whatever ids a driver
 * uses: a bit for each of them.
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

  /** All of them, in ascending order. */
  list(): number[] {
    const ids: number[] = [];
    this.#words.forEach((word, at) => {
      for (let bit = 0; word !== 0; bit++, word >>>= 1) if (word & 1) ids.push(at * 32 + bit);
    });
    return ids;
  }
}

/**
 * The ids of receive buffers. A buffer is in flight from the moment that its descriptor is taken
 * until its completion. A driver may use the id again once it has seen the completion, so a
 * descriptor that was announced before names a buffer that is still the device's:
 *
 *   descriptors   taken | announced      | not yet
 *                       | id: in flight  | id: free        `id` was completed just now
 *
 * An id that is in flight twice is free again after its first completion.
 */
export class RxIds {
  readonly #inFlight = new IdSet();
  /** Completed ids, oldest first, and the number of the descriptor from which each is free. */
  readonly #ids: Uint16Array;
  readonly #from: Uint32Array;
  #first = 0;
  #count = 0;
  /** Descriptors taken from the ring since it was made, 32 bits. */
  #taken: number;

  /**
   * `most`: descriptors that can be announced or held at one time. `start` lets a test begin just
   * short of the wrap.
   */
  constructor(most: number, start = 0) {
    this.#taken = start;
    this.#ids = new Uint16Array(most);
    this.#from = new Uint32Array(most);
  }

  /** The descriptor at the ring's head is taken. False when its id is in flight. */
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

  /** The id is completed while `announced` descriptors wait in the ring. */
  complete(id: number, announced: number): void {
    const size = this.#ids.length;
    if (this.#count === size) throw new Error("more receive ids were completed than were taken");
    const at = (this.#first + this.#count) % size;
    this.#ids[at] = id;
    this.#from[at] = (this.#taken + announced) >>> 0;
    this.#count++;
  }
}
