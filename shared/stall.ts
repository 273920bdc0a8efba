/**
 * Notices that this process stood still: it was stopped, or a turn took very long.
 *
 * Input that waited meanwhile is old. Its time of arrival is unknown, so whoever reads input asks
 * here before it uses it, and drops what waited. Frames that are seconds late do harm: their senders
 * have sent them again, and the burst delays the frames of the present.
 *
 * The places that drop old input, and until when:
 *
 *   a link (device: Tx, frontend: Rx)   until the answer to a heartbeat that was sent behind the stall
 *   a TAP (uplink, host)                until it has been read empty
 */
import { type Clock, systemClock } from "./clock.ts";

/**
 * Time (ms) without a look at the clock after which the process stood still. Each link looks once a
 * second, so its age limit is that of a stall: input of a shorter one is delivered.
 */
export const STALL_MS = 2000;

export class Stalls {
  /** Number of stalls so far. Callers compare it with the number of their last look. */
  count = 0;
  #seen: number;

  constructor(now: number) {
    this.#seen = now;
  }

  /** Returns `count` after a look at the time `now` (ms). */
  look(now: number): number {
    if (now - this.#seen > STALL_MS) this.count++;
    this.#seen = now;
    return this.count;
  }
}

const byClock = new WeakMap<Clock, Stalls>();

/** Returns the stalls of the process by this clock. */
export function stallsOf(clock: Clock): Stalls {
  const known = byClock.get(clock);
  if (known !== undefined) return known;
  const stalls = new Stalls(clock.now());
  byClock.set(clock, stalls);
  // Without a link nobody else looks regularly. A test's clock has links.
  if (clock === systemClock) setInterval(() => stalls.look(clock.now()), STALL_MS / 2).unref();
  return stalls;
}
