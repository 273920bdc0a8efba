/**
 * A DMA map: buffers of the driver that the device may access while they are loaded.
 *
 *   bus space      | piece 0        |..guard..| piece 1    |......... reserved ...|
 *   segments       | seg 0  | seg 1 |         | seg 2      |
 *   memory         buffers[0] from its offset  buffers[1] from its offset
 *
 * A piece is one buffer of a load, contiguous on the bus and in memory. A driver writes segments
 * into descriptors. A segment is a piece, or a part of a piece that maxSegSize or the boundary cut.
 * Address checks use pieces, so a device may cross a cut, but never from piece to piece.
 *
 * In the address of a byte, bits 0..31 are the place in the function's bus space, and bits 32..47
 * are the generation of the load, never 0. The map chooses places independently of the buffer's
 * place in memory. Alignment always holds, so nothing is ever bounced.
 *
 * Source: bus_dma(9).
 */
import { Op } from "../../shared/wire/catalogue.ts";
import { type BusAddress, busAddress, RecordType, Space } from "../../shared/wire/records.ts";
import type { DeviceLink } from "./device-link.ts";
import { Errno } from "./errno.ts";
import { GRANULE_BYTES } from "./granules.ts";
import { DmaMisuse } from "./misuse.ts";
import type { DmaSpace } from "./space.ts";
import type { DmaTag } from "./tag.ts";

/** BUS_DMASYNC_*, FreeBSD sys/bus_dma.h. Values may be combined: PREREAD | PREWRITE. */
export const SyncOp = { PREREAD: 1, POSTREAD: 2, PREWRITE: 4, POSTWRITE: 8 } as const;
export type SyncOp = number;

const FROM_DEVICE_OPS = SyncOp.PREREAD | SyncOp.POSTREAD;
const TO_DEVICE_OPS = SyncOp.PREWRITE | SyncOp.POSTWRITE;
const ALL_OPS = FROM_DEVICE_OPS | TO_DEVICE_OPS;

const TWO_32 = 2 ** 32;
const MAX_GENERATION = 0xffff;
const NO_BYTES = new Uint8Array(0);

/** Pieces and segments of a load of several, with room for `most` of each. */
class Pieces {
  /** Memory, offset in that memory, place from the map's base, bytes. */
  readonly buffers: Uint8Array[];
  readonly ats: Int32Array;
  readonly places: Int32Array;
  readonly lengths: Int32Array;
  count = 0;
  /** Segments: place from the map's base, bytes. */
  readonly segPlaces: Int32Array;
  readonly segLengths: Int32Array;

  constructor(most: number) {
    this.buffers = new Array<Uint8Array>(most).fill(NO_BYTES);
    this.ats = new Int32Array(most);
    this.places = new Int32Array(most);
    this.lengths = new Int32Array(most);
    this.segPlaces = new Int32Array(most);
    this.segLengths = new Int32Array(most);
  }
}

export class DmaMap {
  // Nearly every load is one piece in one segment. It needs these fields only, which lie together.
  /** Generation that accesses must have now; 0 while nothing is loaded. Read by DmaSpace. */
  current = 0;
  /** Generation of the latest load, also after its unload. */
  generation: number;
  /** First piece of the load. */
  pieceBuffer: Uint8Array = NO_BYTES;
  pieceAt = 0;
  pieceLength = 0;
  #segments = 0;
  /** Set by drivers while a descriptor names this map. An unload then is a fault with a name. */
  busy = false;
  readonly deviceMayWrite: boolean;
  readonly deviceMayRead: boolean;
  /** Place in bus space, below 2^32: the address without its generation. */
  readonly base: number;
  /**
   * Highest number of bytes for which one piece is always one segment at `base`; 0 with a boundary.
   */
  readonly #plainBytes: number;
  readonly #space: DmaSpace;
  /** The pieces of a load that is not plain. Made for the first such load. */
  #several: Pieces | undefined;
  /** True while the load is in `#several`. */
  #isSeveral = false;
  readonly tag: DmaTag;
  /** Number of the map in its tag: 0 for the first. */
  readonly index: number;
  readonly #granule: number;
  #destroyed = false;

  /** Called by DmaTag.createMap. */
  constructor(space: DmaSpace, tag: DmaTag, index: number, granule: number) {
    this.tag = tag;
    this.base = granule * GRANULE_BYTES;
    this.generation = space.lastGeneration(granule, tag.granules);
    this.deviceMayRead = tag.deviceMayRead;
    this.deviceMayWrite = tag.deviceMayWrite;
    this.#space = space;
    this.index = index;
    this.#granule = granule;
    const { boundary, maxSize } = tag.params;
    this.#plainBytes = boundary === 0 ? Math.min(tag.segmentBytes, maxSize) : 0;
  }

  get name(): string {
    return `${this.tag.name} map ${this.index}`;
  }

  get loaded(): boolean {
    return this.current !== 0;
  }

  /** Number of segments of this load; 0 while not loaded. */
  get segmentCount(): number {
    return this.#segments;
  }

