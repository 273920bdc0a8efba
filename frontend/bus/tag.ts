/** A DMA tag (bus_dma_tag_create(9)): limits of a device's accesses, and their direction. */
import { isPowerOfTwo } from "../../shared/ring/phase.ts";
import { Limits } from "../../shared/wire/protocol.ts";
import { GRANULE_BYTES, granulesFor } from "./granules.ts";
import { DmaMap } from "./map.ts";
import { MapRow } from "./map-row.ts";
import { BusSpaceExhausted, DmaMisuse } from "./misuse.ts";
import type { DmaSpace } from "./space.ts";

/** Direction of the bytes: the device reads (toDevice), writes (fromDevice), or both. */
export type DmaDirection = "toDevice" | "fromDevice" | "both";

export interface TagParams {
  /** Name for faults, logs and DmaMisuse, for example `ena0 rx`. */
  name: string;
  /** Alignment in bytes, a power of two. Every segment begins at a multiple of the alignment. */
  alignment: number;
  /** Boundary in bytes, a power of two, or 0. No segment crosses a multiple of the boundary. */
  boundary: number;
  /** Highest number of bytes of one load. */
  maxSize: number;
  /** Highest number of segments of one load. */
  nSegments: number;
  /** Highest number of bytes of one segment. */
  maxSegSize: number;
  direction: DmaDirection;
}

/**
 * Least distance (bytes) between the starts of two pieces. No map ends at the first byte of the
 * next map. The byte in between belongs to nobody: an access beyond the end of a piece faults and
 * does not reach the next piece, and two pushes are never adjacent.
 */
const GUARD_BYTES = 64;

export class DmaTag {
  readonly params: Readonly<TagParams>;
  readonly name: string;
  readonly deviceMayRead: boolean;
  readonly deviceMayWrite: boolean;
  /** Longest segment in bytes: maxSegSize, limited by the boundary and by one wire record. */
  readonly segmentBytes: number;
  /** Alignment (bytes) of the bus addresses at which pieces may start. */
  readonly pieceAlignment: number;
  /** Number of granules that every map of this tag reserves, and the alignment of their start. */
  readonly granules: number;
  readonly granuleAlignment: number;
  readonly #space: DmaSpace;
  #maps = 0;
  #created = 0;
  #destroyed = false;

  /** Called by DmaSpace.createTag. */
  constructor(space: DmaSpace, params: TagParams) {
    check(params);
    this.#space = space;
    this.params = { ...params };
    this.name = params.name;
    this.deviceMayRead = params.direction !== "fromDevice";
    this.deviceMayWrite = params.direction !== "toDevice";
    this.segmentBytes = segmentBytesOf(params);
    this.pieceAlignment = Math.max(params.alignment, GUARD_BYTES);
    this.granules = granulesFor(reserveBytes(params, this.pieceAlignment));
    this.granuleAlignment = baseAlignment(params, this.granules) / GRANULE_BYTES;
  }

  get maps(): number {
    return this.#maps;
  }

