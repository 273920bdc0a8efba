/**
 * Turns for domains whose transactions keep failing.
 *
 * A transaction fails when another domain changes what it read. A domain that changes such a node
 * all the time could make another's transactions fail for ever (XSA-206). So a domain whose
 * transactions failed FAIR_AFTER times since its last turn gets a turn with its next one: until that
 * ends, or for TURN_MS, the domains that made the others fail wait with their changes. Nobody else
 * notices. Transactions that were open together and fail are one try, else one change of another
 * domain would be enough to make it wait.
 *
 * Of two domains with a turn that made each other fail, the one that fails longer goes first: so
 * turns can't wait for each other, and none can be kept from its turn by others who fail on purpose.
 */
export const FAIR_AFTER = 5;
export const TURN_MS = 1000;

/** The failures of one domain since its last turn. */
interface Run {
  readonly since: number;
  readonly culprits: Set<number>;
  failures: number;
  /** Number of the failure that was counted last: who began before that was part of the same try. */
  counted: number;
  /** The transaction that has the turn, and when the turn is over. */
  turn: { readonly transaction: object; readonly endsAt: number } | undefined;
}

export class Fairness {
  readonly #runs = new Map<number, Run>();
  #failures = 0;

  /** How many transactions have failed so far: what `failed` wants to know of the time it began. */
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

  /** A transaction is over. A turn that did not fail by a conflict was the last one needed. */
  ended(domid: number, transaction: object, conflict: boolean): void {
    const run = this.#runs.get(domid);
    if (run?.turn?.transaction !== transaction) return;
    run.turn = undefined;
    if (!conflict) this.#runs.delete(domid);
  }

  /** Ends turns that last too long; their domains begin anew. */
  expire(now: number): void {
    for (const [domid, run] of this.#runs) {
      if (run.turn !== undefined && now >= run.turn.endsAt) this.#runs.delete(domid);
    }
  }

  hasTurn(domid: number, transaction: object): boolean {
    return this.#runs.get(domid)?.turn?.transaction === transaction;
  }

  /** Whether the changes of `domid` wait for somebody's turn to end. */
  holds(domid: number): boolean {
    if (this.#runs.size === 0) return false;
    const own = this.#runs.get(domid);
    const since = own?.turn === undefined ? Infinity : own.since;
    for (const run of this.#runs.values()) {
      if (run.turn !== undefined && run.since < since && run.culprits.has(domid)) return true;
    }
    return false;
  }

  /** When the next turn is over; Infinity when nobody has one. */
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
