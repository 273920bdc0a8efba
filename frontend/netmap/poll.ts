/**
 * poll(2) on a netmap descriptor, without the sleeping: it syncs the rings that need it, and returns
 * the events that hold.
 *
 * Transmit rings are synced at each poll, also when no room is asked for, so that filled slots go
 * out. RegFlag.NO_TX_POLL prevents that. Once room is found, rings without new slots are skipped.
 * Receive rings are synced only when the caller asks for input.
 *
 * Source: netmap: sys/dev/netmap/netmap.c, netmap_poll; the shortcuts before the first sync are
 * FreeBSD's.
 */
import { Nkr, Poll, RegFlag, Txrx } from "./flags.ts";
import type { Kring } from "./kring.ts";
import type { Priv } from "./register.ts";
import { put, syncRing, Try, tryGet } from "./sync.ts";

/** Events (Poll bits) of `wanted` that hold now, and Poll.ERR. Does not wait. */
export function netmapPoll(priv: Priv, wanted: number): number {
  const { na, ranges } = priv;
  if (na === undefined || !priv.isRegistered || !na.isOn) return Poll.ERR;
  const txFirst = ranges.first[Txrx.TX]!;
  const txLast = ranges.last[Txrx.TX]!;
  const rxFirst = ranges.first[Txrx.RX]!;
  const rxLast = ranges.last[Txrx.RX]!;
  let result = 0;
  let wantTx = (wanted & Poll.OUT) !== 0;
  let wantRx = (wanted & Poll.IN) !== 0;

  if (wantTx && anyUnseen(na.txRings, txFirst, txLast)) {
    result |= Poll.OUT;
    wantTx = false;
  }
  if (wantRx && !rxsyncNeeded(na.rxRings, rxFirst, rxLast)) {
    result |= Poll.IN;
    wantRx = false;
  }

  if (wantTx || (priv.flags & RegFlag.NO_TX_POLL) === 0) {
    let found = pollTx(na.txRings, txFirst, txLast, ranges.syncFlags, wantTx, false);
    // Check again when there was no room: the sync may have made some.
    if (wantTx && (found & Poll.OUT) === 0) {
      found |= pollTx(na.txRings, txFirst, txLast, ranges.syncFlags, true, false);
    }
    result |= wantTx ? found : found & Poll.ERR;
    if ((found & Poll.OUT) !== 0) wantTx = false;
  }
  if (!wantRx) return result;

  let found = pollRx(priv, na.rxRings, rxFirst, rxLast);
  // Slots that the first sync returned may have been filled by now.
  if ((found & Poll.IN) === 0) found |= pollRx(priv, na.rxRings, rxFirst, rxLast);
  result |= found & (Poll.IN | Poll.ERR);
  // Host frames were moved to NIC rings: send them, whether room is asked for or not.
  if ((found & SEND_DOWN) !== 0) {
    const sent = pollTx(na.txRings, txFirst, txLast, ranges.syncFlags, wantTx, true);
    result |= wantTx ? sent : sent & Poll.ERR;
  }
  return result;
}

/** An extra bit beside the Poll bits: frames of the host ring were moved to NIC rings. */
const SEND_DOWN = 0x100;

function pollRx(priv: Priv, krings: readonly Kring[], first: number, last: number): number {
  let result = 0;
  for (let i = first; i < last; i++) {
    const kring = krings[i]!;
    const got = tryGet(kring);
    if (got !== Try.GOT) {
      if (got === Try.STOPPED) result |= Poll.ERR;
      continue;
    }
    kring.nrKflags &= ~Nkr.FORWARD;
    result |= syncRing(kring, priv.ranges.syncFlags);
    if ((kring.nrKflags & Nkr.FORWARD) !== 0) result |= SEND_DOWN;
    const found = kring.rcur !== kring.rtail;
    put(kring);
    if (found) {
      result |= Poll.IN;
      // Another user may share the ring.
      kring.notify();
    }
  }
  return result;
}

function pollTx(
  krings: readonly Kring[],
  first: number,
  last: number,
  flags: number,
  wanted: boolean,
  all: boolean,
): number {
  let result = 0;
  let want = wanted;
  for (let i = first; i < last; i++) {
    const kring = krings[i]!;
    // Room was found already, and this ring has nothing to send.
    if (!all && !want && kring.openRing.head === kring.nrHwcur) continue;
    const got = tryGet(kring);
    if (got !== Try.GOT) {
      if (got === Try.STOPPED) result |= Poll.ERR;
      continue;
    }
    result |= syncRing(kring, flags);
    const found = kring.rcur !== kring.rtail;
    put(kring);
    if (found) {
      result |= Poll.OUT;
      want = false;
      kring.notify();
    }
  }
  return result;
}

/** Whether any ring has slots beyond cur. */
function anyUnseen(krings: readonly Kring[], first: number, last: number): boolean {
  for (let i = first; i < last; i++) {
    const ring = krings[i]!.openRing;
    if (ring.cur !== ring.tail) return true;
  }
  return false;
}

/** Whether any ring has nothing new, or has slots to release. False without rings. */
function rxsyncNeeded(krings: readonly Kring[], first: number, last: number): boolean {
  if (first === last) return true;
  for (let i = first; i < last; i++) {
    const kring = krings[i]!;
    const ring = kring.openRing;
    if (ring.cur === ring.tail || kring.rhead !== ring.head) return true;
  }
  return false;
}
