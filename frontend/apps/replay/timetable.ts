/**
 * Keeps the gaps between captured packets, on a monotonic clock.
 *
 *   file     1 ── 5 ms ── 2 ─────── 200 ms ─────── 3 ── -1 h ── 4
 *   sent     1 ── 5 ms ── 2 ─────── 200 ms ─────── 3 4
 *
 * A packet is due one gap after the packet before it was due, not after that packet left. Late
 * timers therefore do not add up. If the clock was set back during the capture, the gap counts as
 * 0.
 */
import { type Control, clockMs } from "../app.ts";
import { LATEST_MS } from "../pkt-gen/pacer.ts";

/** Longest sleep (ms). Timers have 31 bits of milliseconds, so longer gaps are slept in parts. */
const LONGEST_SLEEP_MS = 3_600_000;

export class Timetable {
  readonly #control: Control;
  readonly #now: () => number;
  #lastNs: bigint | undefined;
  /** Gap (ms) between the last packet and the packet before it; 0 when the time goes back. */
  gapMs = 0;
  /** Time (ms of `now`) at which the last packet is due. */
  #dueMs: number | undefined;

  /** `now` returns milliseconds of a monotonic clock. */
  constructor(control: Control, now: () => number = clockMs) {
    this.#control = control;
    this.#now = now;
  }

  /** Accounts for the time of the file's next packet, whether it is sent or not. */
  saw(tsNs: bigint | undefined): void {
    const now = this.#now();
    // A delay by the link is made up for by LATEST_MS at most: more would be a flood.
    this.#dueMs = Math.max(this.#dueMs ?? now, now - LATEST_MS);
    this.gapMs = 0;
    if (tsNs === undefined) return;
    if (this.#lastNs !== undefined && tsNs > this.#lastNs) {
      this.gapMs = Number(tsNs - this.#lastNs) / 1e6;
      this.#dueMs += this.gapMs;
    }
    this.#lastNs = tsNs;
  }

  /** Call when the file begins again. Its first packet then has no gap. */
  rewind(): void {
    this.#lastNs = undefined;
  }

  /** True while the last packet is not due yet. */
  get isEarly(): boolean {
    return this.#dueMs !== undefined && this.#dueMs > this.#now();
  }

  /** Resolves when the last packet is due, or at once when stopped. */
  async due(): Promise<void> {
    for (;;) {
      const early = (this.#dueMs ?? 0) - this.#now();
      if (early <= 0 || this.#control.isStopped) return;
      await this.#control.sleep(Math.min(early, LONGEST_SLEEP_MS));
    }
  }
}
