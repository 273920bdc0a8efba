/**
 * Turns for domains whose transactions keep failing.
 *
 * A transaction fails when another domain changes a node that the transaction has read. A domain
 * that changes such a node all the time could let another's transactions fail for ever (XSA-206).
 * After FAIR_AFTER failed attempts, the next transaction of the domain therefore gets a turn. Until
 * the turn ends, or for TURN_MS, the domains that caused the failures wait with their changes. Other
 * domains go on. Transactions that were open at the same time count as one attempt. Otherwise a
 * single change of another domain could earn a turn.
 *
 * When two domains with a turn made each other fail, the domain that has failed for longer goes
 * first. So two turns never wait for each other, and no domain can delay a turn by failing on
 * purpose.
 */
export const FAIR_AFTER = 5;
export const TURN_MS = 1000;

/** The failures of one domain since its last turn. */
interface Run {
  readonly since: number;
  readonly culprits: Set<number>;
  failures: number;
  /**
   * Sequence number of the last failure counted. Transactions begun before it belong to the same
   * attempt and are not counted again.
   */
  counted: number;
  /** The transaction that has the turn, and the time (ms) at which the turn ends. */
  turn: { readonly transaction: object; readonly endsAt: number } | undefined;
}

export class Fairness {
  readonly #runs = new Map<number, Run>();
  #failures = 0;

  /** Number of failed transactions so far. A transaction stores it at its begin, for `failed`. */
  get failures(): number {
    return this.#failures;
  }

  /**
   * A transaction of `domid` that began after `before` failures failed because `culprits` changed
   * what it had read.
   */
  failed(domid: number, culprits: Iterable<number>, before: number): void {
    let run = this.#runs.get(domid);
    if (run === undefined) {
      run = {
        since: this.#failures,
        culprits: new Set(),
        failures: 0,
        counted: 0,
        turn: undefined,
      };
      this.#runs.set(domid, run);
    }
    this.#failures++;
    if (before >= run.counted) {
      run.failures++;
      run.counted = this.#failures;
    }
    for (const culprit of culprits) if (culprit !== domid) run.culprits.add(culprit);
  }

  begun(domid: number, transaction: object, now: number): void {
    const run = this.#runs.get(domid);
    if (run === undefined || run.failures < FAIR_AFTER || run.turn !== undefined) return;
    run.turn = { transaction, endsAt: now + TURN_MS };
  }

  /** Ends the turn of a transaction. Without a conflict the domain's failures are forgotten. */
  ended(domid: number, transaction: object, conflict: boolean): void {
    const run = this.#runs.get(domid);
    if (run?.turn?.transaction !== transaction) return;
    run.turn = undefined;
    if (!conflict) this.#runs.delete(domid);
  }

  /** Ends turns that last too long, and forgets the failures of their domains. */
  expire(now: number): void {
    for (const [domid, run] of this.#runs) {
      if (run.turn !== undefined && now >= run.turn.endsAt) this.#runs.delete(domid);
    }
  }

  hasTurn(domid: number, transaction: object): boolean {
    return this.#runs.get(domid)?.turn?.transaction === transaction;
  }

  /** Whether the changes of `domid` must wait for the turn of another domain. */
  holds(domid: number): boolean {
    if (this.#runs.size === 0) return false;
    const own = this.#runs.get(domid);
    const since = own?.turn === undefined ? Infinity : own.since;
    for (const run of this.#runs.values()) {
      if (run.turn !== undefined && run.since < since && run.culprits.has(domid)) return true;
    }
    return false;
  }

  /** Time (ms) at which the next turn ends; Infinity without a turn. */
  get nextTick(): number {
    let next = Infinity;
    for (const { turn } of this.#runs.values()) if (turn && turn.endsAt < next) next = turn.endsAt;
    return next;
  }

  forget(domid: number): void {
    this.#runs.delete(domid);
    for (const run of this.#runs.values()) run.culprits.delete(domid);
  }
}
