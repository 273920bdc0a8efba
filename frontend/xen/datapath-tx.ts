/**
 * Transmit: mbuf chains in, requests out, responses back.
 *
 *   room, facts ─► pieces of at most a page ─► a map each: load (granted read-only), sync (pushed)
 *   ─► requests: first piece, extra info, other pieces ─► published at the end of the burst
 *
 * A packet's requests are written only when all its pieces are loaded, so a load that fails leaves
 * no requests behind. A chain is freed with the response to its last piece.
 *
 * After xn_assemble_tx_request, xn_txeof and xn_release_tx_bufs (freebsd-src:
 * sys/dev/xen/netfront/netfront.c).
 */
import { ETHER_HEADER_BYTES } from "../../shared/net/ethernet.ts";
import { advance } from "../../shared/ring/index32.ts";
import { extra, GsoType } from "../../shared/xen/extra.ts";
import { GRANT_PAGE_BYTES } from "../../shared/xen/grant.ts";
import {
  NetifStatus,
  TX_RING_SLOTS,
  TX_SLOT_SIZE,
  TxFlag,
  txRequest,
  txResponse,
} from "../../shared/xen/netif.ts";
import { Errno } from "../bus/errno.ts";
import { SyncOp } from "../bus/map.ts";
import { Ifcap } from "../net/ifnet.ts";
import { Csum, type Mbuf } from "../net/mbuf.ts";
import type { NetfrontInfo } from "./info.ts";
import { getMapGref, repoolTxMap } from "./pool.ts";
import { TX_MAPS, type Txq } from "./rings.ts";
import {
  gather,
  gatherBounced,
  giveId,
  ids,
  lengths,
  loadPieces,
  MAX_TX_REQ_FRAGS,
  takeMap,
} from "./tx-pieces.ts";

/** A ring needs more free slots than this: the largest packet, its extra info, and one. */
const ROOM_SLOTS = MAX_TX_REQ_FRAGS + 2;

const CSUM_TSO = Csum.IP_TSO | Csum.IP6_TSO;
const CSUM_V4 = Csum.IP_TCP | Csum.IP_UDP;
const CSUM_V6 = Csum.IP6_TCP | Csum.IP6_UDP;
const CSUM_ANY = CSUM_TSO | CSUM_V4 | CSUM_V6 | Csum.IP;

/** Returns the queue of the packet's flow. */
export function pickQueue({ gate, txqs }: NetfrontInfo, m: Mbuf): Txq {
  const txq = txqs[gate.pick(m, txqs.length)]!;
  txq.full = !txSlotAvailable(txq);
  if (txq.full) txq.stats.queue_stops++;
  return txq;
}

/** xn_tx_slot_available */
const txSlotAvailable = (txq: Txq): boolean => ringOf(txq).freeRequests > ROOM_SLOTS;

/**
 * xn_assemble_tx_request, for a packet that the gate has admitted. Consumes the packet and returns
 * 0. On EMSGSIZE the caller keeps it: this backend accepts a single page.
 */
