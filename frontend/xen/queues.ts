/**
 * Creates and destroys the queues: tag, maps, ring page, event channel.
 *
 * After setup_rxqs, setup_txqs, disconnect_rxq and disconnect_txq (freebsd-src and
 * prati0100/freebsd: sys/dev/xen/netfront/netfront.c). A queue is in the list before its first part
 * is created, and destroying skips missing parts. So the same step undoes any failure, and a loss
 * of the link in the middle. Destroying twice has no further effect.
 */

import { type QueueId, queueId } from "../../shared/net/frame.ts";
import { RecordType } from "../../shared/wire/records.ts";
import { GRANT_PAGE_BYTES } from "../../shared/xen/grant.ts";
import { RX_SLOT_SIZE, TX_SLOT_SIZE } from "../../shared/xen/netif.ts";
import { BusSpaceExhausted } from "../bus/misuse.ts";
import type { DmaDirection } from "../bus/tag.ts";
import type { Mbuf } from "../net/mbuf.ts";
import {
  BUS_DMA_XEN_DOMID_SHIFT,
  BUS_DMA_XEN_PREALLOC_REFS,
  createXenTag,
  type XenDmaTag,
} from "./bus-dma-xen/index.ts";
import { RxStats, TxStats } from "./counters.ts";
import { interrupt } from "./datapath.ts";
import { releaseRxBufs, takeUnread } from "./datapath-rx.ts";
import { releaseTxBufs } from "./datapath-tx.ts";
import type { NetfrontInfo } from "./info.ts";
import { FrontRing, Shortage } from "./memory.ts";
import { repool, take } from "./pool.ts";
import { type MapPool, type Queue, Rxq, Txq } from "./rings.ts";

/**
 * setup_device: creates `count` queue pairs and grants them to the other end. Rejects with
 * Shortage, HypercallError or Abandoned; `disconnectQueues` then removes the parts that exist.
 */
export async function setupDevice(info: NetfrontInfo, count: number): Promise<void> {
  const { generation } = info;
  if (info.rxqs.length > 0 || info.txqs.length > 0)
    throw new Error("xen: queues are set up already");
  info.rxqs = [];
  info.txqs = [];
  try {
    for (let i = 0; i < count; i++) setupTxq(info, queueId(i));
    for (let i = 0; i < count; i++) setupRxq(info, queueId(i));
  } catch (error) {
    if (error instanceof BusSpaceExhausted) throw new Shortage(error.message);
    throw error;
  }
  info.renewPool();
  for (let i = 0; i < count; i++) {
    const port = await info.events.allocUnbound(info.xenbus.otherendId);
    info.check(generation);
    const rxq = info.rxqs[i]!;
    const txq = info.txqs[i]!;
    txq.port = port;
    info.events.bind(port, () => interrupt(info, rxq, txq));
  }
}

function setupRxq(info: NetfrontInfo, id: QueueId): void {
  info.rxStats[id] ??= new RxStats();
  const rxq = new Rxq(id, `${info.ctx.name} rx ${id}`, info.rxStats[id], info.ifnet);
  info.rxqs.push(rxq);
  setUp(info, rxq, "fromDevice", RX_SLOT_SIZE, RecordType.XEN_RX_REQ);
}

function setupTxq(info: NetfrontInfo, id: QueueId): void {
  info.txStats[id] ??= new TxStats();
  const txq = new Txq(id, `${info.ctx.name} tx ${id}`, info.txStats[id]);
  info.txqs.push(txq);
  setUp(info, txq, "toDevice", TX_SLOT_SIZE, RecordType.XEN_TX_REQ);
}

function setUp(
  info: NetfrontInfo,
  queue: Queue<unknown>,
  direction: DmaDirection,
  slotBytes: number,
  slotType: RecordType,
): void {
  const { grants, ctx, xenbus } = info;
  const { name } = queue;
  queue.dmat = createTag(info, name, direction);
  fillPool(queue.pool, queue.dmat);
  const domid = xenbus.otherendId;
  queue.ring = new FrontRing(ctx.space, grants, domid, `${name} ring`, slotBytes, slotType);
}

/** Creates a tag for loads of one page, as a request names it. No load waits, so it has no lock. */
function createTag(info: NetfrontInfo, name: string, direction: DmaDirection): XenDmaTag {
  const tag = createXenTag(info.dmaParent, {
    name,
    alignment: 1,
    boundary: GRANT_PAGE_BYTES,
    maxSize: GRANT_PAGE_BYTES,
    nSegments: 1,
    maxSegSize: GRANT_PAGE_BYTES,
    direction,
    flags: (info.xenbus.otherendId << BUS_DMA_XEN_DOMID_SHIFT) >>> 0,
  });
  if (typeof tag === "number") throw new Error(`${name}: tag refused with errno ${tag}`);
  return tag;
}

function fillPool(pool: MapPool, tag: XenDmaTag): void {
  while (pool.count < pool.maps.length) {
    const map = tag.createMap(BUS_DMA_XEN_PREALLOC_REFS);
    if (typeof map === "number") throw new Shortage(`${tag.name}: map refused with errno ${map}`);
    repool(pool, map, tag.name);
  }
}

/**
 * netif_disconnect_backend for all queues: ends every grant, except of pages that the backend still
 * uses. With `keep`, receive buffers are kept for a new ring. Returns the number of packets without
 * a response.
 */
export function disconnectQueues(info: NetfrontInfo, keep: boolean): number {
  const { rxqs, txqs } = info;
  info.rxqs = [];
  info.txqs = [];
  info.gate.forgetQueues();
  let unanswered = 0;
  for (const rxq of rxqs) disconnectRxq(info, rxq, keep);
  // The last unread and merged packets went up.
  if (rxqs.length > 0) info.ifnet.inputDone();
  for (const txq of txqs) unanswered += disconnectTxq(info, txq);
  return unanswered;
}

/** disconnect_rxq */
export function disconnectRxq(info: NetfrontInfo, rxq: Rxq, keep: boolean): void {
  takeUnread(info, rxq);
  rxq.lro.flush();
  let kept: Mbuf[] | undefined;
  if (keep) {
    info.kept[rxq.id] ??= [];
    kept = info.kept[rxq.id];
  }
  releaseRxBufs(info, rxq, kept);
  tearDown(rxq);
}

/** disconnect_txq. Returns the number of packets without a response. */
export function disconnectTxq(info: NetfrontInfo, txq: Txq): number {
  const unanswered = releaseTxBufs(info, txq);
  tearDown(txq);
  if (txq.port !== 0) info.events.unbind(txq.port);
  txq.port = 0;
  return unanswered;
}

function tearDown(queue: Queue<unknown>): void {
  const { pool } = queue;
  // In the order of their indexes, so that the next maps have consecutive references again.
  for (let i = 0; i < pool.maps.length; i++) take(pool, i)?.destroy();
  queue.dmat?.destroy();
  queue.dmat = undefined;
  queue.ring?.end();
  queue.ring = undefined;
}

/** Frees the buffers that were kept for a new ring. */
export function dropKept(info: NetfrontInfo): void {
  for (const buffers of info.kept) for (const m of buffers ?? []) m.free();
  info.kept = [];
}
