/**
 * One interface: everything that lives as long as the driver is attached, whatever backend is at
 * the other end. struct netfront_info of the original (freebsd-src: sys/dev/xen/netfront/netfront.c).
 */

import type { Logger } from "../../shared/log.ts";
import { GRANT_PAGE_BYTES } from "../../shared/xen/grant.ts";
import { NR_SLOTS_MIN } from "../../shared/xen/netif.ts";
import { AsyncLock } from "../async-lock.ts";
import type { DriverContext } from "../driver.ts";
import { Abandoned } from "../driver-error.ts";
import { Iff, Ifnet } from "../net/ifnet.ts";
import { type Mbuf, MbufPool } from "../net/mbuf.ts";
import { TransmitGate } from "../net/transmit-gate.ts";
import type { Netmap } from "../netmap/netmap.ts";
import { getXenDmaTag, type XenParentTag } from "./bus-dma-xen/index.ts";
import { DevStats, type RxStats, type TxStats } from "./counters.ts";
import { assembleTxRequest, pickQueue } from "./datapath-tx.ts";
import { EventChannels } from "./event-channels.ts";
import { GrantTable } from "./grant-table.ts";
import { kick } from "./notify.ts";
import { RX_MAPS, type Rxq, type Txq } from "./rings.ts";
import { Xenbus } from "./xenbus.ts";
import { XenstoreClient } from "./xenstore-client.ts";

export interface XenOptions {
  /** Merge received TCP segments, and take super-frames from the backend. Default true. */
  readonly lro?: boolean | undefined;
  /**
   * Take packets with blank checksums from the backend. Default true, but false with `netmap`, in
   * whose rings nobody finishes them; false also means no GSO.
   */
  readonly rxcsum?: boolean | undefined;
  /**
   * False: nothing but copies in zeroed pages is shown to the backend. The store's `trusted` = 0
   * asks for the same.
   */
  readonly trusted?: boolean | undefined;
  /** Most bytes pushed and not yet answered, beside the limit of the device. Default: none. */
  readonly pushBytes?: number | undefined;
  /** The module in which applications open the interface, through the emulated adapter. */
  readonly netmap?: Netmap | undefined;
  /** How long a backend may take for each of its steps, ms. Default 10 s. */
  readonly connectMs?: number | undefined;
}

/** Pages that the stack may hold beside those in rings. */
const SPARE_MBUFS = 2048;
const DEFAULT_CONNECT_MS = 10_000;

/** Why a NIC stopped for good: what the backend did that none may do. */
export type BrokenReason =
  | "RX_RESPONSES"
  | "TX_RESPONSES"
  | "TX_ID"
  | "TX_NULL"
  | "RX_GRANT_IN_USE"
  | "TX_GRANT_IN_USE";

export class NetfrontInfo {
  readonly ctx: DriverContext;
  readonly log: Logger;
  readonly ifnet: Ifnet;
  /** Steps that await, one at a time: sc_lock. */
  readonly lock = new AsyncLock();
  readonly grants: GrantTable;
  readonly dmaParent: XenParentTag;
  readonly events: EventChannels;
  readonly store: XenstoreClient;
  readonly xenbus: Xenbus;

  // Wishes, from options; nobody changes them.
  readonly wantLro: boolean;
  readonly wantRxcsum: boolean;
  readonly wantTrusted: boolean;
  readonly connectMs: number;

  // lifecycle.ts: steps that hold the lock, and linkLost, which raises the generation instead.
  /** Raised whenever the backend is left: a step that resumes and finds another one stops. */
  generation = 0;
  attached = false;
  /** Nothing more is sent: a suspend is under way, or done. */
  suspended = false;
  /** The interface has been connected before: the next time it announces itself. */
  connectedBefore = false;
  /** Announcements still to be sent, one a tick. */
  announceLeft = 0;
  /** Ticks to wait after the next resume that fails. */
  retryBackoff = 1;

  // lifecycle.ts; index.ts at each tick.
  /** Ticks until a resume that failed is tried again, 0 for none. */
  retryTicks = 0;
  /** Offers of a backend that closed before, taken since the last tick. */
  offersTaken = 0;

