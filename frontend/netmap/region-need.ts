/**
 * The size of a memory region for ports that will be open at the same time: the sum of their
 * netmap_ifs, rings and buffers.
 *
 *   interface   a ring for each of its queues and host rings, a buffer for each slot, a netmap_if
 *   opening     one netmap_if
 *   pipe        two openings; both ends have rings and share one set of buffers
 */
import { Errno } from "../bus/errno.ts";
import type { RingCounts } from "./adapter.ts";
import { NetmapError } from "./errors.ts";
import { ifBytes, ringBytes } from "./layout.ts";
import { type MemorySizes, RESERVED_BUFFERS } from "./memory.ts";

/** Offsets into a region are kept in 32-bit integers. */
export const MAX_REGION_BYTES = 2 ** 31 - 1;

export class RegionNeed {
  #ifs = 0;
  #ifBytes = 0;
  #rings = 0;
  #ringBytes = 0;
  #buffers = 0;

  /** Need of a whole interface, with a host ring or its placeholder in each direction. */
  addInterface(counts: RingCounts): void {
    this.addOpening(counts);
    this.#addRings(allRings(counts), counts);
    this.#buffers += slotsOf(counts) + counts.numTxDesc + counts.numRxDesc;
  }

  addOpening(counts: RingCounts): void {
    this.#ifs++;
    this.#ifBytes = Math.max(this.#ifBytes, ifBytes(allRings(counts)));
  }

  addPipe(counts: RingCounts): void {
    this.addOpening(counts);
    this.addOpening(counts);
    this.#addRings(2 * allRings(counts), counts);
    this.#buffers += slotsOf(counts);
  }

  #addRings(rings: number, { numTxDesc, numRxDesc }: RingCounts): void {
    this.#rings += rings;
    this.#ringBytes = Math.max(this.#ringBytes, ringBytes(Math.max(numTxDesc, numRxDesc)));
  }

  /** The larger of `least` and the need plus `spare`. */
  sizes(least: MemorySizes, spare: MemorySizes): MemorySizes {
    const { ifs, rings, buffers } = least;
    return {
      ifs: {
        count: Math.max(ifs.count, this.#ifs + spare.ifs.count),
        bytes: Math.max(ifs.bytes, this.#ifBytes),
      },
      rings: {
        count: Math.max(rings.count, this.#rings + spare.rings.count),
        bytes: Math.max(rings.bytes, this.#ringBytes),
      },
      buffers: {
        count: Math.max(buffers.count, this.#buffers + RESERVED_BUFFERS + spare.buffers.count),
        bytes: buffers.bytes,
      },
    };
  }
}

/** A port has one more ring in each direction: the host ring, or its placeholder. */
const allRings = ({ numTxRings, numRxRings }: RingCounts): number => numTxRings + numRxRings + 2;

const slotsOf = ({ numTxRings, numTxDesc, numRxRings, numRxDesc }: RingCounts): number =>
  numTxRings * numTxDesc + numRxRings * numRxDesc;

/** Throws a NetmapError (ENOMEM) with the size of `what` when no region can be that large. */
export function checkRegion(sizes: MemorySizes, what: string): void {
  const { ifs, rings, buffers } = sizes;
  const bytes = ifs.count * ifs.bytes + rings.count * rings.bytes + buffers.count * buffers.bytes;
  if (bytes <= MAX_REGION_BYTES) return;
  const most = Math.floor(MAX_REGION_BYTES / buffers.bytes);
  throw new NetmapError(
    Errno.ENOMEM,
    `${what}: needs ${buffers.count} buffers of ${buffers.bytes} bytes, and a memory region has at most about ${most}: use fewer rings or pipes, or fewer slots`,
  );
}
