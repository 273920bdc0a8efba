/** Runs steps one at a time, in order of arrival. Replaces the sx lock of the original driver. */
export class AsyncLock {
  #tail: Promise<unknown> = Promise.resolve();

  run<T>(step: () => Promise<T>): Promise<T> {
    const mine = this.#tail.then(step);
    this.#tail = mine.catch(() => undefined);
    return mine;
  }

  /**
   * Returns a function that queues `step`. While `step` is queued and has not begun, further calls
   * of the function do nothing. For steps that a peer can cause as often as it likes.
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
