/**
 * The sleepers of a ring, and their wake-up (selinfo).
 *
 * A sleeper in this thread is a callback that is called once. A sleeper in a worker waits on a word
 * of shared memory; a watcher represents it here and checks its rings again. All syncs run in one
 * thread, so no event can come between an unsuccessful check and the sleep.
 */
export class SelInfo {
  /** selrecord: called once, at the next wake-up. */
  readonly sleepers = new Set<() => void>();
  /** Called at every wake-up. A watcher must be cheap: it only records that a check is needed. */
  readonly watchers = new Set<() => void>();

  /** selwakeup */
  wakeup(): void {
    for (const watcher of this.watchers) watcher();
    if (this.sleepers.size === 0) return;
    // A sleeper that sleeps again during its wake-up waits for the next one.
    const sleepers = [...this.sleepers];
    this.sleepers.clear();
    for (const wake of sleepers) wake();
  }
}
