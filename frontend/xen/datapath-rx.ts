/**
 * Receive: pages to the backend, responses back, mbuf chains to the stack.
 *
 *   allocRxBuffers ─► request in slot s: page granted ─► response in the same slot s
 *   rxeof: consumes the responses, refills the ring, then passes the packets to the stack
 *
 * The page of an invalid fragment, or of a slot with extra info, returns to the backend as a new
 * request: page, map and reference together, still granted. It waits for the slot of its map, so
 * that consecutive slots keep consecutive references. (The original posts it at once, in the next
 * slot. Each super-frame would break one run.) For all other pages the access of the backend ends
 * before the stack reads them.
 *
 * After xn_alloc_rx_buffers, xn_rxeof, xn_get_responses, xn_get_extras, xn_move_rx_slot,
 * xn_rebuild_rx_bufs and xn_release_rx_bufs (freebsd-src: sys/dev/xen/netfront/netfront.c).
 */
import { advance, type Index32 } from "../../shared/ring/index32.ts";
import { EXTRA_FLAG_MORE, EXTRA_TYPE_MAX, ExtraType, extra } from "../../shared/xen/extra.ts";
import { GRANT_PAGE_BYTES } from "../../shared/xen/grant.ts";
import { NR_SLOTS_MIN, RxFlag, rxRequest, rxResponse } from "../../shared/xen/netif.ts";
import { Errno } from "../bus/errno.ts";
import { SyncOp } from "../bus/map.ts";
import { Iff } from "../net/ifnet.ts";
import type { Mbuf } from "../net/mbuf.ts";
import { BUS_DMA_NOWAIT, type XenDmaMap } from "./bus-dma-xen/index.ts";
import type { NetfrontInfo } from "./info.ts";
import type { FrontRing } from "./memory.ts";
import { publishRxIfDue } from "./notify.ts";
import {
  dmaCallback,
  getMapGref,
  getRxMap,
  loadFailed,
  repoolRxMap,
  unpoolGranted,
  unpoolRxMap,
} from "./pool.ts";
import type { Rxq } from "./rings.ts";
import { offerToStack, RxExtras } from "./rx-offload.ts";

/** NET_RX_SLOTS_MIN: with fewer posted buffers, the largest packet may never come. */
export const RX_SLOTS_MIN = NR_SLOTS_MIN + 1;
/** Maximum slots of a packet: a super-frame with a short head needs one more than NR_SLOTS_MIN. */
const MAX_RX_FRAGS = NR_SLOTS_MIN + 1;

/** Result of getResponses for one packet. It is shared, because nothing here awaits. */
const packet = {
  /** The chain; undefined when no fragment is usable. */
  head: undefined as Mbuf | undefined,
  /** 0, or the errno for which the chain is dropped. */
  error: 0,
  /** True after a protocol violation of the backend: no more packets are consumed. */
  broken: false,
};
const extras = new RxExtras();

/** xn_alloc_rx_buffers: posts a page for every free slot. The requests may wait to be published. */
export function allocRxBuffers(info: NetfrontInfo, rxq: Rxq): void {
  const { ring } = rxq;
  if (!info.carrier || ring === undefined) return;
  while (ring.freeRequests > 0 && postNext(info, rxq, ring));
  const short = ring.claimed < RX_SLOTS_MIN;
  if (short) {
    // The refill is retried later. The few requests stay unpublished: they serve no large packet.
    rxq.stats.refill_retries++;
    rxq.short = true;
    return;
  }
  rxq.short = false;
  publishRxIfDue(info, rxq);
}

/** Returns the map for the next request. */
function nextMap(rxq: Rxq, ring: FrontRing): XenDmaMap {
  const map = unpoolRxMap(rxq, ring.slot(ring.reqProdPvt));
  if (map === undefined) throw new Error(`${rxq.name}: no map for a free slot`);
  return map;
}

/** Posts a page that is granted already, or a new one. Returns false when there is none. */
function postNext(info: NetfrontInfo, rxq: Rxq, ring: FrontRing): boolean {
  const map = nextMap(rxq, ring);
  if (rxq.granted[map.index] !== undefined) return postAgain(rxq, ring, map);
  const m = info.rxPool.get();
  if (m === undefined) repoolRxMap(rxq, map);
  else if (postBuffer(rxq, ring, map, m)) return true;
  // No page that is granted waits for its own slot while the ring is short.
  const granted = unpoolGranted(rxq);
  if (granted !== undefined) return postAgain(rxq, ring, granted);
  if (m === undefined) rxq.stats.mbuf_alloc_fail++;
  return false;
}

