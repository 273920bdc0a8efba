/**
 * A Xen DMA map is a machine map and one grant reference for each of its segments.
 *
 *             load: refs there                      unload
 *     idle ───────────────────────────► loaded ────────────► idle ──destroy──► gone
 *      │  load: refs short            ▲    │                  ▲                 ▲
 *      └──────────────────► loading ──┘    └─quarantine───────┼──(use ends)─────┘
 *                              └─────────unload───────────────┘
 *
 * Granting is the last step of a load, and ending access is the first step of an unload. So a
 * reference never grants a page that is not mapped. A load without enough references keeps its
 * machine map, which no grant reaches, and waits until the table has enough.
 *
 * Source: prati0100/freebsd: sys/x86/xen/busdma_xen.c (xen_bus_dmamap_*).
 */
import { Op } from "../../../shared/wire/catalogue.ts";
import { type BusAddress, RecordType, Space } from "../../../shared/wire/records.ts";
import {
  GRANT_PAGE_BYTES,
  type GrantRef,
  grantAddress,
  grantRef,
} from "../../../shared/xen/grant.ts";
import { Errno } from "../../bus/errno.ts";
import { type DmaMap, SyncOp } from "../../bus/map.ts";
import { DmaMisuse } from "../../bus/misuse.ts";
import type { FreeCallback } from "../grant-table.ts";
import { BUS_DMA_NOWAIT, BUS_DMA_XEN_RO, DmaLockOp } from "./flags.ts";
import type { XenDmaTag } from "./tag.ts";

/**
 * Called when the buffer is granted: within `load`, or later under the tag's lock. `error` is 0: a
 * load that fails returns its errno and does not call.
 */
export type XenDmaCallback<T> = (arg: T, map: XenDmaMap, nseg: number, error: number) => void;

const State = { IDLE: 0, LOADING: 1, LOADED: 2, QUARANTINED: 3, DESTROYED: 4 } as const;
type State = (typeof State)[keyof typeof State];

const NO_REFS: GrantRef[] = [];
const NO_CALLBACK: XenDmaCallback<unknown> = () => {};
const LOAD_FLAGS = BUS_DMA_NOWAIT | BUS_DMA_XEN_RO;
export class XenDmaMap {
  // Nearly every load has one segment. It needs these fields only, which lie together.
  #state: State = State.IDLE;
  #segments = 0;
  /** Reference of each segment. This map owns the first #nrefs of them. */
  #firstRef: GrantRef = grantRef(-1);
  readonly #machine: DmaMap;
  readonly tag: XenDmaTag;
  readonly #prealloc: boolean;
  #readonly = false;
  /** References after the first, for a tag with several segments. */
  #moreRefs = NO_REFS;
  #nrefs = 0;
  /** Number of references of an abandoned map that the device still uses. */
  #busy = 0;
  /** Request for free references of a deferred load. */
  #wish: FreeCallback | undefined;
  #callback: XenDmaCallback<unknown> = NO_CALLBACK;
  #arg: unknown;

  /** Called by XenDmaTag.createMap only, which has reserved the references. */
  constructor(tag: XenDmaTag, machine: DmaMap, prealloc: boolean) {
    this.tag = tag;
    this.#machine = machine;
    this.#prealloc = prealloc;
    if (prealloc) this.#takeReferences(tag.params.nSegments);
  }

  get name(): string {
    return this.#machine.name;
  }

  /** Number of the map in its tag. References of maps created one after another are consecutive. */
  get index(): number {
    return this.#machine.index;
  }

  get loaded(): boolean {
    return this.#state === State.LOADED;
  }

  /** True while a load waits for references. */
  get loading(): boolean {
    return this.#state === State.LOADING;
  }

  /** Number of segments of this load; 0 while not loaded. */
  get segmentCount(): number {
    return this.#segments;
  }

  /** Returns the bus address (48 bits) of segment `i`. Bits 11..0: offset in the granted page. */
  segmentAddress(i: number): BusAddress {
    this.#needSegment(i);
    return this.#machine.segmentAddress(i);
  }

  /** Returns the number of bytes in segment `i`. */
  segmentLength(i: number): number {
    this.#needSegment(i);
    return this.#machine.segmentLength(i);
  }

  /** xen_dmamap_get_grefs(map)[i]: returns the reference of segment `i`. Valid while loaded. */
  gref(i: number): GrantRef {
    this.#needSegment(i);
    return this.#ref(i);
  }

  /**
   * bus_dmamap_load(9). `flags`: BUS_DMA_NOWAIT, BUS_DMA_XEN_RO. Returns 0 (the callback was
   * called) or EINPROGRESS (the callback will be called, unless unload comes first). After any
   * other errno nothing is loaded and the callback is never called: ENOSPC (no references, and
   * NOWAIT or more than the table can have), EFBIG (more segments than the tag allows), EINVAL (no
   * bytes, more than maxSize, or invalid flags).
   */
  load<T>(
    buffer: Uint8Array,
    at: number,
    length: number,
    callback: XenDmaCallback<T>,
    arg: T,
    flags: number,
  ): Errno | 0 {
    const refused = this.#checkLoad(flags);
    if (refused !== 0) return refused;
    const error = this.#machine.load(buffer, at, length);
    return error === 0 ? this.#referTo(callback, arg, flags) : (error as Errno);
  }

