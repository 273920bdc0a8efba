/**
 * Pipes: two ports joined back to back, ring by ring, without a copy.
 *
 *   master tx[i] slots ── txsync ──► slave rx[i] slots       and the other way round
 *                      ◄── rxsync ──  the buffers come back in the same slots
 *
 * Both ends of a ring pair share one set of buffers: a sync copies slots and no data. Only whole
 * packets are published. Both ends are created together and exist while one of them is open. A pipe
 * uses the memory of its base port, which need not be open itself.
 *
 * Source: netmap: sys/dev/netmap/netmap_pipe.c.
 */
import { NetmapAdapter, type NmConfig } from "./adapter.ts";
import { Naf, Nkr, Ns, RingMode, Txrx } from "./flags.ts";
import type { Kring } from "./kring.ts";
import type { NetmapMemory } from "./memory.ts";
import { nmNext, nmPrev } from "./ring.ts";

export class PipeAdapter extends NetmapAdapter {
  readonly parent: NetmapAdapter;
  readonly pipeId: string;
  readonly isMaster: boolean;
  peer!: PipeAdapter;
  /** True while this end keeps the other end alive, because the other end is not open. */
  holdsPeer = false;
  readonly #gone: (end: PipeAdapter) => void;
  readonly #put: (na: NetmapAdapter) => void;

  private constructor(
    parent: NetmapAdapter,
    pipeId: string,
    isMaster: boolean,
    config: NmConfig,
    memory: NetmapMemory,
    refs: PipeRefs,
  ) {
    super(`${parent.name}${isMaster ? "{" : "}"}${pipeId}`, undefined, config, memory);
    this.parent = parent;
    this.pipeId = pipeId;
    this.isMaster = isMaster;
    this.flags = Naf.MEM_OWNER;
    this.#gone = refs.gone;
    this.#put = refs.put;
  }

  /**
   * Creates both ends and returns the requested one, which holds the other. Each end holds a
   * reference to `parent`, which the caller has taken.
   */
  static pair(
    parent: NetmapAdapter,
    pipeId: string,
    wantMaster: boolean,
    config: NmConfig,
    refs: PipeRefs,
  ): PipeAdapter {
    const turned: NmConfig = {
      numTxRings: config.numRxRings,
      numTxDesc: config.numRxDesc,
      numRxRings: config.numTxRings,
      numRxDesc: config.numTxDesc,
      rxBufMaxsize: config.rxBufMaxsize,
    };
    const { memory } = parent;
    const master = new PipeAdapter(parent, pipeId, true, config, memory, refs);
    const slave = new PipeAdapter(parent, pipeId, false, turned, memory, refs);
    master.peer = slave;
    slave.peer = master;
    parent.pipes.set(pipeId, master);
    const wanted = wantMaster ? master : slave;
    wanted.holdsPeer = true;
    wanted.peer.refs++;
    return wanted;
  }

  override txsync(txkring: Kring): number {
    const rxkring = peerRing(txkring);
    const tx = txkring.openRing;
    const rx = rxkring.openRing;
    const lim = txkring.nkrNumSlots - 1;
    txkring.nrHwtail = txkring.pipeTail;
    let k = txkring.nrHwcur;
    const head = txkring.rhead;
    if (k === head) return 0;
    // An index beyond the ring: no whole packet seen yet.
    let publish = lim + 1;
    while (k !== head) {
      const flags = tx.slotFlags(k);
      rx.copySlot(k, tx, k);
      if ((flags & Ns.BUF_CHANGED) !== 0) tx.setSlotFlags(k, flags & ~Ns.BUF_CHANGED);
      k = nmNext(k, lim);
      if ((flags & Ns.MOREFRAG) === 0) publish = k;
    }
    txkring.nrHwcur = k;
    if (publish <= lim) {
      rxkring.pipeTail = publish;
      rxkring.notify(0);
    }
    return 0;
  }

  override rxsync(rxkring: Kring): number {
    const txkring = peerRing(rxkring);
    const rx = rxkring.openRing;
    const tx = txkring.openRing;
    const lim = rxkring.nkrNumSlots - 1;
    rxkring.nrHwtail = rxkring.pipeTail;
    let k = rxkring.nrHwcur;
    const head = rxkring.rhead;
    // The original counts modulo the ring, which ends with any head. This loop checks the head instead.
    if (k === head || head > lim) return 0;
    while (k !== head) {
      const flags = rx.slotFlags(k);
      tx.copySlot(k, rx, k);
      if ((flags & Ns.BUF_CHANGED) !== 0) rx.setSlotFlags(k, flags & ~Ns.BUF_CHANGED);
      k = nmNext(k, lim);
    }
    txkring.pipeTail = nmPrev(k, lim);
    rxkring.nrHwcur = k;
    txkring.notify(0);
    return 0;
  }