function postAgain(rxq: Rxq, ring: FrontRing, map: XenDmaMap): true {
  map.sync(SyncOp.PREREAD);
  putRequest(rxq, ring, getGranted(rxq, map), map);
  return true;
}

/** Removes the buffer that waits with this map, and returns it. */
function getGranted(rxq: Rxq, { index }: XenDmaMap): Mbuf {
  const m = rxq.granted[index];
  if (m === undefined) throw new Error(`${rxq.name}: map ${index} has no buffer`);
  rxq.granted[index] = undefined;
  return m;
}

/** Posts the page of `m`, or frees `m` and returns false when its load fails. */
function postBuffer(rxq: Rxq, ring: FrontRing, map: XenDmaMap, m: Mbuf): boolean {
  if (loadRx(rxq, map, m)) {
    putRequest(rxq, ring, m, map);
    return true;
  }
  repoolRxMap(rxq, map);
  m.free();
  return false;
}

function loadRx(rxq: Rxq, map: XenDmaMap, m: Mbuf): boolean {
  m.at = m.clusterAt;
  m.length = GRANT_PAGE_BYTES;
  const error = map.load(m.buffer, m.at, GRANT_PAGE_BYTES, dmaCallback, undefined, BUS_DMA_NOWAIT);
  if (error !== 0) {
    rxq.stats.dma_mapping_err++;
    loadFailed(map, error);
    return false;
  }
  map.sync(SyncOp.PREREAD);
  return true;
}

/** Writes the next request, for the page of `m` with the reference of `map`. */
function putRequest(rxq: Rxq, ring: FrontRing, m: Mbuf, map: XenDmaMap): void {
  const index = ring.claim();
  const id = ring.slot(index);
  if (rxq.mbufs[id] !== undefined || rxq.maps[id] !== undefined) {
    throw new Error(`${rxq.name}: slot ${id} has a buffer already`);
  }
  rxq.mbufs[id] = m;
  rxq.maps[id] = map;
  rxRequest.write(ring.view, ring.at(index), id, getMapGref(map));
  rxq.stats.requests++;
}

/** xn_get_rx_mbuf: removes the buffer from its slot and returns it. Throws for an empty slot. */
function getRxMbuf(rxq: Rxq, slot: number): Mbuf {
  const m = rxq.mbufs[slot];
  if (m === undefined) throw new Error(`${rxq.name}: slot ${slot} has no buffer`);
  rxq.mbufs[slot] = undefined;
  return m;
}

/** xn_move_rx_slot: the next refill posts this page again, under the same reference. */
function moveRxSlot(rxq: Rxq, m: Mbuf, map: XenDmaMap): void {
  rxq.granted[map.index] = m;
  repoolRxMap(rxq, map);
}

/**
 * xn_rxeof: consumes the responses, refills the ring, and passes the packets up. Returns false when
 * there were no responses. An invalid response stops the NIC.
 */
export function rxeof(info: NetfrontInfo, rxq: Rxq): boolean {
  const { ring } = rxq;
  if (!info.carrier || ring === undefined || rxq.busy) return false;
  let any = false;
  do {
    const waiting = ring.unconsumed();
    if (waiting < 0) {
      info.setBroken("RX_RESPONSES", `${rxq.name}: more responses than requests`);
      break;
    }
    if (waiting > 0) any = true;
    const rp = advance(ring.rspCons, waiting);
    if (!takePackets(info, rxq, ring, rp)) break;
    allocRxBuffers(info, rxq);
    // RING_FINAL_CHECK_FOR_RESPONSES: ask for an event, then check again.
    ring.arm(advance(ring.rspCons, 1));
  } while (ring.unconsumed() !== 0);
  if (rxq.readyCount > 0) deliver(info, rxq);
  return any;
}

/**
 * Passes the unread packets up when the backend is left, for example those that came during a
 * suspend. Publishes no requests.
 */
