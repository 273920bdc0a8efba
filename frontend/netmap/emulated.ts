/**
 * The emulated adapter: netmap over any interface, by copies (netmap's "generic").
 *
 *   tx slot ── copy ──► mbuf ──► the driver's transmit      the slot is free when the mbuf is freed
 *   driver ──► ifnet.input, caught ──► rxQueue ── copy ──► rx slots, NS_MOREFRAG where one is short
 *
 * The adapter exists while a port without native support is open. Meanwhile the application receives
 * the driver's frames in place of the stack, and frames of the stack go to the host ring.
 *
 * Source: netmap: sys/dev/netmap/netmap_generic.c.
 */
import { copyBytes } from "../../shared/bytes/copy.ts";
import { Errno } from "../bus/errno.ts";
import type { Ifnet } from "../net/ifnet.ts";
import { Mbuf, mCopyData } from "../net/mbuf.ts";
import { NetmapAdapter, type RingCounts, replace } from "./adapter.ts";
import { Naf, Nkr, Ns, RingMode, SyncFlag } from "./flags.ts";
import type { Kring } from "./kring.ts";
import { MbufQueue } from "./mbuf-queue.ts";
import type { NetmapMemory } from "./memory.ts";
import { nmNext, nmPrev, slotsBetween } from "./ring.ts";
import { ringReinit, takeReleased } from "./sync.ts";

export interface EmulatedOptions {
  /** Slots of each ring. */
  readonly slots: number;
  /** Ring pairs. */
  readonly rings: number;
}

export const EMULATED_DEFAULTS: EmulatedOptions = { slots: 1024, rings: 1 };

export const emulatedCounts = ({ rings, slots }: EmulatedOptions): RingCounts => ({
  numTxRings: rings,
  numTxDesc: slots,
  numRxRings: rings,
  numRxDesc: slots,
});

const RX_BUF_MAX = 32768;
/** Slots that go to the driver in one batch. */
const BATCH = 64;

/** The mbufs of one transmit ring, one for each slot, and whether the driver holds each. */
class TxPool {
  readonly mbufs: Mbuf[] = [];
  readonly busy: Uint8Array;
  /** True after the driver had no room for a frame of this ring. */
  isRefused = false;

  constructor(slots: number, bufSize: number, freed: () => void) {
    this.busy = new Uint8Array(slots);
    const release = (m: Mbuf): void => {
      this.busy[m.cookie] = 0;
      freed();
    };
    for (let slot = 0; slot < slots; slot++) {
      const m = new Mbuf();
      m.buffer = new Uint8Array(bufSize);
      m.cookie = slot;
      m.release = release;
      this.mbufs.push(m);
    }
  }
}

export class EmulatedAdapter extends NetmapAdapter {
  /** Received frames that were dropped because the queue was full. */
  rxDropFull = 0;
  /** Attempts at which the driver had no room for a frame. */
  txNoRoom = 0;
  /** Frames that the driver can never accept. They are dropped, so that later frames can go. */
  txDropRefused = 0;
  readonly #ifnet: Ifnet;
  #pools: TxPool[] = [];
  readonly #batch: Mbuf[] = [];
  /** Undoes what `#enter` did to the interface. */
  #undo: readonly (() => void)[] = [];

  constructor(ifnet: Ifnet, options: EmulatedOptions, memory: NetmapMemory) {
    super(ifnet.name, ifnet, emulatedCounts(options), memory, Naf.HOST_RINGS);
    this.#ifnet = ifnet;
    this.rxBufMaxsize = RX_BUF_MAX;
  }

  override kringsCreate(): void {
    super.kringsCreate();
    for (const kring of this.rxRings) {
      // As in the original, one more than the ring has slots.
      if (!kring.isHost) kring.rxQueue = new MbufQueue(kring.nkrNumSlots + 1);
    }
  }

  override register(on: boolean): number {
    if (!on && this.activeFds === 0) this.#leave();
    this.modeCommit(on);
    if (on && this.activeFds === 0) this.#enter();
    for (const kring of this.rxRings) {
      if (!kring.isHost && kring.nrMode === RingMode.OFF) kring.rxQueue?.purge();
    }
    return 0;
  }

