/**
 * A work budget for each guest. Requests that cost more than ordinary ones become a debt, and a
 * guest with too much debt waits until time has paid it.
 *
 *   request ── work beyond FREE_WORK ─┐
 *   event of a watch ── EVENT_WORK ───┼─► debt ── less with time ──► replies and events go out
 *   conflict ── CONFLICT_WORK ────────┘                              while it is at most DEBT_MAX
 *
 * One message of 2 KiB can create a thousand nodes whose paths are 2 KiB long. A message of 20 bytes
 * can remove them all, or change a node that its domain watches 128 times. Without a budget, a guest
 * that repeats such messages would occupy the whole device. One unit is about a microsecond of work:
 * a node that is read or changed, 64 bytes of its path, or eight names that are listed.
 *
 * A transaction fails when another domain changes a node that the transaction has read. A domain
 * that changes such a node all the time could let another's transactions fail for ever (XSA-206). So
 * the change costs its domain CONFLICT_WORK, once, however many transactions fail by it. The third
 * conflict in a row makes the domain wait for a second, in which the other domain succeeds.
 *
 * Source of this rule: xen: tools/ocaml/xenstored, the credit for conflicts.
 */

/** Work of a request that is free. The requests of ordinary drivers stay below it. */
export const FREE_WORK = 16;
/** Highest debt with which a guest is still served: a tenth of a second of the store's time. */
export const DEBT_MAX = 100_000;
/** Cost of a new pending event. The domain that set the watch pays it. */
export const EVENT_WORK = 2;
/** Cost of a change by which a transaction of another domain failed. The domain that made it pays. */
export const CONFLICT_WORK = DEBT_MAX / 2;
/** Units that a millisecond pays back: a twentieth of a processor. */
export const PAID_PER_MS = 50;
/** Work of a guest between two flushes, above which it waits for the next one, whatever it owes. */
export const TURN_WORK = 10_000;

export class Debt {
  #units = 0;
  /** Time (ms) for which `#units` was computed. */
  #at = 0;
  /** Work of requests since the last flush. */
  turn = 0;

  /** Adds the work of one request, less FREE_WORK. */
  add(work: number, now: number): void {
    this.turn += work;
    if (work > FREE_WORK) this.charge(work - FREE_WORK, now);
  }

  /** Adds work of which nothing is free. */
  charge(work: number, now: number): void {
    this.#units = this.#left(now) + work;
    this.#at = now;
  }

  /** Time (ms) from which the next request may be served. A time in the past means now. */
  get freeAt(): number {
    return this.#at + (this.#units - DEBT_MAX) / PAID_PER_MS;
  }

  #left(now: number): number {
    return Math.max(0, this.#units - (now - this.#at) * PAID_PER_MS);
  }
}