export function takeUnread(info: NetfrontInfo, rxq: Rxq): void {
  const { ring } = rxq;
  const waiting = ring?.unconsumed() ?? 0;
  if (ring === undefined || waiting <= 0 || info.broken !== undefined || rxq.busy) return;
  takePackets(info, rxq, ring, advance(ring.rspCons, waiting));
  if (rxq.readyCount > 0) deliver(info, rxq);
}

/**
 * Consumes all packets before `rp`. Stores them for the stack, or drops them on an error. Returns
 * false after a protocol violation of the backend.
 */
function takePackets(info: NetfrontInfo, rxq: Rxq, ring: FrontRing, rp: Index32): boolean {
  while (ring.rspCons !== rp && !packet.broken) {
    getResponses(info, rxq, ring, rp);
    const { head, error } = packet;
    packet.head = undefined;
    if (error !== 0) {
      info.ifnet.counters.ierrors++;
      head?.free();
    } else if (head !== undefined) {
      extras.apply(head);
      head.csumFlags = 0;
      rxq.ready[rxq.readyCount++] = head;
      rxq.stats.count++;
      rxq.stats.bytes += head.pktLength;
    }
  }
  const makesSense = !packet.broken;
  packet.broken = false;
  return makesSense;
}

/** Passes the packets up. The ring is consistent by now, so the stack may call the driver. */
function deliver(info: NetfrontInfo, rxq: Rxq): void {
  rxq.busy = true;
  const count = rxq.readyCount;
  rxq.readyCount = 0;
  const { counters } = info.ifnet;
  for (let i = 0; i < count; i++) {
    const m = rxq.ready[i]!;
    if (!info.running || (info.ifnet.flags & Iff.UP) === 0) {
      rxq.stats.dropped_down++;
      counters.iqdrops++;
      m.free();
      continue;
    }
    if (info.ifnet.stale) {
      rxq.stats.dropped_stale++;
      counters.iqdrops++;
      m.free();
      continue;
    }
    offerToStack(info, rxq, m);
  }
  rxq.lro.flush();
  rxq.busy = false;
}

/**
 * xn_get_responses: reads the packet that begins at rspCons into `packet` and consumes its slots.
 * Reads no further than `rp`.
 */
function getResponses(info: NetfrontInfo, rxq: Rxq, ring: FrontRing, rp: Index32): void {
  const { stats } = rxq;
  let index = ring.rspCons;
  packet.head = undefined;
  packet.error = 0;
  let last: Mbuf | undefined;
  for (let frags = 1; ; frags++) {
    const at = ring.at(index);
    // Each response is read once, into locals, because the backend can change the page (XSA-155).
    // The id of a response is ignored: a response answers the request of its slot.
    const flags = rxResponse.flags(ring.view, at);
    const offset = rxResponse.offset(ring.view, at);
    const status = rxResponse.status(ring.view, at);
    const m = getRxMbuf(rxq, ring.slot(index));
    const map = getRxMap(rxq, index);
    index = advance(index, 1);
    if (frags === 1) {
      extras.reset(flags);
      if ((flags & RxFlag.EXTRA_INFO) !== 0) {
        ring.rspCons = index;
        packet.error = getExtras(rxq, ring, rp);
        index = ring.rspCons;
      }
    }
    // Sync before unload. From here on the driver may read what the backend wrote.
    map.sync(SyncOp.POSTREAD);
    if (status < 0 || offset + status > GRANT_PAGE_BYTES) {
      stats.bad_response++;
      packet.error = Errno.EINVAL;
      moveRxSlot(rxq, m, map);
    } else if (map.unload() !== 0) {
      // XSA-396: page and map are kept until the backend's use of them ends. Their slot may already
      // contain the buffer of an extra info.
      rxq.stuckMbuf = m;
      rxq.stuckMap = map;
      info.setBroken("RX_GRANT_IN_USE", `${rxq.name}: a page is returned and still in use`);
      packet.error = Errno.EBUSY;
      packet.broken = true;
      break;
    } else {
      repoolRxMap(rxq, map);
      m.at = m.clusterAt + offset;
      m.length = status;
      m.pktLength = status;
      m.next = undefined;
      if (last === undefined) packet.head = m;
      else last.next = m;
      if (packet.head !== undefined && packet.head !== m) packet.head.pktLength += status;
      last = m;
    }
    if ((flags & RxFlag.MORE_DATA) === 0) break;
    if (index === rp) {
      stats.missing_frags++;
      packet.error = Errno.EINVAL;
      break;
    }
    if (frags === MAX_RX_FRAGS) {
      // The further fragments are consumed too, and dropped with the packet.
      stats.too_many_frags++;
      packet.error = Errno.EFBIG;
    }
  }
  ring.rspCons = index;
}

