/**
 * The memory that ports and applications share: three pools in one region.
 *
 *   0                  ifs              ifs + rings                            end
 *   | netmap_if pool   | ring pool      | buffers: 0 and 1 reserved, 2, 3, ... |
 *
 * One region is one SharedArrayBuffer, so an application in a worker sees the same bytes, and a
 * buffer moves between ports of one region by its index alone. Region 1 is everybody's; VALE ports
 * and copy monitors have their own.
 *
 * A buffer is owned by whoever's slot, extra list or driver record holds its index. We don't watch
 * that: when the last port of a region is closed its pools start afresh, whatever was lost.
 *
 * Source: netmap: sys/dev/netmap/netmap_mem2.c.
 */
import { Errno } from "../bus/errno.ts";
import { ifBytes, ringBytes } from "./layout.ts";
import type { NetmapRing } from "./ring.ts";

const PAGE_BYTES = 4096;
const OBJECT_ALIGN = 64;
const WORD_BITS = 32;

/** Buffers that never belong to a slot: what a bad index leads to instead. */
export const RESERVED_BUFFERS = 2;

export interface PoolSize {
  readonly count: number;
  /** Bytes of one object. */
  readonly bytes: number;
}

export interface MemorySizes {
  readonly ifs: PoolSize;
  readonly rings: PoolSize;
  readonly buffers: PoolSize;
}

/**
 * The least of region 1, unless its maker says otherwise: it grows with the interfaces that there
 * are when the first port is opened, and with `Netmap.reserve`. netmap's own has 163840 buffers, a
 * machine-wide matter; address space is all that an unused one costs. Its rings have 9 pages; ours
 * hold the 4096 slots of the ENA driver's receive rings.
 */
export const DEFAULT_SIZES: MemorySizes = {
  ifs: { count: 100, bytes: 1024 },
  rings: { count: 200, bytes: 17 * PAGE_BYTES },
  buffers: { count: 65536, bytes: 2048 },
};

/** What region 1 has beyond the interfaces there are: for pipes, monitors and extra buffers. */
export const SPARE_SIZES: MemorySizes = {
  ifs: { count: 32, bytes: 0 },
  rings: { count: 64, bytes: 0 },
  buffers: { count: 16384, bytes: 0 },
};

