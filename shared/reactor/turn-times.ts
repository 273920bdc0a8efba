/** How long the turns of the data path are: the time in which a descriptor that is ready waits. */

/** Upper bounds (ms) of the classes of turns. The last class has none. */
const TURN_BOUNDS_MS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000] as const;

export class TurnTimes {
  /** Number of turns by class, each class alone. One more than TURN_BOUNDS_MS. */
  readonly counts = new Float64Array(TURN_BOUNDS_MS.length + 1);
  /** Sum of all turns, in ms. */
  sumMs = 0;
  /** The longest turn since the start, in ms. */
  longestMs = 0;
  #began = -1;

  /** Number of turns by the upper bound of their class in ms; the last class is "longer". */
  byClass(): Record<string, number> {
    const names = [...TURN_BOUNDS_MS.map(String), "longer"];
    return Object.fromEntries(names.map((name, i) => [name, this.counts[i]!]));
  }

  began(now: number): void {
    this.#began = now;
  }

  ended(now: number): void {
    if (this.#began < 0) return;
    const ms = now - this.#began;
    this.sumMs += ms;
    if (ms > this.longestMs) this.longestMs = ms;
    let i = 0;
    while (i < TURN_BOUNDS_MS.length && ms > TURN_BOUNDS_MS[i]!) i++;
    this.counts[i]!++;
  }

  /** No further turn follows this one for now. */
  rest(): void {
    this.#began = -1;
  }
}
