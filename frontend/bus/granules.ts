/**
 * Free parts of the function's 32-bit bus space, in granules of 4 KiB.
 *
 *   granule    0      1 ................ end        2^20
 *            | none | taken and free      | not yet used |
 *
 * Granule 0 is never allocated, so that address 0 always faults. A search continues where the last
 * one ended (next fit). A place just freed is therefore reused last, so late device accesses to the
 * place do not reach its next owner. `end` grows only when nothing fits, so that tables indexed by
 * granule stay as small as the space in use.
 *
 * Nothing here runs for each frame, because maps are created when a ring is set up.
 */

export const GRANULE_SHIFT = 12;
export const GRANULE_BYTES = 1 << GRANULE_SHIFT;
/** Number of granules in 4 GiB. */
export const GRANULES = 1 << 20;

/** Returns the number of granules for `bytes` bytes. */
export const granulesFor = (bytes: number): number => Math.ceil(bytes / GRANULE_BYTES);

export class GranuleAllocator {
  readonly #limit: number;
  /** By granule: 1 for an allocated one. Its length is the number of granules ever used. */
  #taken: Uint8Array<ArrayBuffer>;
  /** Granule at which the next search begins. */
  #cursor = 1;
  /** Number of allocated granules. */
  inUse = 0;

  /** `initial` and `limit` are in granules. */
  constructor(initial = 4096, limit = GRANULES) {
    this.#limit = limit;
    this.#taken = new Uint8Array(Math.min(Math.max(initial, 2), limit));
    this.#taken[0] = 1;
  }

  /** Upper bound of the allocated granules: each is below this number. */
  get end(): number {
    return this.#taken.length;
  }

  /** Allocates `count` granules. Returns the first, a multiple of `align`, or 0 when none fit. */
  take(count: number, align = 1): number {
    for (;;) {
      const start = this.#find(this.#cursor, count, align) || this.#find(1, count, align);
      if (start !== 0) {
        this.#cursor = start + count;
        this.#taken.fill(1, start, this.#cursor);
        this.inUse += count;
        return start;
      }
      if (this.end === this.#limit) return 0;
      this.#grow(count + align);
    }
  }

  /**
   * Frees granules of `take`. The caller remembers the count. Throws RangeError when free already.
   */
  give(start: number, count: number): void {
    const granules = this.#taken.subarray(start, start + count);
    if (start < 1 || granules.length < count || granules.includes(0)) {
      throw new RangeError(`granules ${start} to ${start + count} are free already`);
    }
    granules.fill(0);
    this.inUse -= count;
  }

  /** Returns the first place for `count` granules at `from` or above, or 0. */
  #find(from: number, count: number, align: number): number {
    let at = from;
    for (;;) {
      const free = this.#taken.indexOf(0, at);
      const start = Math.ceil(free / align) * align;
      if (free < 0 || start + count > this.end) return 0;
      // A search without an end would read all the free space behind, for each place.
      at = start;
      while (at < start + count && this.#taken[at] === 0) at++;
      if (at === start + count) return start;
    }
  }

  /** Raises `end`, at least to twice its value, so that growth is rare. */
  #grow(count: number): void {
    const grown = new Uint8Array(Math.min(this.#limit, this.end + Math.max(this.end, count)));
    grown.set(this.#taken);
    this.#taken = grown;
  }
}
