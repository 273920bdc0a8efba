/**
 * What a guest's requests cost the store beyond ordinary ones, and how long it waits for that.
 *
 *   request ── work beyond FREE_WORK ─┐
 *                                     ├─► debt ── less with time ──► replies and events go out
 *   event of a watch ── EVENT_WORK ───┘                              while it is at most DEBT_MAX
 *
 * One message of 2 KiB can make a thousand nodes whose paths are 2 KiB long, and one of 20 bytes
 * removes them, or changes a node that its domain watches 128 times: without this, a guest that does
 * so in a loop has the whole device to itself. The unit is about a microsecond: a node looked at or
 * changed, 64 bytes of its path, eight names beside it.
 */

/** A request that costs no more than this costs nothing: all that drivers send. */
export const FREE_WORK = 16;
/** Room for all that a guest may own, many times over; a tenth of a second of the store's time. */
export const DEBT_MAX = 100_000;
/** An event that was not told yet, for the domain of its watch. */
export const EVENT_WORK = 2;
/** Units paid back in a millisecond: a twentieth of a processor. */
export const PAID_PER_MS = 50;

export class Debt {
  #units = 0;
  /** When `#units` was right, in ms. */
  #at = 0;

  /** A request did `work` at `now`. */
  add(work: number, now: number): void {
    if (work > FREE_WORK) this.charge(work - FREE_WORK, now);
  }

  /** ... of which nothing is free. */
  charge(work: number, now: number): void {
    this.#units = this.#left(now) + work;
    this.#at = now;
  }

  /** When the next request may be served, in ms; a time that has passed is at once. */
  get freeAt(): number {
    return this.#at + (this.#units - DEBT_MAX) / PAID_PER_MS;
  }

  #left(now: number): number {
    return Math.max(0, this.#units - (now - this.#at) * PAID_PER_MS);
  }
}
