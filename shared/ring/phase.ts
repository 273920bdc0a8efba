/**
 * A place in a ring whose entries carry a phase bit (all ENA rings do).
 *
 *   depth 4      slot 0  1  2  3 | 0  1  2  3 | 0 ...
 *   phase             1  1  1  1 | 0  0  0  0 | 1 ...
 *
 * The producer stamps the phase of its lap into each entry; memory starts as
 * zeroes and the first lap is 1, so the consumer knows an entry is new when its
 * bit equals the phase the consumer expects. No index has to be shared.
 *
 * Producer and consumer use the same cursor: one to know what to stamp, the
 * other what to expect. Fields are public numbers and nothing is allocated,
 * because this moves once for every descriptor.
 */
import { advance, type Index16, index16, slotOf } from "./index16.ts";

export type Phase = 0 | 1;

export const isPowerOfTwo = (n: number): boolean =>
  Number.isInteger(n) && n > 0 && n <= 0x8000_0000 && (n & (n - 1)) === 0;

export class PhaseCursor {
  readonly depth: number;
  /** Free-running: how many entries were ever passed, modulo 2^16. Doorbells send this. */
  head: Index16;
  /** Phase to stamp into, or to expect in, the entry at `slot`. */
  phase: Phase;

  /**
   * `start` lets a test begin just short of a wrap; its phase is that of a ring which has run there.
   */
  constructor(depth: number, start = 0) {
    if (!isPowerOfTwo(depth) || depth > 0x1_0000) {
      throw new RangeError(`ring depth ${depth} is not a power of two up to 65536`);
    }
    this.depth = depth;
    this.head = index16(start);
    this.phase = lapPhase(start, depth);
  }

  /** Slot number of the present entry. */
  get slot(): number {
    return slotOf(this.head, this.depth);
  }

  /** Steps over one entry. */
  next(): void {
    this.head = advance(this.head, 1);
    if (slotOf(this.head, this.depth) === 0) this.phase = this.phase === 1 ? 0 : 1;
  }

  /** Steps over `count` entries at once; more than a lap is fine. */
  skip(count: number): void {
    const end = slotOf(this.head, this.depth) + count;
    this.head = advance(this.head, count);
    // In units of the depth, a power of two, the lowest bit is the bit of the depth.
    if ((end & this.depth) !== 0) this.phase = this.phase === 1 ? 0 : 1;
  }

  /**
   * Walks over the entries that the producer has written and this cursor has not passed, without
   * moving the cursor. Returns the producer's position. Not for the data path.
   */
  unread(phaseOf: (slot: number) => number, look: (slot: number) => void = () => {}): Index16 {
    const ahead = new PhaseCursor(this.depth, this.head);
    ahead.phase = this.phase;
    for (let i = 0; i < this.depth && phaseOf(ahead.slot) === ahead.phase; i++) {
      look(ahead.slot);
      ahead.next();
    }
    return ahead.head;
  }
}

const lapPhase = (start: number, depth: number): Phase =>
  (Math.floor(start / depth) & 1) === 0 ? 1 : 0;
