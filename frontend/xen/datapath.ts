/**
 * The event of a queue pair, and the look at the end of each batch that stands in for one that
 * was not sent (notify.ts says why). Receive side in datapath-rx.ts, send side in datapath-tx.ts.
 *
 * After xn_intr, xn_rxq_intr and xn_txq_intr (freebsd-src: sys/dev/xen/netfront/netfront.c).
 */
import { rxeof } from "./datapath-rx.ts";
import { txeof } from "./datapath-tx.ts";
import type { NetfrontInfo } from "./info.ts";
import { flush } from "./notify.ts";
import type { Rxq, Txq } from "./rings.ts";

/**
 * xn_intr: rx, then tx. True when there was work. Never awaits; harmless at any time, in particular
 * while the rings are being connected anew (XSA-465).
 */
export function interrupt(info: NetfrontInfo, rxq: Rxq, txq: Txq): boolean {
  const received = rxeof(info, rxq);
  const sent = txeof(info, txq);
  if (received) info.ifnet.inputDone();
  if (sent) info.gate.ready();
  if (received || sent) flush(info);
  return received || sent;
}

/** What came in this batch, event or none. */
export function poll(info: NetfrontInfo): void {
  if (!info.carrier) return;
  const { rxqs, txqs } = info;
  for (let i = 0; i < rxqs.length && info.carrier && info.rxqs === rxqs; i++) {
    const rxq = rxqs[i]!;
    const txq = txqs[i]!;
    // A count below zero is work too: it has to be named.
    const waits = (rxq.ring?.unconsumed() ?? 0) !== 0 || (txq.ring?.unconsumed() ?? 0) !== 0;
    if (waits) interrupt(info, rxq, txq);
  }
}
