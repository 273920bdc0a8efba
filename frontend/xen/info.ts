/**
 * State of one interface. It lives as long as the driver and outlives any single backend.
 * struct netfront_info of the original (freebsd-src: sys/dev/xen/netfront/netfront.c).
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
  /** Merge received TCP segments, and accept super-frames from the backend. Default true. */
  readonly lro?: boolean | undefined;
  /**
   * Accept packets with blank checksums from the backend. Default true. With `netmap` the default
   * is false, because nothing completes the checksums of frames in its rings. False also disables
   * GSO.
   */
  readonly rxcsum?: boolean | undefined;
  /**
   * False: the backend reads only copies in zeroed pages. The store's `trusted` = 0 has the same
   * effect.
   */
  readonly trusted?: boolean | undefined;
  /** The netmap module in which applications open the interface, through the emulated adapter. */
  readonly netmap?: Netmap | undefined;
  /** Maximum time (ms) of a backend for each of its steps. Default 10 s. */
  readonly connectMs?: number | undefined;
}

/** Pages that the stack may hold in addition to those in rings. */
const SPARE_MBUFS = 2048;
const DEFAULT_CONNECT_MS = 10_000;

/** Reason why the NIC stopped: the violation of the protocol by the backend. */
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
  /** sc_lock: serializes the steps that await. */
  readonly lock = new AsyncLock();
  readonly grants: GrantTable;
  readonly dmaParent: XenParentTag;
  readonly events: EventChannels;
  readonly store: XenstoreClient;
  readonly xenbus: Xenbus;

  // Values of the options. They never change.
  readonly wantLro: boolean;
  readonly wantRxcsum: boolean;
  readonly wantTrusted: boolean;
  readonly connectMs: number;

  // Written by steps that hold the lock, and by linkLost, which raises the generation instead.
  /** Increased whenever the backend is left. A step that resumes under another generation stops. */
  generation = 0;
  attached = false;
  /** True during and after a suspend: nothing more is sent. */
  suspended = false;
  /** True after the first connection. Each later connection is announced. */
  connectedBefore = false;
  /** Number of announcements still to be sent, one in each tick. */
  announceLeft = 0;
  /** Number of ticks to wait after the next failed resume. */
  retryBackoff = 1;

  /** Number of ticks until a failed resume is retried; 0 for none. */
  retryTicks = 0;
  /** Number of renewed offers of a backend accepted since the last tick. */
  offersTaken = 0;

  /** netfront_carrier: true while the rings are connected and usable. */
  carrier = false;
  /** Reason why the driver ignores this backend. Cleared by the next connection. */
  broken: BrokenReason | undefined;

  // The offer of the backend.
  /** The MTU of the toolstack, and the part of it that this backend accepts, bytes. */
  describedMtu = 0;
  maxMtu = 0;
  maxTxFrags = NR_SLOTS_MIN;
  trusted = true;

  /** Queue i of both arrays is one pair. */
  rxqs: Rxq[] = [];
  txqs: Txq[] = [];

  /** Buffers that the last backend owned, by Rx queue. rebuildRxBufs posts them again. */
  kept: Mbuf[][] = [];

  rxPool: MbufPool;

  readonly gate: TransmitGate<Txq>;

  readonly stats = new DevStats();
  /** Counters by queue. They outlive the rings. */
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
      // While suspended or without a backend, a source waits: the next connection wakes it.
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

  /** True while the interface is up and running. */
  get running(): boolean {
    return (this.ifnet.flags & Iff.DRV_RUNNING) !== 0;
  }

  /** Throws Abandoned when the backend of `generation` was left meanwhile. */
  check(generation: number): void {
    if (this.generation !== generation) throw new Abandoned("the backend was left");
  }

  /**
   * Creates a pool of fresh pages for a new backend, which must not see what the last backend wrote
   * (XSA-403). Buffers that the stack still holds return to the old pool.
   */
  renewPool(): void {
    this.rxPool = newPool(Math.max(1, this.rxqs.length));
  }

  /** Stops the NIC after a protocol violation. It ignores the backend until the next connection. */
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
