/**
 * The monitors of each ring, and the functions that replace nm_sync and nm_notify of a monitored
 * ring. It is separate from monitor.ts because closing the monitored port needs it.
 *
 *   copy:       ring.monitors = [mkring, mkring, ...]
 *   zero-copy:  ring ── zmonNext ──► mkring ── zmonNext ──► mkring      one chain a direction;
 *               ring.zmonPrev is the chain's tail. Each monitors the one before it.
 *
 * Source: netmap: sys/dev/netmap/netmap_monitor.c.
 */
import { copyBytes } from "../../shared/bytes/copy.ts";
import type { NetmapAdapter } from "./adapter.ts";
import { Ns, SyncFlag, Txrx } from "./flags.ts";
import { type Kring, notifyUsers } from "./kring.ts";
import type { MonitorAdapter } from "./monitor.ts";
import { type NetmapRing, nmNext, slotsBetween } from "./ring.ts";
import { put, Try, tryGet } from "./sync.ts";

const portOf = (mkring: Kring): MonitorAdapter => mkring.na as MonitorAdapter;

function hasNone(kring: Kring): boolean {
  return (
    kring.monitors.length === 0 &&
    kring.zmonNext[Txrx.TX] === undefined &&
    kring.zmonNext[Txrx.RX] === undefined
  );
}

function intercept(kring: Kring): void {
  kring.monSync = kring.nmSync;
  if (kring.tx === Txrx.TX) {
    kring.nmSync = parentTxsync;
  } else {
    kring.nmSync = parentRxsync;
    kring.nmNotify = parentNotify;
    kring.monTail = kring.nrHwtail;
  }
}

function restore(kring: Kring): void {
  if (kring.monSync !== undefined) kring.nmSync = kring.monSync;
  kring.monSync = undefined;
  kring.nmNotify = notifyUsers;
}

/** netmap_monitor_add */
export function monitorAdd(mkring: Kring, kring: Kring, isZeroCopy: boolean): void {
  const t = kring.tx;
  if (!isZeroCopy) {
    if (hasNone(kring)) intercept(kring);
    mkring.monPos[t] = kring.monitors.length;
    kring.monitors.push(mkring);
    return;
  }
  // A monitor that is not the first monitors the monitor before it.
  const before = kring.zmonPrev[t] ?? kring;
  if (hasNone(before)) intercept(before);
  before.zmonNext[t] = mkring;
  kring.zmonPrev[t] = mkring;
  mkring.zmonPrev[t] = before;
  mkring.zmonNext[t] = undefined;
}

/** netmap_monitor_del */
export function monitorDel(mkring: Kring, kring: Kring): void {
  const t = kring.tx;
  if (!portOf(mkring).isZeroCopy) {
    const at = mkring.monPos[t]!;
    const last = kring.monitors.pop();
    if (last !== undefined && last !== mkring) {
      kring.monitors[at] = last;
      last.monPos[t] = at;
    }
    if (hasNone(kring)) restore(kring);
    return;
  }
  const before = mkring.zmonPrev[t];
  const after = mkring.zmonNext[t];
  if (after !== undefined) after.zmonPrev[t] = before;
  else kring.zmonPrev[t] = before === kring ? undefined : before;
  if (before !== undefined) {
    before.zmonNext[t] = after;
    if (hasNone(before)) restore(before);
  }
  // The next monitor of the chain now monitors the one before this.
  if (after !== undefined && mkring.monSync !== undefined) {
    restore(mkring);
    if (before !== undefined && before.monSync === undefined) intercept(before);
  }
  mkring.zmonPrev[t] = undefined;
  mkring.zmonNext[t] = undefined;
}

/** netmap_monitor_stop: the port leaves netmap mode, and its monitors are notified. */
export function monitorStop(na: NetmapAdapter): void {
  const isZeroCopy = "isZeroCopy" in na && na.isZeroCopy === true;
  for (const t of [Txrx.RX, Txrx.TX]) {
    for (const kring of na.krings(t)) {
      if (hasNone(kring)) continue;
      for (const mkring of kring.monitors) orphan(mkring);
      kring.monitors.length = 0;
      // A zero-copy monitor that closes leaves its chain by monitorDel. The chain goes on without it.
      if (!isZeroCopy) {
        const first = kring.zmonNext[t];
        for (let z = first; z !== undefined; z = z.zmonNext[t]) orphan(z);
        if (first !== undefined) first.zmonPrev[t] = undefined;
        kring.zmonNext[t] = undefined;
        kring.zmonPrev[t] = undefined;
      }
      restore(kring);
    }
  }
}

