/**
 * The memory that ports and applications share: three pools in one region.
 *
 *   0                  ifs              ifs + rings                            end
 *   | netmap_if pool   | ring pool      | buffers: 0 and 1 reserved, 2, 3, ... |
 *
 * One region is one SharedArrayBuffer, so an application in a worker sees the same bytes, and a
 * buffer moves between ports of one region by its index alone. All ports share region 1, except VALE
 * ports and copy monitors, which have regions of their own.
 *
 * The owner of a buffer is the slot, extra list or driver record that holds its index. netmap does
 * not check this. When the last port of a region is closed, its pools are reset, so that lost
 * buffers are free again.
 *
 * Source: netmap: sys/dev/netmap/netmap_mem2.c.
 */
import { Errno } from "../bus/errno.ts";
import type { RingCounts } from "./adapter.ts";
import { ifBytes, ringBytes } from "./layout.ts";
import type { NetmapRing } from "./ring.ts";

const PAGE_BYTES = 4096;
const OBJECT_ALIGN = 64;
const WORD_BITS = 32;

/** Number of reserved buffers. They never belong to a slot; an invalid index yields one of them. */
export const RESERVED_BUFFERS = 2;

export interface PoolSize {
  readonly count: number;
  /** Bytes of an object. */
  readonly bytes: number;
}

export interface MemorySizes {
  readonly ifs: PoolSize;
  readonly rings: PoolSize;
  readonly buffers: PoolSize;
}

/**
 * Smallest pools of region 1, unless the creator gives others. The region grows with the interfaces
 * that exist when the first port is opened, and with `Netmap.reserve`. netmap's own region has
 * 163840 buffers for the whole machine; an unused buffer costs only address space. Rings of netmap
 * have 9 pages. Rings here hold the 4096 slots of the ENA driver's receive rings.
 */
export const DEFAULT_SIZES: MemorySizes = {
  ifs: { count: 100, bytes: 1024 },
  rings: { count: 200, bytes: 17 * PAGE_BYTES },
  buffers: { count: 65536, bytes: 2048 },
};

/** Objects of region 1 beyond those of the interfaces: for pipes, monitors and extra buffers. */
export const SPARE_SIZES: MemorySizes = {
  ifs: { count: 32, bytes: 0 },
  rings: { count: 64, bytes: 0 },
  buffers: { count: 16384, bytes: 0 },
};

/** Sizes of a private region (netmap_mem_private_new). */
export function privateSizes(
  counts: RingCounts,
  extraBuffers: number,
  pipes: number,
  pipe: { readonly rings: number; readonly slots: number } = { rings: 0, slots: 0 },
): MemorySizes {
  const { numTxDesc: txSlots, numRxDesc: rxSlots } = counts;
  // One more ring in each direction: the host ring or its placeholder.
  const tx = counts.numTxRings + 1;
  const rx = counts.numRxRings + 1;
  // A pipe has four rings with buffers and four placeholders. A pipe that asks for more rings has
  // `pipe.rings` at each end, for both directions together.
  const perPipe = Math.max(4 * (rxSlots + txSlots), pipe.rings * pipe.slots);
  const buffers = pipes * perPipe + rx * rxSlots + tx * txSlots + RESERVED_BUFFERS + extraBuffers;
  return {
    ifs: {
      count: Math.max(2, 2 + 4 * pipes),
      bytes: Math.max(1024, ifBytes(tx + rx), ifBytes(pipe.rings + 2)),
    },
    rings: {
      count: Math.max(4, tx + rx + pipes * Math.max(8, 2 * (pipe.rings + 2))),
      bytes: Math.max(5 * PAGE_BYTES, ringBytes(Math.max(txSlots, rxSlots, pipe.slots))),
    },
    buffers: { count: Math.max(4098, buffers), bytes: 2048 },
  };
}

