/**
 * A clock that stands still until a test advances it. Its timers run in the order of their times.
 */
import type { Clock, Timer } from "../../shared/clock.ts";

interface TestTimer extends Timer {
  readonly run: () => void;
  readonly ms: number;
  readonly everyMs: number | undefined;
  due: number;
}

export class TestClock implements Clock {
  readonly #timers = new Set<TestTimer>();
  #ms = 1000;

  /** An arrow function, because `now` may be passed on alone. */
  readonly now = (): number => this.#ms;

  setTimeout(run: () => void, ms: number): Timer {
    return this.#add(run, ms);
  }

  setInterval(run: () => void, ms: number): Timer {
    return this.#add(run, ms, ms);
  }

  setImmediate(run: () => void): void {
    setImmediate(run);
  }

  clear(timer: Timer | undefined): void {
    this.#timers.delete(timer as TestTimer);
  }

  /** The process stands still for `ms`: what becomes due runs at the next `advance`. */
  stall(ms: number): void {
    this.#ms += ms;
  }

  /** Advances to the next timer and runs it; does nothing without one. */
  advanceToNext(): void {
    const due = Math.min(...[...this.#timers].map((timer) => timer.due));
    if (due !== Number.POSITIVE_INFINITY) this.advance(Math.max(0, due - this.#ms));
  }

  /** Advances by `ms` and runs each timer that becomes due, at its own time. */
  advance(ms: number): void {
    const end = this.#ms + ms;
    for (;;) {
      let first: TestTimer | undefined;
      for (const timer of this.#timers) {
        if (timer.due <= end && (first === undefined || timer.due < first.due)) first = timer;
      }
      if (first === undefined) break;
      this.#ms = Math.max(this.#ms, first.due);
      if (first.everyMs === undefined) this.#timers.delete(first);
      else first.due += first.everyMs;
      first.run();
    }
    this.#ms = end;
  }

  /**
   * Runs the timers that were set for at most `ms`, each at its time. Afterwards it is as early as
   * before. Returns whether there were any.
   */
  hurry(ms: number): boolean {
    const timers = [...this.#timers].filter((timer) => timer.ms <= ms);
    for (const timer of timers) {
      if (!this.#timers.delete(timer)) continue;
      const now = this.#ms;
      this.#ms = Math.max(now, timer.due);
      timer.run();
      this.#ms = now;
    }
    return timers.length > 0;
  }

  #add(run: () => void, ms: number, everyMs?: number): Timer {
    const timer: TestTimer = { run, ms, everyMs, due: this.#ms + ms, unref() {} };
    this.#timers.add(timer);
    return timer;
  }
}

/**
 * The clock of a pair. Turns of the event loop run when the pair pumps, so a link sends nothing by
 * itself. Tasks of every second run at `tick` only, so `advance` alone stands for a stalled
 * process.
 */
export class PairClock extends TestClock {
  #turns: (() => void)[] = [];
  readonly #ticks = new Map<Timer, () => void>();

  override setImmediate(run: () => void): void {
    this.#turns.push(run);
  }

  override setInterval(run: () => void): Timer {
    const timer = { unref() {} };
    this.#ticks.set(timer, run);
    return timer;
  }

  override clear(timer: Timer | undefined): void {
    super.clear(timer);
    if (timer !== undefined) this.#ticks.delete(timer);
  }

  /** Runs the callbacks of the next turn. Returns whether there were any. */
  turn(): boolean {
    const turns = this.#turns.splice(0);
    for (const run of turns) run();
    return turns.length > 0;
  }

  tick(): void {
    for (const run of [...this.#ticks.values()]) run();
  }
}