function orphan(mkring: Kring): void {
  portOf(mkring).parent = undefined;
  mkring.notify();
}

const ownSync = (kring: Kring, flags: number): number => kring.monSync?.(kring, flags) ?? 0;

/** Transmit: copy monitors see frames before they are sent, zero-copy monitors after. */
function parentTxsync(kring: Kring, flags: number): number {
  copyToMonitors(kring, kring.nrHwcur, kring.rhead);
  const zmon = kring.zmonNext[Txrx.TX];
  if (zmon === undefined) return ownSync(kring, flags);
  const lim = kring.nkrNumSlots - 1;
  const begin = nmNext(kring.nrHwtail, lim);
  const error = ownSync(kring, flags);
  if (error !== 0) return error;
  toMonitor(kring, zmon, begin, nmNext(kring.nrHwtail, lim));
  return 0;
}

/** Receive: copy monitors see frames when they arrive, zero-copy monitors after their release. */
function parentRxsync(kring: Kring, flags: number): number {
  const zmon = kring.zmonNext[Txrx.RX];
  if (zmon !== undefined && kring.rhead < kring.nkrNumSlots) {
    toMonitor(kring, zmon, kring.nrHwcur, kring.rhead);
  }
  const error = ownSync(kring, flags);
  if (error !== 0) return error;
  copyToMonitors(kring, kring.monTail, kring.nrHwtail);
  kring.monTail = kring.nrHwtail;
  return 0;
}

/** Copy monitors must see received frames even before the application asks for them. */
function parentNotify(kring: Kring): void {
  if (kring.ring === undefined || tryGet(kring) !== Try.GOT) return;
  if (kring.monitors.length > 0) parentRxsync(kring, SyncFlag.FORCE_READ);
  put(kring);
  notifyUsers(kring);
}

/** netmap_monitor_parent_sync */
function copyToMonitors(kring: Kring, first: number, end: number): void {
  for (let j = 0; j < kring.monitors.length; j++) toMonitor(kring, kring.monitors[j]!, first, end);
}

/** Passes the newest frames of [first, end) that fit. The monitor counts older ones as dropped. */
function toMonitor(kring: Kring, mkring: Kring, first: number, end: number): void {
  const ring = kring.openRing;
  const mring = mkring.ring;
  const port = portOf(mkring);
  if (mring === undefined) return;
  const count = slotsBetween(first, end, kring.nkrNumSlots);
  const busy = slotsBetween(mkring.nrHwcur, mkring.nrHwtail, mkring.nkrNumSlots);
  const taken = Math.min(mring.lim - busy, count);
  port.dropped += count - taken;
  if (taken <= 0) return;
  let from = (first + count - taken) % kring.nkrNumSlots;
  let to = mkring.nrHwtail;
  for (let k = 0; k < taken; k++) {
    const flags = ring.slotFlags(from);
    if (port.isZeroCopy) swapSlot(ring, from, mring, to);
    else copySlot(kring.na, ring, from, port, mring, to);
    mring.setSlotFlags(to, (flags & ~Ns.TXMON) | (kring.tx === Txrx.TX ? Ns.TXMON : 0));
    from = ring.next(from);
    to = mring.next(to);
  }
  mkring.nrHwtail = to;
  mkring.notify();
}

/** Swaps the frame with the monitor's free slot (netmap_zmon_parent_sync). */
function swapSlot(ring: NetmapRing, from: number, mring: NetmapRing, to: number): void {
  const index = mring.bufIdx(to);
  const length = mring.len(to);
  mring.setBufIdx(to, ring.bufIdx(from));
  mring.setLen(to, ring.len(from));
  ring.setBufIdx(from, index);
  ring.setLen(from, length);
  ring.setSlotFlags(from, ring.slotFlags(from) | Ns.BUF_CHANGED);
}

function copySlot(
  na: NetmapAdapter,
  ring: NetmapRing,
  from: number,
  port: MonitorAdapter,
  mring: NetmapRing,
  to: number,
): void {
  const { memory } = na;
  // Read once: the monitored application owns the slot and may run in another thread.
  const length = ring.len(from);
  const bytes = Math.min(length, port.memory.bufSize, memory.bufSize);
  if (bytes < length) port.truncated++;
  const at = memory.bufferAt(ring.bufIdx(from));
  copyBytes(memory.bytes, at, port.memory.bytes, port.memory.bufferAt(mring.bufIdx(to)), bytes);
  mring.setLen(to, bytes);
}