export function assembleTxRequest(info: NetfrontInfo, txq: Txq, m: Mbuf): number {
  const { stats } = txq;
  const ring = ringOf(txq);
  if (m.pktLength < ETHER_HEADER_BYTES) {
    stats.too_short++;
    return info.gate.drop(m);
  }
  const facts = txFacts(info, m);
  if (facts < 0) {
    stats.bad_offload++;
    return info.gate.drop(m);
  }
  const count = info.trusted ? gather(info, txq, m) : gatherBounced(info, m);
  if (count < 0) {
    stats.too_long++;
    return Errno.EMSGSIZE;
  }
  if (!loadPieces(info, txq, m, count)) {
    stats.dma_mapping_err++;
    return info.gate.drop(m);
  }

  const tso = (m.csumFlags & CSUM_TSO) !== 0;
  const packet = txq.packetStack[--txq.freePackets]!;
  txq.packets[packet] = m;
  txq.pieces[packet] = count;
  txq.pushed[packet] = m.pktLength;
  const { view } = ring;
  for (let i = 0; i < count; i++) {
    const id = ids[i]!;
    const map = txq.maps[id]!;
    txq.packetOf[id] = packet;
    map.sync(SyncOp.PREWRITE);
    let flags = i === count - 1 ? 0 : TxFlag.MORE_DATA;
    if (i === 0) flags |= facts;
    const offset = map.segmentAddress(0) & (GRANT_PAGE_BYTES - 1);
    // The first request carries the length of the whole packet, each further one the length of its
    // piece. The backend finds the first piece's length by subtraction.
    const size = i === 0 ? m.pktLength : lengths[i]!;
    txRequest.write(view, ring.at(ring.claim()), getMapGref(map), offset, flags, id, size);
    if (i === 0 && tso) writeGso(txq, m);
  }
  txq.idsOut += count;
  stats.requests += count;
  info.gate.staged(stats, m.pktLength, m.pktLength, count);
  if (info.ifnet.bpf !== undefined) info.ifnet.bpf.output(m, txq.id);
  return 0;
}

function writeGso(txq: Txq, m: Mbuf): void {
  const ring = ringOf(txq);
  const type = (m.csumFlags & Csum.IP6_TSO) !== 0 ? GsoType.TCPV6 : GsoType.TCPV4;
  extra.writeGso(ring.view, ring.at(ring.claim()), TX_SLOT_SIZE, 0, m.tsoSegsz, type);
  txq.extrasOut++;
  txq.stats.requests++;
  txq.stats.tso++;
}

/** Returns the flags of the first request, or -1 for an offload that this backend lacks. */
function txFacts(info: NetfrontInfo, m: Mbuf): number {
  const asked = m.csumFlags & CSUM_ANY;
  if (asked === 0) return 0;
  const { capEnable } = info.ifnet;
  let needed = 0;
  if ((asked & CSUM_V4) !== 0) needed |= Ifcap.TXCSUM;
  if ((asked & CSUM_V6) !== 0) needed |= Ifcap.TXCSUM_IPV6;
  if ((asked & Csum.IP_TSO) !== 0) needed |= Ifcap.TSO4;
  if ((asked & Csum.IP6_TSO) !== 0) needed |= Ifcap.TSO6;
  // A backend completes a checksum of layer 3 only when it segments the packet.
  const tso = (asked & CSUM_TSO) !== 0;
  if ((asked & Csum.IP) !== 0 && !tso) return -1;
  if ((capEnable & needed) !== needed) return -1;
  const flags = TxFlag.CSUM_BLANK | TxFlag.DATA_VALIDATED;
  if (!tso) return flags;
  if (!(m.tsoSegsz > 0 && m.tsoSegsz <= 0xffff)) return -1;
  return flags | TxFlag.EXTRA_INFO;
}

/**
 * xn_txeof: consumes the responses and frees the packets that they complete. Returns false when
 * there were none. An invalid response stops the NIC.
 */
export function txeof(info: NetfrontInfo, txq: Txq): boolean {
  const ring = txq.ring;
  if (!info.carrier || ring === undefined) return false;
  let any = false;
  for (;;) {
    const waiting = ring.unconsumed();
    if (waiting < 0) {
      info.setBroken("TX_RESPONSES", `${txq.name}: more responses than requests`);
      return any;
    }
    if (waiting === 0) break;
    any = true;
    const prod = advance(ring.rspCons, waiting);
    while (ring.rspCons !== prod) {
      const at = ring.at(ring.rspCons);
      // Each field is read once, because the backend can change the page at any time (XSA-155).
      const status = txResponse.status(ring.view, at);
      const id = txResponse.id(ring.view, at);
      if (!takeResponse(info, txq, status, id)) return any;
      // Freeing an mbuf calls its owner, which may even have caused the ring to be removed.
      if (txq.ring !== ring || !info.carrier) return any;
    }
    // As in the original, the event comes after half of the open requests: fewer events.
    ring.arm(advance(prod, (ring.inFlight >>> 1) + 1));
  }
  if (txq.full && txSlotAvailable(txq)) {
    txq.full = false;
    txq.stats.queue_wakeups++;
  }
  return any;
}

