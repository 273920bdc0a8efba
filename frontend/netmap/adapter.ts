/**
 * netmap_adapter: one port as the core sees it, whatever stands behind.
 *
 *   registration ──► kringsCreate, register(on)     ┐
 *   poll, sync   ──► txsync, rxsync (per kring)     │ the adapter does these
 *                    config                         ┘
 *   driver       ──► reset, rxIrq, txIrq, setNativeFlags, clearNativeFlags   the core does these
 *
 * A driver does not extend this class: it hands its callbacks to `Netmap.attach` (netmap_attach).
 * Pipes, monitors, VALE ports and the emulated adapter extend it.
 *
 * Source: netmap: sys/dev/netmap/netmap_kern.h, netmap.c, "driver support routines".
 */

import { type Logger, silentLogger } from "../../shared/log.ts";
import { Errno } from "../bus/errno.ts";
import { Ifcap, type Ifnet } from "../net/ifnet.ts";
import { type Mbuf, MbufPool } from "../net/mbuf.ts";
import {
  type Irq,
  Irq as IrqValue,
  Naf,
  Nkr,
  RING_MASK,
  RingMode,
  type Stopped,
  Txrx,
} from "./flags.ts";
import { NO_QUEUE, netmapTransmit, rxsyncFromHost, txsyncToHost } from "./host-rings.ts";
import { Kring, type NmNotify, type NmSync, notifyUsers } from "./kring.ts";
import { ringBytes, writeRing } from "./layout.ts";
import { MbufQueue } from "./mbuf-queue.ts";
import { type NetmapMemory, RESERVED_BUFFERS } from "./memory.ts";
import { NetmapRing, nmPrev } from "./ring.ts";
import { SelInfo } from "./wait.ts";

/** Sizes as nm_config tells them. */
export interface NmConfig {
  readonly numTxRings: number;
  readonly numTxDesc: number;
  readonly numRxRings: number;
  readonly numRxDesc: number;
  /** Most bytes that the NIC puts into one slot. */
  readonly rxBufMaxsize: number;
}

/** Counted where it happens; frames, unless it says otherwise. */
export class NetmapCounters {
  /** Calls of netmap_ring_reinit: an application wrote nonsense. */
  ringReinits = 0;
  /** Times that a slot of the application's named no buffer. */
  badSlots = 0;
  // The stack's frames, on their way to a host ring.
  hostDropOff = 0;
  hostDropTooLong = 0;
  hostDropCsum = 0;
  hostDropTso = 0;
  hostDropFull = 0;
  // The application's frames, on their way to the stack.
  toHostDropLength = 0;
  toHostDropNoMbuf = 0;
}

/** Lines about an application's mistakes: one at once, then at most one in so long for each port. */
const COMPLAINT_MS = 60_000;
/** Page size: what netmap takes for a driver that does not say how much fits a slot. */
const DEFAULT_RX_BUF = 4096;
/** Frames towards the stack within one sync. */
const UP_LIMIT = 4096;

export abstract class NetmapAdapter {
  name: string;
  /** Naf bits. */
  flags = 0;
  readonly ifnet: Ifnet | undefined;
  numTxRings: number;
  numRxRings: number;
  numTxDesc: number;
  numRxDesc: number;
  numHostTxRings = 0;
  numHostRxRings = 0;
  rxBufMaxsize: number;
  memory: NetmapMemory;
  /** What `memory` goes back to when the last registration ends. */
  memoryPrev: NetmapMemory | undefined = undefined;
  /** A region that was made for this port, and goes with it. */
  ownMemory: NetmapMemory | undefined = undefined;
  /** NIC rings, then host rings. Empty while nobody has the port open. */
  txRings: Kring[] = [];
  rxRings: Kring[] = [];
  activeFds = 0;
  /** Users bound to more than one ring, by Txrx; they sleep on `si`. */
  readonly siUsers = [0, 0];
  readonly si = [new SelInfo(), new SelInfo()];
  refs = 0;
  nmNotify: NmNotify = notifyUsers;
  /** Numbers the monitors of this port. */
  monitorId = 0;
  /** Masters of the pipes that have this port for a base. */
  readonly pipes = new Map<string, NetmapAdapter>();
  /** Bytes of a virtio-net header before each frame: 0, 10 or 12. VALE only. */
  virtHdrLen = 0;
  readonly counters = new NetmapCounters();
  /** Where the application's mistakes are told. */
  log: Logger = silentLogger;
  #nextComplaint = Number.NEGATIVE_INFINITY;
  /** The driver's transmit and the stack's input, while we stand in for one of them. */
  protected driversTransmit: Ifnet["transmit"] | undefined = undefined;
  protected stacksInput: ((m: Mbuf) => void) | undefined = undefined;
  #hook: Ifnet["transmit"] | undefined = undefined;
  /** Scratch of netmapTransmit: frames that go to the driver together. */
  readonly nicRun: Mbuf[] = [];
  #hostPool: MbufPool | undefined = undefined;
  #upQueue: MbufQueue | undefined = undefined;

