/**
 * The private half of a ring: what we know of it, whatever stands in the shared half.
 *
 *              nrHwcur              rhead     rcur         rtail = nrHwtail (after a sync)
 *   tx   ------|-- to be sent ------|-- the application's --|-- being sent ------
 *   rx   ------|-- released --------|-- the application's --|-- empty, to be filled
 *
 * rhead, rcur and rtail are copies of head, cur and tail, taken where a sync begins and ends. One
 * slot always stays empty, so that equal indexes mean one thing only.
 *
 * Written by: the core (rhead, rcur, rtail, users, modes, stopped), the adapter's nm_sync (nrHwcur,
 * nrHwtail), netmap_reset (those and nkrHwofs). nrMode is the adapter's to change while it
 * registers, nrPendingMode the registration's.
 *
 * Source: netmap: sys/dev/netmap/netmap_kern.h, "struct netmap_kring".
 */
import type { NetmapAdapter } from "./adapter.ts";
import { Irq, Nkr, RingMode, Stopped, Txrx, txrxName } from "./flags.ts";
import type { MbufQueue } from "./mbuf-queue.ts";
import type { NetmapRing } from "./ring.ts";
import { SelInfo } from "./wait.ts";

/** nm_sync: 0, or an errno that the application gets to see as an error of poll. */
export type NmSync = (kring: Kring, flags: number) => number;
export type NmNotify = (kring: Kring, flags: number) => Irq;

export class Kring {
  /** Undefined while nobody has the ring open (partial opening): such a ring must not be used. */
  ring: NetmapRing | undefined = undefined;
  nrHwcur = 0;
  nrHwtail: number;
  rhead = 0;
  rcur = 0;
  rtail: number;
  /** Ring slot of the NIC's slot 0, after a reset. */
  nkrHwofs = 0;
  readonly nkrNumSlots: number;
  nrMode: RingMode = RingMode.OFF;
  nrPendingMode: RingMode = RingMode.OFF;
  /** Nkr bits. */
  nrKflags = 0;
  users = 0;
  stopped: Stopped = Stopped.NO;
  /** A sync is under way: nothing may sync the ring from within. */
  busy = false;
  /** Place among the adapter's rings of this direction, host rings behind the NIC's. */
  readonly ringId: number;
  readonly tx: Txrx;
  readonly na: NetmapAdapter;
  readonly name: string;
  nmSync: NmSync;
  nmNotify: NmNotify;
  readonly si = new SelInfo();
  /** Frames on their way into a host ring, or into one of the emulated adapter. */
  rxQueue: MbufQueue | undefined = undefined;

  /** Pipes: the ring at the other end, and how far it has published. */
  pipe: Kring | undefined = undefined;
  pipeTail = 0;

  /** Copy monitors of this ring; a monitor's own place in that list, by direction. */
  readonly monitors: Kring[] = [];
  readonly monPos = [0, 0];
  /** Zero-copy monitors: a chain by direction. In the monitored ring `prev` is the chain's tail. */
  readonly zmonNext: [Kring | undefined, Kring | undefined] = [undefined, undefined];
  readonly zmonPrev: [Kring | undefined, Kring | undefined] = [undefined, undefined];
  /** What the monitors stand in for. */
  monSync: NmSync | undefined = undefined;
  monNotify: NmNotify | undefined = undefined;
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
    this.nmNotify = na.nmNotify;
  }

  /** nm_kring_pending_on, nm_kring_pending_off: the mode is about to change. */
  get isPendingOn(): boolean {
    return this.nrPendingMode === RingMode.ON && this.nrMode === RingMode.OFF;
  }
  get isPendingOff(): boolean {
    return this.nrPendingMode === RingMode.OFF && this.nrMode === RingMode.ON;
  }

  /** The ring must exist to be synced; a registration sees to that. */
  get openRing(): NetmapRing {
    if (this.ring === undefined) throw new Error(`${this.name}: not open`);
    return this.ring;
  }

  get isFake(): boolean {
    return (this.nrKflags & Nkr.FAKERING) !== 0;
  }

  /** nm_kr_txempty: nothing is left for the application, as of this sync. */
  get isTxEmpty(): boolean {
    return this.rhead === this.nrHwtail;
  }

  /** Wakes whoever waits for this ring. */
  notify(flags: number): Irq {
    return this.nmNotify(this, flags);
  }
}

/** netmap_notify: those who sleep on the ring, and those who sleep on all rings of its adapter. */
export const notifyUsers: NmNotify = (kring) => {
  kring.si.wakeup();
  if (kring.na.siUsers[kring.tx]! > 0) kring.na.si[kring.tx]!.wakeup();
  return Irq.COMPLETED;
};
