/**
 * Host rings: where the rings of a NIC in netmap mode meet the host's own stack, TAP included.
 *
 *   ifnet.transmit ──► netmapTransmit ──► rxQueue ──► rx host ring ──► application
 *                           │ NIC queue not in netmap mode
 *                           └──────────► the driver's own transmit
 *   application ──► tx host ring ──► mbuf ──► ifnet.input
 *
 * Frames of the stack wait in a queue of the ring's size and are copied at the next rxsync. A frame
 * is dropped, and counted by reason, in three cases: it is longer than a buffer; it asks for a
 * checksum or for segmentation, which nothing behind the ring would do; or the ring is full.
 *
 * NS_FORWARD joins the two again, slot by slot: NIC to host by a copy on release, host to NIC by
 * swapping buffers with a transmit slot.
 *
 * Source: netmap: sys/dev/netmap/netmap.c, netmap_transmit, netmap_rxsync_from_host,
 * netmap_txsync_to_host, netmap_grab_packets, netmap_sw_to_nic.
 */

import { copyBytes } from "../../shared/bytes/copy.ts";
import { ETHER_HEADER_BYTES } from "../../shared/net/ethernet.ts";
import { NO_QUEUE } from "../../shared/net/frame.ts";
import { Csum, type Mbuf, mCopyData } from "../net/mbuf.ts";
import type { NetmapAdapter } from "./adapter.ts";
import { Naf, Nkr, Ns, RingFlag, RingMode, SyncFlag } from "./flags.ts";
import type { Kring } from "./kring.ts";
import { nmNext, nmPrev, slotsBetween } from "./ring.ts";

const TSO = Csum.IP_TSO | Csum.IP6_TSO;
const UNFINISHED = Csum.IP | Csum.IP_UDP | Csum.IP_TCP | Csum.IP6_UDP | Csum.IP6_TCP;

/**
 * Ifnet.transmit of an interface in netmap mode. A frame goes to a host ring, or is dropped there;
 * frames of queues that are not in netmap mode go to the driver, as far as it accepts them.
 */
export function netmapTransmit(na: NetmapAdapter, mbufs: readonly Mbuf[], n: number): number {
  const { nicRun } = na;
  let sent = 0;
  while (sent < n) {
    let run = 0;
    while (sent + run < n && isForNic(na, mbufs[sent + run]!)) nicRun[run] = mbufs[sent + run++]!;
    if (run > 0) {
      const accepted = na.driverTransmit(nicRun, run);
      sent += accepted;
      if (accepted < run) return sent;
    } else toHostRing(na, mbufs[sent++]!);
  }
  if (na.ifnet !== undefined) na.ifnet.transmitErrno = 0;
  return n;
}

/** The NIC queue of a frame from the stack. FreeBSD's MBUF_TXQ is the flow id. */
const isForNic = (na: NetmapAdapter, m: Mbuf): boolean =>
  (na.flags & Naf.NETMAP_ON) !== 0 && na.txRings[m.flowId % na.numTxRings]!.nrMode === RingMode.OFF;

function toHostRing(na: NetmapAdapter, m: Mbuf): void {
  const { counters } = na;
  if ((na.flags & Naf.NETMAP_ON) === 0) {
    counters.hostDropOff++;
    drop(na, m);
    return;
  }
  const kring = na.rxRings[na.numRxRings + (m.flowId % na.numHostRxRings)]!;
  const queue = kring.rxQueue;
  const length = m.pktLength;
  if (length > na.memory.bufSize) {
    counters.hostDropTooLong++;
  } else if ((m.csumFlags & TSO) !== 0) {
    counters.hostDropTso++;
  } else if ((m.csumFlags & UNFINISHED) !== 0) {
    counters.hostDropCsum++;
  } else {
    // ETHER_BPF_MTAP: a capture at the interface sees the frames of the stack. The host ring is not a
    // queue of the NIC.
    na.ifnet?.bpf?.output(m, NO_QUEUE);
    const busy = slotsBetween(kring.nrHwcur, kring.nrHwtail, kring.nkrNumSlots);
    if (queue !== undefined && busy + queue.length < kring.nkrNumSlots - 1 && queue.push(m)) {
      kring.notify();
      return;
    }
    counters.hostDropFull++;
  }
  drop(na, m);
  kring.notify();
}

function drop(na: NetmapAdapter, m: Mbuf): void {
  if (na.ifnet !== undefined) na.ifnet.counters.oqdrops++;
  m.free();
}

/** nm_sync of a transmit host ring: [nrHwcur, rhead) goes up, and all slots are free again. */
export function txsyncToHost(kring: Kring): number {
  const lim = kring.nkrNumSlots - 1;
  const some = grabPackets(kring, true);
  kring.nrHwcur = kring.rhead;
  kring.nrHwtail = nmPrev(kring.rhead, lim);
  if (some) sendUp(kring.na);
  return 0;
}

