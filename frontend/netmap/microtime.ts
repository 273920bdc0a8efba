/**
 * microtime(9): the wall clock in microseconds since 1970.
 *
 * Date.now() has whole milliseconds, so the fraction comes from the monotonic clock. The result
 * always lies within the millisecond of Date.now(), also after the wall clock was set. A process has
 * one such clock, so the stamps of all NICs compare.
 */
let offsetMs = performance.timeOrigin;

export function microtime(): number {
  const monotonic = performance.now();
  const wall = Date.now();
  const ms = offsetMs + monotonic;
  if (ms < wall) offsetMs = wall - monotonic;
  else if (ms >= wall + 1) offsetMs = wall + 0.999 - monotonic;
  return Math.floor((offsetMs + monotonic) * 1000);
}