  #enter(): void {
    const ifnet = this.#ifnet;
    const { bufSize } = this.memory;
    // The pool lives until the driver has released all of its mbufs, so a late release is harmless.
    this.#pools = this.txRings.slice(0, this.numTxRings).map((kring) => {
      const freed = (): void => {
        if (kring.isTxEmpty) kring.notify();
      };
      return new TxPool(kring.nkrNumSlots, bufSize, freed);
    });
    this.stacksInput = ifnet.input;
    const stacksReady = ifnet.onTransmitReady;
    const ready = (): void => {
      for (let i = 0; i < this.numTxRings; i++) this.txRings[i]?.notify();
      stacksReady();
    };
    this.#undo = [
      replace(ifnet, "input", (m) => this.#receive(m)),
      replace(ifnet, "onTransmitReady", ready),
    ];
    this.catchTransmit();
    this.flags |= Naf.NETMAP_ON;
  }

  #leave(): void {
    this.flags &= ~Naf.NETMAP_ON;
    for (const undo of this.#undo) undo();
    this.stacksInput = undefined;
    this.releaseTransmit();
    this.#pools = [];
  }

  /** generic_rx_handler */
  #receive(m: Mbuf): void {
    const kring = this.rxRings[m.flowId % this.numRxRings];
    if (kring === undefined || kring.nrMode === RingMode.OFF) {
      this.hostInput(m);
      return;
    }
    if (kring.rxQueue?.push(m) !== true) {
      this.rxDropFull++;
      this.#ifnet.counters.iqdrops++;
      m.free();
    }
    kring.nrKflags |= Nkr.PENDINTR;
    kring.notify();
  }

  /** generic_netmap_txsync */
  override txsync(kring: Kring, flags: number): number {
    const pool = this.#pools[kring.ringId];
    const head = kring.rhead;
    if (pool === undefined) return 0;
    while (kring.nrHwcur !== head && this.#sendBatch(kring, pool));
    if ((flags & SyncFlag.FORCE_RECLAIM) !== 0 || kring.nrHwcur === head)
      this.#txClean(kring, pool);
    return 0;
  }

  /** Sends the next slots and advances nrHwcur. False when the driver has no room for all of them. */
  #sendBatch(kring: Kring, pool: TxPool): boolean {
    const ring = kring.openRing;
    const lim = kring.nkrNumSlots - 1;
    const batch = this.#batch;
    // A driver that had no room is asked with one frame, so that a retry copies no whole batch.
    const most = pool.isRefused ? 1 : BATCH;
    let n = 0;
    for (let i = kring.nrHwcur; i !== kring.rhead && n < most; i = nmNext(i, lim)) {
      batch[n++] = this.#copyOut(kring, pool, i);
    }
    const sent = this.driverTransmit(batch, n);
    const errno = sent === n ? 0 : this.#ifnet.transmitErrno;
    const wait = errno === Errno.ENOBUFS || errno === Errno.ENETDOWN;
    // A frame that can never go is dropped. Else the slot stays until the driver has room again.
    pool.isRefused = wait;
    if (wait) this.txNoRoom++;
    else if (sent < n) {
      this.txDropRefused++;
      this.#ifnet.counters.oqdrops++;
    }
    const done = wait ? sent : Math.min(n, sent + 1);
    for (let k = 0, i = kring.nrHwcur; k < n; k++, i = nmNext(i, lim)) {
      if (k >= sent) pool.busy[i] = 0;
      if (k >= done) continue;
      ring.setSlotFlags(i, ring.slotFlags(i) & ~(Ns.REPORT | Ns.BUF_CHANGED));
      kring.nrHwcur = nmNext(i, lim);
    }
    return !wait;
  }

  /** The mbuf of slot `i`, with a copy of its frame. */
  #copyOut(kring: Kring, pool: TxPool, i: number): Mbuf {
    const { memory } = this;
    if (pool.busy[i] !== 0) throw new Error(`${kring.name}: slot ${i} is free and in flight`);
    // The buffer limits the length, whatever the slot says.
    const length = Math.min(kring.openRing.len(i), memory.bufSize);
    const m = pool.mbufs[i]!;
    copyBytes(memory.bytes, this.bufferOf(kring, i), m.buffer, 0, length);
    m.at = 0;
    m.length = length;
    m.resetHeader();
    m.pktLength = length;
    m.flowId = kring.ringId;
    pool.busy[i] = 1;
    return m;
  }

  /** generic_netmap_tx_clean: completes slots in ring order, up to the first that the driver holds. */
  #txClean(kring: Kring, pool: TxPool): void {
    const lim = kring.nkrNumSlots - 1;
    let i = nmNext(kring.nrHwtail, lim);
    while (i !== kring.nrHwcur && pool.busy[i] === 0) {
      kring.nrHwtail = i;
      i = nmNext(i, lim);
    }
  }

  /** generic_netmap_rxsync */
  override rxsync(kring: Kring, flags: number): number {
    const ring = kring.openRing;
    const { memory } = this;
    const { bufSize } = memory;
    const lim = kring.nkrNumSlots - 1;
    const queue = kring.rxQueue;
    if (kring.rhead > lim) return ringReinit(kring);
    takeReleased(kring, ring);
    const isDue = (flags & SyncFlag.FORCE_READ) !== 0 || (kring.nrKflags & Nkr.PENDINTR) !== 0;
    if (!isDue || queue === undefined) return 0;

    let i = kring.nrHwtail;
    let room = slotsBetween(i, nmPrev(kring.rhead, lim), kring.nkrNumSlots);
    for (let m = queue.peek(); m !== undefined; m = queue.peek()) {
      const slots = Math.ceil(m.pktLength / bufSize);
      if (slots > room) break;
      queue.shift();
      for (let from = 0; from < m.pktLength; from += bufSize) {
        const length = Math.min(bufSize, m.pktLength - from);
        const index = ring.bufIdx(i);
        if (!memory.isBuffer(index)) {
          m.free();
          this.badSlot(kring, i, index);
          return ringReinit(kring);
        }
        mCopyData(m, from, length, memory.bytes, memory.bufferAt(index));
        ring.setLen(i, length);
        ring.setSlotFlags(i, from + length < m.pktLength ? Ns.MOREFRAG : 0);
        i = nmNext(i, lim);
      }
      room -= slots;
      kring.nrHwtail = i;
      m.free();
    }
    if (queue.length === 0) kring.nrKflags &= ~Nkr.PENDINTR;
    return 0;
  }
}
