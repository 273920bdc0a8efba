/**
 * ENA receive: completions in, mbuf chains out, new buffers to the device.
 *
 * A packet is consumed as a whole or not at all. Before the first completion is consumed, all of
 * them must be there, be well formed, and name buffers that the device owns. After ena_datapath.c,
 * ena.c and ena_eth_com.c (amzn-drivers: kernel/fbsd/ena), which consume first and check after.
 */
import { Capability } from "../../shared/ena/features.ts";
import { L3Proto, L4Proto, RX_CDESC_SIZE, rxCdesc, rxDesc } from "../../shared/ena/io.ts";
import { ResetReason } from "../../shared/ena/registers.ts";
import { advance, slotOf } from "../../shared/ring/index16.ts";
import { slice } from "../../shared/slices.ts";
import { Errno } from "../bus/errno.ts";
import { SyncOp } from "../bus/map.ts";
import { Ifcap } from "../net/ifnet.ts";
import { Csum, HashType, type Mbuf, NO_CLUSTER } from "../net/mbuf.ts";
import type { Adapter } from "./adapter.ts";
import type { Com } from "./control.ts";
import { allocRxSlot, returnRxSlot, rxRoom } from "./netmap-rx-slots.ts";
import { RxOwner, type RxRing } from "./rings.ts";

/** ENA_RX_DESC_BUDGET: counts descriptors, so that jumbo frames do not starve the refill. */
const RX_DESC_BUDGET = 256;
const REFILL_DIVIDER = 8;
const REFILL_THRESHOLD = 256;
/** Buffers of a slice of the first fill. */
const FILL_SLICE = 512;

/** Errors that `rxPkt` returns instead of a number of descriptors. */
export const RxError = { TOO_MANY: -1, MALFORMED: -2, BAD_REQ_ID: -3 } as const;

/**
 * ena_com_rx_pkt: reads the next whole packet into the ring's pkt fields and consumes its
 * completions. Returns its number of descriptors, 0 when no packet is complete, or an RxError.
 */
export function rxPkt(adapter: Adapter, ring: RxRing): number {
  const { view, cursor, depth } = ring.cq;
  const mbzMatters = adapter.com?.has(Capability.CDESC_MBZ) === true;
  let head = cursor.head;
  let phase = cursor.phase;
  let count = 0;
  let bytes = 0;
  let at = 0;
  let status = 0;
  do {
    at = slotOf(head, depth) * RX_CDESC_SIZE;
    status = rxCdesc.status(view, at);
    if (rxCdesc.phaseOf(status) !== phase) return 0;
    if (rxCdesc.firstOf(status) !== (count === 0 ? 1 : 0)) return RxError.MALFORMED;
    if (mbzMatters && rxCdesc.mbzOf(status) !== 0) return RxError.MALFORMED;
    if (count === adapter.maxRxSgl) return RxError.TOO_MANY;
    const length = rxCdesc.length(view, at);
    ring.pktReqIds[count] = rxCdesc.reqId(view, at);
    ring.pktLengths[count] = length;
    if (count === 0) ring.pktOffset = rxCdesc.offset(view, at);
    bytes += length;
    count++;
    head = advance(head, 1);
    if (slotOf(head, depth) === 0) phase = phase === 1 ? 0 : 1;
  } while (rxCdesc.lastOf(status) === 0);
  ring.pktStatus = status;
  ring.pktHash = rxCdesc.hash(view, at);

  const error = bytes === 0 ? RxError.MALFORMED : takeBuffers(ring, count);
  if (error !== 0) return error;
  cursor.skip(count);
  ring.sq.ack(count);
  return count;
}

/** Marks all buffers of the packet as taken, or none. Returns 0 or an RxError. */
function takeBuffers(ring: RxRing, count: number): number {
  let error = 0;
  let taken = 0;
  while (taken < count && error === 0) {
    const id = ring.pktReqIds[taken]!;
    const offset = taken === 0 ? ring.pktOffset : 0;
    if (id >= ring.size || ring.owner[id] !== RxOwner.DEVICE) error = RxError.BAD_REQ_ID;
    else if (offset + ring.pktLengths[taken]! > ring.length[id]!) error = RxError.MALFORMED;
    else ring.owner[ring.pktReqIds[taken++]!] = RxOwner.TAKEN;
  }
  if (error !== 0) {
    while (taken > 0) ring.owner[ring.pktReqIds[--taken]!] = RxOwner.DEVICE;
  }
  return error;
}

/** Counts an error of rxPkt and requests the reset with its reason. */
export function rxPktFailed(adapter: Adapter, ring: RxRing, error: number): void {
  let reason: ResetReason = ResetReason.RX_DESCRIPTOR_MALFORMED;
  if (error === RxError.TOO_MANY) {
    ring.stats.bad_desc_num++;
    reason = ResetReason.TOO_MANY_RX_DESCS;
  } else if (error === RxError.BAD_REQ_ID) {
    ring.stats.bad_req_id++;
    reason = ResetReason.INV_RX_REQ_ID;
  } else {
    ring.stats.bad_desc++;
  }
  adapter.log.error({ queue: ring.qid, reason }, "rx completion makes no sense");
  adapter.requestReset(reason);
}