/**
 * xn_get_extras: consumes extra info from rspCons on. The buffer of each such slot is posted again.
 * Returns 0, or EINVAL when an extra info is missing or of an unknown type.
 */
function getExtras(rxq: Rxq, ring: FrontRing, rp: Index32): number {
  let error = 0;
  for (;;) {
    if (ring.rspCons === rp) {
      rxq.stats.bad_extra++;
      return Errno.EINVAL;
    }
    const index = ring.rspCons;
    const at = ring.at(index);
    const type = extra.type(ring.view, at);
    const more = extra.flags(ring.view, at) & EXTRA_FLAG_MORE;
    if (type === ExtraType.NONE || type >= EXTRA_TYPE_MAX) {
      rxq.stats.bad_extra++;
      error = Errno.EINVAL;
    } else if (!extras.take(ring.view, at, type)) {
      rxq.stats.bad_extra++;
      error = Errno.EINVAL;
    }
    const m = getRxMbuf(rxq, ring.slot(index));
    const map = getRxMap(rxq, index);
    ring.rspCons = advance(index, 1);
    moveRxSlot(rxq, m, map);
    if (more === 0) return error;
  }
}

/**
 * xn_rebuild_rx_bufs: posts the buffers of the last backend as the first requests of a new ring,
 * without a gap. Their pages are zeroed, so the new backend can't read what the last one wrote.
 */
export function rebuildRxBufs(info: NetfrontInfo, rxq: Rxq, kept: Mbuf[]): void {
  const ring = rxq.ring;
  if (ring === undefined || ring.claimed !== 0) throw new Error(`${rxq.name}: no empty ring`);
  for (const m of kept) {
    if (ring.freeRequests === 0) {
      m.free();
      continue;
    }
    m.buffer.fill(0, m.clusterAt, m.clusterAt + GRANT_PAGE_BYTES);
    postBuffer(rxq, ring, nextMap(rxq, ring), m);
  }
  info.log.debug({ queue: rxq.id, buffers: ring.claimed }, "receive ring rebuilt");
}

/**
 * xn_release_rx_bufs: ends the backend's access to every buffer. Frees each buffer, or adds it to
 * `kept` if given. A page that the backend still uses stays with its map until that use ends.
 */
export function releaseRxBufs(info: NetfrontInfo, rxq: Rxq, kept: Mbuf[] | undefined): void {
  for (let slot = 0; slot < rxq.mbufs.length; slot++) {
    const m = rxq.mbufs[slot];
    const map = rxq.maps[slot];
    if (m === undefined || map === undefined) continue;
    rxq.mbufs[slot] = undefined;
    rxq.maps[slot] = undefined;
    endAccess(info, rxq, m, map, kept);
  }
  for (let map = unpoolGranted(rxq); map !== undefined; map = unpoolGranted(rxq)) {
    endAccess(info, rxq, getGranted(rxq, map), map, kept);
  }
  releaseStuck(info, rxq);
}

function releaseStuck(info: NetfrontInfo, rxq: Rxq): void {
  const { stuckMbuf: m, stuckMap: map } = rxq;
  if (m === undefined || map === undefined) return;
  rxq.stuckMbuf = undefined;
  rxq.stuckMap = undefined;
  endAccess(info, rxq, m, map, undefined);
}

function endAccess(
  info: NetfrontInfo,
  rxq: Rxq,
  m: Mbuf,
  map: XenDmaMap,
  kept: Mbuf[] | undefined,
): void {
  if (map.unload() !== 0) {
    info.stats.quarantined_maps++;
    map.quarantine(() => m.free());
    return;
  }
  repoolRxMap(rxq, map);
  if (kept === undefined) m.free();
  else kept.push(m);
}