  constructor(name: string, ifnet: Ifnet | undefined, config: NmConfig, memory: NetmapMemory) {
    this.name = name;
    this.ifnet = ifnet;
    this.numTxRings = config.numTxRings;
    this.numRxRings = config.numRxRings;
    this.numTxDesc = config.numTxDesc;
    this.numRxDesc = config.numRxDesc;
    this.rxBufMaxsize = config.rxBufMaxsize === 0 ? DEFAULT_RX_BUF : config.rxBufMaxsize;
    this.memory = memory;
  }

  /** 0, or an errno. Runs in the data path: no await, no allocation. */
  abstract txsync(kring: Kring, flags: number): number;
  abstract rxsync(kring: Kring, flags: number): number;

  /**
   * nm_register: rings whose pending mode differs go into or out of netmap mode. 0 or an errno;
   * may take its time, the rings being locked meanwhile.
   */
  abstract register(on: boolean): number | Promise<number>;

  /** nm_config: sizes may have changed. Undefined: they are what they were. */
  config(): NmConfig | undefined {
    return undefined;
  }

  /** The last reference is gone. */
  dtor(): void {}

  get hasHostRings(): boolean {
    return (this.flags & Naf.HOST_RINGS) !== 0;
  }
  /** nm_netmap_on, nm_native_on */
  get isOn(): boolean {
    return (this.flags & Naf.NETMAP_ON) !== 0;
  }
  get isNativeOn(): boolean {
    const both = Naf.NETMAP_ON | Naf.NATIVE;
    return (this.flags & both) === both;
  }

  krings(t: Txrx): Kring[] {
    return t === Txrx.TX ? this.txRings : this.rxRings;
  }
  /** nma_get_nrings and its like. */
  nrings(t: Txrx): number {
    return t === Txrx.TX ? this.numTxRings : this.numRxRings;
  }
  hostRings(t: Txrx): number {
    return t === Txrx.TX ? this.numHostTxRings : this.numHostRxRings;
  }
  ndesc(t: Txrx): number {
    return t === Txrx.TX ? this.numTxDesc : this.numRxDesc;
  }
  /** Rings that can be opened. */
  realRings(t: Txrx): number {
    return this.nrings(t) + (this.hasHostRings ? this.hostRings(t) : 0);
  }
  /** With the one that stands in for a host ring where there is none. */
  allRings(t: Txrx): number {
    return Math.max(this.nrings(t) + 1, this.realRings(t));
  }

  /** The kring of NIC queue `q` when it is in native netmap mode (netmap_kring_on). */
  kringOn(q: number, t: Txrx): Kring | undefined {
    if (!this.isNativeOn || q >= this.nrings(t)) return undefined;
    const kring = this.krings(t)[q];
    return kring !== undefined && kring.nrMode === RingMode.ON ? kring : undefined;
  }

  /** netmap_attach_common: what every kind of port does once its flags are set. */
  protected attachCommon(): void {
    if (!this.hasHostRings) return;
    if (this.numHostTxRings === 0) this.numHostTxRings = 1;
    if (this.numHostRxRings === 0) this.numHostRxRings = 1;
  }

