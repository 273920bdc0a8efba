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
 */

import type { NicMemoryStatus } from "./status/device-status.ts";

export const HELD_KINDS = ["windows", "pushes", "messages"] as const;
/** `messages`: the parts of a message that is not complete yet. */
export type HeldKind = (typeof HELD_KINDS)[number];

/** Bytes up to which a peer may use the last quarter. A NIC with 32 queues has 4 MB of windows. */
export const LITTLE_BYTES = 8 << 20;

export class MemoryBudget {
  readonly limit: number;
  /** Bytes that all peers hold. */
  held = 0;
  readonly heldBy: Record<HeldKind, number> = { windows: 0, pushes: 0, messages: 0 };
  /** Number of refusals. */
  readonly refused: Record<HeldKind, number> = { windows: 0, pushes: 0, messages: 0 };

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
    if (after > most) {
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

  /** Gives all bytes back: the peer has gone, and so has its memory. */
  close(): void {
    for (const kind of HELD_KINDS) this.#add(kind, -this.#by[kind]);
  }

  #add(kind: HeldKind, bytes: number): void {
    this.#held += bytes;
    this.#by[kind] += bytes;
    this.#budget.held += bytes;
    this.#budget.heldBy[kind] += bytes;
  }
}
