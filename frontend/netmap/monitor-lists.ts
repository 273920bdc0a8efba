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
import { Irq, Ns, SyncFlag, Txrx } from "./flags.ts";
import type { Kring } from "./kring.ts";
import { nmNext } from "./ring.ts";
import { put, Try, tryGet } from "./sync.ts";

/** The part of a monitor's adapter that the lists use. */
export interface MonitorPort extends NetmapAdapter {
  readonly isZeroCopy: boolean;
  /** The monitored port; undefined once it has left netmap mode. */
  parent: NetmapAdapter | undefined;
  /** Frames that found no room, or were cut to the size of the monitor's buffers. */
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
  const { isZeroCopy = false } = na as Partial<MonitorPort>;
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
  mkring.notify(0);
}

const ownSync = (kring: Kring, flags: number): number => kring.monSync?.(kring, flags) ?? 0;

/** Transmit: copy monitors see frames before they are sent, zero-copy monitors after. */
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

/** Receive: copy monitors see frames when they arrive, zero-copy monitors after their release. */
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

/** Copy monitors must see received frames even before the application asks for them. */
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

/** netmap_monitor_parent_sync: copies the newest frames that fit. Older ones are dropped. */
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
      // Read once: the monitored application owns the slot and may run in another thread.
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

/** netmap_zmon_parent_sync: swaps buffers with the monitor's free slots. */
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