  /** netmap_update_config. True when sizes changed under open rings, which keep the old ones. */
  updateConfig(): boolean {
    if (this.ifnet !== undefined) this.name = this.ifnet.name;
    const c = this.config();
    if (
      c === undefined ||
      (c.numTxRings === this.numTxRings &&
        c.numRxRings === this.numRxRings &&
        c.numTxDesc === this.numTxDesc &&
        c.numRxDesc === this.numRxDesc &&
        c.rxBufMaxsize === this.rxBufMaxsize)
    ) {
      return false;
    }
    if (this.activeFds > 0) return true;
    this.numTxRings = c.numTxRings;
    this.numRxRings = c.numRxRings;
    this.numTxDesc = c.numTxDesc;
    this.numRxDesc = c.numRxDesc;
    this.rxBufMaxsize = c.rxBufMaxsize;
    return false;
  }

  /** nm_krings_create: 0 or an errno. What exists already stays. */
  kringsCreate(): number {
    if (this.txRings.length > 0) return 0;
    for (const t of [Txrx.RX, Txrx.TX]) {
      const krings = this.krings(t);
      const nic: NmSync =
        t === Txrx.TX ? (k, flags) => this.txsync(k, flags) : (k, flags) => this.rxsync(k, flags);
      const host: NmSync = t === Txrx.TX ? txsyncToHost : rxsyncFromHost;
      for (let i = 0; i < this.allRings(t); i++) {
        const isNic = i < this.nrings(t);
        const kring = new Kring(this, t, i, this.ndesc(t), isNic ? nic : host);
        if (!isNic && !this.hasHostRings) kring.nrKflags |= Nkr.FAKERING;
        if (!isNic && this.hasHostRings && t === Txrx.RX) {
          kring.rxQueue = new MbufQueue(kring.nkrNumSlots);
        }
        krings.push(kring);
      }
    }
    return 0;
  }

  /** nm_krings_delete */
  kringsDelete(): void {
    for (const kring of this.rxRings) kring.rxQueue?.purge();
    this.txRings = [];
    this.rxRings = [];
  }

  /** netmap_mem_rings_create: shared rings for the krings that are used or needed. 0 or ENOMEM. */
  ringsCreate(): number {
    for (const t of [Txrx.RX, Txrx.TX]) {
      for (const kring of this.krings(t)) {
        const isNeeded = kring.users > 0 || (kring.nrKflags & Nkr.NEEDRING) !== 0;
        if (kring.ring !== undefined || !isNeeded) continue;
        const error = this.#ringCreate(kring);
        if (error !== 0) return error;
      }
    }
    return 0;
  }

