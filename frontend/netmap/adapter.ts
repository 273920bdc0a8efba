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
import { NO_QUEUE } from "../../shared/net/frame.ts";
import { Errno } from "../bus/errno.ts";
import { Ifcap, type Ifnet } from "../net/ifnet.ts";
import { type Mbuf, MbufPool } from "../net/mbuf.ts";
import { Naf, Nkr, RingMode, type Stopped, Txrx } from "./flags.ts";
import { netmapTransmit, rxsyncFromHost, txsyncToHost } from "./host-rings.ts";
import { Kring, type NmSync } from "./kring.ts";
import { ringBytes, writeRing } from "./layout.ts";
import { MbufQueue } from "./mbuf-queue.ts";
import { type NetmapMemory, RESERVED_BUFFERS } from "./memory.ts";
import { NetmapRing, nmPrev } from "./ring.ts";
import { SelInfo } from "./wait.ts";

/** Numbers of rings in each direction, without host rings, and of the slots of each. */
export interface RingCounts {
  readonly numTxRings: number;
  readonly numTxDesc: number;
  readonly numRxRings: number;
  readonly numRxDesc: number;
}

/** Sizes as nm_config reports them. */
export interface NmConfig extends RingCounts {
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

/**
 * Puts `fn` in the place of a function of the interface. Returns the function that undoes this. If
 * other code has replaced `fn` meanwhile, its function stays.
 */
export function replace<K extends "transmit" | "input" | "onTransmitReady">(
  ifnet: Ifnet,
  key: K,
  fn: Ifnet[K],
): () => void {
  const before = ifnet[key];
  ifnet[key] = fn;
  return () => {
    if (ifnet[key] === fn) ifnet[key] = before;
  };
}

export abstract class NetmapAdapter {
  name: string;
  /** Naf bits. */
  flags: number;
  readonly ifnet: Ifnet | undefined;
  numTxRings = 0;
  numRxRings = 0;
  numTxDesc = 0;
  numRxDesc = 0;
  numHostTxRings = 0;
  numHostRxRings = 0;
  rxBufMaxsize = DEFAULT_RX_BUF;
  memory: NetmapMemory;
  /** The region to which `memory` returns when the last registration ends. */
  memoryPrev: NetmapMemory | undefined = undefined;
  /** NIC rings, then host rings. Empty while the port is not open. */
  txRings: Kring[] = [];
  rxRings: Kring[] = [];
  activeFds = 0;
  /** Number of users bound to more than one ring, by Txrx. They sleep on `si`. */
  readonly siUsers = [0, 0];
  readonly si = [new SelInfo(), new SelInfo()];
  refs = 0;
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
  #driversTransmit: Ifnet["transmit"] | undefined = undefined;
  protected stacksInput: ((m: Mbuf) => void) | undefined = undefined;
  #undoTransmit: () => void = () => {};
  /** Scratch of netmapTransmit: frames that go to the driver together. */
  readonly nicRun: Mbuf[] = [];
  #hostPool: MbufPool | undefined = undefined;
  /** Frames on their way to the stack, which the sync that grabbed them passes on. */
  readonly up: Mbuf[] = [];

  constructor(
    name: string,
    ifnet: Ifnet | undefined,
    counts: RingCounts,
    memory: NetmapMemory,
    flags: number,
  ) {
    this.name = name;
    this.ifnet = ifnet;
    this.memory = memory;
    this.flags = flags;
    this.#setCounts(counts);
    this.resetHostRings();
  }

  #setCounts(counts: RingCounts): void {
    this.numTxRings = counts.numTxRings;
    this.numRxRings = counts.numRxRings;
    this.numTxDesc = counts.numTxDesc;
    this.numRxDesc = counts.numRxDesc;
  }