  /** Creates the rings of both ends. Those of the peer are placeholders: this end owns the buffers. */
  override kringsCreate(): number {
    const { peer } = this;
    if (!this.holdsPeer) {
      if (this.txRings.length > 0) return 0;
      // The other end was closed, and only its monitor keeps the pair. Continue as if this end had
      // been opened first.
      peer.holdsPeer = false;
      this.holdsPeer = true;
      peer.refs++;
      this.#put(this);
    }
    super.kringsCreate();
    peer.#plainKringsCreate();
    for (const t of [Txrx.RX, Txrx.TX]) {
      const r = t === Txrx.TX ? Txrx.RX : Txrx.TX;
      for (let i = 0; i < this.nrings(t); i++) {
        const ours = this.krings(t)[i]!;
        const theirs = peer.krings(r)[i]!;
        ours.pipe = theirs;
        theirs.pipe = ours;
        theirs.nrKflags |= Nkr.FAKERING;
        ours.pipeTail = ours.nrHwtail;
        theirs.pipeTail = theirs.nrHwtail;
      }
    }
    return 0;
  }

  #plainKringsCreate(): void {
    super.kringsCreate();
  }

  override register(on: boolean): number {
    const { peer } = this;
    if (on) {
      const error = this.#open();
      if (error !== 0) return error;
      if (this.activeFds === 0) this.flags |= Naf.NETMAP_ON;
    } else {
      if (this.activeFds === 0) this.flags &= ~Naf.NETMAP_ON;
      this.modeCommit(false);
    }
    if (this.activeFds > 0 || this.holdsPeer) return 0;
    if (on) {
      // From now on its own user keeps this end.
      peer.holdsPeer = false;
      this.#put(this);
    } else {
      this.refs++;
      peer.holdsPeer = true;
    }
    return 0;
  }

  /** netmap_pipe_reg_both */
  #open(): number {
    for (const t of [Txrx.RX, Txrx.TX]) {
      for (let i = 0; i < this.nrings(t); i++) {
        const kring = this.krings(t)[i]!;
        if (kring.isPendingOn) peerRing(kring).nrKflags |= Nkr.NEEDRING;
      }
    }
    const error = this.peer.ringsCreate();
    if (error !== 0) return error;
    for (const t of [Txrx.RX, Txrx.TX]) {
      for (let i = 0; i < this.nrings(t); i++) {
        const kring = this.krings(t)[i]!;
        if (!kring.isPendingOn) continue;
        kring.nrMode = RingMode.ON;
        const other = peerRing(kring);
        // This end is opened again while the other end was open: its rings are unchanged.
        if (kring.isFake && other.isFake) continue;
        const ring = kring.openRing;
        const twin = other.openRing;
        for (let slot = 0; slot < ring.numSlots; slot++) twin.copySlot(slot, ring, slot);
        // From here on the end that closes first frees no buffers.
        kring.nrKflags |= Nkr.FAKERING | Nkr.NEEDRING;
      }
    }
    return 0;
  }

  /** Called when the last end closes. Each buffer is in exactly one slot of the two rings then. */
  override kringsDelete(): void {
    if (!this.holdsPeer) return;
    const { peer } = this;
    clearTwins(this);
    clearTwins(peer);
    this.ringsDelete();
    peer.ringsDelete();
    super.kringsDelete();
    peer.#plainKringsDelete();
  }

  #plainKringsDelete(): void {
    super.kringsDelete();
  }

  override dtor(): void {
    if (this.holdsPeer) {
      this.holdsPeer = false;
      this.#put(this.peer);
    }
    if (this.isMaster) this.parent.pipes.delete(this.pipeId);
    this.#gone(this);
  }
}

/** Releases the references of a pipe. */
export interface PipeRefs {
  put(na: NetmapAdapter): void;
  /** Called when one end is destroyed. Releases its reference to the parent. */
  gone(end: PipeAdapter): void;
}

function peerRing(kring: Kring): Kring {
  if (kring.pipe === undefined) throw new Error(`${kring.name}: a pipe without its other end`);
  return kring.pipe;
}

/**
 * Zeroes the slots that belong to the other side, which hold copies of its indexes. So no buffer is
 * freed twice. The remaining slots name every buffer once, unless the application wrote wrong ones.
 */
function clearTwins(end: PipeAdapter): void {
  for (const t of [Txrx.RX, Txrx.TX]) {
    for (let i = 0; i < end.nrings(t); i++) {
      const kring = end.krings(t)[i];
      if (kring === undefined) continue;
      const { ring } = kring;
      kring.nrKflags &= ~(Nkr.FAKERING | Nkr.NEEDRING);
      if (ring === undefined) continue;
      const lim = kring.nkrNumSlots - 1;
      if (t === Txrx.RX) ring.setBufIdx(kring.pipeTail, 0);
      for (let j = nmNext(kring.pipeTail, lim); j !== kring.nrHwcur; j = nmNext(j, lim)) {
        ring.setBufIdx(j, 0);
      }
    }
  }
}
