/**
 * The gaps between captured packets, kept on a monotonic clock.
 *
 *   file     1 ── 5 ms ── 2 ─────── 200 ms ─────── 3 ── -1 h ── 4
 *   sent     1 ── 5 ms ── 2 ─────── 200 ms ─────── 3 4
 *
 * Each packet is due a gap after the one before was due, not after it left, so timers that are
 * late do not add up. A clock that was set back while the file was made costs no time.
 */
import { type Control, clockMs } from "../app.ts";
import { LATEST_MS } from "../pkt-gen/pacer.ts";

/** Timers hold 31 bits of milliseconds; longer gaps are slept in parts. */
const LONGEST_SLEEP_MS = 3_600_000;

export class Timetable {
  readonly #control: Control;
  readonly #now: () => number;
  #lastNs: bigint | undefined;
  /** Milliseconds between the packet seen last and the one before it; 0 when the file goes back. */
  gapMs = 0;
  /** When the packet seen last is due, by `now`. */
  #dueMs: number | undefined;

  /** `now`: milliseconds of a monotonic clock. */
  constructor(control: Control, now: () => number = clockMs) {
    this.#control = control;
    this.#now = now;
  }

  /** The time of the next packet of the file, whether it is sent or not. */
  saw(tsNs: bigint | undefined): void {
    const now = this.#now();
    // What the line held up is not made up for with a flood.
    this.#dueMs = Math.max(this.#dueMs ?? now, now - LATEST_MS);
    this.gapMs = 0;
    if (tsNs === undefined) return;
    if (this.#lastNs !== undefined && tsNs > this.#lastNs) {
      this.gapMs = Number(tsNs - this.#lastNs) / 1e6;
      this.#dueMs += this.gapMs;
    }
    this.#lastNs = tsNs;
  }

  /** The file begins again, at once. */
  rewind(): void {
    this.#lastNs = undefined;
  }

  /** The packet seen last is not due yet. */
  get isEarly(): boolean {
    return this.#dueMs !== undefined && this.#dueMs > this.#now();
  }

  /** Resolves when the packet seen last is due, or at once when stopped. */
  async due(): Promise<void> {
    for (;;) {
      const early = (this.#dueMs ?? 0) - this.#now();
      if (early <= 0 || this.#control.isStopped) return;
      await this.#control.sleep(Math.min(early, LONGEST_SLEEP_MS));
    }
  }
}