/** Frees the id for the next refill. */
export function returnRxId(ring: RxRing, id: number): void {
  ring.owner[id] = RxOwner.NONE;
  ring.giveId(id);
}

/** ena_rx_cleanup: receives packets, up to a budget, and refills. Returns true if more may wait. */
export function rxCleanup(adapter: Adapter, ring: RxRing): boolean {
  const { netmap } = adapter;
  if (netmap?.hasRxRing(ring.qid)) {
    netmap.na.rxIrq(ring.qid);
    return false;
  }
  let budget = RX_DESC_BUDGET;
  while (budget > 0) {
    const descs = rxPkt(adapter, ring);
    if (descs < 0) {
      rxPktFailed(adapter, ring, descs);
      ring.lro.flush();
      return false;
    }
    if (descs === 0) break;
    deliver(adapter, ring, rxMbuf(adapter, ring, descs));
    // The stack may have changed any state. The ring may be gone.
    if (!adapter.running) return false;
    budget -= descs;
  }
  const required = ring.sq.freeEntries();
  if (required > Math.min(ring.size / REFILL_DIVIDER, REFILL_THRESHOLD)) {
    refillRxBufs(adapter, ring, required);
  }
  ring.lro.flush();
  return budget <= 0;
}

/** ena_rx_mbuf: returns the packet's buffers as one chain, in the order of its completions. */
function rxMbuf(adapter: Adapter, ring: RxRing, descs: number): Mbuf {
  const head = takeMbuf(adapter, ring, 0);
  head.at += ring.pktOffset;
  let last = head;
  for (let i = 1; i < descs; i++) {
    const m = takeMbuf(adapter, ring, i);
    if (m.length === 0) {
      m.free();
      continue;
    }
    last.next = m;
    last = m;
    head.pktLength += m.length;
  }
  return head;
}

function takeMbuf(adapter: Adapter, ring: RxRing, i: number): Mbuf {
  const id = ring.pktReqIds[i]!;
  const cluster = ring.clusters[id]!;
  if (cluster === NO_CLUSTER) throw new Error(`ena: rx id ${id} was taken without a buffer`);
  ring.maps.sync(id, SyncOp.POSTREAD);
  ring.maps.busy[id] = 0;
  ring.maps.unload(id);
  ring.clusters[id] = NO_CLUSTER;
  returnRxId(ring, id);
  return adapter.rxPool!.mbuf(cluster, ring.pktLengths[i]!);
}

function deliver(adapter: Adapter, ring: RxRing, m: Mbuf): void {
  const { ifnet, hwStats } = adapter;
  const status = ring.pktStatus;
  rxHash(adapter, ring, m, status);
  if ((ifnet.capEnable & (Ifcap.RXCSUM | Ifcap.RXCSUM_IPV6)) !== 0) rxChecksum(ring, m, status);
  ring.stats.count++;
  ring.stats.bytes += m.pktLength;
  hwStats.rx_packets++;
  hwStats.rx_bytes += m.pktLength;
  if (ifnet.stale) {
    ring.stats.dropped_stale++;
    ifnet.counters.iqdrops++;
    m.free();
    return;
  }
  ifnet.counters.ipackets++;
  ifnet.counters.ibytes += m.pktLength;
  const l4 = rxCdesc.l4ProtoOf(status);
  if ((ifnet.capEnable & Ifcap.LRO) !== 0 && l4 === L4Proto.TCP) {
    ring.lro.offer(m, (m.csumFlags & Csum.L4_VALID) !== 0);
    return;
  }
  // A packet that the device could not parse must not overtake a flow that is being merged.
  if (l4 !== L4Proto.UDP) ring.lro.flush();
  if (ifnet.bpf !== undefined) ifnet.bpf.input(m, ring.qid);
  ifnet.input(m);
}

/** ena_rx_checksum: marks as checked only the checksums that the device reports as checked. */
function rxChecksum(ring: RxRing, m: Mbuf, status: number): void {
  const v4 = rxCdesc.l3ProtoOf(status) === L3Proto.IPV4;
  if (v4 && rxCdesc.l3CsumErrOf(status) === 1) {
    ring.stats.csum_bad++;
    return;
  }
  const l4 = rxCdesc.l4ProtoOf(status);
  if (l4 !== L4Proto.TCP && l4 !== L4Proto.UDP) return;
  if (rxCdesc.l4CsumErrOf(status) === 1) {
    ring.stats.csum_bad++;
  } else if (rxCdesc.l4CsumCheckedOf(status) === 1) {
    ring.stats.csum_good++;
    m.csumFlags |= Csum.L4_CALC | Csum.L4_VALID;
    if (v4) m.csumFlags |= Csum.L3_CALC | Csum.L3_VALID;
  }
}

