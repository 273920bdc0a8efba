/**
 * The event of a queue pair, and the poll after each batch, which replaces an event that was not
 * sent (notify.ts explains the reason). datapath-rx.ts receives, datapath-tx.ts sends.
 *
 * After xn_intr, xn_rxq_intr and xn_txq_intr (freebsd-src: sys/dev/xen/netfront/netfront.c).
 */
import { rxeof } from "./datapath-rx.ts";
import { txeof } from "./datapath-tx.ts";
import type { NetfrontInfo } from "./info.ts";
import { publishRxIfDue } from "./notify.ts";
import type { Rxq, Txq } from "./rings.ts";

/**
 * xn_intr: handles rx, then tx. Returns true when there was work. Never awaits. A call is safe at
 * any time, in particular while the rings are being reconnected (XSA-465).
 */
export function interrupt(info: NetfrontInfo, rxq: Rxq, txq: Txq): boolean {
  const received = rxeof(info, rxq);
  const sent = txeof(info, txq);
  if (received) info.ifnet.inputDone();
  if (sent) info.gate.ready();
  return received || sent;
}

/**
 * Handles the responses that came in this batch, with or without an event, and publishes the receive
 * requests for which the backend has begun to wait.
 */
export function poll(info: NetfrontInfo): void {
  if (!info.carrier) return;
  const { rxqs, txqs } = info;
  for (let i = 0; i < rxqs.length && info.carrier && info.rxqs === rxqs; i++) {
    const rxq = rxqs[i]!;
    const txq = txqs[i]!;
    // A negative count is work too: the interrupt reports the violation.
    const waits = (rxq.ring?.unconsumed() ?? 0) !== 0 || (txq.ring?.unconsumed() ?? 0) !== 0;
    if (waits) interrupt(info, rxq, txq);
    else publishRxIfDue(info, rxq);
  }
}