/** nm_sync of a receive host ring. */
export function rxsyncFromHost(kring: Kring, flags: number): number {
  const ring = kring.openRing;
  const { memory } = kring.na;
  const lim = kring.nkrNumSlots - 1;
  const queue = kring.rxQueue;
  if (queue !== undefined && queue.length > 0) {
    const stop = nmPrev(kring.nrHwcur, lim);
    let i = kring.nrHwtail;
    while (i !== stop) {
      const m = queue.shift();
      if (m === undefined) break;
      // The length was checked when the frame came. The buffer index comes from the application.
      mCopyData(m, 0, m.pktLength, memory.bytes, kring.na.bufferOf(kring, i));
      ring.setLen(i, m.pktLength);
      ring.setSlotFlags(i, 0);
      m.free();
      i = nmNext(i, lim);
    }
    kring.nrHwtail = i;
  }
  if (kring.nrHwcur !== kring.rhead) {
    if (mayForwardDown(kring, flags) && swToNic(kring) > 0) kring.nrKflags |= Nkr.FORWARD;
    kring.nrHwcur = kring.rhead;
  }
  return 0;
}

const mayForward = ({ ring, na }: Kring): boolean =>
  ring !== undefined && (ring.flags & RingFlag.FORWARD) !== 0 && na.hasHostRings;

/** nm_may_forward_up: whether frames of this receive ring may go on to the host. */
export const mayForwardUp = (kring: Kring): boolean =>
  kring.ringId !== kring.na.numRxRings && mayForward(kring);

const mayForwardDown = (kring: Kring, flags: number): boolean =>
  (flags & SyncFlag.CAN_FORWARD_DOWN) !== 0 &&
  kring.ringId === kring.na.numRxRings &&
  mayForward(kring);

/**
 * netmap_grab_packets: copies the frames of [nrHwcur, rhead) for `sendUp`: those with NS_FORWARD, or
 * all of them. Slots with an invalid length are skipped and counted. True when it copied any.
 */
export function grabPackets(kring: Kring, force: boolean): boolean {
  const ring = kring.openRing;
  const { na } = kring;
  const { memory, counters } = na;
  const lim = kring.nkrNumSlots - 1;
  const head = kring.rhead;
  let some = false;
  // A wrong ring may be reinitialised with a head outside of the ring. Nothing is copied then.
  if (head > lim || kring.nrHwcur > lim) return false;
  for (let i = kring.nrHwcur; i !== head; i = nmNext(i, lim)) {
    const flags = ring.slotFlags(i);
    if ((flags & Ns.FORWARD) === 0 && !force) continue;
    const length = ring.len(i);
    if (length < ETHER_HEADER_BYTES || length > memory.bufSize) {
      counters.toHostDropLength++;
      continue;
    }
    ring.setSlotFlags(i, flags & ~Ns.FORWARD);
    const m = na.hostPool.get();
    if (m === undefined) {
      counters.toHostDropNoMbuf++;
      break;
    }
    copyBytes(memory.bytes, na.bufferOf(kring, i), m.buffer, m.at, length);
    m.length = length;
    m.pktLength = length;
    na.up.push(m);
    some = true;
  }
  return some;
}

/** netmap_send_up: passes the grabbed frames to the interface's input, after the ring is released. */
export function sendUp(na: NetmapAdapter): void {
  const { up } = na;
  if (up.length === 0) return;
  for (let i = 0; i < up.length; i++) na.hostInput(up[i]!);
  up.length = 0;
  na.hostInputDone();
}

/**
 * netmap_sw_to_nic: swaps the buffers of released host frames with NS_FORWARD with those of free
 * slots of the NIC transmit rings. The caller syncs these rings. It runs only for an application
 * that bound all of them.
 */
function swToNic(kring: Kring): number {
  const src = kring.openRing;
  const { na } = kring;
  const srcLim = kring.nkrNumSlots - 1;
  const head = kring.rhead;
  let cursor = kring.nrHwcur;
  let sent = 0;
  if (head > srcLim) return 0;
  for (let q = 0; q < na.numTxRings; q++) {
    const dst = na.txRings[q]!.ring;
    if (dst === undefined) continue;
    while (cursor !== head && !dst.isEmpty) {
      const at = dst.head;
      if (at > dst.lim) break;
      const slot = cursor;
      cursor = nmNext(cursor, srcLim);
      if ((src.slotFlags(slot) & Ns.FORWARD) === 0) continue;
      sent++;
      const index = src.bufIdx(slot);
      src.setBufIdx(slot, dst.bufIdx(at));
      src.setSlotFlags(slot, Ns.BUF_CHANGED);
      dst.setBufIdx(at, index);
      dst.setLen(at, src.len(slot));
      dst.setSlotFlags(at, Ns.BUF_CHANGED);
      dst.advance(dst.next(at));
    }
  }
  return sent;
}