  #ringCreate(kring: Kring): number {
    const { memory } = this;
    const slots = kring.nkrNumSlots;
    const at = memory.ringMalloc(ringBytes(slots));
    if (at < 0) return Errno.ENOMEM;
    writeRing(memory.view, at, {
      bufOfs: memory.buffersAt - at,
      slots,
      bufSize: memory.bufSize,
      ringId: kring.ringId,
      dir: kring.tx,
      head: kring.rhead,
      cur: kring.rcur,
      tail: kring.rtail,
    });
    const ring = new NetmapRing(memory.region, at);
    if (kring.isFake) {
      for (let i = 0; i < slots; i++) ring.setSlot(i, 0, memory.bufSize, 0);
    } else {
      const error = memory.newBuffers(ring);
      if (error !== 0) {
        memory.ringFree(at);
        return error;
      }
    }
    kring.ring = ring;
    return 0;
  }

  /** netmap_mem_rings_delete: shared rings that nobody uses or needs any more. */
  ringsDelete(): void {
    for (const t of [Txrx.RX, Txrx.TX]) {
      for (const kring of this.krings(t)) {
        const { ring } = kring;
        const isNeeded = kring.users > 0 || (kring.nrKflags & Nkr.NEEDRING) !== 0;
        if (ring === undefined || isNeeded) continue;
        if (!kring.isFake) this.memory.freeBuffers(ring);
        this.memory.ringFree(ring.at);
        kring.ring = undefined;
      }
    }
  }

  /** netmap_krings_mode_commit: pending modes become modes. */
  modeCommit(on: boolean): void {
    for (const t of [Txrx.RX, Txrx.TX]) {
      const krings = this.krings(t);
      for (let i = 0; i < this.realRings(t); i++) {
        const kring = krings[i]!;
        if (on && kring.isPendingOn) kring.nrMode = RingMode.ON;
        else if (!on && kring.isPendingOff) kring.nrMode = RingMode.OFF;
      }
    }
  }

  /** netmap_update_hostrings_mode: host rings need no driver to change mode. */
  updateHostRingsMode(): void {
    for (const t of [Txrx.RX, Txrx.TX]) {
      const krings = this.krings(t);
      for (let i = this.nrings(t); i < this.realRings(t); i++) {
        krings[i]!.nrMode = krings[i]!.nrPendingMode;
      }
    }
  }

  /** netmap_set_all_rings: while `stopped` no ring is synced. Wakes sleepers when it is over. */
  setAllRings(stopped: Stopped): void {
    for (const t of [Txrx.RX, Txrx.TX]) {
      const krings = this.krings(t);
      for (let i = 0; i < Math.min(this.realRings(t), krings.length); i++) {
        const kring = krings[i]!;
        kring.stopped = stopped;
        kring.notify(0);
      }
    }
  }

  /**
   * nm_set_native_flags: the interface is in netmap mode and its transmit is ours. Drivers call it
   * from nm_register; only the first registration changes anything.
   */
  setNativeFlags(): void {
    if (this.activeFds > 0) return;
    this.flags |= Naf.NETMAP_ON;
    this.catchTransmit();
  }

  /** nm_clear_native_flags: likewise for the last. */
  clearNativeFlags(): void {
    if (this.activeFds > 0) return;
    this.releaseTransmit();
    this.flags &= ~Naf.NETMAP_ON;
  }

  protected catchTransmit(): void {
    const { ifnet } = this;
    if (ifnet === undefined || this.#hook !== undefined) return;
    this.driversTransmit = ifnet.transmit;
    this.#hook = (mbufs, n) => netmapTransmit(this, mbufs, n);
    ifnet.transmit = this.#hook;
    ifnet.capEnable |= Ifcap.NETMAP;
  }

  protected releaseTransmit(): void {
    const { ifnet } = this;
    if (ifnet === undefined || this.#hook === undefined) return;
    // A driver that filled transmit anew meanwhile knows better.
    if (ifnet.transmit === this.#hook && this.driversTransmit !== undefined) {
      ifnet.transmit = this.driversTransmit;
    }
    this.#hook = undefined;
    this.driversTransmit = undefined;
    ifnet.capEnable &= ~Ifcap.NETMAP;
  }

  /** NMB of a slot: its buffer's first byte. What is no buffer leads to buffer 0, and is told. */
  bufferOf(kring: Kring, slot: number): number {
    const index = kring.openRing.bufIdx(slot);
    if (!this.memory.isBuffer(index)) this.badSlot(kring, slot, index);
    return this.memory.bufferAt(index);
  }

  /**
   * A slot that the application released names no buffer. Nothing but the ring's own flow shows that,
   * so it is said in the log, with a bound.
   */
  badSlot(kring: Kring, slot: number, index: number): void {
    this.counters.badSlots++;
    const now = performance.now();
    if (now < this.#nextComplaint) return;
    this.#nextComplaint = now + COMPLAINT_MS;
    const { objTotal } = this.memory;
    const isRx = kring.tx === Txrx.RX;
    this.log.warn(
      { port: this.name, ring: kring.name, slot, bufIdx: index, soFar: this.counters.badSlots },
      `${kring.name}: the application released slot ${slot} with buffer ${index}, and there are buffers ${RESERVED_BUFFERS} to ${objTotal - 1}: ${
        isRx
          ? "no frame can arrive there until it puts a buffer of its own into the slot"
          : "what it wanted to send is lost"
      }`,
    );
  }

  /** The driver's own transmit, which we stand in for. */
  driverTransmit(mbufs: readonly Mbuf[], n: number): number {
    return this.driversTransmit?.(mbufs, n) ?? 0;
  }

  /**
   * The stack's input. A capture sees the frame as it would see one of the driver's, which taps its
   * own: that is all frames where the adapter is emulated.
   */
  hostInput(m: Mbuf): void {
    if (this.stacksInput !== undefined) this.stacksInput(m);
    else if (this.ifnet !== undefined) this.ifnet.received(m, NO_QUEUE);
    else m.free();
  }
  hostInputDone(): void {
    this.ifnet?.inputDone();
  }

  /** Copies on their way to the stack. */
  get hostPool(): MbufPool {
    this.#hostPool ??= new MbufPool(this.memory.bufSize, UP_LIMIT);
    return this.#hostPool;
  }
  get upQueue(): MbufQueue {
    this.#upQueue ??= new MbufQueue(UP_LIMIT);
    return this.#upQueue;
  }

  /**
   * netmap_reset: the driver sets a ring up anew. Returns the shared ring, or undefined when the
   * ring is not, or no longer, in netmap mode. Indexes that the application sees stay: transmit
   * slots in flight count as sent and are all the application's again; unread frames stay unread.
   */
  reset(t: Txrx, q: number): NetmapRing | undefined {
    if (!this.isNativeOn || q >= this.nrings(t)) return undefined;
    const kring = this.krings(t)[q]!;
    if (kring.nrPendingMode === RingMode.OFF) {
      kring.nrMode = RingMode.OFF;
      return undefined;
    }
    if (t === Txrx.TX) {
      kring.nkrHwofs = kring.rhead;
      kring.nrHwtail = nmPrev(kring.rhead, kring.nkrNumSlots - 1);
    } else {
      kring.nkrHwofs = kring.nrHwtail;
    }
    kring.nrHwcur = kring.rhead;
    kring.nrMode = RingMode.ON;
    kring.notify(0);
    return kring.ring;
  }

  /** netmap_rx_irq: PASS when the driver is to handle queue `q` itself. */
  rxIrq(q: number): Irq {
    if (!this.isOn || (this.flags & Naf.SKIP_INTR) !== 0) return IrqValue.PASS;
    return this.commonIrq(q, Txrx.RX);
  }
  /** netmap_tx_irq */
  txIrq(q: number): Irq {
    if (!this.isOn || (this.flags & Naf.SKIP_INTR) !== 0) return IrqValue.PASS;
    return this.commonIrq(q, Txrx.TX);
  }

  protected commonIrq(queue: number, t: Txrx): Irq {
    const q = queue & RING_MASK;
    if (q >= this.nrings(t)) return IrqValue.PASS;
    const kring = this.krings(t)[q];
    if (kring === undefined || kring.nrMode === RingMode.OFF) return IrqValue.PASS;
    if (t === Txrx.RX) kring.nrKflags |= Nkr.PENDINTR;
    return kring.notify(0);
  }
}

/** What a driver hands to netmap_attach. */
export interface NativeParams extends NmConfig {
  readonly ifnet: Ifnet;
  /** Naf bits of its own, MOREFRAG say; HOST_RINGS and NATIVE are added. */
  readonly flags: number;
  register(na: NativeAdapter, on: boolean): number | Promise<number>;
  txsync(kring: Kring, flags: number): number;
  rxsync(kring: Kring, flags: number): number;
  config?(na: NativeAdapter): NmConfig | undefined;
}

/** A NIC whose driver knows netmap. */
export class NativeAdapter extends NetmapAdapter {
  readonly #params: NativeParams;
  readonly #gone: (na: NativeAdapter) => void;

  /** Through Netmap.attach. `gone` runs when the last reference goes. */
  constructor(params: NativeParams, memory: NetmapMemory, gone: (na: NativeAdapter) => void) {
    super(params.ifnet.name, params.ifnet, params, memory);
    this.flags = params.flags | Naf.HOST_RINGS | Naf.NATIVE;
    this.#params = params;
    this.#gone = gone;
    this.attachCommon();
  }

  override txsync(kring: Kring, flags: number): number {
    return this.#params.txsync(kring, flags);
  }
  override rxsync(kring: Kring, flags: number): number {
    return this.#params.rxsync(kring, flags);
  }
  override config(): NmConfig | undefined {
    return this.#params.config?.(this);
  }

  /** netmap_hw_reg: a driver that is gone is not called. */
  override register(on: boolean): number | Promise<number> {
    if ((this.flags & Naf.ZOMBIE) === 0) return this.#params.register(this, on);
    if (on) return Errno.ENXIO;
    this.releaseTransmit();
    this.flags &= ~Naf.NETMAP_ON;
    this.modeCommit(false);
    return 0;
  }

  override dtor(): void {
    this.#gone(this);
  }
}
