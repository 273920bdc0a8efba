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
import type { NetmapAdapter } from "./adapter.ts";
import { Nkr, Poll, RegFlag, Txrx } from "./flags.ts";
import type { Priv, RingRanges } from "./register.ts";
import { put, syncRing, Try, tryGet } from "./sync.ts";

/** An extra bit beside the Poll bits: frames of the host ring were moved to NIC rings. */
const SEND_DOWN = 0x100;

/** Events (Poll bits) of `wanted` that hold now, and Poll.ERR. Does not wait. */
export function netmapPoll(priv: Priv, wanted: number): number {
  const { na, ranges } = priv;
  if (na === undefined || !priv.isRegistered || !na.isOn) return Poll.ERR;
  let result = 0;
  let wantTx = (wanted & Poll.OUT) !== 0;
  let wantRx = (wanted & Poll.IN) !== 0;

  if (wantTx && anyUnseen(na, ranges)) {
    result |= Poll.OUT;
    wantTx = false;
  }
  if (wantRx && !rxsyncNeeded(na, ranges)) {
    result |= Poll.IN;
    wantRx = false;
  }

  if (wantTx || (priv.flags & RegFlag.NO_TX_POLL) === 0) {
    let found = pollRings(na, ranges, Txrx.TX, !wantTx);
    // Check again when there was no room: the sync may have made some.
    if (wantTx && (found & Poll.OUT) === 0) found |= pollRings(na, ranges, Txrx.TX, false);
    result |= wantTx ? found : found & Poll.ERR;
    if ((found & Poll.OUT) !== 0) wantTx = false;
  }
  if (!wantRx) return result;

  let found = pollRings(na, ranges, Txrx.RX, false);
  // Slots that the first sync returned may have been filled by now.
  if ((found & Poll.IN) === 0) found |= pollRings(na, ranges, Txrx.RX, false);
  result |= found & (Poll.IN | Poll.ERR);
  // Host frames were moved to NIC rings: send them, whether room is asked for or not.
  if ((found & SEND_DOWN) !== 0) {
    const sent = pollRings(na, ranges, Txrx.TX, !wantTx);
    result |= wantTx ? sent : sent & Poll.ERR;
  }
  return result;
}

/**
 * Syncs the bound rings of one direction. Returns Poll.IN or Poll.OUT when one has slots beyond cur,
 * Poll.ERR and SEND_DOWN. Transmit rings with nothing to send are skipped with `skipIdle`, and once
 * room was found.
 */
function pollRings(na: NetmapAdapter, ranges: RingRanges, t: Txrx, skipIdle: boolean): number {
  const krings = na.krings(t);
  const last = ranges.last[t]!;
  const event = t === Txrx.TX ? Poll.OUT : Poll.IN;
  let result = 0;
  for (let i = ranges.first[t]!; i < last; i++) {
    const kring = krings[i]!;
    const maySkip = t === Txrx.TX && (skipIdle || (result & Poll.OUT) !== 0);
    if (maySkip && kring.openRing.head === kring.nrHwcur) continue;
    const got = tryGet(kring);
    if (got !== Try.GOT) {
      if (got === Try.STOPPED) result |= Poll.ERR;
      continue;
    }
    kring.nrKflags &= ~Nkr.FORWARD;
    result |= syncRing(kring, ranges.syncFlags);
    if ((kring.nrKflags & Nkr.FORWARD) !== 0) result |= SEND_DOWN;
    const found = kring.rcur !== kring.rtail;
    put(kring);
    if (found) {
      result |= event;
      // Another user may share the ring.
      kring.notify();
    }
  }
  return result;
}

/** Whether any transmit ring has slots beyond cur. */
function anyUnseen({ txRings }: NetmapAdapter, { first, last }: RingRanges): boolean {
  for (let i = first[Txrx.TX]!; i < last[Txrx.TX]!; i++) {
    const ring = txRings[i]!.openRing;
    if (ring.cur !== ring.tail) return true;
  }
  return false;
}

/** Whether any receive ring has nothing new, or has slots to release. True without rings. */
function rxsyncNeeded({ rxRings }: NetmapAdapter, { first, last }: RingRanges): boolean {
  if (first[Txrx.RX] === last[Txrx.RX]) return true;
  for (let i = first[Txrx.RX]!; i < last[Txrx.RX]!; i++) {
    const kring = rxRings[i]!;
    const ring = kring.openRing;
    if (ring.cur === ring.tail || kring.rhead !== ring.head) return true;
  }
  return false;
}
