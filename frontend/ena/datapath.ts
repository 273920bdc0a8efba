/**
 * The completions of a queue pair.
 *
 *   interrupt ─────────────────┐
 *   batch applied, new entries ┴► rx, tx, rx, tx ... within a budget ─► notify the stack
 *                                   \- more completions: continue in the next turn
 *   before the next message ──► unmask
 *
 * After ena_cleanup (amzn-drivers: kernel/fbsd/ena/ena_datapath.c), which unmasks at once and leaves
 * completions beyond its budget to the next interrupt. On a link, the unmask and the interrupt that
 * follows need a round trip. So the driver does not wait for them: from the first interrupt on, it
 * looks at its queues after each batch, as NAPI does while an interrupt is masked.
 * datapath-tx.ts sends, datapath-rx.ts receives.
 */
import { RX_CDESC_SIZE, rxCdesc, TX_CDESC_SIZE, txCdesc } from "../../shared/ena/io.ts";
import type { Adapter } from "./adapter.ts";
import { rxCleanup } from "./datapath-rx.ts";
import { transmitReady, txCleanup } from "./datapath-tx.ts";
import { unmask } from "./notify.ts";
import type { QueuePair } from "./rings.ts";

/** ENA_CLEAN_BUDGET: maximum rounds in one turn. */
const CLEAN_BUDGET = 8;

/** Handles the vector of a pair, at the interrupt's place in the batch. */
export function interrupt(adapter: Adapter, pair: QueuePair): void {
  pair.masked = true;
  if (!adapter.running || adapter.triggerReset) return;
  pair.tx.firstInterrupt = true;
  pair.rx.firstInterrupt = true;
  cleanup(adapter, pair);
}

/** Handles the completions of this batch that no interrupt announced. */
export function pollQueues(adapter: Adapter): void {
  const { queues } = adapter;
  for (let i = 0; i < queues.length && adapter.queues === queues; i++) {
    const pair = queues[i]!;
    // A device that never interrupts is broken. The watchdog finds that out.
    if (!pair.rx.firstInterrupt || pair.tx.cleanupPending || !hasCompletions(pair)) continue;
    pair.polled = pair.masked;
    cleanup(adapter, pair);
  }
}

function hasCompletions({ rx, tx }: QueuePair): boolean {
  const { cq: rxCq } = rx;
  const { cq: txCq } = tx;
  return (
    rxCdesc.phase(rxCq.view, rxCq.cursor.slot * RX_CDESC_SIZE) === rxCq.cursor.phase ||
    txCdesc.phase(txCq.view, txCq.cursor.slot * TX_CDESC_SIZE) === txCq.cursor.phase
  );
}

/** Handles completions, in a batch or for a watchdog. Never awaits. */
export function cleanup(adapter: Adapter, pair: QueuePair): void {
  if (!adapter.running || adapter.triggerReset) return;
  pair.tx.cleanupPending = false;
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
  if (again && adapter.running && !adapter.triggerReset) scheduleCleanup(adapter, pair);
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

/**
 * Unmasks vectors whose completions were all handled at their interrupt. The unmask travels with a
 * message that leaves anyway. A vector with polled completions stays masked until the next tick,
 * because each unmask would bring an interrupt, in a message of its own, for no work.
 */
export function unmaskDue(adapter: Adapter): void {
  if (!adapter.running || adapter.triggerReset) return;
  const { queues } = adapter;
  for (let i = 0; i < queues.length; i++) {
    const pair = queues[i]!;
    if (!pair.masked || pair.polled || pair.tx.cleanupPending) continue;
    pair.masked = false;
    unmask(adapter, pair);
  }
}
