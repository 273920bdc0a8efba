/**
 * Ownership of grant references: the free list, lists taken from it, and requests that wait.
 *
 *   not yet grown ──grow──► free ──alloc──► listed ──claim──► owned ──quarantine──► quarantined
 *                            ▲ └──────────take────────────────►│ └◄─release─ listed       │
 *                            │└◄──────────────────free──────────┴──────────────────────────┘
 *                            └──the device uses it──► held ──its use ends──► free
 *
 * A reference that the device uses, though it grants nothing, is not allocated until that use ends.
 * It is held instead of free, and a claim from a list skips it.
 *
 * The free list is a FIFO: a reference just returned is allocated last, so a late access of the
 * device does not meet a new grant. References 0 to 7 are reserved and never allocated.
 *
 * Source: freebsd-src: sys/dev/xen/grant_table/grant_table.c (gnttab_alloc_grant_references and so
 * on), whose free list is a stack.
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

export const Owner = { NOBODY: 0, FREE: 1, LISTED: 2, OWNED: 3, QUARANTINED: 4, HELD: 5 } as const;
export type Owner = (typeof Owner)[keyof typeof Owner];
const OWNER_NAMES = ["not in use", "free", "in a list", "owned", "quarantined", "held"];

/** References allocated together from the free list. A driver claims them one by one. */
export class GrantReferences {
  /** First reference of the list, or NONE. The pool owns this field. */
  head = NONE;
  /** Number of references left. */
  count = 0;
}

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

export class ReferencePool {
  readonly #perFrame: number;
  readonly #maxFrames: number;
  readonly #owners: Uint8Array;
  /** By reference: the next one in its list, or NONE. */
  readonly #next: Int32Array;
  /** By reference: the previous one in the free list, or NONE. */
  readonly #previous: Int32Array;
  readonly #isInUse: (reference: GrantRef) => boolean;
  #frames = 0;
  #head: GrantRef = NONE;
  #tail: GrantRef = NONE;
  #free = 0;
  #held = 0;
  readonly #wishes: FreeCallback[] = [];
  #scheduled = false;

  constructor(perFrame: number, maxFrames: number, isInUse: (reference: GrantRef) => boolean) {
    this.#isInUse = isInUse;
    this.#perFrame = perFrame;
    this.#maxFrames = maxFrames;
    this.#owners = new Uint8Array(perFrame * maxFrames);
    this.#next = new Int32Array(perFrame * maxFrames).fill(NONE);
    this.#previous = new Int32Array(perFrame * maxFrames).fill(NONE);
    this.#grow(1);
  }

  get frames(): number {
    return this.#frames;
  }

  /** Number of references with an entry: 0 to `end` - 1. */
  get end(): number {
    return this.#frames * this.#perFrame;
  }

  get free(): number {
    return this.#free;
  }

  /** Number of references that would be free but for the device's use of them. */
  get held(): number {
    return this.#held;
  }

  /** Maximum number of references that can ever be free at once. */
  get most(): number {
    return this.#maxFrames * this.#perFrame - GNTTAB_NR_RESERVED_ENTRIES;
  }

  /** Number of free references, plus those that growth would add. */
  get available(): number {
    return this.#free + (this.#maxFrames - this.#frames) * this.#perFrame;
  }

