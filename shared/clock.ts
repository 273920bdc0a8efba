/** The clock of all code that waits: the system's clock, or one that a test advances. */

import { soon } from "./reactor/index.ts";

/** A timer of a clock, to be handed to `clear`. */
export interface Timer {
  /** The process may end before this timer runs. */
  unref(): unknown;
}

export interface Clock {
  /** Milliseconds of a monotonic clock, with a fraction. */
  now(): number;
  /** Calls `run` once, after `ms`. */
  setTimeout(run: () => void, ms: number): Timer;
  /** Calls `run` every `ms`. */
  setInterval(run: () => void, ms: number): Timer;
  /** Calls `run` in the next turn of the event loop, behind the input that has arrived. */
  setImmediate(run: () => void): void;
  /** Stops a timer. One that has run, and undefined, are ignored. */
  clear(timer: Timer | undefined): void;
}

// Each call looks up the global function: vitest's fake timers replace it.
export const systemClock: Clock = {
  now: () => performance.now(),
  setTimeout: (run, ms) => setTimeout(run, ms),
  setInterval: (run, ms) => setInterval(run, ms),
  setImmediate: soon,
  clear: (timer) => clearTimeout(timer as NodeJS.Timeout | undefined),
};