  /** One host ring in each direction, or none. */
  resetHostRings(): void {
    this.numHostTxRings = this.hasHostRings ? 1 : 0;
    this.numHostRxRings = this.numHostTxRings;
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

  /** nm_dtor: runs when the last reference is gone. Set by the creator of the adapter. */
  dtor(): void {}

  get hasHostRings(): boolean {
    return (this.flags & Naf.HOST_RINGS) !== 0;
  }
  /** nm_netmap_on, nm_native_on */
  get isOn(): boolean {
    return (this.flags & Naf.NETMAP_ON) !== 0;
  }
  get isNativeOn(): boolean {
    return this.isOn && (this.flags & Naf.NATIVE) !== 0;
  }

  /** For cold paths: it allocates. */
  get allKrings(): Kring[] {
    return [...this.rxRings, ...this.txRings];
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
  /** Number of all rings, including the placeholder of a missing host ring. */
  allRings(t: Txrx): number {
    return this.nrings(t) + Math.max(1, this.hostRings(t));
  }

  /** The kring of NIC queue `q` when it is in native netmap mode (netmap_kring_on). */
  kringOn(q: number, t: Txrx): Kring | undefined {
    if (!this.isNativeOn || q >= this.nrings(t)) return undefined;
    const kring = this.krings(t)[q];
    return kring !== undefined && kring.nrMode === RingMode.ON ? kring : undefined;
  }

  /** netmap_update_config: adopts the sizes that the driver has now. No ring may be open. */
  updateConfig(): void {
    if (this.ifnet !== undefined) this.name = this.ifnet.name;
    const config = this.config();
    if (config === undefined) return;
    this.#setCounts(config);
    this.rxBufMaxsize = config.rxBufMaxsize;
  }

  /** nm_krings_create. Existing krings stay. */
  kringsCreate(): void {
    if (this.txRings.length > 0) return;
    for (const t of [Txrx.RX, Txrx.TX]) {
      const own: NmSync =
        t === Txrx.TX ? (k, flags) => this.txsync(k, flags) : (k, flags) => this.rxsync(k, flags);
      // The host rings of a monitor have no stack behind them.
      const host = this.ifnet === undefined ? own : t === Txrx.TX ? txsyncToHost : rxsyncFromHost;
      for (let i = 0; i < this.allRings(t); i++) {
        const kring = new Kring(this, t, i, this.ndesc(t), i < this.nrings(t) ? own : host);
        if (kring.isHost && !this.hasHostRings) kring.nrKflags |= Nkr.FAKERING;
        else if (kring.isHost && t === Txrx.RX) kring.rxQueue = new MbufQueue(kring.nkrNumSlots);
        this.krings(t).push(kring);
      }
    }
  }

  /** nm_krings_delete */
  kringsDelete(): void {
    for (const kring of this.rxRings) kring.rxQueue?.purge();
    this.txRings = [];
    this.rxRings = [];
  }

  /** netmap_mem_rings_create: shared rings for krings that are used or needed. Returns 0 or ENOMEM. */
  ringsCreate(): number {
    for (const kring of this.allKrings) {
      if (kring.ring !== undefined || !kring.isNeeded) continue;
      const error = this.#ringCreate(kring);
      if (error !== 0) return error;
    }
    return 0;
  }

  #ringCreate(kring: Kring): number {
    const { memory } = this;
    const slots = kring.nkrNumSlots;
    const at = memory.rings.malloc(ringBytes(slots));
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
        memory.rings.free(at);
        return error;
      }
    }
    kring.ring = ring;
    return 0;
  }

  /** netmap_mem_rings_delete: frees shared rings that are neither used nor needed any more. */
  ringsDelete(): void {
    for (const kring of this.allKrings) {
      const { ring } = kring;
      if (ring === undefined || kring.isNeeded) continue;
      if (!kring.isFake) this.memory.freeBuffers(ring);
      this.memory.rings.free(ring.at);
      kring.ring = undefined;
    }
  }

  /** netmap_krings_mode_commit: pending modes become modes. */
  modeCommit(on: boolean): void {
    for (const kring of this.allKrings) {
      if (on ? kring.isPendingOn : kring.isPendingOff) kring.nrMode = kring.nrPendingMode;
    }
  }

  /** netmap_update_hostrings_mode: host rings need no driver to change mode. */
  updateHostRingsMode(): void {
    for (const kring of this.allKrings) if (kring.isHost) kring.nrMode = kring.nrPendingMode;
  }

  /** netmap_set_all_rings: while `stopped`, no ring is synced. Clearing it wakes sleepers. */
  setAllRings(stopped: Stopped): void {
    for (const kring of this.allKrings) {
      kring.stopped = stopped;
      kring.notify();
    }
  }

  /**
   * nm_set_native_flags: puts the interface into netmap mode, and netmap's transmit in place of the
   * driver's. Drivers call it from nm_register. Only the first registration changes anything.
   */
  setNativeFlags(): void {
    this.setOn(true);
    if (this.activeFds === 0) this.catchTransmit();
  }

  /** nm_clear_native_flags: undoes it. Only the end of the last registration changes anything. */
  clearNativeFlags(): void {
    if (this.activeFds === 0) this.releaseTransmit();
    this.setOn(false);
  }

  /** NAF_NETMAP_ON, which the first registration sets and the end of the last one clears. */
  protected setOn(on: boolean): void {
    if (this.activeFds > 0) return;
    this.flags = on ? this.flags | Naf.NETMAP_ON : this.flags & ~Naf.NETMAP_ON;
  }

  protected catchTransmit(): void {
    const { ifnet } = this;
    if (ifnet === undefined || this.#driversTransmit !== undefined) return;
    this.#driversTransmit = ifnet.transmit;
    const hook = (mbufs: readonly Mbuf[], n: number): number => netmapTransmit(this, mbufs, n);
    this.#undoTransmit = replace(ifnet, "transmit", hook);
    ifnet.capEnable |= Ifcap.NETMAP;
  }

  protected releaseTransmit(): void {
    const { ifnet } = this;
    if (ifnet === undefined || this.#driversTransmit === undefined) return;
    this.#undoTransmit();
    this.#driversTransmit = undefined;
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
    return this.#driversTransmit?.(mbufs, n) ?? 0;
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
    kring.notify();
    return kring.ring;
  }

  /** netmap_rx_irq: returns false when the driver must handle queue `q` itself. */
  rxIrq(q: number): boolean {
    const kring = this.kringOn(q, Txrx.RX);
    if (kring !== undefined) kring.nrKflags |= Nkr.PENDINTR;
    kring?.notify();
    return kring !== undefined;
  }
  /** netmap_tx_irq */
  txIrq(q: number): boolean {
    const kring = this.kringOn(q, Txrx.TX);
    kring?.notify();
    return kring !== undefined;
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

  /** Use Netmap.attach. */
  constructor(params: NativeParams, memory: NetmapMemory) {
    const { ifnet, flags } = params;
    super(ifnet.name, ifnet, params, memory, flags | Naf.HOST_RINGS | Naf.NATIVE);
    this.#params = params;
    if (params.rxBufMaxsize > 0) this.rxBufMaxsize = params.rxBufMaxsize;
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
}
