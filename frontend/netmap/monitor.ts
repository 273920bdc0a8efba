/**
 * Monitors: ports that see the traffic of another port.
 *
 *   netmap:ena0/r  received frames   /t  sent frames (NS_TXMON)   /rt both   /z both, zero-copy
 *
 * Only the receive rings of a monitor are used. A copy monitor sees frames before they are consumed
 * and has memory of its own. A zero-copy monitor sees them afterwards, in the original buffers in
 * the monitored port's memory. Frames that find no room are dropped and counted. When the monitored
 * port leaves netmap mode, all later syncs of the monitor fail with EIO.
 *
 * Source: netmap: sys/dev/netmap/netmap_monitor.c.
 */
import { Errno } from "../bus/errno.ts";
import { NetmapAdapter, type RingCounts } from "./adapter.ts";
import { Naf, RegFlag, Txrx } from "./flags.ts";
import type { Kring } from "./kring.ts";
import type { NetmapMemory } from "./memory.ts";
import { monitorAdd, monitorDel } from "./monitor-lists.ts";

export class MonitorAdapter extends NetmapAdapter {
  readonly isZeroCopy: boolean;
  /** The monitored port; undefined once it has left netmap mode. */
  parent: NetmapAdapter | undefined;
  /** Frames that found no room, or were cut to the size of the monitor's buffers. */
  dropped = 0;
  truncated = 0;
  /** RegFlag.MONITOR_TX and MONITOR_RX. */
  readonly #watched: number;

  /** The caller holds a reference to `parent`. */
  constructor(parent: NetmapAdapter, flags: number, counts: RingCounts, memory: NetmapMemory) {
    const isZeroCopy = (flags & RegFlag.ZCOPY_MON) !== 0;
    const letters =
      (isZeroCopy ? "z" : "") +
      ((flags & RegFlag.MONITOR_RX) !== 0 ? "r" : "") +
      ((flags & RegFlag.MONITOR_TX) !== 0 ? "t" : "");
    const name = `${parent.name}/${letters}#${parent.monitorId++}`;
    const naFlags = (parent.flags & Naf.HOST_RINGS) | (isZeroCopy ? Naf.MEM_OWNER : 0);
    super(name, undefined, counts, memory, naFlags);
    this.isZeroCopy = isZeroCopy;
    this.parent = parent;
    this.#watched = flags & (RegFlag.MONITOR_TX | RegFlag.MONITOR_RX);
  }

  /** A monitor sends nothing. */
  override txsync(): number {
    return Errno.EIO;
  }

  override rxsync(kring: Kring): number {
    if (this.parent === undefined) return Errno.EIO;
    kring.nrHwcur = kring.rhead;
    return 0;
  }

  override register(on: boolean): number {
    const { parent } = this;
    if (on && parent === undefined) return Errno.ENXIO;
    const changed = this.rxRings.filter((kring) => (on ? kring.isPendingOn : kring.isPendingOff));
    this.modeCommit(on);
    if (parent !== undefined) for (const mkring of changed) this.#listen(mkring, parent, on);
    this.setOn(on);
    return 0;
  }

  #listen(mkring: Kring, parent: NetmapAdapter, on: boolean): void {
    for (const t of [Txrx.RX, Txrx.TX]) {
      const flag = t === Txrx.RX ? RegFlag.MONITOR_RX : RegFlag.MONITOR_TX;
      const kring = parent.krings(t)[mkring.ringId];
      if ((this.#watched & flag) === 0 || kring === undefined) continue;
      if (mkring.ringId > parent.nrings(t)) continue;
      if (on) monitorAdd(mkring, kring, this.isZeroCopy);
      else monitorDel(mkring, kring);
    }
  }
}
