/**
 * The handles of mapped grants.
 *
 *   handle = turn of the slot << 16 | slot
 *
 * A slot is reused, but a handle only after 2^15 turns of its slot. An old handle, a handle of
 * another caller and an invented handle find nothing. So nothing is unmapped twice.
 *
 * Source: xen: xen/common/grant_table.c, "struct grant_mapping"; XSA-218, XSA-224.
 */

const SLOT_BITS = 16;
const SLOT_MASK = (1 << SLOT_BITS) - 1;
const TURN_MASK = 0x7fff;
export const MAX_MAPTRACK = 1 << SLOT_BITS;

interface Slot {
  turn: number;
  live: boolean;
  caller: number;
  reference: number;
  readonly: boolean;
  life: number;
}

/** The mapping of a live handle. */
export interface TrackedMapping {
  readonly caller: number;
  readonly reference: number;
  readonly readonly: boolean;
  /** The `lives` of the entry when it was mapped. */
  readonly life: number;
}

export class Maptrack {
  readonly #limit: number;
  readonly #slots: Slot[] = [];
  readonly #free: number[] = [];
  live = 0;

  constructor(limit: number) {
    if (limit > MAX_MAPTRACK) throw new RangeError(`maptrack of ${limit}, at most ${MAX_MAPTRACK}`);
    this.#limit = limit;
  }

  get full(): boolean {
    return this.live === this.#limit;
  }

  /** Allocates a handle. The caller has checked `full`. */
  add(caller: number, reference: number, readonly: boolean, life: number): number {
    if (this.full) throw new RangeError("maptrack is full");
    let index = this.#free.pop();
    if (index === undefined) {
      index = this.#slots.length;
      this.#slots.push({ turn: 0, live: false, caller, reference, readonly, life });
    }
    const slot = this.#slots[index]!;
    slot.live = true;
    slot.caller = caller;
    slot.reference = reference;
    slot.readonly = readonly;
    slot.life = life;
    this.live++;
    return (slot.turn << SLOT_BITS) | index;
  }

  find(handle: number): TrackedMapping | undefined {
    const index = handle & SLOT_MASK;
    const slot = this.#slots[index];
    if (slot === undefined || !slot.live) return undefined;
    return handle === ((slot.turn << SLOT_BITS) | index) ? slot : undefined;
  }

  /** Frees a handle that `find` found. */
  remove(handle: number): void {
    const index = handle & SLOT_MASK;
    const slot = this.#slots[index]!;
    slot.live = false;
    slot.turn = (slot.turn + 1) & TURN_MASK;
    this.#free.push(index);
    this.live--;
  }

  /** Frees all handles. None of them is found again. */
  clear(): void {
    for (let index = 0; index < this.#slots.length; index++) {
      const slot = this.#slots[index]!;
      if (slot.live) this.remove((slot.turn << SLOT_BITS) | index);
    }
  }
}