/** ena_rx_hash_mbuf */
function rxHash(adapter: Adapter, ring: RxRing, m: Mbuf, status: number): void {
  if (!adapter.rssActive) {
    m.flowId = ring.qid;
    m.hashType = HashType.NONE;
    return;
  }
  m.flowId = ring.pktHash;
  m.hashType = hashTypeOf(status);
}

function hashTypeOf(status: number): number {
  const l3 = rxCdesc.l3ProtoOf(status);
  if (l3 === L3Proto.UNKNOWN) return HashType.NONE;
  if (rxCdesc.ipv4FragOf(status) === 1) return HashType.OPAQUE_HASH;
  const l4 = rxCdesc.l4ProtoOf(status);
  if (l3 === L3Proto.IPV4) {
    if (l4 === L4Proto.TCP) return HashType.RSS_TCP_IPV4;
    return l4 === L4Proto.UDP ? HashType.RSS_UDP_IPV4 : HashType.RSS_IPV4;
  }
  if (l3 !== L3Proto.IPV6) return HashType.OPAQUE_HASH;
  if (l4 === L4Proto.TCP) return HashType.RSS_TCP_IPV6;
  return l4 === L4Proto.UDP ? HashType.RSS_UDP_IPV6 : HashType.RSS_IPV6;
}

/**
 * ena_refill_rx_bufs: posts up to `num` buffers, which are mbufs or netmap slots by the ring's
 * mode, and rings the doorbell once. Returns the number of posted buffers.
 */
export function refillRxBufs(adapter: Adapter, ring: RxRing, num: number): number {
  const { sq } = ring;
  const alloc = adapter.netmap?.hasRxRing(ring.qid) ? allocRxSlot : allocRxMbuf;
  let i = 0;
  while (i < num && sq.hasSpace(1)) {
    const id = ring.freeIds[ring.nextToUse]!;
    if (ring.owner[id] === RxOwner.DEVICE) throw new Error(`ena: rx id ${id} is posted and free`);
    // A buffer that was prepared before and could not be posted is used first.
    if (ring.owner[id] === RxOwner.NONE) {
      if (alloc(adapter, ring, id) !== 0) break;
      ring.owner[id] = RxOwner.READY;
    }
    rxDesc.write(sq.view, sq.nextDesc(), ring.length[id]!, sq.phase, id, ring.address[id]!);
    sq.descDone();
    ring.owner[id] = RxOwner.DEVICE;
    ring.maps.busy[id] = 1;
    ring.nextToUse++;
    i++;
  }
  if (i < num) ring.stats.refil_partial++;
  if (i > 0) sq.ring();
  return i;
}

/**
 * ena_alloc_rx_mbuf: maps a cluster of the pool and assigns it to the id. Its mbuf comes with its
 * packet. Returns 0 or an errno.
 */
export function allocRxMbuf(adapter: Adapter, ring: RxRing, id: number): number {
  const pool = adapter.rxPool!;
  const cluster = pool.take();
  if (cluster === NO_CLUSTER) {
    ring.stats.mbuf_alloc_fail++;
    return Errno.ENOMEM;
  }
  const bytes = pool.clusterBytes;
  if (ring.maps.load(id, pool.slab(cluster), pool.offset(cluster), bytes) !== 0) {
    ring.stats.dma_mapping_err++;
    pool.give(cluster);
    return Errno.EFAULT;
  }
  ring.maps.sync(id, SyncOp.PREREAD);
  ring.clusters[id] = cluster;
  ring.address[id] = ring.maps.address(id);
  ring.length[id] = bytes;
  return 0;
}

/**
 * ena_refill_all_rx_bufs: does the first fill. One descriptor always stays empty. A netmap ring
 * posts only slots without unread frames. Other work has its turn between two slices of a fill.
 * Rejects with Abandoned.
 */
export async function refillAllRxBufs(adapter: Adapter, com: Com): Promise<void> {
  for (const { rx } of adapter.queues) {
    const inNetmap = adapter.netmap?.hasRxRing(rx.qid) === true;
    const wanted = inNetmap ? rxRoom(adapter, rx) : rx.size - 1;
    let got = 0;
    for (let more = wanted; more > 0 && got < wanted; got += more) {
      await slice();
      com.check();
      more = refillRxBufs(adapter, rx, Math.min(FILL_SLICE, wanted - got));
    }
    if (got < wanted) adapter.log.warn({ queue: rx.qid, got, wanted }, "rx ring partly filled");
  }
}

/** ena_free_rx_bufs: returns every buffer to its pool or slot. The device must no longer write. */
export function freeRxBufs(adapter: Adapter, ring: RxRing): void {
  ring.lro.flush();
  for (let id = 0; id < ring.size; id++) {
    ring.maps.busy[id] = 0;
    if (ring.netmapBufIdx[id] !== 0) returnRxSlot(adapter, ring, id);
    const cluster = ring.clusters[id]!;
    if (cluster !== NO_CLUSTER) {
      ring.maps.unload(id);
      ring.clusters[id] = NO_CLUSTER;
      adapter.rxPool!.give(cluster);
    }
    ring.owner[id] = RxOwner.NONE;
  }
}
