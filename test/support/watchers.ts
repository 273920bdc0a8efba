import { slow, WaitedTooLong } from "./slowness.ts";

/** Waits for a condition. Code that changes the watched state calls `changed`. */
export class Watchers {
  readonly #looks = new Set<() => void>();

  /** An arrow function, because it may be passed on alone. */
  readonly changed = (): void => {
    for (const look of [...this.#looks]) look();
  };

  /** Resolves when `look` returns a value. Rejects when `look` throws, or with `what` on a hang. */
  async until<T>(
    what: string | (() => string),
    look: () => T | undefined,
    timeoutMs = 20_000,
  ): Promise<T> {
    const { promise, resolve, reject } = Promise.withResolvers<T>();
    const check = () => {
      try {
        const found = look();
        if (found !== undefined) resolve(found);
      } catch (error) {
        reject(error);
      }
    };
    const limitMs = slow(timeoutMs);
    const timer = setTimeout(() => reject(new WaitedTooLong(limitMs, what)), limitMs);
    this.#looks.add(check);
    try {
      check();
      return await promise;
    } finally {
      clearTimeout(timer);
      this.#looks.delete(check);
    }
  }
}
