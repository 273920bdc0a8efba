/**
 * Capture time: nanoseconds since 1970 as two words, from a wall clock read once and a monotonic
 * clock afterwards, so that a clock that is set, or jumps, never turns a file's time back.
 */

export interface TimeSource {
  /** Milliseconds since 1970. */
  wallMs(): number;
  /** Milliseconds since some moment, with a fraction. */
  monotonicMs(): number;
}

export const systemTime: TimeSource = {
  wallMs: () => Date.now(),
  monotonicMs: () => performance.now(),
};

const WORD = 2 ** 32;

export class CaptureClock {
  /** The time of the last `tick`, high and low word. */
  high = 0;
  low = 0;
  /** Nanoseconds between the clock's start and the last `tick`. */
  elapsedNs = 0;

  readonly #source: TimeSource;
  readonly #startMs: number;
  /** The time at which the clock started. */
  readonly startHigh: number;
  readonly startLow: number;

  constructor(source: TimeSource = systemTime) {
    this.#source = source;
    this.#startMs = source.monotonicMs();
    const wall = BigInt(Math.round(source.wallMs() * 1000)) * 1000n;
    this.startHigh = Number(wall >> 32n);
    this.startLow = Number(wall & 0xffffffffn);
    this.tick();
  }

  /** Reads the clock. Allocates nothing: the words are in `high` and `low`. */
  tick(): void {
    const elapsed = Math.round((this.#source.monotonicMs() - this.#startMs) * 1e6);
    // Whole below 2^53: a capture of a hundred days.
    if (elapsed > this.elapsedNs) this.elapsedNs = elapsed;
    const low = this.startLow + (this.elapsedNs % WORD);
    const carry = low >= WORD ? 1 : 0;
    this.low = low - carry * WORD;
    this.high = this.startHigh + Math.floor(this.elapsedNs / WORD) + carry;
  }

  /** The last `tick` as milliseconds since 1970. */
  get ms(): number {
    return (this.high * WORD + this.low) / 1e6;
  }
}
