/** A value that is expensive to make. It is made at most four times a second, for all callers. */

/** Shortest time (ms) from the end of one making to the start of the next. */
const APART_MS = 250;
/** Length of the pause after a making, as a multiple of the time that the making took. */
const PAUSES = 10;
/** Longest pause (ms) after a making. */
const MOST_APART_MS = 2000;
/** Most callers that wait for the next value. Further callers get the last value at once. */
const MOST_WAITING = 64;

export class SharedValue<T> {
  readonly #make: () => T | Promise<T>;
  /** The next value, whose making has not begun. All callers until then share it. */
  #next: Promise<T> | undefined;
  /** The value being made. A new caller can't use it, as its parts may be older than the call. */
  #making: Promise<T> | undefined;
  #notBefore = 0;
  #waiting = 0;
  #last: { readonly value: T } | undefined;

  constructor(make: () => T | Promise<T>) {
    this.#make = make;
  }

  /**
   * Resolves with a value that is made after this call. When MOST_WAITING callers wait already, it
   * resolves with the last value, which is as old as the pause between two makings. Rejects with
   * the error of the making.
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

/** Most scopes with a value of their own. A further one takes the place of the oldest. */
const MOST_SCOPES = 64;

/** A client that sees some segments only, or all. */
export interface Scope {
  readonly segments: readonly string[] | undefined;
  sees(segment: string): boolean;
}

/** A SharedValue for all clients that see the same segments. */
export class ScopedValue<T> {
  readonly #make: (scope: Scope) => Promise<T>;
  readonly #values = new Map<string, SharedValue<T>>();

  constructor(make: (scope: Scope) => Promise<T>) {
    this.#make = make;
  }

  of(scope: Scope): SharedValue<T> {
    // A list of clients may have any text as the name of a segment.
    const key = JSON.stringify(scope.segments?.toSorted() ?? "all");
    const known = this.#values.get(key);
    if (known !== undefined) return known;
    const value = new SharedValue(() => this.#make(scope));
    this.#values.set(key, value);
    if (this.#values.size > MOST_SCOPES) this.#values.delete(this.#values.keys().next().value!);
    return value;
  }
}
