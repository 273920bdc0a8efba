/** Long work in slices, so that the rest of the process has its turn in between. */

/** Longest time (ms) of work before other events of the process have their turn. */
const SLICE_MS = 5;

export class Slices {
  #since = performance.now();

  /** Resolves at once, or after a turn of the event loop if a slice has passed since the last one. */
  async turn(): Promise<void> {
    if (performance.now() - this.#since < SLICE_MS) return;
    await new Promise((resolve) => setImmediate(resolve));
    this.#since = performance.now();
  }
}
