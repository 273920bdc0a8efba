/**
 * Which monitors listen on which rings, and what replaces nm_sync and nm_notify of a ring that has
 * some. Apart from monitor.ts, because closing the monitored port must reach it.
 *
 *   copy:       ring.monitors = [mkring, mkring, ...]
 *   zero-copy:  ring ── zmonNext ──► mkring ── zmonNext ──► mkring      one chain a direction;
 *               ring.zmonPrev is the chain's tail. Each monitors the one before it.
 *
 * Source: netmap: sys/dev/netmap/netmap_monitor.c.
 */
import { copyBytes } from "../../shared/bytes/copy.ts";
import type { NetmapAdapter } from "./adapter.ts";
import { Irq, Ns, SyncFlag, Txrx } from "./flags.ts";
import type { Kring } from "./kring.ts";
import { nmNext } from "./ring.ts";
import { put, Try, tryGet } from "./sync.ts";

/** A monitor's adapter, as far as the lists care. */
export interface MonitorPort extends NetmapAdapter {
  readonly isZeroCopy: boolean;
  /** The monitored port; undefined once it has left netmap mode. */
  parent: NetmapAdapter | undefined;
  /** Frames that found no room, or were cut to the size of our buffers. */
  dropped: number;
  truncated: number;
}

const portOf = (mkring: Kring): MonitorPort => mkring.na as unknown as MonitorPort;

function hasNone(kring: Kring): boolean {
  return (
    kring.monitors.length === 0 &&
    kring.zmonNext[Txrx.TX] === undefined &&
    kring.zmonNext[Txrx.RX] === undefined
  );
}

function intercept(kring: Kring): void {
  kring.monSync = kring.nmSync;
  kring.monNotify = kring.nmNotify;
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
  if (kring.tx === Txrx.RX && kring.monNotify !== undefined) kring.nmNotify = kring.monNotify;
  kring.monSync = undefined;
  kring.monNotify = undefined;
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
  // One that is not the first monitors the monitor before it.
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
  // Whoever monitored us monitors our predecessor now.
  if (after !== undefined && mkring.monSync !== undefined) {
    restore(mkring);
    if (before !== undefined && before.monSync === undefined) intercept(before);
  }
  mkring.zmonPrev[t] = undefined;
  mkring.zmonNext[t] = undefined;
}

