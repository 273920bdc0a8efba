/**
 * The sleepers of a ring, and their wake-up (selinfo).
 *
 * A sleeper in this thread is a callback that is called once. A sleeper in a worker waits on a word
 * of shared memory; a `Watcher` represents it here and checks its rings again. All syncs run in one
 * thread, so no event can come between an unsuccessful check and `sleep`.
 */

/** Called at every notify of a ring. It must be cheap: it only records that a check is needed. */
export interface Watcher {
  ringNotified(): void;
}

export class SelInfo {
  readonly #sleepers: (() => void)[] = [];
  readonly #watchers: Watcher[] = [];

  /** selrecord: calls `wake` once, at the next wake-up. */
  sleep(wake: () => void): void {
    this.#sleepers.push(wake);
  }

  /** Removes a sleeper that no longer waits. */
  forget(wake: () => void): void {
    const i = this.#sleepers.indexOf(wake);
    if (i >= 0) this.#sleepers.splice(i, 1);
  }

  watch(watcher: Watcher): void {
    this.#watchers.push(watcher);
  }

  unwatch(watcher: Watcher): void {
    const i = this.#watchers.indexOf(watcher);
    if (i >= 0) this.#watchers.splice(i, 1);
  }

  /** selwakeup */
  wakeup(): void {
    for (let i = 0; i < this.#watchers.length; i++) this.#watchers[i]!.ringNotified();
    if (this.#sleepers.length === 0) return;
    // A sleeper that sleeps again during its wake-up waits for the next one.
    const sleepers = this.#sleepers.splice(0);
    for (const wake of sleepers) wake();
  }
}
