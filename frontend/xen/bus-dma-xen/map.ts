/** A Xen DMA map: a machine map, and one grant reference for each of its segments. */
import type { Errno } from "../../bus/errno.ts";
import type { SyncOp } from "../../bus/map.ts";
import type { XenDmaTag } from "./tag.ts";

/**
 * Called once the buffer is granted: at once, inside `load`, or later under the tag's lock.
 * `error` is 0: a load that fails returns its errno instead of calling.
 */
export type XenDmaCallback<T> = (arg: T, map: XenDmaMap, nseg: number, error: number) => void;

export class XenDmaMap {
  readonly tag: XenDmaTag;

  /** Through XenDmaTag.createMap. */
  constructor(tag: XenDmaTag) {
    this.tag = tag;
  }

  get loaded(): boolean {
    throw new Error("not built yet");
  }

  /** A load waits for references. */
  get loading(): boolean {
    throw new Error("not built yet");
  }

  get segmentCount(): number {
    throw new Error("not built yet");
  }

  segmentAddress(_i: number): number {
    throw new Error("not built yet");
  }

  segmentLength(_i: number): number {
    throw new Error("not built yet");
  }

  /** xen_dmamap_get_grefs(map)[i]: the reference of segment `i`, while loaded. */
  gref(_i: number): number {
    throw new Error("not built yet");
  }

  /**
   * bus_dmamap_load(9). `flags`: BUS_DMA_NOWAIT, BUS_DMA_XEN_RO. Returns 0 (callback was called),
   * EINPROGRESS (it will be), or ENOSPC, EFBIG, EINVAL (it will not; nothing is loaded).
   */
  load<T>(
    _buffer: Uint8Array,
    _at: number,
    _length: number,
    _callback: XenDmaCallback<T>,
    _arg: T,
    _flags: number,
  ): Errno | 0 {
    throw new Error("not built yet");
  }

  /** bus_dmamap_load_mbuf_sg(9): pieces as DmaMap.loadPieces takes them. */
  loadPieces<T>(
    _buffers: readonly Uint8Array[],
    _offsets: ArrayLike<number>,
    _lengths: ArrayLike<number>,
    _count: number,
    _callback: XenDmaCallback<T>,
    _arg: T,
    _flags: number,
  ): Errno | 0 {
    throw new Error("not built yet");
  }

  /** bus_dmamap_sync(9): PREWRITE pushes the bytes under their references. */
  sync(_op: SyncOp): void {
    throw new Error("not built yet");
  }

  syncRange(_op: SyncOp, _offset: number, _length: number): void {
    throw new Error("not built yet");
  }

  /** bus_dmamap_unload(9). EBUSY, and nothing changed, while the peer uses one of the references. */
  unload(): 0 | typeof Errno.EBUSY {
    throw new Error("not built yet");
  }

  /** bus_dmamap_destroy(9): when idle. Prealloc references go back to the free list. */
  destroy(): void {
    throw new Error("not built yet");
  }

  /**
   * Instead of unload and destroy where unload said EBUSY: the map, its buffers and its busy
   * references stay as they are until the peer's use ends or the link is gone. The caller must not
   * use the buffer again.
   */
  quarantine(): void {
    throw new Error("not built yet");
  }
}
