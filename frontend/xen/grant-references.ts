/**
 * Ownership of grant references: the free list, and requests that wait for free references.
 *
 *   not yet grown ──grow──► free ──alloc──► owned ──quarantine──► quarantined
 *                            ▲ └◄────free─────┴───────────────────────┘
 *                            └──the device uses it──► held ──its use ends──► free
 *
 * A reference that the device uses, though it grants nothing, is not allocated until that use ends.
 * It is held instead of free.
 *
 * The free list is a FIFO: a reference just returned is allocated last, so a late access of the
 * device does not meet a new grant. References 0 to 7 are reserved and never allocated.
 *
 * Source: freebsd-src: sys/dev/xen/grant_table/grant_table.c, whose free list is a stack.
 */
import { GNTTAB_NR_RESERVED_ENTRIES, type GrantRef, grantRef } from "../../shared/xen/grant.ts";

/** Misuse of the grant table by a driver. It is a bug of this program, so it throws at once. */
export type GrantMisuseCode =
  | "GRANT_OWNER"
  | "GRANT_LIVE"
  | "GRANT_NOT_LIVE"
  | "GRANT_IN_USE"
  | "GRANT_COUNT"
  | "GRANT_VERSION";

export class GrantMisuse extends Error {
  readonly code: GrantMisuseCode;
  constructor(code: GrantMisuseCode, message: string) {
    super(message);
    this.name = "GrantMisuse";
    this.code = code;
  }
}

const Owner = { NOBODY: 0, FREE: 1, OWNED: 2, QUARANTINED: 3, HELD: 4 } as const;
const OWNER_NAMES = ["not in use", "free", "owned", "quarantined", "held"];

/** A request for free references; `pending` until it is satisfied or cancelled. */
export class FreeCallback {
  readonly run: () => void;
  readonly count: number;
  pending = true;

  constructor(run: () => void, count: number) {
    this.run = run;
    this.count = count;
  }
}

/** No reference: the end of a list. */
const NONE = grantRef(-1);

/** The references of a grant table. The table itself extends this class. */
export abstract class ReferencePool {
  /** Number of frames of the table now. */
  frames = 0;
  /** Number of references on the free list now. The table may still grow. */
  freeCount = 0;
  /** Number of references that grant nothing and would be free, but that the device uses. */
  heldCount = 0;
  readonly #perFrame: number;
  readonly #maxFrames: number;
  readonly #owners: Uint8Array;
  /** By reference: its neighbours in the free list, or NONE. */
  readonly #next: Int32Array;
  readonly #previous: Int32Array;
  #head: GrantRef = NONE;
  #tail: GrantRef = NONE;
  readonly #wishes: FreeCallback[] = [];
  #scheduled = false;

  constructor(perFrame: number, maxFrames: number) {
    this.#perFrame = perFrame;
    this.#maxFrames = maxFrames;
    this.#owners = new Uint8Array(perFrame * maxFrames);
    this.#next = new Int32Array(perFrame * maxFrames).fill(NONE);
    this.#previous = new Int32Array(perFrame * maxFrames).fill(NONE);
    this.#grow(1);
  }

  /** gnttab_query_foreign_access: returns the number of reported uses. At 0 access can be ended. */
  abstract queryForeignAccess(reference: GrantRef): number;

  /** Number of references with an entry: 0 to `end` - 1. */
  get end(): number {
    return this.frames * this.#perFrame;
  }

  /** Maximum number of references that can ever be free at once. */
  get capacity(): number {
    return this.#maxFrames * this.#perFrame - GNTTAB_NR_RESERVED_ENTRIES;
  }

