/**
 * The watchdogs run once a second, in the original's order. After ena_timer_service and the
 * check_for_* functions (amzn-drivers: kernel/fbsd/ena/ena.c). They only request a reset; the code
 * of the reset is in lifecycle.ts.
 */
import { HW_HINTS_NO_TIMEOUT } from "../../shared/ena/features.ts";
import { RX_CDESC_SIZE, rxCdesc, TX_CDESC_SIZE, txCdesc } from "../../shared/ena/io.ts";
import { ResetReason } from "../../shared/ena/registers.ts";
import type { Adapter } from "./adapter.ts";
import { scheduleCleanup } from "./datapath.ts";
import type { RxRing, TxRing } from "./rings.ts";

/** ENA_MAX_NO_INTERRUPT_ITERATIONS: ticks with completions and no interrupt so far. */
const MAX_NO_INTERRUPT_TICKS = 3;
/** EMPTY_RX_REFILL: ticks during which the device has no buffer. */
const EMPTY_RX_TICKS = 2;

export function checkAll(adapter: Adapter): void {
  checkKeepAlive(adapter);
  checkAdminState(adapter);
  checkMissingCompletions(adapter);
  checkEmptyRxRings(adapter);
}

function checkKeepAlive(adapter: Adapter): void {
  if (!adapter.wdActive || adapter.keepAliveTimeoutMs === HW_HINTS_NO_TIMEOUT) return;
  const silentMs = adapter.clock() - adapter.keepAliveTimestamp;
  if (silentMs <= adapter.keepAliveTimeoutMs) return;
  if (!adapter.triggerReset) adapter.log.error({ silentMs }, "keep-alive watchdog timeout");
  // The keep-alive may be in the event queue, with only its interrupt lost.
  const missedInterrupt = adapter.com?.aenq?.hasKeepAlive() === true;
  adapter.requestReset(
    missedInterrupt ? ResetReason.MISSING_ADMIN_INTERRUPT : ResetReason.KEEP_ALIVE_TO,
  );
}

function checkAdminState(adapter: Adapter): void {
  const { com } = adapter;
  if (com === undefined || com.admin?.running === true) return;
  adapter.devStats.admin_q_pause++;
  if (!adapter.triggerReset) adapter.log.error({}, "admin queue is not running");
  adapter.requestReset(
    com.admin?.missingInterrupt === true
      ? ResetReason.MISSING_ADMIN_INTERRUPT
      : ResetReason.ADMIN_TO,
  );
}

/** Checks missingTxMaxQueues queues in each tick, and the next ones in the next tick. */
function checkMissingCompletions(adapter: Adapter): void {
  if (!adapter.devUp || adapter.triggerReset) return;
  if (adapter.missingTxTimeoutMs === HW_HINTS_NO_TIMEOUT) return;
  const count = adapter.queues.length;
  let qid = adapter.nextMonitoredQid % count;
  for (let budget = adapter.missingTxMaxQueues; qid < count && budget > 0; budget--, qid++) {
    const { tx, rx } = adapter.queues[qid]!;
    if (checkTxRing(adapter, tx) || checkRxInterrupt(adapter, rx)) return;
  }
  adapter.nextMonitoredQid = qid % count;
}

/** check_missing_comp_in_tx_queue: returns true when it has requested a reset. */
function checkTxRing(adapter: Adapter, ring: TxRing): boolean {
  const now = adapter.clock();
  const timeout = adapter.missingTxTimeoutMs;
  const { view, cursor } = ring.cq;
  const there = txCdesc.phase(view, cursor.slot * TX_CDESC_SIZE) === cursor.phase;
  // A netmap ring consumes completions only in a sync. A missing sync is no fault of the device.
  if (there && ring.firstInterrupt && adapter.netmap?.hasTxRing(ring.qid)) return false;
  let missed = 0;
  for (let id = 0; id < ring.size; id++) {
    const stamp = ring.stamps[id]!;
    if (stamp === 0) continue;
    const age = now - stamp;
    if (!ring.firstInterrupt && age > 2 * timeout) {
      adapter.log.error({ queue: ring.qid }, "tx completions expected, and never an interrupt");
      adapter.requestReset(ResetReason.MISS_INTERRUPT);
      return true;
    }
    if (age <= timeout) continue;
    missed++;
    if (ring.reported[id] === 0) {
      ring.reported[id] = 1;
      ring.stats.missing_tx_comp++;
    }
  }
  // A stopped ring may be too short for the threshold. Then no completion within the timeout is
  // sufficient for a reset.
  const dead = !ring.running && missed > 0 && now - ring.lastCleanup > timeout;
  if (missed <= adapter.missingTxThreshold && !dead) return false;
  adapter.log.error(
    { queue: ring.qid, missed, sinceCleanupMs: now - ring.lastCleanup },
    "too many tx completions are missing",
  );
  adapter.requestReset(
    there && !ring.cleanupPending ? ResetReason.MISS_INTERRUPT : ResetReason.MISS_TX_CMPL,
  );
  return true;
}

/** check_for_rx_interrupt_queue: returns true when it has requested a reset. */
function checkRxInterrupt(adapter: Adapter, ring: RxRing): boolean {
  if (ring.firstInterrupt) return false;
  const { view, cursor } = ring.cq;
  if (rxCdesc.phase(view, cursor.slot * RX_CDESC_SIZE) !== cursor.phase) return false;
  if (++ring.noInterruptEventCnt !== MAX_NO_INTERRUPT_TICKS) return false;
  adapter.log.error({ queue: ring.qid }, "frames received, and never an interrupt");
  adapter.requestReset(ResetReason.MISS_INTERRUPT);
  return true;
}

/** Refills empty rings. Such a ring receives no interrupts, so no other code would retry. */
function checkEmptyRxRings(adapter: Adapter): void {
  if (!adapter.devUp || adapter.triggerReset) return;
  for (const pair of adapter.queues) {
    const { rx } = pair;
    if (rx.sq.freeEntries() !== rx.size - 1) {
      rx.emptyRxQueue = 0;
      continue;
    }
    if (++rx.emptyRxQueue < EMPTY_RX_TICKS) continue;
    rx.emptyRxQueue = 0;
    rx.stats.empty_rx_ring++;
    adapter.log.warn({ queue: rx.qid }, "rx ring is empty, filling it again");
    scheduleCleanup(adapter, pair);
  }
}
