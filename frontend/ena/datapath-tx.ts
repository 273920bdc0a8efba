/**
 * ENA transmit: mbuf chains in, descriptors out, completions back.
 *
 * The order for each packet: room (the transmit gate), offload facts, map, push the bytes
 * (PREWRITE), descriptors. The gate rings the doorbells after the batch. After ena_datapath.c and
 * ena_eth_com.c (amzn-drivers: kernel/fbsd/ena), with two differences. There is no queue between
 * the stack and the ring, so without room the caller keeps its packet. And bytes are pushed before
 * their descriptor is written, because an LLQ entry is sent at once.
 */
import { Capability, TxOffload } from "../../shared/ena/features.ts";
import {
  L3Proto,
  L4Proto,
  TX_CDESC_SIZE,
  TX_META_MAX_MSS,
  txCdesc,
  txDesc,
  txMeta,
} from "../../shared/ena/io.ts";
import { ResetReason } from "../../shared/ena/registers.ts";
import { IPV4_DF, IPV4_FRAGMENT, IPV4_HEADER_BYTES, TCP_OFFSET } from "../../shared/net/headers.ts";
import { distance } from "../../shared/ring/index16.ts";
import { NO_ADDRESS } from "../../shared/wire/records.ts";
import { SyncOp } from "../bus/map.ts";
import { findFacts } from "../net/facts.ts";
import { Csum, type Mbuf, mbufByte, mCopyData, mLength } from "../net/mbuf.ts";
import type { Adapter } from "./adapter.ts";
import { freeTxSlots } from "./netmap-tx-slots.ts";
import { txDoorbell } from "./notify.ts";
import { PKT_MAX_BUFS, type TxRing } from "./rings.ts";

/** ENA_TX_RESUME_THRESH: descriptors that must be free before a stopped ring continues. */
export const RESUME_THRESHOLD = PKT_MAX_BUFS + 2;
/** Maximum completions of one cleanup; completions after which their entries are freed. */
const TX_BUDGET = 128;
const TX_COMMIT = 32;

const CSUM_TSO = Csum.IP_TSO | Csum.IP6_TSO;
const CSUM_TCP = Csum.IP_TCP | Csum.IP6_TCP;
const CSUM_UDP = Csum.IP_UDP | Csum.IP6_UDP;
const CSUM_ANY = CSUM_TSO | CSUM_TCP | CSUM_UDP | Csum.IP;
const CSUM_V6 = Csum.IP6_TCP | Csum.IP6_UDP | Csum.IP6_TSO;
/** Maximum values of fields in the meta descriptor. */
const MAX_META_BYTE = 0xff;
const MAX_L4_WORDS = 0x3f;

/** The current packet's values for its descriptors. It is shared, because nothing here awaits. */
const ctx = { offload: 0, metaValid: false, mss: 0, l3HdrLen: 0, l3HdrOffset: 0, l4HdrWords: 0 };
/** The packet's pieces, for the map. netmap-tx.ts uses them too. */
export const buffers: Uint8Array[] = Array.from({ length: PKT_MAX_BUFS }, () => new Uint8Array(0));
export const offsets = new Int32Array(PKT_MAX_BUFS);
export const lengths = new Int32Array(PKT_MAX_BUFS);

/** Wakes the stack and netmap after a refusal, because there may be room now. */
export function transmitReady(adapter: Adapter): void {
  const { gate, netmap } = adapter;
  if (adapter.running && adapter.linkUp && gate.hasRoom) netmap?.txReady();
  gate.ready();
}

/** Returns the ring of the packet's flow, or the next ring that is not in netmap mode. */
export function pickRing(adapter: Adapter, m: Mbuf): TxRing | undefined {
  const { queues } = adapter;
  const n = queues.length;
  const first = adapter.gate.pick(m, n);
  for (let i = 0; i < n; i++) {
    const { tx } = queues[(first + i) % n]!;
    if (adapter.netmap?.hasTxRing(tx.qid) !== true) return tx;
  }
  return undefined;
}

