/**
 * Free parts of the function's 32-bit bus space, in granules of 4 KiB.
 *
 *   granule    0      1 ................ end        2^20
 *            | none | taken and free runs | not yet used |
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
  /** Free runs below `end`, sorted by place, with gaps between them. ends[i] is not in the run. */
  readonly #starts: number[] = [];
  readonly #ends: number[] = [];
  readonly #limit: number;
  /** First granule above all that were ever used. */
  #end: number;
  /** Granule at which the next search begins. */
  #cursor = 1;
  /** Number of allocated granules. */
  inUse = 0;

  /** `initial` and `limit` are in granules. */
  constructor(initial = 4096, limit = GRANULES) {
    this.#limit = limit;
    this.#end = Math.min(Math.max(initial, 2), limit);
    this.#starts.push(1);
    this.#ends.push(this.#end);
  }

  /** Upper bound of the allocated granules: each is below this number. */
  get end(): number {
    return this.#end;
  }

  /** Number of free runs. */
  get freeRuns(): number {
    return this.#starts.length;
  }

  /** Allocates `count` granules. Returns the first, a multiple of `align`, or 0 when none fit. */
  take(count: number, align = 1): number {
    for (;;) {
      const first = this.#runAt(this.#cursor);
      for (let i = first; i < this.#starts.length; i++) {
        const start = this.#fit(i, Math.max(this.#starts[i]!, this.#cursor), count, align);
        if (start !== 0) return start;
      }
      // Search again from the bottom, this time with the whole run that contains the cursor.
      for (let i = 0; i < this.#starts.length && i <= first; i++) {
        const start = this.#fit(i, this.#starts[i]!, count, align);
        if (start !== 0) return start;
      }
      if (!this.#grow(count + align)) return 0;
    }
  }

  /**
   * Frees granules of `take`. The caller remembers the count. Throws RangeError when free already.
   */
  give(start: number, count: number): void {
    const i = this.#runAt(start);
    const startsInFree = i < this.#starts.length && this.#starts[i]! < start + count;
    if (startsInFree || start < 1 || start + count > this.#end) {
      throw new RangeError(`granules ${start} to ${start + count} are free already`);
    }
    this.#insert(i, start, start + count);
    this.inUse -= count;
  }

  /** Returns the index of the first run that ends above `granule`. */
  #runAt(granule: number): number {
    let low = 0;
    let high = this.#ends.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#ends[middle]! > granule) high = middle;
      else low = middle + 1;
    }
    return low;
  }

  /** Cuts `count` granules out of run `i`, from `from` or later. Returns the first, or 0. */
  #fit(i: number, from: number, count: number, align: number): number {
    const start = Math.ceil(from / align) * align;
    const end = this.#ends[i]!;
    if (start + count > end) return 0;
    const before = this.#starts[i]!;
    const after = start + count;
    if (before === start && after === end) {
      this.#starts.splice(i, 1);
      this.#ends.splice(i, 1);
    } else if (before === start) {
      this.#starts[i] = after;
    } else {
      this.#ends[i] = start;
      if (after < end) {
        this.#starts.splice(i + 1, 0, after);
        this.#ends.splice(i + 1, 0, end);
      }
    }
    this.#cursor = after;
    this.inUse += count;
    return start;
  }

  /** Adds a free run before run `i`, and joins it with neighbours that it touches. */
  #insert(i: number, start: number, end: number): void {
    const joinsBefore = i > 0 && this.#ends[i - 1] === start;
    const joinsAfter = i < this.#starts.length && this.#starts[i] === end;
    if (joinsBefore && joinsAfter) {
      this.#ends[i - 1] = this.#ends[i]!;
      this.#starts.splice(i, 1);
      this.#ends.splice(i, 1);
    } else if (joinsBefore) {
      this.#ends[i - 1] = end;
    } else if (joinsAfter) {
      this.#starts[i] = start;
    } else {
      this.#starts.splice(i, 0, start);
      this.#ends.splice(i, 0, end);
    }
  }

  /**
   * Raises `end`, at least to twice its value, so that growth is rare. Returns false at the limit.
   */
  #grow(count: number): boolean {
    if (this.#end === this.#limit) return false;
    const end = Math.min(this.#limit, Math.max(this.#end * 2, this.#end + count));
    this.#insert(this.#starts.length, this.#end, end);
    this.#end = end;
    return true;
  }
}