/** Consumes one response. Returns false, and consumes nothing, when the response is invalid. */
function takeResponse(info: NetfrontInfo, txq: Txq, status: number, id: number): boolean {
  const ring = ringOf(txq);
  if (status === NetifStatus.NULL) {
    if (txq.extrasOut === 0) {
      info.setBroken("TX_NULL", `${txq.name}: answers extra info that was never sent`);
      return false;
    }
    txq.extrasOut--;
    ring.rspCons = advance(ring.rspCons, 1);
    return true;
  }
  const map = id < TX_MAPS ? txq.maps[id] : undefined;
  if (map === undefined) {
    info.setBroken("TX_ID", `${txq.name}: answers request ${id}, which is not under way`);
    return false;
  }
  map.sync(SyncOp.POSTWRITE);
  if (map.unload() !== 0) {
    // XSA-396: the page belongs to the backend until its use ends or the backend is gone.
    info.setBroken("TX_GRANT_IN_USE", `${txq.name}: request ${id} is answered and still in use`);
    return false;
  }
  if (status !== NetifStatus.OKAY) {
    if (status === NetifStatus.DROPPED) txq.stats.dropped++;
    else txq.stats.error++;
    info.ifnet.counters.oerrors++;
  }
  txq.maps[id] = undefined;
  repoolTxMap(txq, map);
  const packet = txq.packetOf[id]!;
  giveId(txq, id);
  txq.idsOut--;
  ring.rspCons = advance(ring.rspCons, 1);
  pieceDone(info, txq, packet);
  return true;
}

/** Counts a piece of the packet as complete. Frees the chain with the last piece. */
function pieceDone(info: NetfrontInfo, txq: Txq, packet: number): void {
  const left = txq.pieces[packet]! - 1;
  info.gate.pushes--;
  txq.pieces[packet] = left;
  if (left > 0) return;
  const m = txq.packets[packet];
  if (m === undefined) throw new Error(`${txq.name}: packet ${packet} ends twice`);
  txq.packets[packet] = undefined;
  txq.packetStack[txq.freePackets++] = packet;
  info.gate.pushedBytes -= txq.pushed[packet]!;
  m.free();
}

/**
 * xn_release_tx_bufs: releases packets whose responses will not come. Returns their number. A page
 * that the backend still uses is quarantined, with its packet, until that use ends.
 */
export function releaseTxBufs(info: NetfrontInfo, txq: Txq): number {
  const before = txq.freePackets;
  for (let id = 1; id <= TX_RING_SLOTS; id++) {
    if (txq.maps[id] === undefined) continue;
    const map = takeMap(txq, id);
    const packet = txq.packetOf[id]!;
    giveId(txq, id);
    txq.idsOut--;
    if (map.unload() === 0) {
      repoolTxMap(txq, map);
      pieceDone(info, txq, packet);
    } else {
      info.stats.quarantined_maps++;
      // The quarantined map keeps the bounce page.
      txq.bounce[id] = undefined;
      map.quarantine(() => pieceDone(info, txq, packet));
    }
  }
  txq.extrasOut = 0;
  return txq.freePackets - before;
}

function ringOf(txq: Txq) {
  if (txq.ring === undefined) throw new Error(`${txq.name}: not connected`);
  return txq.ring;
}

/** Returns true when every request has a response. */
export const txIdle = (info: NetfrontInfo): boolean =>
  info.txqs.every((txq) => (txq.ring?.claimed ?? 0) === 0);
