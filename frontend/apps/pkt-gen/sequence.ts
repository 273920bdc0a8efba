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

export class SequenceReport {
  first = 0;
  highest = 0;
  /** Numbers that arrived, each counted once. */
  unique = 0;
  /** Numbers between first and highest that did not arrive. */
  missing = 0;
  /** Numbers that arrived after a higher number. */
  late = 0;
  duplicate = 0;
  stale = 0;
  /** Frames of pkt-gen with a wrong checksum. */
  corrupt = 0;
  /** Frames of other programs: neighbours on the network send, too. */
  foreign = 0;
}

export class SequenceLog {
  /** Its `missing` is computed by `report`. */
  readonly counts = new SequenceReport();
  /** Count of the numbers from first to highest. */
  #span = 0;
  readonly #seen = new Uint8Array(WINDOW);

  /** Accounts for a frame numbered `seq`, 32 bits that may wrap. */
  saw(seq: number): void {
    const { counts } = this;
    if (this.#span === 0) {
      counts.first = seq;
      this.#new(seq, 1);
      return;
    }
    const ahead = (seq - counts.highest) | 0;
    if (ahead > 0) {
      if (ahead >= WINDOW) this.#seen.fill(0);
      else for (let i = 1; i < ahead; i++) this.#seen[(counts.highest + i) & MASK] = 0;
      this.#new(seq, ahead);
    } else if (-ahead >= WINDOW || -ahead >= this.#span) {
      counts.stale++;
    } else if (this.#seen[seq & MASK] === 1) {
      counts.duplicate++;
    } else {
      this.#seen[seq & MASK] = 1;
      counts.unique++;
      counts.late++;
    }
  }

  /** A number above all others, by `ahead`. */
  #new(seq: number, ahead: number): void {
    this.#span += ahead;
    this.counts.highest = seq;
    this.counts.unique++;
    this.#seen[seq & MASK] = 1;
  }

  report(): SequenceReport {
    return { ...this.counts, missing: this.#span - this.counts.unique };
  }
}
