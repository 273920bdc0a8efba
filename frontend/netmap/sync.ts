/**
 * What happens around every nm_sync: the checks before, the publication after, and the repair.
 *
 * The shared half of a ring is the application's word. head and cur are read once, checked against
 * our own copies, and kept; nothing that fails is believed. A tail that the application overwrote
 * is put right and is no error.
 *
 * What a bad ring leads to is netmap's: `ringReinit` moves head, cur and tail back only when one of
 * them is outside the ring. When all are inside it, they are taken as they are, bad as they may be:
 * such a ring then sends or releases slots that are not its application's, and hurts nobody else,
 * because drivers check each buffer index they take.
 *
 * Source: netmap: sys/dev/netmap/netmap.c, nm_txsync_prologue, nm_rxsync_prologue,
 * netmap_ring_reinit, nm_sync_finalize, netmap_ioctl.
 */
import { Naf, Poll, Stopped, SyncFlag, Txrx } from "./flags.ts";
import { grabPackets, mayForwardUp, sendUp } from "./host-rings.ts";
import type { Kring } from "./kring.ts";
import { RESERVED_BUFFERS } from "./memory.ts";
import { microtime } from "./microtime.ts";
import type { NetmapRing } from "./ring.ts";

/**
 * Takes head and cur of a transmit ring. Wanted: rhead <= head <= cur <= rtail, cyclic. Returns
 * head, or numSlots when they are wrong; then nothing has changed.
 */
export function txsyncPrologue(kring: Kring, ring: NetmapRing): number {
  const head = ring.head;
  const cur = ring.cur;
  const n = kring.nkrNumSlots;
  const { rhead, rtail } = kring;
  if (kring.nrHwcur >= n || rhead >= n || rtail >= n || kring.nrHwtail >= n) return n;

  if (rtail >= rhead) {
    if (head < rhead || head > rtail) return n;
    if (cur < head || cur > rtail) return n;
  } else {
    if (head > rtail && head < rhead) return n;
    if (head <= rtail) {
      if (cur < head || cur > rtail) return n;
    } else if (cur > rtail && cur < head) return n;
    // Behind rhead, a head or cur past the end satisfies every comparison of the original.
  }
  if (ring.tail !== rtail) ring.tail = rtail;
  kring.rhead = head;
  kring.rcur = cur;
  return head;
}

/**
 * The same for a receive ring: nrHwcur <= head <= cur <= nrHwtail. As in the original, rhead and
 * rcur are what the application says even when that is wrong.
 */
export function rxsyncPrologue(kring: Kring, ring: NetmapRing): number {
  // head before cur: an application in another thread moves cur first (NetmapRing.advance).
  const head = ring.head;
  const cur = ring.cur;
  const n = kring.nkrNumSlots;
  const { nrHwcur, nrHwtail } = kring;
  kring.rcur = cur;
  kring.rhead = head;
  if (nrHwcur >= n || nrHwtail >= n) return n;

  if (nrHwtail >= nrHwcur) {
    if (head < nrHwcur || head > nrHwtail) return n;
    if (cur < head || cur > nrHwtail) return n;
  } else {
    if (head < nrHwcur && head > nrHwtail) return n;
    if (head <= nrHwtail) {
      if (cur < head || cur > nrHwtail) return n;
    } else if (cur < head && cur > nrHwtail) return n;
  }
  if (ring.tail !== kring.rtail) ring.tail = kring.rtail;
  return head;
}

/**
 * netmap_ring_reinit: every slot is looked at; a buffer index that is none becomes 0 with length 0,
 * a length longer than a buffer becomes 0. Returns 1 when head, cur or tail was outside the ring
 * and all were put back to where we are, else 0.
 */