/** Sizes of a private region (netmap_mem_private_new). */
export function privateSizes(
  txRings: number,
  txSlots: number,
  rxRings: number,
  rxSlots: number,
  extraBuffers: number,
  pipes: number,
  pipe: { readonly rings: number; readonly slots: number } = { rings: 0, slots: 0 },
): MemorySizes {
  // One more ring each way: the host's, or what stands in for it.
  const tx = txRings + 1;
  const rx = rxRings + 1;
  // A pipe has four rings with buffers, and four that only look like rings. One that asks for more
  // has `pipe.rings` at each of its ends, both ways together.
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

/** Equal objects in a row, and which of them are free: lowest first, as netmap takes them. */
export class ObjectPool {
  readonly objTotal: number;
  readonly objSize: number;
  /** Bytes of the whole pool, full pages. */
  readonly memTotal: number;
  objFree = 0;
  readonly #reserved: number;
  /** A set bit is a free object. */
  readonly #free: Uint32Array;
  /** No free object below this word. */
  #from = 0;

  constructor(size: PoolSize, reserved: number) {
    this.objTotal = size.count;
    this.objSize = Math.ceil(size.bytes / OBJECT_ALIGN) * OBJECT_ALIGN;
    this.memTotal = Math.ceil((this.objSize * size.count) / PAGE_BYTES) * PAGE_BYTES;
    this.#reserved = reserved;
    this.#free = new Uint32Array(Math.ceil(size.count / WORD_BITS));
    this.reset();
  }

  /** Everything is free again, the reserved objects apart. */
  reset(): void {
    this.#free.fill(0);
    for (let i = this.#reserved; i < this.objTotal; i++) this.#mark(i);
    this.objFree = this.objTotal - this.#reserved;
    this.#from = 0;
  }

  /** The lowest free object, or -1. */
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

  /** False, changing nothing, when `i` is no object or is free already. */
  give(i: number): boolean {
    if (i < this.#reserved || i >= this.objTotal || this.isFree(i)) return false;
    this.#mark(i);
    this.objFree++;
    this.#from = Math.min(this.#from, Math.floor(i / WORD_BITS));
    return true;
  }

  isFree(i: number): boolean {
    return (this.#free[Math.floor(i / WORD_BITS)]! & (1 << (i % WORD_BITS))) !== 0;
  }

  #mark(i: number): void {
    this.#free[Math.floor(i / WORD_BITS)]! |= 1 << (i % WORD_BITS);
  }
}

export class NetmapMemory {
  /** mem_id; 1 is the region that ports have unless they say otherwise. */
  readonly id: number;
  readonly isPrivate: boolean;
  sizes: MemorySizes;
  #ifs: ObjectPool;
  #rings: ObjectPool;
  #buffers: ObjectPool;
  /** Registrations that use the region. */
  active = 0;
  /** Buffer indexes that could not be freed: twice in slots, or no buffers at all. */
  badFrees = 0;
  #region: SharedArrayBuffer | undefined;
  #bytes: Uint8Array<SharedArrayBuffer> | undefined;
  #view: DataView<SharedArrayBuffer> | undefined;

  constructor(id: number, sizes: MemorySizes, isPrivate: boolean) {
    if (sizes.buffers.count < RESERVED_BUFFERS || sizes.buffers.bytes > 0xffff) {
      throw new RangeError(`netmap memory ${id}: sizes that cannot be`);
    }
    this.id = id;
    this.isPrivate = isPrivate;
    this.sizes = sizes;
    this.#ifs = new ObjectPool(sizes.ifs, 0);
    this.#rings = new ObjectPool(sizes.rings, 0);
    this.#buffers = new ObjectPool(sizes.buffers, RESERVED_BUFFERS);
  }

  get ifs(): ObjectPool {
    return this.#ifs;
  }
  get rings(): ObjectPool {
    return this.#rings;
  }
  get buffers(): ObjectPool {
    return this.#buffers;
  }

  /** netmap_mem_config: other pools, in a new region. Nobody may use the old one. */
  resize(sizes: MemorySizes): void {
    if (this.active > 0) throw new Error(`netmap memory ${this.id} is in use`);
    this.sizes = sizes;
    this.#ifs = new ObjectPool(sizes.ifs, 0);
    this.#rings = new ObjectPool(sizes.rings, 0);
    this.#buffers = new ObjectPool(sizes.buffers, RESERVED_BUFFERS);
    this.#region = undefined;
    this.#bytes = undefined;
    this.#view = undefined;
  }

  /** The bytes themselves, made when first wanted. */
  get region(): SharedArrayBuffer {
    this.#region ??= new SharedArrayBuffer(this.bytesTotal);
    return this.#region;
  }
  get bytes(): Uint8Array<SharedArrayBuffer> {
    this.#bytes ??= new Uint8Array(this.region);
    return this.#bytes;
  }
  get view(): DataView<SharedArrayBuffer> {
    this.#view ??= new DataView(this.region);
    return this.#view;
  }

  get bytesTotal(): number {
    return this.ifs.memTotal + this.rings.memTotal + this.buffers.memTotal;
  }

  /** NETMAP_BUF_SIZE */
  get bufSize(): number {
    return this.buffers.objSize;
  }
  /** Buffer indexes stay below this. */
  get objTotal(): number {
    return this.buffers.objTotal;
  }
  /** Byte of the region where buffer 0 begins. */
  get buffersAt(): number {
    return this.ifs.memTotal + this.rings.memTotal;
  }

  /** An index that a slot may carry. */
  isBuffer(index: number): boolean {
    return index >= RESERVED_BUFFERS && index < this.buffers.objTotal;
  }

  /** NMB: the buffer's first byte in the region. What is no buffer leads to buffer 0. */
  bufferAt(index: number): number {
    return this.buffersAt + (index < this.buffers.objTotal ? index : 0) * this.buffers.objSize;
  }

  /** netmap_mem_finalize, netmap_mem_deref: a registration begins and ends. */
  acquire(): void {
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

  /** Room for so many bytes of netmap_if: its place in the region, or -1. */
  ifMalloc(bytes: number): number {
    if (bytes > this.ifs.objSize) return -1;
    const i = this.ifs.take();
    return i < 0 ? -1 : i * this.ifs.objSize;
  }
  ifFree(at: number): void {
    this.ifs.give(at / this.ifs.objSize);
  }

  ringMalloc(bytes: number): number {
    if (bytes > this.rings.objSize) return -1;
    const i = this.rings.take();
    return i < 0 ? -1 : this.ifs.memTotal + i * this.rings.objSize;
  }
  ringFree(at: number): void {
    this.rings.give((at - this.ifs.memTotal) / this.rings.objSize);
  }

  /** netmap_new_bufs: a buffer for every slot, or ENOMEM and none. */
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

  /** netmap_free_bufs: the buffers that the slots name; 0 and 1 stand for none. */
  freeBuffers(ring: NetmapRing): void {
    for (let i = 0; i < ring.numSlots; i++) {
      const index = ring.bufIdx(i);
      if (index >= RESERVED_BUFFERS && !this.buffers.give(index)) this.badFrees++;
    }
  }

  /**
   * netmap_extra_alloc: a list of up to `n` buffers, each beginning with the index of the next and
   * the last with 0. Returns how many there are; `head` gets the first, or 0.
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

  /** netmap_extra_free: returns how many buffers the list gave back. It may be anything, even a ring. */
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
