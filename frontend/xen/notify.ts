/**
 * Publishing and being told: how frontend and backend learn that there is something new.
 *
 *   transmit   kick: grants, requests, index; one event for each queue
 *   event  a response stands where we asked to be woken: rx, then tx of the queue
 *   poll   at the end of each batch: has a response come, told or not?
 *
 * The link sends what was posted at the end of the turn, so the batches of a turn share a message.
 *
 * On one machine a consumer that arms its event index and looks again can't miss a response. Here
 * index and response may cross on the link: each side has armed, or looked, before the other's word
 * was there. So what arrives is looked at once more when it has arrived; that closes the gap.
 */
import type { NetfrontInfo } from "./info.ts";
import type { Rxq, Txq } from "./rings.ts";

/**
 * A batch this long leaves with its index: two super-frames, for half the system calls and wake-ups
 * of one each. A third would reach the limit at which a batch leaves in the middle of a packet.
 */
const BATCH_BYTES = 88 * 1024;

/** Grants first, then what names them, then the index; and the event, where it was asked for. */
export function publishTx(info: NetfrontInfo, txq: Txq): void {
  if (txq.ring === undefined || txq.ring.unpublished === 0) return;
  info.grants.post();
  if (txq.ring.publish()) {
    txq.stats.notifications++;
    info.events.notify(txq.port);
  }
  // With or without an event: the device looks at its rings after each batch.
  info.ctx.space.link?.mark(BATCH_BYTES);
}

export function publishRx(info: NetfrontInfo, rxq: Rxq): void {
  if (rxq.ring === undefined || rxq.ring.unpublished === 0) return;
  info.grants.post();
  if (!rxq.ring.publish()) return;
  rxq.stats.notifications++;
  info.events.notify(portOf(info, rxq));
}

/** The channel of a queue pair hangs at its Tx queue. */
export const portOf = (info: NetfrontInfo, rxq: Rxq): number => info.txqs[rxq.id]?.port ?? 0;

/** Publishes for each queue that has something new. */
export function kick(info: NetfrontInfo): void {
  if (!info.carrier) return;
  for (const txq of info.txqs) publishTx(info, txq);
  flush(info);
}

/** What was posted, ends of grants among it, leaves at the end of this turn. */
export function flush(info: NetfrontInfo): void {
  info.grants.post();
  info.ctx.space.link?.scheduleFlush();
}