  // info.ts: setCarrier and setBroken, for lifecycle.ts and the data paths; lifecycle.ts clears.
  /** netfront_carrier: rings are connected and may be used. */
  carrier = false;
  /** Why nothing of this backend is used any more. Cleared when another one is connected. */
  broken: BrokenReason | undefined;

  // control.ts: what the backend offers.
  /** The toolstack's MTU, and what this backend takes of it. */
  describedMtu = 0;
  maxMtu = 0;
  maxTxFrags = NR_SLOTS_MIN;
  trusted = true;

  // queues.ts.
  /** Queue i of each belongs together. */
  rxqs: Rxq[] = [];
  txqs: Txq[] = [];

  // queues.ts, lifecycle.ts.
  /** Buffers that were posted to the backend before, by Rx queue: rebuildRxBufs takes them. */
  kept: Mbuf[][] = [];

  // info.ts: renewPool, for queues.ts.
  rxPool: MbufPool;

  // datapath-tx.ts counts its pushed bytes; queues.ts makes it forget queues that are gone.
  readonly gate: TransmitGate<Txq>;

  // queues.ts makes them; each count is whose event it is.
  readonly stats = new DevStats();
  /** By queue; they outlive the rings. */
  readonly txStats: TxStats[] = [];
  readonly rxStats: RxStats[] = [];

  constructor(ctx: DriverContext, options: XenOptions) {
    this.ctx = ctx;
    this.log = ctx.log;
    this.ifnet = new Ifnet(ctx.name, new Uint8Array(6), ctx.mtu);
    this.wantRxcsum = options.rxcsum ?? options.netmap === undefined;
    this.wantLro = (options.lro ?? true) && this.wantRxcsum;
    this.wantTrusted = options.trusted ?? true;
    this.gate = new TransmitGate<Txq>({
      ifnet: this.ifnet,
      space: ctx.space,
      pushBytes: options.pushBytes,
      // Suspended, or without a backend: one comes back, and the source is told then.
      isOpen: () => this.running && this.carrier && !this.suspended,
      queueOf: (m) => pickQueue(this, m),
      stage: (txq, m) => assembleTxRequest(this, txq, m),
      kick: () => kick(this),
    });
    this.connectMs = options.connectMs ?? DEFAULT_CONNECT_MS;
    const { hypervisor, space, log, clock } = ctx;
    this.grants = new GrantTable({ hypervisor, space, log });
    space.grants = this.grants;
    this.dmaParent = getXenDmaTag(space, this.grants);
    this.events = new EventChannels(hypervisor, clock.now);
    this.store = new XenstoreClient(hypervisor);
    this.xenbus = new Xenbus(this.store, clock);
    hypervisor.onEvent = (port) => this.events.handle(port);
    hypervisor.onXenstore = (src, at, length) => this.store.receive(src, at, length);
    this.rxPool = newPool(ctx.queues);
  }

  /** The stack wants packets, and gets them. */
  get running(): boolean {
    return (this.ifnet.flags & Iff.DRV_RUNNING) !== 0;
  }

  /** Throws Abandoned when the backend of that generation was left meanwhile. */
  check(generation: number): void {
    if (this.generation !== generation) throw new Abandoned("the backend was left");
  }

  /**
   * Fresh pages for a new backend: what an old one wrote into a page is not shown to the next
   * (XSA-403). Buffers that the stack still holds go back to the pool they came from.
   */
  renewPool(): void {
    this.rxPool = newPool(Math.max(1, this.rxqs.length));
  }

  /** The backend did what none may do: nothing of it is used any more until another connects. */
  setBroken(reason: BrokenReason, what: string): void {
    if (this.broken !== undefined) return;
    this.broken = reason;
    this.stats.broken++;
    this.log.error({ reason }, `${what}: the interface stops until it is connected anew`);
    this.setCarrier(false);
  }

  /** netfront_carrier_on, netfront_carrier_off */
  setCarrier(on: boolean): void {
    this.carrier = on;
    this.ifnet.setLinkState(on);
  }
}

const newPool = (queues: number): MbufPool =>
  new MbufPool(GRANT_PAGE_BYTES, queues * RX_MAPS * 2 + SPARE_MBUFS);
