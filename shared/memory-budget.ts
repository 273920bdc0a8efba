/**
 * Memory that a process holds for all its peers together.
 *
 *   MemoryBudget ─┬─ MemoryAccount of peer a: windows, pushes, messages
 *                 └─ MemoryAccount of peer b ...
 *
 * Each peer has limits of its own, which an honest peer needs from time to time. No process has room
 * for a thousand peers that all use them. So what would pass the budget is refused to the peer that
 * asks. The last quarter of the budget is kept for peers that hold little: a few peers that take all
 * that they may can't keep the others out.
 *
 * Pieces are charged when memory is kept beyond the message that asked for it, not for each frame.
 *
 * Unfinished messages have a quarter of the budget. Anybody can begin one, and an honest peer soon
 * ends it. So without room for another, the peer is refused that has ended none for the longest time.
 */

import type { NicMemoryStatus } from "./status/device-status.ts";

export const HELD_KINDS = ["windows", "pushes", "messages"] as const;
/** `messages`: the parts of a message that is not complete yet. */
export type HeldKind = (typeof HELD_KINDS)[number];

/** Bytes up to which a peer may use the last quarter. A NIC with 32 queues has 4 MB of windows. */
export const LITTLE_BYTES = 8 << 20;

/** The part of the budget that unfinished messages may hold. */
const MESSAGES_PART = 0.25;

export class MemoryBudget {
  readonly limit: number;
  /** Bytes that all peers hold. */
  held = 0;
  readonly heldBy: Record<HeldKind, number> = { windows: 0, pushes: 0, messages: 0 };
  /** Number of refusals. */
  readonly refused: Record<HeldKind, number> = { windows: 0, pushes: 0, messages: 0 };
  /** The accounts with unfinished messages. */
  readonly unfinished = new Set<MemoryAccount>();
  /** Number of messages that ended while a part of the next one was held. */
  ended = 0;

  /** `limit` is in bytes. */
  constructor(limit: number) {
    this.limit = limit;
  }

  snapshot(): NicMemoryStatus {
    const { windows, pushes, messages } = this.heldBy;
    return {
      limitBytes: this.limit,
      windowBytes: windows,
      pushBytes: pushes,
      messageBytes: messages,
      refused: { ...this.refused },
    };
  }

  /** The words of a refusal. */
  get fullText(): string {
    return `this device holds ${this.held} bytes for all its NICs, ${this.limit} are allowed`;
  }
}

/** The memory that is held for one peer. */
export class MemoryAccount {
  readonly #budget: MemoryBudget;
  readonly #by: Record<HeldKind, number> = { windows: 0, pushes: 0, messages: 0 };
  #held = 0;
  /** The count of ended messages when this peer last ended one. */
  #endedAt = 0;
  /** Called when the peer's unfinished message has no room. The receiver gives its memory back. */
  onNoRoom: (why: string) => void = () => {};

  constructor(budget: MemoryBudget) {
    this.#budget = budget;
  }

  /** Bytes that are held for the peer. */
  get held(): number {
    return this.#held;
  }

  get fullText(): string {
    return this.#budget.fullText;
  }

  /** Takes bytes from the budget. Returns false and takes none if that many are not left. */
  charge(kind: HeldKind, bytes: number): boolean {
    const budget = this.#budget;
    const after = budget.held + bytes;
    const most = this.#held + bytes <= LITTLE_BYTES ? budget.limit : budget.limit * 0.75;
    const isOver =
      kind === "messages" && budget.heldBy.messages + bytes > budget.limit * MESSAGES_PART;
    if (after > most || isOver) {
      budget.refused[kind]++;
      return false;
    }
    this.#add(kind, bytes);
    return true;
  }

  /** Gives bytes back that were charged for the same kind. */
  release(kind: HeldKind, bytes: number): void {
    this.#add(kind, -bytes);
  }

  /**
   * Sets the bytes that the peer's unfinished message holds. `hasEnded`: the peer has ended another
   * message since the last call.
   */
  holdMessage(bytes: number, hasEnded: boolean): void {
    const budget = this.#budget;
    const more = bytes - this.#by.messages;
    if (hasEnded || this.#by.messages === 0) this.#endedAt = budget.ended++;
    if (bytes === 0) budget.unfinished.delete(this);
    else budget.unfinished.add(this);
    if (more <= 0) {
      this.#add("messages", more);
      return;
    }
    while (!this.charge("messages", more)) {
      let last: MemoryAccount = this;
      for (const account of budget.unfinished) if (account.#endedAt < last.#endedAt) last = account;
      // A receiver that does not give its memory back is not asked twice.
      budget.unfinished.delete(last);
      last.onNoRoom(`a message that has not ended: ${this.fullText}`);
      if (last === this) return;
    }
  }

  /**
   * Gives windows and pushes back: the peer has gone. Its transport may read the end of a message
   * until it has ended too, and gives that back itself.
   */
  close(): void {
    for (const kind of ["windows", "pushes"] as const) this.#add(kind, -this.#by[kind]);
  }

  #add(kind: HeldKind, bytes: number): void {
    this.#held += bytes;
    this.#by[kind] += bytes;
    this.#budget.held += bytes;
    this.#budget.heldBy[kind] += bytes;
  }
}
