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
import { NetmapAdapter, type RingCounts } from "./adapter.ts";
import { Naf, Nkr, Ns, RingMode, Txrx } from "./flags.ts";
import type { Kring } from "./kring.ts";
import { nmPrev } from "./ring.ts";

export class PipeAdapter extends NetmapAdapter {
  readonly parent: NetmapAdapter;
  readonly pipeId: string;
  readonly isMaster: boolean;
  peer!: PipeAdapter;
  /** True while this end keeps the other end alive, because the other end is not open. */
  holdsPeer = false;
  readonly #put: (na: NetmapAdapter) => void;

  private constructor(
    parent: NetmapAdapter,
    pipeId: string,
    isMaster: boolean,
    counts: RingCounts,
    put: (na: NetmapAdapter) => void,
  ) {
    const name = `${parent.name}${isMaster ? "{" : "}"}${pipeId}`;
    super(name, undefined, counts, parent.memory, Naf.MEM_OWNER);
    this.parent = parent;
    this.pipeId = pipeId;
    this.isMaster = isMaster;
    this.#put = put;
  }

  /**
   * Creates both ends and returns the requested one, which holds the other. Each end holds a
   * reference to `parent`. `put` releases a reference.
   */
  static pair(
    parent: NetmapAdapter,
    pipeId: string,
    wantMaster: boolean,
    counts: RingCounts,
    put: (na: NetmapAdapter) => void,
  ): PipeAdapter {
    const turned = {
      numTxRings: counts.numRxRings,
      numTxDesc: counts.numRxDesc,
      numRxRings: counts.numTxRings,
      numRxDesc: counts.numTxDesc,
    };
    const master = new PipeAdapter(parent, pipeId, true, counts, put);
    const slave = new PipeAdapter(parent, pipeId, false, turned, put);
    master.peer = slave;
    slave.peer = master;
    parent.pipes.set(pipeId, master);
    parent.refs += 2;
    const wanted = wantMaster ? master : slave;
    wanted.holdsPeer = true;
    wanted.peer.refs++;
    return wanted;
  }

  override txsync(txkring: Kring): number {
    const rxkring = peerRing(txkring);
    txkring.nrHwtail = txkring.pipeTail;
    const publish = passSlots(txkring, rxkring);
    if (publish < 0) return 0;
    rxkring.pipeTail = publish;
    rxkring.notify();
    return 0;
  }

  override rxsync(rxkring: Kring): number {
    const txkring = peerRing(rxkring);
    const lim = rxkring.nkrNumSlots - 1;
    rxkring.nrHwtail = rxkring.pipeTail;
    // The original counts modulo the ring, which ends with any head. This loop checks the head instead.
    if (rxkring.nrHwcur === rxkring.rhead || rxkring.rhead > lim) return 0;
    passSlots(rxkring, txkring);
    txkring.pipeTail = nmPrev(rxkring.nrHwcur, lim);
    txkring.notify();
    return 0;
  }

  /** Creates the rings of both ends. Those of the peer are placeholders: this end owns the buffers. */
  override kringsCreate(): void {
    const { peer } = this;
    if (!this.holdsPeer) {
      if (this.txRings.length > 0) return;
      // The other end was closed, and only its monitor keeps the pair. Continue as if this end had
      // been opened first.
      peer.holdsPeer = false;
      this.holdsPeer = true;
      peer.refs++;
      this.#put(this);
    }
    super.kringsCreate();
    super.kringsCreate.call(peer);
    for (const ours of this.#joined) {
      const theirs = peer.krings(ours.tx === Txrx.TX ? Txrx.RX : Txrx.TX)[ours.ringId]!;
      ours.pipe = theirs;
      theirs.pipe = ours;
      theirs.nrKflags |= Nkr.FAKERING;
      ours.pipeTail = ours.nrHwtail;
      theirs.pipeTail = theirs.nrHwtail;
    }
  }

  /** The rings that are joined with rings of the peer. */
  get #joined(): Kring[] {
    return this.allKrings.filter((kring) => !kring.isHost);
  }

  override register(on: boolean): number {
    const { peer } = this;
    if (on) {
      const error = this.#open();
      if (error !== 0) return error;
    } else this.modeCommit(false);
    this.setOn(on);
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
    const opened = this.#joined.filter((kring) => kring.isPendingOn);
    for (const kring of opened) peerRing(kring).nrKflags |= Nkr.NEEDRING;
    const error = this.peer.ringsCreate();
    if (error !== 0) return error;
    for (const kring of opened) {
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
    return 0;
  }

  /** Called when the last end closes. Each buffer is in exactly one slot of the two rings then. */
  override kringsDelete(): void {
    if (!this.holdsPeer) return;
    const { peer } = this;
    for (const kring of [...this.#joined, ...peer.#joined]) clearTwin(kring);
    this.ringsDelete();
    peer.ringsDelete();
    super.kringsDelete();
    super.kringsDelete.call(peer);
  }

  override dtor(): void {
    if (this.holdsPeer) {
      this.holdsPeer = false;
      this.#put(this.peer);
    }
    if (this.isMaster) this.parent.pipes.delete(this.pipeId);
    this.#put(this.parent);
  }
}

/**
 * Copies the slots [nrHwcur, rhead) to the other ring. Returns the index behind the last whole
 * packet, or -1.
 */
function passSlots(kring: Kring, peer: Kring): number {
  const from = kring.openRing;
  const to = peer.openRing;
  const head = kring.rhead;
  let whole = -1;
  for (let k = kring.nrHwcur; k !== head; ) {
    const flags = from.slotFlags(k);
    to.copySlot(k, from, k);
    if ((flags & Ns.BUF_CHANGED) !== 0) from.setSlotFlags(k, flags & ~Ns.BUF_CHANGED);
    k = from.next(k);
    if ((flags & Ns.MOREFRAG) === 0) whole = k;
  }
  kring.nrHwcur = head;
  return whole;
}

function peerRing(kring: Kring): Kring {
  if (kring.pipe === undefined) throw new Error(`${kring.name}: a pipe without its other end`);
  return kring.pipe;
}

/**
 * Zeroes the slots that belong to the other side, which hold copies of its indexes. So no buffer is
 * freed twice. The remaining slots name every buffer once, unless the application wrote wrong ones.
 */
function clearTwin(kring: Kring): void {
  const { ring } = kring;
  kring.nrKflags &= ~(Nkr.FAKERING | Nkr.NEEDRING);
  if (ring === undefined) return;
  if (kring.tx === Txrx.RX) ring.setBufIdx(kring.pipeTail, 0);
  for (let j = ring.next(kring.pipeTail); j !== kring.nrHwcur; j = ring.next(j)) {
    ring.setBufIdx(j, 0);
  }
}