export function ringReinit(kring: Kring): number {
  const ring = kring.openRing;
  const lim = kring.nkrNumSlots - 1;
  const { objTotal, bufSize } = kring.na.memory;
  const head = ring.head;
  const cur = ring.cur;
  const tail = ring.tail;
  kring.na.counters.ringReinits++;
  kring.rhead = head;
  kring.rcur = cur;
  kring.rtail = tail;
  for (let i = 0; i <= lim; i++) {
    const index = ring.bufIdx(i);
    if (index < RESERVED_BUFFERS || index >= objTotal) {
      ring.setBufIdx(i, 0);
      ring.setLen(i, 0);
    } else if (ring.len(i) > bufSize) {
      ring.setLen(i, 0);
    }
  }
  if (head <= lim && cur <= lim && tail <= lim) return 0;
  kring.rhead = kring.nrHwcur;
  kring.rcur = kring.nrHwcur;
  kring.rtail = kring.nrHwtail;
  ring.head = kring.nrHwcur;
  ring.cur = kring.nrHwcur;
  ring.tail = kring.nrHwtail;
  return 1;
}

/** nm_sync_finalize: the application sees what the sync did. */
export function syncFinalize(kring: Kring, ring: NetmapRing): void {
  kring.rtail = kring.nrHwtail;
  ring.tail = kring.nrHwtail;
}

/** Why a ring is not synced now. LOCKED and BUSY pass; STOPPED is an error to its user. */
export const Try = { GOT: 0, BUSY: 1, STOPPED: 2, LOCKED: 3 } as const;
export type Try = (typeof Try)[keyof typeof Try];

/** nm_kr_tryget: takes the ring for one sync. */
export function tryGet(kring: Kring): Try {
  if (kring.stopped === Stopped.STOPPED) return Try.STOPPED;
  if (kring.stopped === Stopped.LOCKED) return Try.LOCKED;
  if ((kring.na.flags & Naf.ZOMBIE) !== 0) return Try.STOPPED;
  if (kring.busy) return Try.BUSY;
  kring.busy = true;
  return Try.GOT;
}

/** nm_kr_put */
export function put(kring: Kring): void {
  kring.busy = false;
}

/**
 * One ring, as poll and the sync calls do it. Returns 0, or Poll.ERR when the ring was wrong or its
 * adapter refused. Nobody else may hold the ring.
 */
export function syncRing(kring: Kring, flags: number): number {
  const ring = kring.openRing;
  if (kring.tx === Txrx.TX) {
    if (txsyncPrologue(kring, ring) >= kring.nkrNumSlots) {
      ringReinit(kring);
      return Poll.ERR;
    }
    if (kring.nmSync(kring, flags) !== 0) return Poll.ERR;
    syncFinalize(kring, ring);
    return 0;
  }
  let result = 0;
  if (rxsyncPrologue(kring, ring) >= kring.nkrNumSlots) {
    ringReinit(kring);
    result = Poll.ERR;
  }
  // Frames that the application released towards the host, before their slots go to the NIC.
  const up = mayForwardUp(kring) && grabPackets(kring, false);
  if (kring.nmSync(kring, flags) !== 0) result = Poll.ERR;
  else syncFinalize(kring, ring);
  // ring_timestamp_set. NR_TIMESTAMP matters only where netmap's no_timestamp is set, and it is not.
  ring.timestampUs = microtime();
  if (up) sendUp(kring.na);
  return result;
}

/**
 * NIOCTXSYNC, NIOCRXSYNC over rings [first, last). Returns 0, or EIO's sign that the last ring was
 * stopped; as in netmap a wrong ring is repaired and not reported, and poll is where errors show.
 */
export function syncRings(
  krings: readonly Kring[],
  first: number,
  last: number,
  flags: number,
): boolean {
  let stopped = false;
  for (let i = first; i < last; i++) {
    const kring = krings[i]!;
    const got = tryGet(kring);
    if (got !== Try.GOT) {
      stopped = got === Try.STOPPED;
      continue;
    }
    syncRing(kring, flags | (kring.tx === Txrx.TX ? SyncFlag.FORCE_RECLAIM : SyncFlag.FORCE_READ));
    put(kring);
  }
  return !stopped;
}
