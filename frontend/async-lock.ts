/** One at a time, in order of arrival: what the original's sx lock is to its threads. */
export class AsyncLock {
  #tail: Promise<unknown> = Promise.resolve();

  run<T>(step: () => Promise<T>): Promise<T> {
    const mine = this.#tail.then(step);
    this.#tail = mine.catch(() => undefined);
    return mine;
  }

  /**
   * For steps that a peer sets off, as often as it likes: a function that asks for `step`, which
   * waits in the queue once at most. Asked again before it has begun, it runs once for all.
   */
  coalesced(step: () => Promise<void>, failed: (error: unknown) => void): () => void {
    let isDue = false;
    const begin = (): Promise<void> => {
      isDue = false;
      return step();
    };
    return () => {
      if (isDue) return;
      isDue = true;
      this.run(begin).catch(failed);
    };
  }
}
