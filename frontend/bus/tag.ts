/** A DMA tag: what a device can take, and which way its bytes go. bus_dma_tag_create(9). */
import { isPowerOfTwo } from "../../shared/ring/phase.ts";
import { Limits } from "../../shared/wire/transactions.ts";
import { GRANULE_BYTES, granulesFor } from "./granules.ts";
import { DmaMap } from "./map.ts";
import { BusSpaceExhausted, DmaMisuse } from "./misuse.ts";
import type { DmaSpace } from "./space.ts";

/** The device reads (toDevice), writes (fromDevice), or both. */
export type DmaDirection = "toDevice" | "fromDevice" | "both";

export interface TagParams {
  /** For faults, logs and DmaMisuse: `ena0 rx`. */
  name: string;
  /** Power of two, bytes. Every segment begins at a multiple of it. */
  alignment: number;
  /** Power of two, bytes, or 0 for none: no segment crosses a multiple of it. */
  boundary: number;
  /** Most bytes of one load. */
  maxSize: number;
  /** Most segments of one load. */
  nSegments: number;
  /** Most bytes of one segment. */
  maxSegSize: number;
  direction: DmaDirection;
}

/**
 * Pieces of a load start this far apart at least, and no map ends at the next one's first byte.
 * The byte in between belongs to nobody: an access that runs over the end of a piece faults
 * instead of reaching the next, and two pushes never look like one.
 */
const GUARD_BYTES = 64;

export class DmaTag {
  readonly params: Readonly<TagParams>;
  readonly name: string;
  readonly deviceMayRead: boolean;
  readonly deviceMayWrite: boolean;
  /** Segments are cut at this many bytes: maxSegSize, within boundary and one wire record. */
  readonly segmentBytes: number;
  /** Bus addresses at which pieces may start are multiples of it. */
  readonly pieceAlignment: number;
  /** Granules that every map of this tag reserves, and the multiple at which they start. */
  readonly granules: number;
  readonly granuleAlignment: number;
  readonly #space: DmaSpace;
  #maps = 0;
  #created = 0;
  #destroyed = false;

  /** Through DmaSpace.createTag. */
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

  /** bus_dmamap_create(9). Throws BusSpaceExhausted when the 32 bits are full. */
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

  /** By DmaMap.destroy. */
  mapGone(map: DmaMap, granule: number): void {
    this.#space.leaveMap(map, granule, this.granules);
    this.#space.granules.give(granule, this.granules);
    this.#maps--;
  }

  /** bus_dma_tag_destroy(9): after the last of its maps. */
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

/** FreeBSD folds the boundary into the segment size in the same way. */
function segmentBytesOf(p: TagParams): number {
  const most = p.boundary === 0 ? p.maxSegSize : Math.min(p.maxSegSize, p.boundary);
  return Math.min(most, Limits.RECORD_BYTES);
}

/**
 * Room for every piece to start aligned and with its guard. A piece moves up to a boundary only by
 * less than its own length, so all such moves together take less than maxSize.
 */
function reserveBytes(p: TagParams, pieceAlignment: number): number {
  const moves = p.boundary === 0 ? 0 : p.maxSize;
  return p.maxSize + moves + p.nSegments * pieceAlignment;
}

/** Where a boundary is wider than a granule, a map that fits inside one does not straddle it. */
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
