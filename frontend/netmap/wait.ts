/**
 * Who sleeps on a ring, and how they are woken (selinfo).
 *
 * A sleeper in this thread is a callback, called once. A sleeper in a worker sleeps on a word of
 * shared memory; a `Watcher` stands for it here and looks at its rings again. All syncs run in one
 * thread, so between a look that finds nothing and `sleep` nothing can happen.
 */

/** Hears of every notify of a ring, asleep or not: cheap, and only notes that it has to look. */
export interface Watcher {
  ringNotified(): void;
}

export class SelInfo {
  readonly #sleepers: (() => void)[] = [];
  readonly #watchers: Watcher[] = [];

  /** selrecord: calls `wake` at the next wakeup, once. */
  sleep(wake: () => void): void {
    this.#sleepers.push(wake);
  }

  /** The sleeper has gone for another reason. */
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
    // Who sleeps again from within its wake-up waits for the next one.
    const sleepers = this.#sleepers.splice(0);
    for (const wake of sleepers) wake();
  }
}
