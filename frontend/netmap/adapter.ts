/**
 * netmap_adapter: one port as the core sees it, independent of its implementation.
 *
 *   registration ──► kringsCreate, register(on)     ┐
 *   poll, sync   ──► txsync, rxsync (per kring)     │ the adapter does these
 *                    config                         ┘
 *   driver       ──► reset, rxIrq, txIrq, setNativeFlags, clearNativeFlags   the core does these
 *
 * Pipes, monitors, VALE ports and the emulated adapter extend this class. A driver does not: it
 * passes its callbacks to `Netmap.attach` (netmap_attach).
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

/** Sizes as nm_config reports them. */
export interface NmConfig {
  readonly numTxRings: number;
  readonly numTxDesc: number;
  readonly numRxRings: number;
  readonly numRxDesc: number;
  /** Largest number of bytes that the NIC writes into one slot. */
  readonly rxBufMaxsize: number;
}

/** Counters of a port. They count frames, unless the comment names another unit. */
export class NetmapCounters {
  /** Calls of netmap_ring_reinit, after an application wrote invalid values into a ring. */
  ringReinits = 0;
  /** Slots of the application that named no buffer. */
  badSlots = 0;
  // Frames from the stack to a host ring.
  hostDropOff = 0;
  hostDropTooLong = 0;
  hostDropCsum = 0;
  hostDropTso = 0;
  hostDropFull = 0;
  // Frames from the application to the stack.
  toHostDropLength = 0;
  toHostDropNoMbuf = 0;
}

