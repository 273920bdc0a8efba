/**
 * A registration: the rings of one port that one open descriptor has bound (netmap_priv_d).
 *
 *   regif:  memory, config, ring ranges, first user? buffer size check and krings, users and
 *           exclusive use, shared rings, netmap_if, rings locked: nm_register(on), unlocked
 *   unregif: the reverse
 *
 * When a step fails, the steps before it are undone. A refused open leaves nothing behind.
 *
 * Source: netmap: sys/dev/netmap/netmap.c, netmap_do_regif, netmap_do_unregif,
 * netmap_interp_ringid, netmap_krings_get, netmap_buf_size_validate.
 */
import { Errno } from "../bus/errno.ts";
import type { NetmapAdapter } from "./adapter.ts";
import {
  Naf,
  NI_PRIV_MEM,
  Nkr,
  RegFlag,
  RegMode,
  RingMode,
  Stopped,
  SyncFlag,
  Txrx,
} from "./flags.ts";
import type { Kring } from "./kring.ts";
import { bufsHead, ifBytes, setBufsHead, setRingOfs, writeIf } from "./layout.ts";
import { monitorStop } from "./monitor-lists.ts";
import type { SelInfo } from "./wait.ts";

/** The fields of nmreq_register that a caller sets, and their defaults. */
export class RegisterRequest {
  readonly mode: RegMode = RegMode.ALL_NIC;
  readonly ringId: number = 0;
  /** RegFlag bits. */
  readonly flags: number = 0;
  /** Memory region; 0 means the port's own. */
  readonly memId: number = 0;
  /** Numbers of rings and slots; 0 means those of the port. Only ports created by the request use others. */
  readonly txSlots: number = 0;
  readonly rxSlots: number = 0;
  readonly txRings: number = 0;
  readonly rxRings: number = 0;
  readonly hostTxRings: number = 0;
  readonly hostRxRings: number = 0;
  readonly extraBufs: number = 0;
  /** Number of pipes for which a new region has room; 0 means a few. */
  readonly pipes: number = 0;
}

const DIRECTIONS = [Txrx.RX, Txrx.TX] as const;
/** By Txrx. A registration for one direction only binds no rings of the other. */
const EXCLUDED_BY = [RegFlag.TX_RINGS_ONLY, RegFlag.RX_RINGS_ONLY] as const;

/** Ring ranges [first, last) by Txrx. */
export class RingRanges {
  readonly first = [0, 0];
  readonly last = [0, 0];
  /** SyncFlag.CAN_FORWARD_DOWN when every NIC transmit ring is bound. */
  syncFlags = 0;

  /** netmap_interp_ringid: 0 or EINVAL. */
  interpret(na: NetmapAdapter, mode: RegMode, ringId: number, flags: number): number {
    for (const t of DIRECTIONS) {
      this.first[t] = 0;
      this.last[t] = 0;
      if ((flags & EXCLUDED_BY[t]) !== 0) continue;
      const n = na.nrings(t);
      switch (mode) {
        case RegMode.ALL_NIC:
        case RegMode.NULL:
          this.last[t] = n;
          break;
        case RegMode.SW:
        case RegMode.NIC_SW:
          if (!na.hasHostRings) return Errno.EINVAL;
          this.first[t] = mode === RegMode.SW ? n : 0;
          this.last[t] = na.allRings(t);
          break;
        case RegMode.ONE_NIC: {
          if (ringId >= na.numTxRings && ringId >= na.numRxRings) return Errno.EINVAL;
          // The direction with fewer rings is bound with its first ring.
          const i = ringId < n ? ringId : 0;
          this.first[t] = i;
          this.last[t] = i + 1;
          break;
        }
        case RegMode.ONE_SW: {
          if (!na.hasHostRings) return Errno.EINVAL;
          if (ringId >= na.numHostTxRings && ringId >= na.numHostRxRings) return Errno.EINVAL;
          const i = n + (ringId < na.hostRings(t) ? ringId : 0);
          this.first[t] = i;
          this.last[t] = i + 1;
          break;
        }
        default:
          return Errno.EINVAL;
      }
    }
    const allTx = this.first[Txrx.TX] === 0 && this.last[Txrx.TX]! >= na.numTxRings;
    this.syncFlags = allTx ? SyncFlag.CAN_FORWARD_DOWN : 0;
    return 0;
  }

