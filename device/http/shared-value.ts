/** A value that is expensive to make. It is made at most four times a second, and shared. */

/** Shortest time from the end of one making to the start of the next, ms. */
const APART_MS = 250;
/** A making is followed by a pause of this many times its own length, */
const PAUSES = 10;
/** but of no more than this, ms. */
const MOST_APART_MS = 2000;
/** Most callers that wait for the next value. Further callers get the last value at once. */
const MOST_WAITING = 64;

export class SharedValue<T> {
  readonly #make: () => T | Promise<T>;
  /** The next value, not begun yet. All callers of now share it. */
  #next: Promise<T> | undefined;
  /** Begun: who asks now might miss what it has looked at already. */
  #making: Promise<T> | undefined;
  #notBefore = 0;
  #waiting = 0;
  #last: { readonly value: T } | undefined;

  constructor(make: () => T | Promise<T>) {
    this.#make = make;
  }

  /**
   * Resolves with a value that is made after this call. In a crowd it is the last one, which is as
   * old as the pause between two makings. Rejects as the making does.
   */
  get(): Promise<T> {
    if (this.#waiting >= MOST_WAITING && this.#last !== undefined) {
      return Promise.resolve(this.#last.value);
    }
    this.#waiting++;
    this.#next ??= this.#later();
    return this.#next;
  }

  async #later(): Promise<T> {
    await this.#making?.catch(() => {});
    const wait = this.#notBefore - performance.now();
    if (wait > 0) await new Promise((resolve) => setTimeout(resolve, wait).unref());
    this.#making = this.#next;
    this.#next = undefined;
    this.#waiting = 0;
    const begun = performance.now();
    try {
      const value = await this.#make();
      this.#last = { value };
      return value;
    } finally {
      const end = performance.now();
      const pause = Math.min(MOST_APART_MS, Math.max(APART_MS, PAUSES * (end - begun)));
      this.#notBefore = end + pause;
      this.#making = undefined;
    }
  }
}