  /** Number of free references, plus those that growth would add: all that no driver owns. */
  get availableCount(): number {
    return this.freeCount + (this.#maxFrames - this.frames) * this.#perFrame;
  }

  /** Whether the reference was ever free: the reserved ones, and those not yet grown, were not. */
  protected isKnown(reference: GrantRef): boolean {
    return (this.#owners[reference] ?? Owner.NOBODY) !== Owner.NOBODY;
  }

  /** Throws GrantMisuse unless `reference` is owned, that is, in no list. */
  protected needOwned(reference: GrantRef): void {
    if (this.#owners[reference] !== Owner.OWNED) this.#wrongOwner(reference);
  }

  /**
   * Returns true when `count` references are free for as many calls of allocGrantReference. Grows
   * the table only if that is enough.
   */
  reserve(count: number): boolean {
    if (count <= this.freeCount) return true;
    if (count > this.availableCount) return false;
    this.#grow(Math.ceil((count - this.freeCount) / this.#perFrame));
    return true;
  }

  /** Allocates one reference, which is then owned. Returns -1 (ENOSPC) when none is free. */
  allocGrantReference(): GrantRef {
    if (!this.reserve(1)) return NONE;
    const reference = this.#head;
    this.#unlink(reference);
    this.#owners[reference] = Owner.OWNED;
    return reference;
  }

  /** Frees an owned or quarantined reference, or holds it while the device uses it. */
  protected give(reference: GrantRef): void {
    const owner = this.#owners[reference];
    if (owner !== Owner.OWNED && owner !== Owner.QUARANTINED) this.#wrongOwner(reference);
    this.#putBack(reference);
    this.#kick();
  }

  /** Moves `reference` from free to held when the device's use begins, and back when it ends. */
  protected useChanged(reference: GrantRef): void {
    const owner = this.#owners[reference];
    if (owner === Owner.FREE && this.#isInUse(reference)) {
      this.#unlink(reference);
      this.#putBack(reference);
    } else if (owner === Owner.HELD && !this.#isInUse(reference)) {
      this.heldCount--;
      this.#putBack(reference);
      this.#kick();
    }
  }

  /** Frees all held references: all uses have ended at once. */
  protected usesEnded(): void {
    for (let reference = 0; this.heldCount > 0; reference++) this.useChanged(grantRef(reference));
  }

  protected setQuarantined(reference: GrantRef): void {
    this.needOwned(reference);
    this.#owners[reference] = Owner.QUARANTINED;
  }

  /**
   * gnttab_request_free_callback: runs `callback` once, in a turn of its own, when `count`
   * references are free. Callbacks run in the order of the requests.
   */
  requestFreeCallback(callback: () => void, count: number): FreeCallback {
    if (!(Number.isInteger(count) && count >= 0 && count <= this.capacity)) {
      throw new GrantMisuse("GRANT_COUNT", `waiting for ${count} references of ${this.capacity}`);
    }
    const wish = new FreeCallback(callback, count);
    this.#wishes.push(wish);
    this.#kick();
    return wish;
  }

  cancelFreeCallback(wish: FreeCallback): void {
    if (!wish.pending) return;
    wish.pending = false;
    this.#wishes.splice(this.#wishes.indexOf(wish), 1);
    // The one behind it may want less.
    this.#kick();
  }

  /**
   * Schedules the first callback. It runs in a turn of its own, because the caller that returned a
   * reference may hold the lock that the callback acquires.
   */
  #kick(): void {
    const first = this.#wishes[0];
    if (first === undefined || this.#scheduled || first.count > this.availableCount) return;
    this.#scheduled = true;
    queueMicrotask(() => this.#runFirst());
  }

  /** Runs the first callback. The order is strict, so that large requests do not starve. */
  #runFirst(): void {
    this.#scheduled = false;
    const wish = this.#wishes[0];
    // The references may be allocated by now. The next reference that is returned tries again.
    if (wish === undefined || !this.reserve(wish.count)) return;
    this.#wishes.shift();
    wish.pending = false;
    try {
      wish.run();
    } finally {
      this.#kick();
    }
  }

  #grow(frames: number): void {
    const from = Math.max(this.end, GNTTAB_NR_RESERVED_ENTRIES);
    this.frames += frames;
    for (let reference = from; reference < this.end; reference++) this.#append(grantRef(reference));
  }

  /** Removes `reference` from the free list, which must contain it. */
  #unlink(reference: GrantRef): void {
    const previous = grantRef(this.#previous[reference]!);
    const next = grantRef(this.#next[reference]!);
    if (previous === NONE) this.#head = next;
    else this.#next[previous] = next;
    if (next === NONE) this.#tail = previous;
    else this.#previous[next] = previous;
    this.freeCount--;
  }

  #isInUse(reference: GrantRef): boolean {
    return this.queryForeignAccess(reference) !== 0;
  }

  #putBack(reference: GrantRef): void {
    if (this.#isInUse(reference)) {
      this.#owners[reference] = Owner.HELD;
      this.heldCount++;
    } else this.#append(reference);
  }

  #append(reference: GrantRef): void {
    this.#owners[reference] = Owner.FREE;
    this.#next[reference] = NONE;
    this.#previous[reference] = this.#tail;
    if (this.#tail === NONE) this.#head = reference;
    else this.#next[this.#tail] = reference;
    this.#tail = reference;
    this.freeCount++;
  }

  #wrongOwner(reference: GrantRef): never {
    const owner = OWNER_NAMES[this.#owners[reference] ?? Owner.NOBODY];
    throw new GrantMisuse("GRANT_OWNER", `grant reference ${reference} is ${owner}`);
  }
}
