/**
 * A token bucket, for a policer: what is above the rate is refused, nothing is delayed.
 *
 * One number describes the bucket: the time at which all that it accepted has had its share of the
 * rate. Hyper-V's StormLimit counts like this, too.
 */
export class TokenBucket {
  /** Time (ms) that one unit needs at the rate. */
  readonly msPerUnit: number;
  readonly #burstMs: number;
  #paid = 0;

  /** The units of `burstMs` may come at once. */
  constructor(msPerUnit: number, burstMs: number) {
    this.msPerUnit = msPerUnit;
    this.#burstMs = burstMs;
  }

  /** Counts `units` at `now` (ms of a monotonic clock). Returns false, counting nothing, above the rate. */
  take(units: number, now: number): boolean {
    const paid = Math.max(this.#paid, now) + units * this.msPerUnit;
    if (paid - now > this.#burstMs) return false;
    this.#paid = paid;
    return true;
  }

  /** True if the bucket is full again, as a new one is. */
  isFull(now: number): boolean {
    return this.#paid <= now;
  }
}
