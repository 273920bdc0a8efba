/** A value that is dear to make: made at most four times a second, and shared by all who ask. */

/** Shortest time from the end of one making to the start of the next, ms. */
const APART_MS = 250;
/** A making is followed by a pause of this many times its own length, */
const PAUSES = 10;
/** but of no more than this, ms. */
const MOST_APART_MS = 2000;

export class SharedValue<T> {
  readonly #make: () => T | Promise<T>;
  /** Not begun yet: shared by all who ask now. */
  #next: Promise<T> | undefined;
  /** Begun: who asks now might miss what it has looked at already. */
  #making: Promise<T> | undefined;
  #notBefore = 0;

  constructor(make: () => T | Promise<T>) {
    this.#make = make;
  }

  /**
   * Resolves with a value that is made after this call, never with an older one. Rejects as the
   * making does.
   */
  get(): Promise<T> {
    this.#next ??= this.#later();
    return this.#next;
  }

  async #later(): Promise<T> {
    await this.#making?.catch(() => {});
    const wait = this.#notBefore - performance.now();
    if (wait > 0) await new Promise((resolve) => setTimeout(resolve, wait).unref());
    this.#making = this.#next;
    this.#next = undefined;
    const begun = performance.now();
    try {
      return await this.#make();
    } finally {
      const end = performance.now();
      const pause = Math.min(MOST_APART_MS, Math.max(APART_MS, PAUSES * (end - begun)));
      this.#notBefore = end + pause;
      this.#making = undefined;
    }
  }
}