  ownerOf(reference: GrantRef): Owner {
    return (this.#owners[reference] ?? Owner.NOBODY) as Owner;
  }

  /** Throws GrantMisuse unless `reference` is owned, that is, in no list. */
  needOwned(reference: GrantRef): void {
    if (this.#owners[reference] !== Owner.OWNED) this.#wrongOwner(reference);
  }

  /** Returns true when `count` are free now. Grows the table only if that is enough. */
  reserve(count: number): boolean {
    if (count <= this.#free) return true;
    if (count > this.available) return false;
    this.#grow(Math.ceil((count - this.#free) / this.#perFrame));
    return true;
  }

  alloc(count: number): GrantReferences | undefined {
    if (!(Number.isInteger(count) && count >= 0)) {
      throw new GrantMisuse("GRANT_COUNT", `${count} grant references asked for`);
    }
    if (!this.reserve(count)) return undefined;
    const list = new GrantReferences();
    for (let i = 0; i < count; i++) this.#push(list, this.#shift());
    return list;
  }

  /** Allocates one reference, which is then owned. Returns -1 when none is free. */
  take(): GrantRef {
    if (!this.reserve(1)) return NONE;
    const reference = this.#shift();
    this.#owners[reference] = Owner.OWNED;
    return reference;
  }

  /** Claims the first reference of the list that the device does not use. Returns -1 for none. */
  claim(list: GrantReferences): GrantRef {
    let before: GrantRef = NONE;
    let reference = list.head;
    while (reference !== NONE && this.#isInUse(reference)) {
      before = reference;
      reference = grantRef(this.#next[reference]!);
    }
    if (reference === NONE) return NONE;
    if (before === NONE) list.head = grantRef(this.#next[reference]!);
    else this.#next[before] = grantRef(this.#next[reference]!);
    list.count--;
    this.#owners[reference] = Owner.OWNED;
    return reference;
  }

  release(list: GrantReferences, reference: GrantRef): void {
    this.needOwned(reference);
    this.#push(list, reference);
  }

  freeList(list: GrantReferences): void {
    while (list.head !== NONE) {
      const reference = list.head;
      list.head = grantRef(this.#next[reference]!);
      this.#putBack(reference);
    }
    list.count = 0;
    this.#kick();
  }

  /** Frees an owned or quarantined reference, or holds it while the device uses it. */
  give(reference: GrantRef): void {
    const owner = this.#owners[reference];
    if (owner !== Owner.OWNED && owner !== Owner.QUARANTINED) this.#wrongOwner(reference);
    this.#putBack(reference);
    this.#kick();
  }

  /** Moves `reference` from free to held when the device's use begins, and back when it ends. */
  useChanged(reference: GrantRef): void {
    const owner = this.#owners[reference];
    if (owner === Owner.FREE && this.#isInUse(reference)) {
      this.#unlink(reference);
      this.#putBack(reference);
    } else if (owner === Owner.HELD && !this.#isInUse(reference)) {
      this.#held--;
      this.#putBack(reference);
      this.#kick();
    }
  }

  /** Frees all held references: all uses have ended at once. */
  usesEnded(): void {
    for (let reference = 0; this.#held > 0; reference++) this.useChanged(grantRef(reference));
  }

  quarantine(reference: GrantRef): void {
    this.needOwned(reference);
    this.#owners[reference] = Owner.QUARANTINED;
  }

  request(run: () => void, count: number): FreeCallback {
    if (!(Number.isInteger(count) && count >= 0 && count <= this.most)) {
      throw new GrantMisuse("GRANT_COUNT", `waiting for ${count} references of ${this.most}`);
    }
    const wish = new FreeCallback(run, count);
    this.#wishes.push(wish);
    this.#kick();
    return wish;
  }

  cancel(wish: FreeCallback): void {
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
    if (first === undefined || this.#scheduled || first.count > this.available) return;
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
    this.#frames += frames;
    for (let reference = from; reference < this.end; reference++) this.#append(grantRef(reference));
  }

  /** Removes the first reference of the free list, which must not be empty, and returns it. */
  #shift(): GrantRef {
    const reference = this.#head;
    this.#unlink(reference);
    return reference;
  }

  /** Removes `reference` from the free list, which must contain it. */
  #unlink(reference: GrantRef): void {
    const previous = grantRef(this.#previous[reference]!);
    const next = grantRef(this.#next[reference]!);
    if (previous === NONE) this.#head = next;
    else this.#next[previous] = next;
    if (next === NONE) this.#tail = previous;
    else this.#previous[next] = previous;
    this.#free--;
  }

  #putBack(reference: GrantRef): void {
    if (this.#isInUse(reference)) {
      this.#owners[reference] = Owner.HELD;
      this.#held++;
    } else this.#append(reference);
  }

  #append(reference: GrantRef): void {
    this.#owners[reference] = Owner.FREE;
    this.#next[reference] = NONE;
    this.#previous[reference] = this.#tail;
    if (this.#tail === NONE) this.#head = reference;
    else this.#next[this.#tail] = reference;
    this.#tail = reference;
    this.#free++;
  }

  #push(list: GrantReferences, reference: GrantRef): void {
    this.#owners[reference] = Owner.LISTED;
    this.#next[reference] = list.head;
    list.head = reference;
    list.count++;
  }

  #wrongOwner(reference: GrantRef): never {
    const owner = OWNER_NAMES[this.ownerOf(reference)];
    throw new GrantMisuse("GRANT_OWNER", `grant reference ${reference} is ${owner}`);
  }
}