/** netmap_monitor_stop: the port leaves netmap mode, and its monitors are told. */
export function monitorStop(na: NetmapAdapter): void {
  const { isZeroCopy = false } = na as Partial<MonitorPort>;
  for (const t of [Txrx.RX, Txrx.TX]) {
    for (const kring of na.krings(t)) {
      if (hasNone(kring)) continue;
      for (const mkring of kring.monitors) orphan(mkring);
      kring.monitors.length = 0;
      // A zero-copy monitor that closes leaves its chain by monitorDel; the chain lives on.
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
  mkring.notify(0);
}

const ownSync = (kring: Kring, flags: number): number => kring.monSync?.(kring, flags) ?? 0;

/** Copy monitors see what is about to be sent; zero-copy ones what comes back. */
function parentTxsync(kring: Kring, flags: number): number {
  if (kring.monitors.length > 0) {
    const fresh = distance(kring.nrHwcur, kring.rhead, kring.nkrNumSlots);
    if (fresh > 0) copyToMonitors(kring, kring.nrHwcur, fresh);
  }
  const zmon = kring.zmonNext[Txrx.TX];
  if (zmon === undefined) return ownSync(kring, flags);
  const lim = kring.nkrNumSlots - 1;
  const begin = nmNext(kring.nrHwtail, lim);
  const error = ownSync(kring, flags);
  if (error !== 0) return error;
  const end = nmNext(kring.nrHwtail, lim);
  swapToMonitor(kring, zmon, begin, distance(begin, end, kring.nkrNumSlots));
  return 0;
}

/** Copy monitors see what has come; zero-copy ones what its reader has released. */
function parentRxsync(kring: Kring, flags: number): number {
  const zmon = kring.zmonNext[Txrx.RX];
  if (zmon !== undefined && kring.rhead < kring.nkrNumSlots) {
    swapToMonitor(
      kring,
      zmon,
      kring.nrHwcur,
      distance(kring.nrHwcur, kring.rhead, kring.nkrNumSlots),
    );
  }
  const error = ownSync(kring, flags);
  if (error !== 0) return error;
  if (kring.monitors.length > 0) {
    const fresh = distance(kring.monTail, kring.nrHwtail, kring.nkrNumSlots);
    if (fresh > 0) copyToMonitors(kring, kring.monTail, fresh);
    kring.monTail = kring.nrHwtail;
  }
  return 0;
}

/** Frames that nobody asks for yet still have to reach the copy monitors. */
function parentNotify(kring: Kring, flags: number): Irq {
  if (kring.ring === undefined || tryGet(kring) !== Try.GOT) return Irq.COMPLETED;
  if (kring.monitors.length > 0) parentRxsync(kring, SyncFlag.FORCE_READ);
  const notify = hasNone(kring) ? kring.nmNotify : kring.monNotify;
  put(kring);
  return notify?.(kring, flags) ?? Irq.COMPLETED;
}

function distance(from: number, to: number, n: number): number {
  const d = to - from;
  return d < 0 ? d + n : d;
}

/** netmap_monitor_parent_sync: the newest frames that fit; what does not is dropped, oldest first. */
function copyToMonitors(kring: Kring, first: number, count: number): void {
  const ring = kring.openRing;
  const { memory } = kring.na;
  const lim = kring.nkrNumSlots - 1;
  const mark = kring.tx === Txrx.TX ? Ns.TXMON : 0;
  for (let j = 0; j < kring.monitors.length; j++) {
    const mkring = kring.monitors[j]!;
    const mring = mkring.ring;
    const port = portOf(mkring);
    if (mring === undefined) continue;
    const mlim = mkring.nkrNumSlots - 1;
    const free = mlim - distance(mkring.nrHwcur, mkring.nrHwtail, mkring.nkrNumSlots);
    const taken = Math.min(free, count);
    port.dropped += count - taken;
    if (taken <= 0) continue;
    let from = (first + count - taken) % kring.nkrNumSlots;
    let to = mkring.nrHwtail;
    for (let k = 0; k < taken; k++) {
      // Once: the monitored application owns the slot, and may be in another thread.
      const length = ring.len(from);
      let bytes = length;
      const room = Math.min(port.memory.bufSize, memory.bufSize);
      if (bytes > room) {
        bytes = room;
        port.truncated++;
      }
      copyBytes(
        memory.bytes,
        memory.bufferAt(ring.bufIdx(from)),
        port.memory.bytes,
        port.memory.bufferAt(mring.bufIdx(to)),
        bytes,
      );
      mring.setLen(to, bytes);
      mring.setSlotFlags(to, (ring.slotFlags(from) & ~Ns.TXMON) | mark);
      from = nmNext(from, lim);
      to = nmNext(to, mlim);
    }
    mkring.nrHwtail = to;
    mkring.notify(0);
  }
}

/** netmap_zmon_parent_sync: buffers change places with those of the monitor's free slots. */
function swapToMonitor(kring: Kring, mkring: Kring, first: number, count: number): void {
  const ring = kring.openRing;
  const mring = mkring.ring;
  if (mring === undefined || count <= 0) return;
  const lim = kring.nkrNumSlots - 1;
  const mlim = mkring.nkrNumSlots - 1;
  const mark = kring.tx === Txrx.TX ? Ns.TXMON : 0;
  const free = mlim - distance(mkring.nrHwcur, mkring.nrHwtail, mkring.nkrNumSlots);
  const taken = Math.min(free, count);
  portOf(mkring).dropped += count - taken;
  if (taken <= 0) return;
  let from = (first + count - taken) % kring.nkrNumSlots;
  let to = mkring.nrHwtail;
  for (let k = 0; k < taken; k++) {
    const index = mring.bufIdx(to);
    const length = mring.len(to);
    const flags = ring.slotFlags(from);
    mring.setBufIdx(to, ring.bufIdx(from));
    mring.setLen(to, ring.len(from));
    mring.setSlotFlags(to, (flags & ~Ns.TXMON) | mark);
    ring.setBufIdx(from, index);
    ring.setLen(from, length);
    ring.setSlotFlags(from, flags | Ns.BUF_CHANGED);
    from = nmNext(from, lim);
    to = nmNext(to, mlim);
  }
  mkring.nrHwtail = to;
  mkring.notify(0);
}