/** ena_xmit_mbuf, for a packet that the gate has admitted. On ENOBUFS the caller keeps it. */
export function xmitMbuf(adapter: Adapter, ring: TxRing, m: Mbuf): number {
  const { sq, stats } = ring;
  if (!txCsum(adapter, ring, m)) {
    stats.bad_offload++;
    return adapter.gate.drop(m);
  }
  const headerLength = sq.llq === undefined ? 0 : Math.min(m.pktLength, sq.llq.headerRoom);
  const pieces = gather(adapter, ring, m, headerLength);
  // One descriptor more for meta, and one because a piece above 64 KiB becomes two segments.
  const descs = Math.max(pieces, 1) + 2;
  if (!sq.hasSpace(descs)) {
    stats.prepare_ctx_err++;
    ring.running = false;
    stats.queue_stops++;
    return adapter.gate.refuse(ring);
  }

  const id = ring.freeIds[ring.nextToUse]!;
  if (ring.mbufs[id] !== undefined) throw new Error(`ena: tx id ${id} is in flight and free`);
  if (!pushPieces(ring, id, pieces, descs)) return adapter.gate.drop(m);
  if (headerLength > 0) {
    if (headerLength > m.length) stats.llq_buffer_copy++;
    mCopyData(m, 0, headerLength, sq.headerSpace(), sq.headerAt);
  }
  ring.mbufs[id] = m;
  postPacket(adapter, ring, id, m.pktLength, headerLength);
  if (adapter.ifnet.bpf !== undefined) adapter.ifnet.bpf.output(m, ring.qid);
  // In addition to its pieces a packet can need a meta descriptor and one for the header.
  if (!sq.hasSpace(adapter.maxTxSgl + 2)) {
    ring.running = false;
    stats.queue_stops++;
  }
  return 0;
}

/**
 * Maps the packet's pieces for id `id` and pushes their bytes. Rings the doorbell before if the
 * packet would exceed the device's burst limit. Returns false, with nothing done, if it can't be
 * mapped.
 */
export function pushPieces(ring: TxRing, id: number, pieces: number, descs: number): boolean {
  const map = ring.maps[id]!;
  if (pieces > 0 && map.loadPieces(buffers, offsets, lengths, pieces) !== 0) {
    ring.stats.dma_mapping_err++;
    return false;
  }
  if (ring.sq.burstExceededBy(descs)) txDoorbell(ring);
  if (pieces > 0) {
    map.sync(SyncOp.PREWRITE);
    map.busy = true;
  }
  return true;
}

/**
 * Writes the descriptors of a packet of `bytes` bytes, by the facts in `ctx`. Records its entries
 * and pushed bytes until its completion, and counts it.
 */
export function postPacket(
  adapter: Adapter,
  ring: TxRing,
  id: number,
  bytes: number,
  headerLength: number,
): void {
  const { head } = ring.sq.cursor;
  const segments = prepareTx(ring, id, headerLength);
  const pushed = bytes - headerLength;
  ring.entries[id] = distance(head, ring.sq.cursor.head);
  ring.stamps[id] = adapter.txStamp;
  ring.reported[id] = 0;
  ring.pushed[id] = pushed;
  ring.pieces[id] = segments;
  ring.nextToUse++;
  adapter.gate.staged(ring.stats, bytes, pushed, segments);
  adapter.hwStats.tx_packets++;
  adapter.hwStats.tx_bytes += bytes;
}

/**
 * Lists the packet's bytes after the first `skip` in the scratch arrays. Returns the number of
 * pieces. A packet of more pieces than the device accepts is copied into one buffer
 * (ena_check_and_collapse_mbuf).
 */
function gather(adapter: Adapter, ring: TxRing, m: Mbuf, skip: number): number {
  // One descriptor is reserved for meta, and one for a piece above 64 KiB.
  const most = Math.max(1, Math.min(adapter.maxTxSgl, PKT_MAX_BUFS) - 2);
  let count = 0;
  let left = skip;
  for (let piece: Mbuf | undefined = m; piece !== undefined; piece = piece.next) {
    if (piece.length <= left) {
      left -= piece.length;
      continue;
    }
    if (count === most) return collapse(ring, m, skip);
    buffers[count] = piece.buffer;
    offsets[count] = piece.at + left;
    lengths[count] = piece.length - left;
    left = 0;
    count++;
  }
  return count;
}

/** Copies a chain of too many pieces into one buffer. Rare; allocates. */
function collapse(ring: TxRing, m: Mbuf, skip: number): number {
  const bytes = mLength(m) - skip;
  const linear = new Uint8Array(bytes);
  mCopyData(m, skip, bytes, linear, 0);
  buffers[0] = linear;
  offsets[0] = 0;
  lengths[0] = bytes;
  ring.stats.mbuf_collapses++;
  return 1;
}

/**
 * ena_com_prepare_tx: writes the packet's descriptors, with meta first if the facts changed. Returns
 * the number of segments, one more than pieces for each piece above 64 KiB.
 */
