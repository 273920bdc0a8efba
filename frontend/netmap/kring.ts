/**
 * The private half of a ring: netmap's own state, which the application can't change.
 *
 *              nrHwcur              rhead     rcur         rtail = nrHwtail (after a sync)
 *   tx   ------|-- to be sent ------|-- the application's --|-- being sent ------
 *   rx   ------|-- released --------|-- the application's --|-- empty, to be filled
 *
 * rhead, rcur and rtail are copies of head, cur and tail, made when a sync begins and ends. One slot
 * always stays empty, so that equal indexes always mean an empty range.
 *
 * Written by: the core (rhead, rcur, rtail, users, modes, stopped), the adapter's nm_sync (nrHwcur,
 * nrHwtail), netmap_reset (nrHwcur, nrHwtail, nkrHwofs). The adapter changes nrMode while it
 * registers. The registration changes nrPendingMode.
 *
 * Source: netmap: sys/dev/netmap/netmap_kern.h, "struct netmap_kring".
 */
import type { NetmapAdapter } from "./adapter.ts";
import { Nkr, RingMode, Stopped, Txrx, txrxName } from "./flags.ts";
import type { MbufQueue } from "./mbuf-queue.ts";
import type { NetmapRing } from "./ring.ts";
import { SelInfo } from "./wait.ts";

/** nm_sync: returns 0, or an errno, which poll reports to the application as an error. */
export type NmSync = (kring: Kring, flags: number) => number;
/** nm_notify: wakes the users of a ring. */
export type NmNotify = (kring: Kring) => void;

export class Kring {
  /** Undefined while the ring is not open (partial opening). Such a ring must not be used. */
  ring: NetmapRing | undefined = undefined;
  nrHwcur = 0;
  nrHwtail: number;
  rhead = 0;
  rcur = 0;
  rtail: number;
  /** Ring slot that corresponds to slot 0 of the NIC, after a reset. */
  nkrHwofs = 0;
  readonly nkrNumSlots: number;
  nrMode: RingMode = RingMode.OFF;
  nrPendingMode: RingMode = RingMode.OFF;
  /** Nkr bits. */
  nrKflags = 0;
  users = 0;
  stopped: Stopped = Stopped.NO;
  /** True during a sync: the ring can't be synced again from within. */
  busy = false;
  /** Index among the adapter's rings of this direction. Host rings follow the NIC's. */
  readonly ringId: number;
  readonly tx: Txrx;
  readonly na: NetmapAdapter;
  readonly name: string;
  nmSync: NmSync;
  nmNotify: NmNotify = notifyUsers;
  readonly si = new SelInfo();
  /** Frames on their way into a host ring, or into one of the emulated adapter. */
  rxQueue: MbufQueue | undefined = undefined;

  /** Pipes: the ring at the other end, and the index up to which it has published. */
  pipe: Kring | undefined = undefined;
  pipeTail = 0;

  /** Copy monitors of this ring. For a monitor: its index in that list, by direction. */
  readonly monitors: Kring[] = [];
  readonly monPos = [0, 0];
  /** Zero-copy monitors: a chain for each direction. `prev` of the monitored ring is the chain's tail. */
  readonly zmonNext: [Kring | undefined, Kring | undefined] = [undefined, undefined];
  readonly zmonPrev: [Kring | undefined, Kring | undefined] = [undefined, undefined];
  /** The nmSync that the monitors have replaced. */
  monSync: NmSync | undefined = undefined;
  monTail = 0;

  constructor(na: NetmapAdapter, tx: Txrx, ringId: number, slots: number, sync: NmSync) {
    this.na = na;
    this.tx = tx;
    this.ringId = ringId;
    this.nkrNumSlots = slots;
    this.name = `${na.name} ${txrxName(tx)}${ringId}`;
    this.nrHwtail = tx === Txrx.TX ? slots - 1 : 0;
    this.rtail = this.nrHwtail;
    this.nmSync = sync;
  }

  /** nm_kring_pending_on, nm_kring_pending_off: whether the mode is about to change. */
  get isPendingOn(): boolean {
    return this.nrPendingMode === RingMode.ON && this.nrMode === RingMode.OFF;
  }
  get isPendingOff(): boolean {
    return this.nrPendingMode === RingMode.OFF && this.nrMode === RingMode.ON;
  }

  /** A host ring, or the placeholder of a missing one. */
  get isHost(): boolean {
    return this.ringId >= this.na.nrings(this.tx);
  }

  /** The shared ring. A registration guarantees that it exists before a sync. */
  get openRing(): NetmapRing {
    if (this.ring === undefined) throw new Error(`${this.name}: not open`);
    return this.ring;
  }

  /** Whether its shared ring must exist. */
  get isNeeded(): boolean {
    return this.users > 0 || (this.nrKflags & Nkr.NEEDRING) !== 0;
  }
  get isFake(): boolean {
    return (this.nrKflags & Nkr.FAKERING) !== 0;
  }

  /** nm_kr_txempty: whether the application had no free slot at the last sync. */
  get isTxEmpty(): boolean {
    return this.rhead === this.nrHwtail;
  }

  /** Wakes all sleepers of this ring. */
  notify(): void {
    this.nmNotify(this);
  }
}

/** netmap_notify: wakes the sleepers of the ring, and those of all rings of its adapter. */
export const notifyUsers: NmNotify = (kring) => {
  kring.si.wakeup();
  if (kring.na.siUsers[kring.tx]! > 0) kring.na.si[kring.tx]!.wakeup();
};
