/**
 * A row of maps for the buffers of one ring: each load is one piece in one segment, which the device
 * may write and not read. Their state lies in arrays of the bus space (LoadTable), so that a frame touches a few
 * bytes of them in place of an object of its own.
 *
 *   bus space   | map 0    .guard. | map 1    .guard. | ...     `stride` granules each
 *   LoadTable   [granule]          [granule]                    one entry used for each map
 *
 * Rules, faults and addresses are those of DmaMap.
 */
import { type BusAddress, busAddress } from "../../shared/wire/records.ts";
import { Errno } from "./errno.ts";
import { GRANULE_BYTES } from "./granules.ts";
import { SyncOp } from "./map.ts";
import { DmaMisuse, type MisuseCode } from "./misuse.ts";
import type { DmaSpace } from "./space.ts";
import type { DmaTag } from "./tag.ts";

const TWO_32 = 2 ** 32;
const MAX_GENERATION = 0xffff;
const NO_BYTES = new Uint8Array(0);

/** The loads of all rows of a space, by the first granule of a map. */
export class LoadTable {
  /** Generation that accesses must have now; 0 while nothing is loaded. */
  current = new Uint16Array(0);
  /** Latest generation. For a granule without an owner it is that of the last owner. */
  latest = new Uint16Array(0);
  /** The piece: memory, offset in that memory, bytes. */
  readonly buffers: Uint8Array[] = [];
  ats = new Uint32Array(0);
  lengths = new Uint32Array(0);

  /** Extends the arrays to `end` granules. */
  fit(end: number): void {
    const longer = <A extends Uint16Array | Uint32Array>(to: A, from: A): A => {
      to.set(from);
      return to;
    };
    this.current = longer(new Uint16Array(end), this.current);
    this.latest = longer(new Uint16Array(end), this.latest);
    this.ats = longer(new Uint32Array(end), this.ats);
    this.lengths = longer(new Uint32Array(end), this.lengths);
    while (this.buffers.length < end) this.buffers.push(NO_BYTES);
  }
}

export class MapRow {
  readonly tag: DmaTag;
  readonly count: number;
  /** First granule of map 0, and granules of each map. */
  readonly first: number;
  readonly stride: number;
  /** By map: set to 1 while a descriptor names it. An unload then is a fault with a name. */
  readonly busy: Uint8Array;
  readonly #space: DmaSpace;
  readonly #bytes: number;
  #destroyed = false;

  /** Called by DmaTag.createRow. `bytes` is the highest number of bytes of a load. */
  constructor(
    space: DmaSpace,
    tag: DmaTag,
    first: number,
    stride: number,
    bytes: number,
    count: number,
  ) {
    this.#space = space;
    this.tag = tag;
    this.first = first;
    this.stride = stride;
    this.#bytes = bytes;
    this.count = count;
    this.busy = new Uint8Array(count);
  }

  isLoaded(i: number): boolean {
    return this.#space.loads.current[this.#granule(i)] !== 0;
  }

  /** bus_dmamap_load(9): as DmaMap.load. Returns EINVAL for no bytes, or more than the row's. */
  load(i: number, buffer: Uint8Array, at: number, length: number): number {
    const granule = this.#granule(i);
    const { current, latest, buffers, ats, lengths } = this.#space.loads;
    if (current[granule] !== 0) this.#misuse("MAP_LOADED", i, "loaded while loaded");
    if (!(at >= 0 && length >= 0 && at + length <= buffer.byteLength)) {
      const what = `${length} bytes at ${at} of a buffer of ${buffer.byteLength}`;
      this.#misuse("LOAD_RANGE", i, what);
    }
    if (length === 0 || length > this.#bytes) return Errno.EINVAL;
    const last = latest[granule]!;
    const generation = last === MAX_GENERATION ? 1 : last + 1;
    latest[granule] = generation;
    current[granule] = generation;
    // The buffers of a ring mostly share one memory.
    if (buffers[granule] !== buffer) buffers[granule] = buffer;
    ats[granule] = at;
    lengths[granule] = length;
    return 0;
  }

  /**
   * bus_dmamap_sync(9), PREREAD or POSTREAD. It is checked and moves nothing, because device writes
   * go straight to the buffer.
   */
  sync(i: number, op: SyncOp): void {
    if (!this.isLoaded(i)) this.#misuse("MAP_NOT_LOADED", i, "synced while not loaded");
    if (op === SyncOp.PREREAD || op === SyncOp.POSTREAD) return;
    this.#misuse("SYNC_DIRECTION", i, `sync ${op}, but the device only writes it`);
  }

  /** Bus address of the loaded bytes, 48 bits. */
  address(i: number): BusAddress {
    const granule = this.#granule(i);
    const generation = this.#space.loads.current[granule]!;
    if (generation === 0) this.#misuse("MAP_NOT_LOADED", i, "address while not loaded");
    return busAddress(generation * TWO_32 + granule * GRANULE_BYTES);
  }

  /** bus_dmamap_unload(9): ends all access of the device to the loaded bytes. */
  unload(i: number): void {
    const granule = this.#granule(i);
    const { current, lengths } = this.#space.loads;
    if (current[granule] === 0) this.#misuse("MAP_NOT_LOADED", i, "unloaded while not loaded");
    if (this.busy[i] !== 0) {
      this.busy[i] = 0;
      this.#space.unloadedBusy(this.name(i), this.address(i), lengths[granule]!);
    }
    current[granule] = 0;
  }

  /** bus_dmamap_destroy(9), of all maps. Unload them before. */
  destroy(): void {
    if (this.#destroyed)
      throw new DmaMisuse("MAP_DESTROYED", `${this.tag.name} row: destroyed twice`);
    for (let i = 0; i < this.count; i++) {
      if (this.isLoaded(i)) this.#misuse("MAP_LOADED", i, "destroyed while loaded");
    }
    this.#destroyed = true;
    this.tag.rowGone(this);
  }

  name(i: number): string {
    return `${this.tag.name} map ${i}`;
  }

  #granule(i: number): number {
    if (this.#destroyed) this.#misuse("MAP_DESTROYED", i, "used after destroy");
    return this.first + i * this.stride;
  }

  #misuse(code: MisuseCode, i: number, what: string): never {
    throw new DmaMisuse(code, `${this.name(i)}: ${what}`);
  }
}