function prepareTx(ring: TxRing, id: number, headerLength: number): number {
  const { sq } = ring;
  const { view } = sq;
  const map = ring.maps[id]!;
  const segments = map.segmentCount;
  let first = 1;
  if (ctx.metaValid && metaNeeded(ring)) {
    const at = sq.nextDesc();
    txMeta.write(view, at, sq.phase, ctx.mss, ctx.l3HdrLen, ctx.l3HdrOffset, ctx.l4HdrWords);
    sq.descDone();
    first = 0;
  }
  const offload = ctx.metaValid ? ctx.offload : 0;
  if (segments === 0) {
    // The whole packet is in the pushed header.
    const at = sq.nextDesc();
    txDesc.write(view, at, 0, id, sq.phase, first, 1, 1, offload, NO_ADDRESS, headerLength);
    sq.descDone();
  }
  for (let i = 0; i < segments; i++) {
    const last = i === segments - 1 ? 1 : 0;
    const length = map.segmentLength(i);
    const to = map.segmentAddress(i);
    const at = sq.nextDesc();
    if (i === 0) {
      txDesc.write(view, at, length, id, sq.phase, first, last, 1, offload, to, headerLength);
    } else {
      txDesc.write(view, at, length, 0, sq.phase, 0, last, 0, 0, to, 0);
    }
    sq.descDone();
  }
  sq.packetDone();
  return segments;
}

/** Returns true when the device remembers other facts, or none. The ring stores changed facts. */
function metaNeeded(ring: TxRing): boolean {
  const same =
    ring.metaMss === ctx.mss &&
    ring.metaL3HdrLen === ctx.l3HdrLen &&
    ring.metaL3HdrOffset === ctx.l3HdrOffset &&
    ring.metaL4HdrWords === ctx.l4HdrWords;
  if (same) return ring.sq.llq?.disableMetaCaching === true;
  ring.metaMss = ctx.mss;
  ring.metaL3HdrLen = ctx.l3HdrLen;
  ring.metaL3HdrOffset = ctx.l3HdrOffset;
  ring.metaL4HdrWords = ctx.l4HdrWords;
  return true;
}

/** Sets `ctx` for a packet without offloads. */
export function noOffload(ring: TxRing): void {
  ctx.mss = 0;
  ctx.l3HdrLen = 0;
  ctx.l3HdrOffset = 0;
  ctx.l4HdrWords = 0;
  ctx.offload = 0;
  ctx.metaValid = ring.sq.llq?.disableMetaCaching === true;
}

/**
 * ena_tx_csum: writes the requested offloads to `ctx`. Returns false when the facts are invalid.
 * The original parses the packet here; our packets come with their facts.
 */
function txCsum(adapter: Adapter, ring: TxRing, m: Mbuf): boolean {
  noOffload(ring);
  const flags = m.csumFlags & CSUM_ANY;
  if (flags === 0) return true;
  ctx.metaValid = true;
  findFacts(m);
  const l3 = m.l3Offset;
  const l4 = m.csumStart;
  const v6 = m.isIp6;
  if (l3 === 0) return false;
  if (((flags & CSUM_V6) !== 0) !== v6 && (flags & ~Csum.IP) !== 0) return false;

  const l3HdrLen = l4 - l3;
  if (l3HdrLen < IPV4_HEADER_BYTES || l3HdrLen > MAX_META_BYTE || l4 >= m.pktLength) return false;
  ctx.l3HdrLen = l3HdrLen;
  ctx.l3HdrOffset = l3;

  const tso = (flags & CSUM_TSO) !== 0;
  if (tso) {
    const words = mbufByte(m, l4 + TCP_OFFSET) >>> 4;
    if (words < 5 || words > MAX_L4_WORDS || l4 + words * 4 >= m.pktLength) return false;
    if (m.tsoSegsz <= 0 || m.tsoSegsz > TX_META_MAX_MSS) return false;
    ctx.l4HdrWords = words;
    ctx.mss = m.tsoSegsz;
  }
  const tcp = tso || (flags & CSUM_TCP) !== 0;
  const udp = !tcp && (flags & CSUM_UDP) !== 0;
  const part = v6 ? TxOffload.L4_IPV6_CSUM_PART : TxOffload.L4_IPV4_CSUM_PART;
  ctx.offload = txDesc.packOffload(
    v6 ? L3Proto.IPV6 : L3Proto.IPV4,
    tcp ? L4Proto.TCP : udp ? L4Proto.UDP : L4Proto.UNKNOWN,
    !v6 && (flags & (Csum.IP | CSUM_TSO)) !== 0 ? 1 : 0,
    tcp || udp ? 1 : 0,
    // The stack leaves the pseudo header's sum in the field. A device that accepts it saves work.
    (tcp || udp) && !tso && (adapter.offload.tx & part) !== 0 ? 1 : 0,
    tso ? 1 : 0,
    v6 || (mbufByte(m, l3 + IPV4_FRAGMENT) & IPV4_DF) !== 0 ? 1 : 0,
  );
  return true;
}