  count(t: Txrx): number {
    return this.last[t]! - this.first[t]!;
  }
}

export class Priv {
  na: NetmapAdapter | undefined = undefined;
  readonly ranges = new RingRanges();
  /** RegFlag bits. */
  flags = 0;
  /** Offset in the region of the netmap_if; -1 while not registered. */
  ifAt = -1;
  /** Number of extra buffers that were allocated. */
  extraBufs = 0;
  /** The sleep queue of this registration, by Txrx. */
  readonly si: (SelInfo | undefined)[] = [undefined, undefined];

  get isRegistered(): boolean {
    return this.ifAt >= 0;
  }

  /** The bound rings of direction `t`. For cold paths: it allocates. */
  selected(t: Txrx): Kring[] {
    return this.na?.krings(t).slice(this.ranges.first[t], this.ranges.last[t]) ?? [];
  }

  get #bound(): Kring[] {
    return DIRECTIONS.flatMap((t) => this.selected(t));
  }

  /** netmap_do_regif: resolves to 0 or an errno. The caller holds the reference to `na`. */
  async regif(na: NetmapAdapter, request: RegisterRequest): Promise<number> {
    this.na = na;
    na.memory.acquire();
    const error = await this.#bind(na, request);
    if (error === 0) return 0;
    na.memory.release();
    this.#restoreMemory(na);
    this.#unsetRings(na);
    this.na = undefined;
    return error;
  }

  async #bind(na: NetmapAdapter, request: RegisterRequest): Promise<number> {
    if (na.activeFds === 0) na.updateConfig();
    const wrong = this.ranges.interpret(na, request.mode, request.ringId, request.flags);
    if (wrong !== 0) {
      this.ranges.first.fill(0);
      this.ranges.last.fill(0);
      return wrong;
    }
    this.flags = request.flags;
    for (const t of DIRECTIONS) if (this.ranges.count(t) > 1) na.siUsers[t]!++;

    if (na.activeFds === 0) {
      if (na.ifnet !== undefined && this.ranges.count(Txrx.RX) > 0) {
        const error = bufSizeValidate(na, na.ifnet.mtu);
        if (error !== 0) return error;
      }
      na.kringsCreate();
    }
    let error = this.#kringsGet();
    if (error === 0) {
      error = await this.#share(na, request);
      if (error === 0) return 0;
      this.#kringsPut();
    }
    na.updateHostRingsMode();
    na.ringsDelete();
    if (na.activeFds === 0) na.kringsDelete();
    return error;
  }

  /** Allocates shared rings and the netmap_if, and enters netmap mode. */
  async #share(na: NetmapAdapter, request: RegisterRequest): Promise<number> {
    const error = na.ringsCreate();
    if (error !== 0) return error;
    const ifAt = this.#ifNew(na);
    if (ifAt < 0) return Errno.ENOMEM;
    na.updateHostRingsMode();
    if (na.activeFds === 0 || this.#isKringPending()) {
      const refused = await changeMode(na, true);
      if (refused !== 0) {
        na.memory.ifs.free(ifAt);
        return refused;
      }
    }
    na.activeFds++;
    for (const t of DIRECTIONS) {
      this.si[t] = this.ranges.count(t) > 1 ? na.si[t] : na.krings(t)[this.ranges.first[t]!]?.si;
    }
    const { memory } = na;
    this.extraBufs = memory.extraAlloc(request.extraBufs, (head) => {
      setBufsHead(memory.view, ifAt, head);
    });
    this.ifAt = ifAt;
    return 0;
  }

  /** netmap_do_unregif */
  async unregif(): Promise<void> {
    const { na } = this;
    if (na === undefined || !this.isRegistered) return;
    const ifAt = this.ifAt;
    this.ifAt = -1;
    na.activeFds--;
    this.#kringsPut();
    if (na.activeFds === 0) monitorStop(na);
    na.updateHostRingsMode();
    if (na.activeFds === 0 || this.#isKringPending()) await changeMode(na, false);
    na.ringsDelete();
    if (na.activeFds === 0) {
      na.kringsDelete();
      na.resetHostRings();
    }
    this.#unsetRings(na);
    // The application may have written anything into its list of extra buffers.
    na.memory.extraFree(bufsHead(na.memory.view, ifAt));
    na.memory.ifs.free(ifAt);
    na.memory.release();
    this.#restoreMemory(na);
    for (const t of DIRECTIONS) this.si[t]?.wakeup();
    this.na = undefined;
  }

  #unsetRings(na: NetmapAdapter): void {
    for (const t of DIRECTIONS) {
      if (this.ranges.count(t) > 1) na.siUsers[t]!--;
      this.ranges.first[t] = 0;
      this.ranges.last[t] = 0;
    }
    this.flags = 0;
  }

  #restoreMemory(na: NetmapAdapter): void {
    if (na.activeFds > 0 || na.memoryPrev === undefined) return;
    na.memory = na.memoryPrev;
    na.memoryPrev = undefined;
  }

  /** netmap_krings_get: EBUSY when a ring is in exclusive use, or wanted exclusively and in use. */
  #kringsGet(): number {
    const isExclusive = (this.flags & RegFlag.EXCLUSIVE) !== 0;
    const krings = this.#bound;
    for (const kring of krings) {
      const isTaken = (kring.nrKflags & Nkr.EXCLUSIVE) !== 0;
      if (isTaken || (isExclusive && kring.users > 0)) return Errno.EBUSY;
    }
    for (const kring of krings) {
      kring.users++;
      if (isExclusive) kring.nrKflags |= Nkr.EXCLUSIVE;
      kring.nrPendingMode = RingMode.ON;
    }
    return 0;
  }

  #kringsPut(): void {
    const isExclusive = (this.flags & RegFlag.EXCLUSIVE) !== 0;
    for (const kring of this.#bound) {
      if (isExclusive) kring.nrKflags &= ~Nkr.EXCLUSIVE;
      kring.users--;
      if (kring.users === 0) kring.nrPendingMode = RingMode.OFF;
    }
  }

  /** nm_kring_pending: whether any NIC ring is about to change its mode. */
  #isKringPending(): boolean {
    return this.#bound.some((kring) => kring.nrMode !== kring.nrPendingMode);
  }

  /** netmap_mem_if_new: returns the offset, or -1. Rings that are not bound have offset 0. */
  #ifNew(na: NetmapAdapter): number {
    const { memory } = na;
    const tx = na.allRings(Txrx.TX);
    const rx = na.allRings(Txrx.RX);
    const at = memory.ifs.malloc(ifBytes(tx + rx));
    if (at < 0) return -1;
    writeIf(memory.view, at, {
      name: na.name,
      flags: memory.isPrivate ? NI_PRIV_MEM : 0,
      txRings: na.numTxRings,
      rxRings: na.numRxRings,
      hostTxRings: na.numHostTxRings === 0 ? 1 : na.numHostTxRings,
      hostRxRings: na.numHostRxRings === 0 ? 1 : na.numHostRxRings,
    });
    for (const t of DIRECTIONS) {
      const krings = na.krings(t);
      const before = t === Txrx.TX ? 0 : tx;
      for (let i = 0; i < na.allRings(t); i++) {
        const { ring } = krings[i]!;
        const isOurs = i >= this.ranges.first[t]! && i < this.ranges.last[t]!;
        setRingOfs(memory.view, at, before + i, ring !== undefined && isOurs ? ring.at - at : 0);
      }
    }
    return at;
  }
}

/** Calls nm_register with every ring locked, so that syncs skip them meanwhile. */
async function changeMode(na: NetmapAdapter, on: boolean): Promise<number> {
  na.setAllRings(Stopped.LOCKED);
  try {
    return await na.register(on);
  } finally {
    na.setAllRings(Stopped.NO);
  }
}

/** netmap_buf_size_validate: checks that frames of `mtu` bytes fit the buffers. Returns 0, EINVAL or EIO. */
export function bufSizeValidate(na: NetmapAdapter, mtu: number): number {
  const { bufSize } = na.memory;
  if (na.rxBufMaxsize === 0) return Errno.EIO;
  if (mtu <= na.rxBufMaxsize) return bufSize < mtu ? Errno.EINVAL : 0;
  if ((na.flags & Naf.MOREFRAG) === 0) return Errno.EINVAL;
  return bufSize < na.rxBufMaxsize ? Errno.EINVAL : 0;
}
