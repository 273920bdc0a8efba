/**
 * Bounds the work that one batch of a driver can cause, however much of it the batch asks for. What
 * is left has the next turn of the event loop, after all other NICs.
 */
export class TurnCredit {
  readonly #most: number;
  readonly #resume: () => void;
  #left: number;
  #scheduled = false;

  /** `most` is in units of work. `resume` is called in the next turn if a `take` failed. */
  constructor(most: number, resume: () => void) {
    this.#most = most;
    this.#left = most;
    this.#resume = resume;
  }

  /** Takes one unit. Returns false if none is left for this batch. */
  take(): boolean {
    if (this.#left > 0) {
      this.#left--;
      return true;
    }
    if (!this.#scheduled) {
      this.#scheduled = true;
      setImmediate(() => {
        this.#scheduled = false;
        this.refill();
        this.#resume();
      });
    }
    return false;
  }

  /** Called at the end of a batch. */
  refill(): void {
    if (!this.#scheduled) this.#left = this.#most;
  }
}