/**
 * ena_tx_cleanup: consumes completions, up to a budget, and frees their packets. Returns true when
 * more may be there. An invalid completion requests a reset and ends the cleanup.
 */
export function txCleanup(adapter: Adapter, ring: TxRing): boolean {
  const { netmap } = adapter;
  if (netmap?.hasTxRing(ring.qid)) {
    netmap.na.txIrq(ring.qid);
    return false;
  }
  let budget = TX_BUDGET;
  let entries = 0;
  let commit = TX_COMMIT;
  while (budget > 0) {
    const id = txCompReqId(adapter, ring);
    if (id < 0) break;
    const m = ring.mbufs[id];
    if (m === undefined) {
      // The id was never sent, or was completed before. Other completions may be wrong too.
      badReqId(adapter, ring, id, "completion for a tx id that is not in flight");
      break;
    }
    ring.cq.cursor.next();
    txUnload(adapter, ring, id);
    m.free();
    entries += ring.entries[id]!;
    ring.giveId(id);
    if (--commit === 0) {
      ring.sq.ack(entries);
      entries = 0;
      commit = TX_COMMIT;
    }
    budget--;
  }
  ring.sq.ack(entries);
  if (!ring.running && ring.sq.hasSpace(RESUME_THRESHOLD)) {
    ring.running = true;
    ring.stats.queue_wakeups++;
  }
  if (budget < TX_BUDGET) ring.lastCleanup = adapter.clock();
  return budget === 0;
}

/**
 * ena_com_tx_comp_req_id_get, without consuming. Returns the id, -1 for none, or -2 for an invalid
 * completion, which it reports.
 */
export function txCompReqId(adapter: Adapter, ring: TxRing): number {
  const { view, cursor } = ring.cq;
  const at = cursor.slot * TX_CDESC_SIZE;
  if (txCdesc.phase(view, at) !== cursor.phase) return -1;
  if (txCdesc.mbz(view, at) !== 0 && adapter.com?.has(Capability.CDESC_MBZ) === true) {
    adapter.log.error({ queue: ring.qid }, "malformed tx completion");
    adapter.requestReset(ResetReason.TX_DESCRIPTOR_MALFORMED);
    return -2;
  }
  const id = txCdesc.reqId(view, at);
  if (id >= ring.size) {
    badReqId(adapter, ring, id, "tx completion for an id beyond the ring");
    return -2;
  }
  return id;
}

export function badReqId(adapter: Adapter, ring: TxRing, id: number, what: string): void {
  ring.stats.bad_req_id++;
  adapter.log.error({ queue: ring.qid, reqId: id }, what);
  adapter.requestReset(ResetReason.INV_TX_REQ_ID);
}

/** Releases the map and the pushed bytes of the id. The caller frees the mbuf. */
export function txUnload(adapter: Adapter, ring: TxRing, id: number): void {
  const map = ring.maps[id]!;
  map.busy = false;
  if (map.loaded) {
    map.sync(SyncOp.POSTWRITE);
    map.unload();
  }
  adapter.gate.pushedBytes -= ring.pushed[id]!;
  ring.pushed[id] = 0;
  adapter.gate.pushes -= ring.pieces[id]!;
  ring.pieces[id] = 0;
  ring.mbufs[id] = undefined;
  ring.stamps[id] = 0;
}

/**
 * ena_free_tx_bufs: frees packets whose completion will not come. Returns their number, without
 * those whose completion came with the end of the queue. An invalid completion counts as none.
 */
export function freeTxBufs(adapter: Adapter, ring: TxRing): number {
  const { netmap } = adapter;
  const { view, cursor } = ring.cq;
  cursor.unread(
    (slot) => txCdesc.phase(view, slot * TX_CDESC_SIZE),
    (slot) => {
      const id = txCdesc.reqId(view, slot * TX_CDESC_SIZE);
      if (id < ring.size) ring.stamps[id] = 0;
    },
  );
  let lost = 0;
  for (let id = 0; id < ring.size; id++) {
    const m = ring.mbufs[id];
    const isOfNetmap = ring.slots !== undefined && ring.slots.used[id] !== 0;
    if (m === undefined && !isOfNetmap) continue;
    if (ring.stamps[id] !== 0) lost++;
    txUnload(adapter, ring, id);
    m?.free();
  }
  if (netmap !== undefined) freeTxSlots(netmap, ring);
  return lost;
}
