/**
 * Publishing and notification between frontend and backend.
 *
 *   transmit   kick: grants, requests, index; one event for each queue
 *   event  a response reached the index at which we asked for an event: rx, then tx of the queue
 *   poll   at the end of each batch: has a response come, with or without an event?
 *   postWaiting   before a batch is sent: receive requests, ends of grants, requests for events
 *
 * The link sends the posted changes at the end of the turn, so the batches of a turn share a
 * message.
 *
 * On one machine a consumer that arms its event index and checks again can't miss a response. Here
 * index and response may cross on the link: each side has armed, or checked, before the other's
 * write arrived. So both sides also check their rings after each batch that arrives. This closes
 * the race.
 */
import { RX_RING_SLOTS } from "../../shared/xen/netif.ts";
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

/** Free slots of a receive ring that the backend does not know of, at most: a quarter of the ring. */
const MOST_UNPUBLISHED = RX_RING_SLOTS / 4;

/** Publishes receive requests when there are many, or the backend waits for one. */
export function publishRxIfDue(info: NetfrontInfo, rxq: Rxq): void {
  const { ring } = rxq;
  if (ring === undefined || rxq.short || !info.carrier) return;
  if (ring.unpublished < MOST_UNPUBLISHED && !ring.isAwaited) return;
  publishRx(info, rxq);
  info.ctx.space.link?.scheduleFlush();
}

function publishRx(info: NetfrontInfo, rxq: Rxq): void {
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

/**
 * Posts what has waited for a message that leaves anyway: receive requests, ends of grants, requests
 * for events. The backend does not need them yet. It asks for an event when it needs receive
 * requests. An ended grant is refused here. And both sides look at their rings after each batch.
 */
export function postWaiting(info: NetfrontInfo): void {
  if (!info.carrier) return;
  const { rxqs, txqs } = info;
  for (let i = 0; i < rxqs.length; i++) {
    const rxq = rxqs[i]!;
    if (!rxq.short) publishRx(info, rxq);
    rxq.ring?.postEvent();
    txqs[i]!.ring?.postEvent();
  }
  info.grants.post();
}

/** Sends everything posted, including ends of grants, at the end of this turn. */
export function flush(info: NetfrontInfo): void {
  info.grants.post();
  info.ctx.space.link?.scheduleFlush();
}