  /** bus_dmamap_load_mbuf_sg(9). Pieces as for DmaMap.loadPieces; returns the values of `load`. */
  loadPieces<T>(
    buffers: readonly Uint8Array[],
    offsets: ArrayLike<number>,
    lengths: ArrayLike<number>,
    count: number,
    callback: XenDmaCallback<T>,
    arg: T,
    flags: number,
  ): Errno | 0 {
    const refused = this.#checkLoad(flags);
    if (refused !== 0) return refused;
    const error = this.#machine.loadPieces(buffers, offsets, lengths, count);
    return error === 0 ? this.#referTo(callback, arg, flags) : (error as Errno);
  }

  /**
   * bus_dmamap_sync(9) of everything loaded. PREWRITE pushes the bytes of each segment under its
   * reference, ahead of the event that needs them. The other three operations move no bytes here.
   */
  sync(op: SyncOp): void {
    this.#needLoaded("synced");
    this.#machine.checkSync(op);
    if ((op & SyncOp.PREWRITE) !== 0) this.#push();
  }

  /**
   * bus_dmamap_unload(9). Returns 0 when access has ended. Returns EBUSY and changes nothing while
   * the device uses one of the references. Cancels a deferred load: its callback is never called.
   */
  unload(): 0 | typeof Errno.EBUSY {
    if (this.#state === State.LOADING) {
      this.#cancel();
      return 0;
    }
    this.#needLoaded("unloaded");
    const { grants } = this.tag;
    const segments = this.#segments;
    // A use of a later reference must leave the earlier ones granted.
    for (let i = 1; i < segments; i++) {
      if (grants.queryForeignAccess(this.#ref(i)) !== 0) return Errno.EBUSY;
    }
    if (!grants.endForeignAccessRef(this.#firstRef)) return Errno.EBUSY;
    for (let i = 1; i < segments; i++) {
      if (!grants.endForeignAccessRef(this.#ref(i))) {
        throw new Error(`${this.name}: a reference became busy within one call`);
      }
    }
    this.#segments = 0;
    this.#state = State.IDLE;
    this.#machine.unload();
    if (!this.#prealloc) this.#freeReferences();
    return 0;
  }

  /** bus_dmamap_destroy(9) of an idle map. Returns preallocated references to the free list. */
  destroy(): void {
    this.#needIdle("destroyed");
    this.#state = State.DESTROYED;
    this.#machine.destroy();
    this.#freeReferences();
    this.tag.mapGone();
  }

  /**
   * Replaces unload and destroy after unload returned EBUSY. The map leaves its tag, and keeps its
   * buffers mapped until the device's use of each reference has ended or the link is gone. The
   * buffers must not be reused before `released` is called.
   */
  quarantine(released?: () => void): void {
    this.#needLoaded("given up");
    this.#state = State.QUARANTINED;
    this.tag.mapAbandoned();
    const over = (): void => {
      if (--this.#busy > 0) return;
      this.#machine.unload();
      this.#machine.destroy();
      this.tag.mapReleased();
      released?.();
    };
    // One more than the number of references, so that unused references can't end it too early.
    this.#busy = this.#nrefs + 1;
    for (let i = 0; i < this.#nrefs; i++) {
      const reference = this.#ref(i);
      if (i < this.#segments) {
        this.tag.grants.quarantine(reference, over);
      } else {
        // A preallocated reference beyond the segments of this load.
        this.tag.grants.freeGrantReference(reference);
        over();
      }
    }
    this.#nrefs = 0;
    this.#segments = 0;
    over();
  }

  /** Checks whether a load may begin, before anything is mapped. */
  #checkLoad(flags: number): Errno | 0 {
    this.#needIdle("loaded");
    const readsNothing = (flags & BUS_DMA_XEN_RO) !== 0 && !this.#machine.deviceMayRead;
    if ((flags & ~LOAD_FLAGS) !== 0 || readsNothing) return Errno.EINVAL;
    if (this.#mayWait(flags) && this.tag.params.lock === undefined) {
      this.#misuse("TAG_PARAMS", "a load may have to wait, but its tag has no lock");
    }
    return 0;
  }

  #mayWait(flags: number): boolean {
    return (flags & BUS_DMA_NOWAIT) === 0 && !this.#prealloc;
  }

  /** Grants the segments of the loaded machine map, now or later, or unloads it with an errno. */
  #referTo<T>(callback: XenDmaCallback<T>, arg: T, flags: number): Errno | 0 {
    const segments = this.#machine.segmentCount;
    this.#readonly = (flags & BUS_DMA_XEN_RO) !== 0;
    if (this.#prealloc ? this.#renew(segments) : this.tag.grants.reserve(segments)) {
      this.#grantAll();
      callback(arg, this, segments, 0);
      return 0;
    }
    if (this.#mayWait(flags) && segments <= this.tag.grants.capacity) {
      return this.#defer(segments, callback as XenDmaCallback<unknown>, arg);
    }
    this.#machine.unload();
    return Errno.ENOSPC;
  }

  #defer(segments: number, callback: XenDmaCallback<unknown>, arg: unknown): Errno {
    this.#state = State.LOADING;
    this.#callback = callback;
    this.#arg = arg;
    this.#wish = this.tag.grants.requestFreeCallback(() => this.#finish(), segments);
    return Errno.EINPROGRESS;
  }

  /** Completes a deferred load: its references are free now. */
  #finish(): void {
    const callback = this.#callback;
    const arg = this.#arg;
    const lock = this.tag.params.lock;
    this.#forgetWait();
    // As in the original, the lock belongs to the client and is held around the callback only.
    this.#grantAll();
    lock?.(DmaLockOp.LOCK);
    try {
      callback(arg, this, this.#segments, 0);
    } finally {
      lock?.(DmaLockOp.UNLOCK);
    }
  }

  #cancel(): void {
    if (this.#wish !== undefined) this.tag.grants.cancelFreeCallback(this.#wish);
    this.#forgetWait();
    this.#state = State.IDLE;
    this.#machine.unload();
  }

  #forgetWait(): void {
    this.#wish = undefined;
    this.#callback = NO_CALLBACK;
    this.#arg = undefined;
  }

  /** Replaces preallocated references that the device uses. False when no others are free. */
  #renew(count: number): boolean {
    const { grants } = this.tag;
    for (let i = 0; i < count; i++) {
      const reference = this.#ref(i);
      if (grants.queryForeignAccess(reference) === 0) continue;
      const other = grants.renew(reference);
      if (other < 0) return false;
      this.#setRef(i, other);
    }
    return true;
  }

  /** Grants every segment of the machine map. This map owns the references, or reserved them. */
  #grantAll(): void {
    const { grants, domid } = this.tag;
    const segments = this.#machine.segmentCount;
    if (!this.#prealloc) this.#takeReferences(segments);
    for (let i = 0; i < segments; i++) {
      const address = this.#machine.segmentAddress(i);
      grants.grantForeignAccessRef(this.#ref(i), domid, address, this.#readonly);
    }
    this.#segments = segments;
    this.#state = State.LOADED;
  }

  /** Allocates `count` references that were reserved before. */
  #takeReferences(count: number): void {
    for (let i = 0; i < count; i++) {
      const reference = this.tag.grants.allocGrantReference();
      if (reference < 0) throw new Error(`${this.name}: reserved grant references are gone`);
      this.#setRef(i, reference);
      this.#nrefs = i + 1;
    }
  }

  #freeReferences(): void {
    for (let i = 0; i < this.#nrefs; i++) this.tag.grants.freeGrantReference(this.#ref(i));
    this.#nrefs = 0;
  }

  #ref(i: number): GrantRef {
    return i === 0 ? this.#firstRef : this.#moreRefs[i - 1]!;
  }