  /** Creates a map, as bus_dmamap_create(9) does. Throws BusSpaceExhausted without free space. */
  createMap(): DmaMap {
    if (this.#destroyed) {
      throw new DmaMisuse("TAG_DESTROYED", `tag ${this.name}: map created after destroy`);
    }
    const granule = this.#space.granules.take(this.granules, this.granuleAlignment);
    if (granule === 0) {
      throw new BusSpaceExhausted(`tag ${this.name}: no bus space for map ${this.#created}`);
    }
    const map = new DmaMap(this.#space, this, this.#created++, granule);
    this.#space.enterMap(map, granule, this.granules);
    this.#maps++;
    return map;
  }

  /**
   * Creates `count` maps for one ring of buffers that the device only writes, as
   * bus_dmamap_create(9) does. Each loads one piece of at most `bytes` bytes. Throws BusSpaceExhausted without free space.
   */
  createRow(count: number, bytes: number): MapRow {
    const { maxSize, boundary } = this.params;
    if (this.#destroyed) {
      throw new DmaMisuse("TAG_DESTROYED", `tag ${this.name}: row created after destroy`);
    }
    if (
      this.params.direction !== "fromDevice" ||
      boundary !== 0 ||
      bytes > Math.min(maxSize, this.segmentBytes)
    ) {
      throw new DmaMisuse("TAG_PARAMS", `tag ${this.name}: no row for loads of ${bytes} bytes`);
    }
    const stride = granulesFor(bytes + this.pieceAlignment);
    const align = Math.max(1, this.params.alignment / GRANULE_BYTES);
    const step = Math.ceil(stride / align) * align;
    const first = this.#space.granules.take(count * step, align);
    if (first === 0)
      throw new BusSpaceExhausted(`tag ${this.name}: no bus space for ${count} maps`);
    const row = new MapRow(this.#space, this, first, step, bytes, count);
    this.#space.enterRow(row);
    this.#maps += count;
    return row;
  }

  /** Called by MapRow.destroy. */
  rowGone(row: MapRow): void {
    this.#space.leaveRow(row);
    this.#space.granules.give(row.first, row.count * row.stride);
    this.#maps -= row.count;
  }

  /** Called by DmaMap.destroy. */
  mapGone(map: DmaMap, granule: number): void {
    this.#space.leaveMap(map, granule, this.granules);
    this.#space.granules.give(granule, this.granules);
    this.#maps--;
  }

  /** Destroys the tag, as bus_dma_tag_destroy(9) does. Destroy all its maps before. */
  destroy(): void {
    if (this.#destroyed) throw new DmaMisuse("TAG_DESTROYED", `tag ${this.name}: destroyed twice`);
    if (this.#maps > 0) {
      throw new DmaMisuse(
        "TAG_IN_USE",
        `tag ${this.name}: destroyed with ${this.#maps} maps alive`,
      );
    }
    this.#destroyed = true;
  }
}

/** Returns the longest segment. FreeBSD also limits the segment size by the boundary. */
function segmentBytesOf(p: TagParams): number {
  const most = p.boundary === 0 ? p.maxSegSize : Math.min(p.maxSegSize, p.boundary);
  return Math.min(most, Limits.RECORD_BYTES);
}

/**
 * Returns the bytes that let every piece start aligned and with its guard. A piece moves up to a
 * boundary by less than its own length, so all such moves together need less than maxSize.
 */
function reserveBytes(p: TagParams, pieceAlignment: number): number {
  const moves = p.boundary === 0 ? 0 : p.maxSize;
  return p.maxSize + moves + p.nSegments * pieceAlignment;
}

/** Returns the alignment of a map. A map that fits between two boundaries crosses none of them. */
function baseAlignment(p: TagParams, granules: number): number {
  const reserved = 2 ** Math.ceil(Math.log2(granules * GRANULE_BYTES));
  return Math.max(GRANULE_BYTES, p.alignment, Math.min(p.boundary, reserved));
}

function check(p: TagParams): void {
  const wrong = (what: string): never => {
    throw new DmaMisuse("TAG_PARAMS", `tag ${p.name}: ${what}`);
  };
  const size = (n: number) => Number.isInteger(n) && n > 0 && n <= 2 ** 31;
  if (!isPowerOfTwo(p.alignment)) wrong(`alignment ${p.alignment} is not a power of two`);
  if (p.boundary !== 0 && !isPowerOfTwo(p.boundary)) {
    wrong(`boundary ${p.boundary} is neither 0 nor a power of two`);
  }
  if (!size(p.maxSize)) wrong(`maxSize ${p.maxSize}`);
  if (!size(p.nSegments) || p.nSegments > 65536) wrong(`nSegments ${p.nSegments}`);
  if (!size(p.maxSegSize)) wrong(`maxSegSize ${p.maxSegSize}`);
  const cut = segmentBytesOf(p);
  if (p.maxSize > cut && cut % p.alignment !== 0) {
    wrong(`segments cut at ${cut} bytes could not all begin at multiples of ${p.alignment}`);
  }
}
