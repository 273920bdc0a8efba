/**
 * The I/O interrupt of a queue pair.
 *
 *   interrupt -> rx, tx, rx, tx ... within a budget -> notify the stack -> unmask
 *                    \- more completions: continue in the next turn, still masked
 *
 * After ena_cleanup (amzn-drivers: kernel/fbsd/ena/ena_datapath.c), which leaves completions beyond
 * its budget to the next interrupt. datapath-tx.ts sends, datapath-rx.ts receives.
 */
import type { Adapter } from "./adapter.ts";
import { rxCleanup } from "./datapath-rx.ts";
import { transmitReady, txCleanup } from "./datapath-tx.ts";
import { unmask } from "./notify.ts";
import type { QueuePair } from "./rings.ts";

/** ENA_CLEAN_BUDGET: maximum rounds in one turn. */
const CLEAN_BUDGET = 8;

/** Handles completions, at the interrupt's place in the batch or for a watchdog. Never awaits. */
export function cleanup(adapter: Adapter, pair: QueuePair): void {
  if (!adapter.running || adapter.triggerReset) return;
  pair.tx.cleanupPending = false;
  pair.tx.firstInterrupt = true;
  pair.rx.firstInterrupt = true;
  const before = pair.rx.stats.count;
  let again = true;
  for (let i = 0; i < CLEAN_BUDGET && again && !adapter.triggerReset; i++) {
    const rxAgain = rxCleanup(adapter, pair.rx);
    const txAgain = txCleanup(adapter, pair.tx);
    again = rxAgain || txAgain;
  }
  if (pair.rx.stats.count !== before) adapter.ifnet.inputDone();
  transmitReady(adapter);
  // The stack was called and may have changed any state.
  if (!adapter.running || adapter.triggerReset) return;
  if (again) scheduleCleanup(adapter, pair);
  else unmask(adapter, pair);
}

/** taskqueue_enqueue of the cleanup task. */
export function scheduleCleanup(adapter: Adapter, pair: QueuePair): void {
  if (pair.tx.cleanupPending) return;
  pair.tx.cleanupPending = true;
  const { generation } = adapter;
  setImmediate(() => {
    if (adapter.generation === generation && adapter.queues.includes(pair)) cleanup(adapter, pair);
  });
}