  /** Returns the bus address of segment `i`, 48 bits. */
  segmentAddress(i: number): BusAddress {
    this.#needSegment(i);
    return this.#address(this.#isSeveral ? this.#several!.segPlaces[i]! : 0);
  }

  /** Returns the bytes of segment `i`. */
  segmentLength(i: number): number {
    this.#needSegment(i);
    return this.#isSeveral ? this.#several!.segLengths[i]! : this.pieceLength;
  }

  /**
   * bus_dmamap_load(9): lets the device access buffer[at .. at + length). Returns 0. Loads nothing
   * and returns EFBIG for more than nSegments, or EINVAL for no bytes or more than maxSize.
   */
  load(buffer: Uint8Array, at: number, length: number): number {
    if (this.#loadPlain(buffer, at, length)) return 0;
    return this.loadPieces([buffer], [at], [length], 1);
  }

  /**
   * bus_dmamap_load_mbuf_sg(9): loads `count` pieces. Piece i is buffers[i] from offsets[i],
   * lengths[i] bytes. Skips empty pieces. Returns as `load` does.
   */
  loadPieces(
    buffers: readonly Uint8Array[],
    offsets: ArrayLike<number>,
    lengths: ArrayLike<number>,
    count: number,
  ): number {
    if (count === 1 && this.#loadPlain(buffers[0]!, offsets[0]!, lengths[0]!)) return 0;
    if (this.current !== 0) this.#misuse("MAP_LOADED", "loaded while loaded");
    if (this.#destroyed) this.#misuse("MAP_DESTROYED", "loaded after destroy");
    const { maxSize, nSegments } = this.tag.params;
    this.#several ??= new Pieces(nSegments);
    this.#isSeveral = true;
    const pieces = this.#several;
    let total = 0;
    let place = 0;
    for (let i = 0; i < count; i++) {
      const buffer = buffers[i]!;
      const at = offsets[i]!;
      const length = lengths[i]!;
      if (!(at >= 0 && length >= 0 && at + length <= buffer.byteLength)) {
        this.#clear();
        this.#misuse("LOAD_RANGE", `${length} bytes at ${at} of a buffer of ${buffer.byteLength}`);
      }
      if (length === 0) continue;
      total += length;
      const error = total > maxSize ? Errno.EINVAL : this.#addPiece(buffer, at, length, place);
      if (error !== 0) {
        this.#clear();
        return error;
      }
      place = pieces.places[pieces.count - 1]! + length;
    }
    if (total === 0) {
      this.#clear();
      return Errno.EINVAL;
    }
    this.pieceBuffer = pieces.buffers[0]!;
    this.pieceAt = pieces.ats[0]!;
    this.pieceLength = pieces.lengths[0]!;
    this.#begin();
    return 0;
  }

  /**
   * Loads one piece as one segment, the case of nearly every load. Returns false and changes
   * nothing for other loads, and for misuse, which `loadPieces` reports.
   */
  #loadPlain(buffer: Uint8Array, at: number, length: number): boolean {
    if (!(length > 0 && length <= this.#plainBytes && at >= 0)) return false;
    if (at + length > buffer.byteLength || this.current !== 0 || this.#destroyed) return false;
    this.#segments = 1;
    this.pieceBuffer = buffer;
    this.pieceAt = at;
    this.pieceLength = length;
    this.#begin();
    return true;
  }

  /** Completes a load: starts a new generation, with which the device may access the pieces. */
  #begin(): void {
    this.generation = this.generation === MAX_GENERATION ? 1 : this.generation + 1;
    this.current = this.generation;
  }

  /**
   * bus_dmamap_sync(9) of all loaded bytes. PREWRITE sends the bytes ahead of the doorbell. The
   * other three move nothing here, because device writes go straight to the buffer.
   */
  sync(op: SyncOp): void {
    this.checkSync(op);
    if ((op & SyncOp.PREWRITE) === 0) return;
    const writer = this.#space.link?.writer;
    if (writer === undefined) return;
    if (!this.#isSeveral) {
      this.#push(writer, 0, this.pieceBuffer, this.pieceAt, this.pieceLength);
      return;
    }
    const { buffers, ats, places, lengths, segPlaces, segLengths } = this.#several!;
    let piece = 0;
    for (let i = 0; i < this.#segments; i++) {
      const place = segPlaces[i]!;
      while (place >= places[piece]! + lengths[piece]!) piece++;
      const at = ats[piece]! + place - places[piece]!;
      this.#push(writer, place, buffers[piece]!, at, segLengths[i]!);
    }
  }

  #push(
    writer: DeviceLink["writer"],
    place: number,
    src: Uint8Array,
    at: number,
    length: number,
  ): void {
    writer.column(Op.PUSH, Space.BUS, this.#address(place), RecordType.FRAME, src, at, length);
  }

  /** bus_dmamap_unload(9): ends all access of the device to the loaded bytes. */
  unload(): void {
    if (this.current === 0) this.#misuse("MAP_NOT_LOADED", "unloaded while not loaded");
    if (this.busy) {
      this.busy = false;
      this.#space.unloadedBusy(this.name, this.#address(0), this.#loadedBytes());
    }
    this.current = 0;
    this.#clear();
  }

  /** bus_dmamap_destroy(9): destroys the map. Unload it before. */
  destroy(): void {
    if (this.#destroyed) this.#misuse("MAP_DESTROYED", "destroyed twice");
    if (this.current !== 0) this.#misuse("MAP_LOADED", "destroyed while loaded");
    this.#destroyed = true;
    this.tag.mapGone(this, this.#granule);
  }

  /** Returns the index of the piece that contains the range at `place` (from `base`), or -1. */
  pieceHolding(place: number, length: number): number {
    if (!this.#isSeveral) return place >= 0 && place + length <= this.pieceLength ? 0 : -1;
    const { places, lengths, count } = this.#several!;
    for (let i = 0; i < count; i++) {
      const start = places[i]!;
      if (place < start) return -1;
      if (place + length <= start + lengths[i]!) return i;
    }
    return -1;
  }

  pieceMemory(i: number): Uint8Array {
    return this.#isSeveral ? this.#several!.buffers[i]! : this.pieceBuffer;
  }

  /** Returns the offset in pieceMemory(i) of the byte at `place`. */
  pieceOffset(i: number, place: number): number {
    if (!this.#isSeveral) return this.pieceAt + place;
    const { ats, places } = this.#several!;
    return ats[i]! + place - places[i]!;
  }

  #address(place: number): BusAddress {
    return busAddress(this.current * TWO_32 + this.base + place);
  }

  /** Places one piece at or after `from` and cuts it into segments. Returns 0 or an errno. */
  #addPiece(buffer: Uint8Array, at: number, length: number, from: number): number {
    const { nSegments, boundary } = this.tag.params;
    const pieces = this.#several!;
    if (pieces.count === nSegments) return Errno.EFBIG;
    let place = from === 0 ? 0 : roundUp(from + 1, this.tag.pieceAlignment);
    if (boundary !== 0 && length <= boundary) {
      // A piece that fits between two boundaries must not be cut.
      const line = roundUp(this.base + place + 1, boundary) - this.base;
      if (place + length > line) place = line;
    }
    const reserved = this.tag.granules * GRANULE_BYTES;
    if (place + length > reserved) {
      throw new Error(`${this.name}: piece at ${place} leaves the ${reserved} bytes reserved`);
    }
    const i = pieces.count++;
    pieces.buffers[i] = buffer;
    pieces.ats[i] = at;
    pieces.places[i] = place;
    pieces.lengths[i] = length;

    const most = this.tag.segmentBytes;
    for (let cut = place; cut < place + length; ) {
      if (this.#segments === nSegments) return Errno.EFBIG;
      let end = Math.min(cut + most, place + length);
      if (boundary !== 0) {
        end = Math.min(end, roundUp(this.base + cut + 1, boundary) - this.base);
      }
      pieces.segPlaces[this.#segments] = cut;
      pieces.segLengths[this.#segments] = end - cut;
      this.#segments++;
      cut = end;
    }
    return 0;
  }

  #clear(): void {
    if (this.#isSeveral) {
      const pieces = this.#several!;
      pieces.buffers.fill(NO_BYTES, 0, pieces.count);
      pieces.count = 0;
      this.#isSeveral = false;
    }
    this.pieceBuffer = NO_BYTES;
    this.pieceLength = 0;
    this.#segments = 0;
  }

  #loadedBytes(): number {
    if (!this.#isSeveral) return this.pieceLength;
    const { lengths, count } = this.#several!;
    let bytes = 0;
    for (let i = 0; i < count; i++) bytes += lengths[i]!;
    return bytes;
  }

  /** Throws DmaMisuse unless `op` may be synced now: loaded, known, and of the right direction. */
  checkSync(op: SyncOp): void {
    if (this.current === 0) this.#misuse("MAP_NOT_LOADED", "synced while not loaded");
    if (op === 0 || (op & ~ALL_OPS) !== 0) this.#misuse("SYNC_OP", `sync of unknown kind ${op}`);
    if ((op & FROM_DEVICE_OPS) !== 0 && !this.deviceMayWrite) {
      this.#misuse("SYNC_DIRECTION", "READ sync, but the device never writes it");
    }
    if ((op & TO_DEVICE_OPS) !== 0 && !this.deviceMayRead) {
      this.#misuse("SYNC_DIRECTION", "WRITE sync, but the device never reads it");
    }
  }

  #needSegment(i: number): void {
    if (i >= 0 && i < this.#segments) return;
    this.#misuse("SEGMENT_INDEX", `segment ${i} of ${this.#segments}`);
  }

  #misuse(code: DmaMisuse["code"], what: string): never {
    throw new DmaMisuse(code, `${this.name}: ${what}`);
  }
}

/** `alignment` is a power of two. */
const roundUp = (n: number, alignment: number): number => Math.ceil(n / alignment) * alignment;