  #setRef(i: number, reference: GrantRef): void {
    if (i === 0) this.#firstRef = reference;
    else {
      if (this.#moreRefs === NO_REFS) this.#moreRefs = [];
      this.#moreRefs[i - 1] = reference;
    }
  }

  /** Pushes the bytes of each segment under its reference. */
  #push(): void {
    const writer = this.tag.space.link?.writer;
    if (writer === undefined) return;
    const machine = this.#machine;
    for (let i = 0; i < this.#segments; i++) {
      const from = machine.segmentAddress(i);
      const length = machine.segmentLength(i);
      const place = (from >>> 0) - machine.base;
      const piece = machine.pieceHolding(place, length);
      const memory = machine.pieceMemory(piece);
      const at = machine.pieceOffset(piece, place);
      const address = grantAddress(this.#ref(i), from & (GRANT_PAGE_BYTES - 1));
      writer.column(Op.PUSH, Space.GRANT, address, RecordType.FRAME, memory, at, length);
    }
  }

  #needIdle(what: string): void {
    if (this.#state === State.IDLE) return;
    const gone = this.#state === State.DESTROYED || this.#state === State.QUARANTINED;
    if (gone) this.#misuse("MAP_DESTROYED", `${what} after destroy or quarantine`);
    this.#misuse("MAP_LOADED", `${what} while ${this.loading ? "loading" : "loaded"}`);
  }

  #needLoaded(what: string): void {
    if (this.#state !== State.LOADED) this.#misuse("MAP_NOT_LOADED", `${what} while not loaded`);
  }

  #needSegment(i: number): void {
    if (i >= 0 && i < this.#segments) return;
    this.#misuse("SEGMENT_INDEX", `segment ${i} of ${this.#segments}`);
  }

  #misuse(code: DmaMisuse["code"], what: string): never {
    throw new DmaMisuse(code, `${this.name}: ${what}`);
  }
}
