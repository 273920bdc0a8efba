/**
 * The steps around every nm_sync: the checks before it, the publication after it, and the repair.
 *
 * The application writes the shared half of a ring. head and cur are read once, checked against the
 * private copies, and kept only if they are valid. A tail that the application overwrote is
 * corrected without an error.
 *
 * The repair follows netmap: `ringReinit` moves head, cur and tail back only when one of them is
 * outside the ring. Values inside the ring are accepted, even wrong ones. Such a ring sends or
 * releases slots that its application does not own. Other rings are safe, because drivers check each
 * buffer index.
 *
 * Source: netmap: sys/dev/netmap/netmap.c, nm_txsync_prologue, nm_rxsync_prologue,
 * netmap_ring_reinit, nm_sync_finalize, netmap_ioctl.
 */
import { Naf, Ns, Poll, Stopped, SyncFlag, Txrx } from "./flags.ts";
import { grabPackets, mayForwardUp, sendUp } from "./host-rings.ts";
import type { Kring } from "./kring.ts";
import { RESERVED_BUFFERS } from "./memory.ts";
import { microtime } from "./microtime.ts";
import type { NetmapRing } from "./ring.ts";

/**
 * Whether from <= head <= cur <= to, cyclic. As in the original, a head or cur beyond the ring passes
 * every comparison of a wrapped range.
 */
function isOrdered(from: number, head: number, cur: number, to: number): boolean {
  if (to >= from) return from <= head && head <= cur && cur <= to;
  if (head <= to) return head <= cur && cur <= to;
  return head >= from && (cur >= head || cur <= to);
}

/**
 * Reads and checks head and cur of a transmit ring: rhead <= head <= cur <= rtail, cyclic. Returns
 * head, or numSlots when they are wrong; then nothing has changed.
 */
export function txsyncPrologue(kring: Kring, ring: NetmapRing): number {
  const head = ring.head;
  const cur = ring.cur;
  const n = kring.nkrNumSlots;
  const { rhead, rtail } = kring;
  if (kring.nrHwcur >= n || rhead >= n || rtail >= n || kring.nrHwtail >= n) return n;

  if (!isOrdered(rhead, head, cur, rtail)) return n;
  if (ring.tail !== rtail) ring.tail = rtail;
  kring.rhead = head;
  kring.rcur = cur;
  return head;
}

/**
 * The same for a receive ring: nrHwcur <= head <= cur <= nrHwtail. As in the original, rhead and
 * rcur are set to the application's values even when these are wrong.
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

  if (!isOrdered(nrHwcur, head, cur, nrHwtail)) return n;
  if (ring.tail !== kring.rtail) ring.tail = kring.rtail;
  return head;
}

/**
 * netmap_ring_reinit: checks every slot. An invalid buffer index becomes 0 with length 0; a length
 * longer than a buffer becomes 0. Returns 1 when head, cur or tail was outside the ring, and sets
 * all three to the private copies; else 0.
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

/** Takes the released slots [nrHwcur, rhead) of a receive ring that has no device behind it. */
export function takeReleased(kring: Kring, ring: NetmapRing): void {
  for (let i = kring.nrHwcur; i !== kring.rhead; i = ring.next(i)) {
    ring.setSlotFlags(i, ring.slotFlags(i) & ~Ns.BUF_CHANGED);
  }
  kring.nrHwcur = kring.rhead;
}

/** nm_sync_finalize: publishes the result of the sync to the application. */
export function syncFinalize(kring: Kring, ring: NetmapRing): void {
  kring.rtail = kring.nrHwtail;
  ring.tail = kring.nrHwtail;
}

/** The reason why a ring is not synced now. LOCKED and BUSY are temporary; STOPPED is an error. */
export const Try = { GOT: 0, BUSY: 1, STOPPED: 2, LOCKED: 3 } as const;
export type Try = (typeof Try)[keyof typeof Try];

/** nm_kr_tryget: acquires the ring for one sync. */
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
 * Syncs one ring, for poll and the sync calls. The caller has acquired the ring. Returns 0, or
 * Poll.ERR when the ring was wrong or its adapter refused.
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
  // Grab frames that the application forwards to the host, before their slots return to the NIC.
  const up = mayForwardUp(kring) && grabPackets(kring, false);
  if (kring.nmSync(kring, flags) !== 0) result = Poll.ERR;
  else syncFinalize(kring, ring);
  // ring_timestamp_set. NR_TIMESTAMP matters only where netmap's no_timestamp is set, and it is not.
  ring.timestampUs = microtime();
  if (up) sendUp(kring.na);
  return result;
}

/**
 * NIOCTXSYNC, NIOCRXSYNC over rings [first, last). Returns 0, or EIO when the last ring was stopped.
 * As in netmap, a wrong ring is repaired without a report; poll reports errors.
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
