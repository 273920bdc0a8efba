/**
 * The time of silence after which a peer counts as dead. Each end has one. Both ends use the longer
 * one, so that a process may be paused at either end. A peer gets at most MOST_ASKED_SECONDS, except
 * by an end that itself waits for ever.
 */

/** Seconds of silence; "off": for ever, for debugging with breakpoints. */
export type DeadAfter = number | "off";

export const DEFAULT_DEAD_AFTER = 4;
export const MIN_DEAD_AFTER = 2;
export const MAX_DEAD_AFTER = 3600;
/** Most seconds that one end waits because the other one wants it. */
const MOST_ASKED_SECONDS = 600;

/** In hello and welcome: seconds; 0 for ever. */
export const deadAfterField = (own: DeadAfter): number => (own === "off" ? 0 : own);

/** Returns the seconds that this end waits. `asked`: the field of the peer, if it sent one. */
export function agreedSeconds(own: DeadAfter = DEFAULT_DEAD_AFTER, asked?: number): number {
  const seconds = own === "off" ? Number.POSITIVE_INFINITY : own;
  if (asked === undefined) return seconds;
  const wanted = asked === 0 ? MOST_ASKED_SECONDS : Math.min(asked, MOST_ASKED_SECONDS);
  return Math.max(seconds, wanted);
}

/** Throws a RangeError for a value that a program can't mean. */
export function checkedDeadAfter(own: DeadAfter | undefined): DeadAfter {
  const value = own ?? DEFAULT_DEAD_AFTER;
  const fits = value === "off" || (value >= MIN_DEAD_AFTER && value <= MAX_DEAD_AFTER);
  if (fits && (value === "off" || Number.isInteger(value))) return value;
  throw new RangeError(`deadAfter ${DEAD_AFTER_TAKES}, not ${value}`);
}

/** The end of a sentence about a wrong value. */
export const DEAD_AFTER_TAKES = `takes whole seconds from ${MIN_DEAD_AFTER} to ${MAX_DEAD_AFTER}, or off`;