/** A pool of equal objects. The lowest free object is allocated first, as in netmap. */
export class ObjectPool {
  readonly objTotal: number;
  readonly objSize: number;
  /** Offsets in the region of the pool and of its end. A pool has full pages. */
  readonly at: number;
  readonly end: number;
  objFree = 0;
  readonly #reserved: number;
  /** Bitmap: a set bit is a free object. */
  readonly #free: Uint32Array;
  /** Words below this one have no free object. */
  #from = 0;

  constructor(at: number, size: PoolSize, reserved: number) {
    this.at = at;
    this.objTotal = size.count;
    this.objSize = Math.ceil(size.bytes / OBJECT_ALIGN) * OBJECT_ALIGN;
    this.end = at + Math.ceil((this.objSize * size.count) / PAGE_BYTES) * PAGE_BYTES;
    this.#reserved = reserved;
    this.#free = new Uint32Array(Math.ceil(size.count / WORD_BITS));
    this.reset();
  }

  /** Frees all objects except the reserved ones. */
  reset(): void {
    this.#free.fill(0);
    for (let i = this.#reserved; i < this.objTotal; i++) this.#mark(i);
    this.objFree = this.objTotal - this.#reserved;
    this.#from = 0;
  }

  /** Allocates the lowest free object; -1 when there is none. */
  take(): number {
    for (let word = this.#from; word < this.#free.length; word++) {
      const bits = this.#free[word]!;
      if (bits === 0) continue;
      this.#from = word;
      const low = bits & -bits;
      this.#free[word] = bits ^ low;
      this.objFree--;
      return word * WORD_BITS + (31 - Math.clz32(low));
    }
    this.#from = this.#free.length;
    return -1;
  }

  /** Frees object `i`. Returns false when `i` is not an object or is free already. */
  give(i: number): boolean {
    if (i < this.#reserved || i >= this.objTotal || this.isFree(i)) return false;
    this.#mark(i);
    this.objFree++;
    this.#from = Math.min(this.#from, Math.floor(i / WORD_BITS));
    return true;
  }

  /** Allocates an object of at least `bytes`. Returns its offset in the region, or -1. */
  malloc(bytes: number): number {
    const i = bytes > this.objSize ? -1 : this.take();
    return i < 0 ? -1 : this.at + i * this.objSize;
  }
  free(at: number): void {
    this.give((at - this.at) / this.objSize);
  }

  isFree(i: number): boolean {
    return (this.#free[Math.floor(i / WORD_BITS)]! & (1 << (i % WORD_BITS))) !== 0;
  }

  #mark(i: number): void {
    this.#free[Math.floor(i / WORD_BITS)]! |= 1 << (i % WORD_BITS);
  }
}

export class NetmapMemory {
  /** mem_id. Region 1 is the default of ports. */
  readonly id: number;
  readonly isPrivate: boolean;
  sizes: MemorySizes;
  ifs: ObjectPool;
  rings: ObjectPool;
  buffers: ObjectPool;
  /** Number of registrations that use the region. */
  active = 0;
  /** Buffer indexes that could not be freed: duplicates, and indexes of no buffer. */
  badFrees = 0;
  /** The region and two views of it. `acquire` allocates it at the first use. */
  region = new SharedArrayBuffer(0);
  bytes = new Uint8Array(this.region);
  view = new DataView(this.region);

  constructor(id: number, sizes: MemorySizes, isPrivate: boolean) {
    if (sizes.buffers.count < RESERVED_BUFFERS || sizes.buffers.bytes > 0xffff) {
      throw new RangeError(`netmap memory ${id}: sizes that cannot be`);
    }
    this.id = id;
    this.isPrivate = isPrivate;
    this.sizes = sizes;
    this.ifs = new ObjectPool(0, sizes.ifs, 0);
    this.rings = new ObjectPool(this.ifs.end, sizes.rings, 0);
    this.buffers = new ObjectPool(this.rings.end, sizes.buffers, RESERVED_BUFFERS);
  }

  /** netmap_mem_config: creates a new region with other pools. The old one must be unused. */
  resize(sizes: MemorySizes): void {
    if (this.active > 0) throw new Error(`netmap memory ${this.id} is in use`);
    this.sizes = sizes;
    this.ifs = new ObjectPool(0, sizes.ifs, 0);
    this.rings = new ObjectPool(this.ifs.end, sizes.rings, 0);
    this.buffers = new ObjectPool(this.rings.end, sizes.buffers, RESERVED_BUFFERS);
    this.region = new SharedArrayBuffer(0);
  }

  get bytesTotal(): number {
    return this.buffers.end;
  }

  /** NETMAP_BUF_SIZE */
  get bufSize(): number {
    return this.buffers.objSize;
  }
  /** Buffer indexes are below this. */
  get objTotal(): number {
    return this.buffers.objTotal;
  }
  /** Offset in the region of buffer 0. */
  get buffersAt(): number {
    return this.buffers.at;
  }

  /** Whether a slot may carry this index. */
  isBuffer(index: number): boolean {
    return index >= RESERVED_BUFFERS && index < this.buffers.objTotal;
  }

  /** NMB: offset in the region of a buffer. An invalid index yields buffer 0. */
  bufferAt(index: number): number {
    return this.buffersAt + (index < this.buffers.objTotal ? index : 0) * this.buffers.objSize;
  }

  /** netmap_mem_finalize, netmap_mem_deref: called when a registration begins and ends. */
  acquire(): void {
    if (this.region.byteLength === 0) {
      this.region = new SharedArrayBuffer(this.bytesTotal);
      this.bytes = new Uint8Array(this.region);
      this.view = new DataView(this.region);
    }
    this.active++;
  }
  release(): void {
    if (this.active <= 0) throw new Error(`netmap memory ${this.id} released once too often`);
    this.active--;
    if (this.active > 0) return;
    this.ifs.reset();
    this.rings.reset();
    this.buffers.reset();
  }

  /** netmap_new_bufs: allocates a buffer for every slot, or none, with ENOMEM. */
  newBuffers(ring: NetmapRing): number {
    for (let i = 0; i < ring.numSlots; i++) {
      const index = this.buffers.take();
      if (index < 0) {
        for (let j = 0; j < i; j++) this.buffers.give(ring.bufIdx(j));
        for (let j = 0; j < ring.numSlots; j++) ring.setSlot(j, 0, 0, 0);
        return Errno.ENOMEM;
      }
      ring.setSlot(i, index, this.bufSize, 0);
    }
    return 0;
  }

  /** netmap_free_bufs: frees the buffers that the slots name. Indexes 0 and 1 mean no buffer. */
  freeBuffers(ring: NetmapRing): void {
    for (let i = 0; i < ring.numSlots; i++) {
      const index = ring.bufIdx(i);
      if (index >= RESERVED_BUFFERS && !this.buffers.give(index)) this.badFrees++;
    }
  }

  /**
   * netmap_extra_alloc: allocates a list of up to `n` buffers. Each begins with the index of the
   * next, the last with 0. Returns the number of buffers; `head` is set to the first, or 0.
   */
  extraAlloc(n: number, head: (index: number) => void): number {
    let first = 0;
    let got = 0;
    for (; got < n; got++) {
      const index = this.buffers.take();
      if (index < 0) break;
      this.view.setUint32(this.bufferAt(index), first, true);
      first = index;
    }
    head(first);
    return got;
  }

  /** netmap_extra_free: frees a list and returns the number of buffers. The list may be invalid, even a cycle. */
  extraFree(head: number): number {
    let index = head;
    let freed = 0;
    while (this.isBuffer(index)) {
      const at = this.bufferAt(index);
      const next = this.view.getUint32(at, true);
      this.view.setUint32(at, 0, true);
      if (!this.buffers.give(index)) {
        this.badFrees++;
        break;
      }
      freed++;
      index = next;
    }
    return freed;
  }
}
