/**
 * Accounts for numbered frames. Every number between the first and the highest arrived once
 * (unique), never (missing), or again.
 *
 *   first ... | highest - WINDOW ... highest |      the window remembers number by number
 *   missing, if it was not there by then       seen: one bit each
 *
 * A number from before the window may be new or a repetition. It counts as `stale`.
 */
const WINDOW = 1 << 17;
const MASK = WINDOW - 1;

export interface SequenceReport {
  readonly first: number;
  readonly highest: number;
  /** Numbers that arrived, each counted once. */
  readonly unique: number;
  /** Numbers between first and highest that did not arrive. */
  readonly missing: number;
  /** Numbers that arrived after a higher number. */
  readonly late: number;
  readonly duplicate: number;
  readonly stale: number;
  /** Frames of pkt-gen with a wrong checksum. */
  readonly corrupt: number;
  /** Frames of other programs: neighbours on the network send, too. */
  readonly foreign: number;
}

export class SequenceLog {
  corrupt = 0;
  foreign = 0;
  #unique = 0;
  #late = 0;
  #duplicate = 0;
  #stale = 0;
  #first = 0;
  /** Count of the numbers from first to highest. */
  #span = 0;
  #highest = 0;
  readonly #seen = new Uint8Array(WINDOW);

  /** Accounts for a frame numbered `seq`, 32 bits that may wrap. */
  saw(seq: number): void {
    if (this.#span === 0) {
      this.#first = seq;
      this.#start(seq);
      return;
    }
    const ahead = (seq - this.#highest) | 0;
    if (ahead > 0) {
      if (ahead >= WINDOW) this.#seen.fill(0);
      else for (let i = 1; i < ahead; i++) this.#seen[(this.#highest + i) & MASK] = 0;
      this.#span += ahead;
      this.#highest = seq;
      this.#seen[seq & MASK] = 1;
      this.#unique++;
    } else if (-ahead >= WINDOW || -ahead >= this.#span) {
      this.#stale++;
    } else if (this.#seen[seq & MASK] === 1) {
      this.#duplicate++;
    } else {
      this.#seen[seq & MASK] = 1;
      this.#unique++;
      this.#late++;
    }
  }

  #start(seq: number): void {
    this.#span = 1;
    this.#highest = seq;
    this.#unique = 1;
    this.#seen[seq & MASK] = 1;
  }

  get unique(): number {
    return this.#unique;
  }

  report(): SequenceReport {
    return {
      first: this.#first,
      highest: this.#highest,
      unique: this.#unique,
      missing: this.#span - this.#unique,
      late: this.#late,
      duplicate: this.#duplicate,
      stale: this.#stale,
      corrupt: this.corrupt,
      foreign: this.foreign,
    };
  }
}
