/** One at a time, in order of arrival: what the original's sx lock is to its threads. */
export class AsyncLock {
  #tail: Promise<unknown> = Promise.resolve();

  run<T>(step: () => Promise<T>): Promise<T> {
    const mine = this.#tail.then(step);
    this.#tail = mine.catch(() => undefined);
    return mine;
  }
}
