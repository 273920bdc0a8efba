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
import { NetmapAdapter, type NmConfig } from "./adapter.ts";
import { Naf, RegFlag, RingMode, Txrx } from "./flags.ts";
import type { Kring } from "./kring.ts";
import type { NetmapMemory } from "./memory.ts";
import { type MonitorPort, monitorAdd, monitorDel } from "./monitor-lists.ts";

export class MonitorAdapter extends NetmapAdapter implements MonitorPort {
  readonly isZeroCopy: boolean;
  parent: NetmapAdapter | undefined;
  dropped = 0;
  truncated = 0;
  /** RegFlag.MONITOR_TX and MONITOR_RX. */
  readonly #watched: number;
  readonly #gone: () => void;

  /** The caller holds a reference to `parent`; `gone` releases it. */
  constructor(
    parent: NetmapAdapter,
    flags: number,
    config: NmConfig,
    memory: NetmapMemory,
    gone: () => void,
  ) {
    const isZeroCopy = (flags & RegFlag.ZCOPY_MON) !== 0;
    const letters =
      (isZeroCopy ? "z" : "") +
      ((flags & RegFlag.MONITOR_RX) !== 0 ? "r" : "") +
      ((flags & RegFlag.MONITOR_TX) !== 0 ? "t" : "");
    super(`${parent.name}/${letters}#${parent.monitorId++}`, undefined, config, memory);
    this.isZeroCopy = isZeroCopy;
    this.parent = parent;
    this.flags = (parent.flags & Naf.HOST_RINGS) | (isZeroCopy ? Naf.MEM_OWNER : 0);
    this.#watched = flags & (RegFlag.MONITOR_TX | RegFlag.MONITOR_RX);
    this.#gone = gone;
    this.attachCommon();
  }

  override kringsCreate(): number {
    const error = super.kringsCreate();
    for (const kring of this.txRings) kring.nmSync = () => this.txsync();
    for (const kring of this.rxRings) kring.nmSync = (k) => this.rxsync(k);
    return error;
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
    if (!on && this.activeFds === 0) this.flags &= ~Naf.NETMAP_ON;
    for (const kring of this.txRings) commit(kring, on);
    for (const mkring of this.rxRings) {
      if (!commit(mkring, on) || parent === undefined) continue;
      this.#listen(mkring, parent, on);
    }
    if (on) this.flags |= Naf.NETMAP_ON;
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

  override dtor(): void {
    this.#gone();
  }
}

/** True when the ring's mode changed. */
function commit(kring: Kring, on: boolean): boolean {
  if (on ? !kring.isPendingOn : !kring.isPendingOff) return false;
  kring.nrMode = on ? RingMode.ON : RingMode.OFF;
  return true;
}
