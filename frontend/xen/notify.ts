/**
 * Publishing and notification between frontend and backend.
 *
 *   transmit   kick: grants, requests, index; one event for each queue
 *   event  a response reached the index at which we asked for an event: rx, then tx of the queue
 *   poll   at the end of each batch: has a response come, with or without an event?
 *
 * The link sends the posted changes at the end of the turn, so the batches of a turn share a
 * message.
 *
 * On one machine a consumer that arms its event index and checks again can't miss a response. Here
 * index and response may cross on the link: each side has armed, or checked, before the other's
 * write arrived. So both sides also check their rings after each batch that arrives. This closes
 * the race.
 */
import type { NetfrontInfo } from "./info.ts";
import type { Rxq, Txq } from "./rings.ts";

/**
 * Bytes after which a batch is sent, at the end of a packet. Two super-frames fit: half the system
 * calls and wake-ups of one each. A third would reach the limit at which the link sends a batch in
 * the middle of a packet.
 */
const BATCH_BYTES = 88 * 1024;

/** Publishes grants, then the requests that name them, then the index. Sends an event if asked. */
export function publishTx(info: NetfrontInfo, txq: Txq): void {
  if (txq.ring === undefined || txq.ring.unpublished === 0) return;
  info.grants.post();
  if (txq.ring.publish()) {
    txq.stats.notifications++;
    info.events.notify(txq.port);
  }
  // With or without an event: the device polls its rings after each batch.
  info.ctx.space.link?.mark(BATCH_BYTES);
}

export function publishRx(info: NetfrontInfo, rxq: Rxq): void {
  if (rxq.ring === undefined || rxq.ring.unpublished === 0) return;
  info.grants.post();
  if (!rxq.ring.publish()) return;
  rxq.stats.notifications++;
  info.events.notify(portOf(info, rxq));
}

/** Returns the port of the queue pair, which its Tx queue holds; 0 for none. */
export const portOf = (info: NetfrontInfo, rxq: Rxq): number => info.txqs[rxq.id]?.port ?? 0;

/** Publishes the new requests of each Tx queue. */
export function kick(info: NetfrontInfo): void {
  if (!info.carrier) return;
  for (const txq of info.txqs) publishTx(info, txq);
  flush(info);
}

/** Sends everything posted, including ends of grants, at the end of this turn. */
export function flush(info: NetfrontInfo): void {
  info.grants.post();
  info.ctx.space.link?.scheduleFlush();
}
