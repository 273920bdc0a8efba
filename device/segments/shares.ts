/**
 * How the segments of a device share places of which there are few: NICs, captures, readers of
 * events. A client with rights on one segment can take most places, and keeps nobody out of another.
 */

/** Part of all places that is kept for the segments, in equal shares. */
const KEPT_PART = 0.5;

/**
 * Returns the number of free places that a newcomer must leave to segments without it. `places` is
 * the number of all places, `segments` that of the segments, and `others` has, for each segment that
 * the newcomer does not belong to, the number of places in use.
 */
export function keptPlaces(places: number, segments: number, others: readonly number[]): number {
  const share = Math.floor((places * KEPT_PART) / segments);
  return others.reduce((sum, used) => sum + Math.max(0, share - used), 0);
}