/** Shortest time (ms) between two log lines about mistakes of one port's application. */
const COMPLAINT_MS = 60_000;
/** Page size: netmap's default for the bytes that a driver writes into one slot. */
const DEFAULT_RX_BUF = 4096;
/** Most frames that go to the stack within one sync. */
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
  /** The region to which `memory` returns when the last registration ends. */
  memoryPrev: NetmapMemory | undefined = undefined;
  /** A region that was created for this port and is freed with it. */
  ownMemory: NetmapMemory | undefined = undefined;
  /** NIC rings, then host rings. Empty while the port is not open. */
  txRings: Kring[] = [];
  rxRings: Kring[] = [];
  activeFds = 0;
  /** Number of users bound to more than one ring, by Txrx. They sleep on `si`. */
  readonly siUsers = [0, 0];
  readonly si = [new SelInfo(), new SelInfo()];
  refs = 0;
  nmNotify: NmNotify = notifyUsers;
  /** Number of monitors created for this port, for their names. */
  monitorId = 0;
  /** Master ends of the pipes whose base is this port. */
  readonly pipes = new Map<string, NetmapAdapter>();
  /** Bytes of a virtio-net header before each frame: 0, 10 or 12. VALE only. */
  virtHdrLen = 0;
  readonly counters = new NetmapCounters();
  /** Receives the mistakes of the application. */
  log: Logger = silentLogger;
  #nextComplaint = Number.NEGATIVE_INFINITY;
  /** The driver's transmit and the stack's input, while netmap replaces one of them. */
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

  /** nm_sync. Returns 0 or an errno. It runs on the data path: no await, no allocation. */
  abstract txsync(kring: Kring, flags: number): number;
  abstract rxsync(kring: Kring, flags: number): number;

  /**
   * nm_register: rings whose pending mode differs enter or leave netmap mode. Resolves to 0 or an
   * errno. It may take time; the rings are locked meanwhile.
   */
  abstract register(on: boolean): number | Promise<number>;

  /** nm_config: returns the new sizes, or undefined when they have not changed. */
  config(): NmConfig | undefined {
    return undefined;
  }

  /** Called when the last reference is gone. */
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
  /** Number of rings that can be opened. */
  realRings(t: Txrx): number {
    return this.nrings(t) + (this.hasHostRings ? this.hostRings(t) : 0);
  }
  /** Number of all rings, including the placeholder of a missing host ring. */
  allRings(t: Txrx): number {
    return Math.max(this.nrings(t) + 1, this.realRings(t));
  }

  /** The kring of NIC queue `q` when it is in native netmap mode (netmap_kring_on). */
  kringOn(q: number, t: Txrx): Kring | undefined {
    if (!this.isNativeOn || q >= this.nrings(t)) return undefined;
    const kring = this.krings(t)[q];
    return kring !== undefined && kring.nrMode === RingMode.ON ? kring : undefined;
  }

  /** netmap_attach_common: initialisation of every kind of port, after its flags are set. */
  protected attachCommon(): void {
    if (!this.hasHostRings) return;
    if (this.numHostTxRings === 0) this.numHostTxRings = 1;
    if (this.numHostRxRings === 0) this.numHostRxRings = 1;
  }

  /** netmap_update_config. True when sizes changed while rings are open; these keep the old sizes. */
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

  /** nm_krings_create: returns 0 or an errno. Existing krings stay. */
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

  /** netmap_mem_rings_create: shared rings for krings that are used or needed. Returns 0 or ENOMEM. */
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

  /** netmap_mem_rings_delete: frees shared rings that are neither used nor needed any more. */
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

  /** netmap_set_all_rings: while `stopped`, no ring is synced. Clearing it wakes sleepers. */
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
   * nm_set_native_flags: puts the interface into netmap mode, and netmap's transmit in place of the
   * driver's. Drivers call it from nm_register. Only the first registration changes anything.
   */
  setNativeFlags(): void {
    if (this.activeFds > 0) return;
    this.flags |= Naf.NETMAP_ON;
    this.catchTransmit();
  }

  /** nm_clear_native_flags: undoes it. Only the end of the last registration changes anything. */
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
    // If the driver has replaced transmit meanwhile, its function stays.
    if (ifnet.transmit === this.#hook && this.driversTransmit !== undefined) {
      ifnet.transmit = this.driversTransmit;
    }
    this.#hook = undefined;
    this.driversTransmit = undefined;
    ifnet.capEnable &= ~Ifcap.NETMAP;
  }

  /** NMB of a slot: the first byte of its buffer. An invalid index yields buffer 0 and a report. */
  bufferOf(kring: Kring, slot: number): number {
    const index = kring.openRing.bufIdx(slot);
    if (!this.memory.isBuffer(index)) this.badSlot(kring, slot, index);
    return this.memory.bufferAt(index);
  }

  /**
   * Reports a released slot that names no buffer. The application sees no other sign of it, so a
   * bounded number of lines goes to the log.
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

  /** The driver's own transmit, which netmap has replaced. */
  driverTransmit(mbufs: readonly Mbuf[], n: number): number {
    return this.driversTransmit?.(mbufs, n) ?? 0;
  }

  /**
   * Passes a frame to the stack's input, and to captures, as a driver does for its own frames. With
   * the emulated adapter every frame takes this way.
   */
  hostInput(m: Mbuf): void {
    const { ifnet } = this;
    if (this.stacksInput !== undefined) this.stacksInput(m);
    else if (ifnet !== undefined) {
      if (ifnet.bpf !== undefined) ifnet.bpf.input(m, NO_QUEUE);
      ifnet.input(m);
    } else m.free();
  }
  hostInputDone(): void {
    this.ifnet?.inputDone();
  }

  /** Copies of frames on their way to the stack. */
  get hostPool(): MbufPool {
    this.#hostPool ??= new MbufPool(this.memory.bufSize, UP_LIMIT);
    return this.#hostPool;
  }
  get upQueue(): MbufQueue {
    this.#upQueue ??= new MbufQueue(UP_LIMIT);
    return this.#upQueue;
  }

  /**
   * netmap_reset: called when the driver initialises a ring again. Returns the shared ring, or
   * undefined when the ring is not in netmap mode. The indexes that the application sees stay.
   * Transmit slots in flight count as sent and return to the application. Unread frames stay unread.
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

  /** netmap_rx_irq: PASS when the driver must handle queue `q` itself. */
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

/** Parameters of netmap_attach. */
export interface NativeParams extends NmConfig {
  readonly ifnet: Ifnet;
  /** Naf bits of the driver, MOREFRAG for example. HOST_RINGS and NATIVE are added. */
  readonly flags: number;
  register(na: NativeAdapter, on: boolean): number | Promise<number>;
  txsync(kring: Kring, flags: number): number;
  rxsync(kring: Kring, flags: number): number;
  config?(na: NativeAdapter): NmConfig | undefined;
}

/** Adapter of a NIC whose driver supports netmap. */
export class NativeAdapter extends NetmapAdapter {
  readonly #params: NativeParams;
  readonly #gone: (na: NativeAdapter) => void;

  /** Use Netmap.attach. `gone` runs when the last reference goes. */
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

  /** netmap_hw_reg: calls the driver, unless the driver is gone. */
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
