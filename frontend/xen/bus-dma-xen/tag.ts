/**
 * A Xen DMA tag is a machine tag and the domain to which its maps are granted.
 *
 * The machine tag (the original's shadow) decides where buffers lie on the bus. It adds one
 * restriction to the driver's parameters: no segment crosses a page, because a grant covers a page.
 * Where segments may be whole pages, every buffer of a load also begins on a page of its own, so
 * that no page is granted twice.
 *
 * Source: prati0100/freebsd: sys/x86/xen/busdma_xen.c (xen_bus_dma_tag_create and so on).
 */
import { GRANT_PAGE_BYTES } from "../../../shared/xen/grant.ts";
import { Errno } from "../../bus/errno.ts";
import type { DmaMap } from "../../bus/map.ts";
import { BusSpaceExhausted, DmaMisuse } from "../../bus/misuse.ts";
import type { DmaSpace } from "../../bus/space.ts";
import type { DmaTag, TagParams } from "../../bus/tag.ts";
import type { GrantTable } from "../grant-table.ts";
import { BUS_DMA_XEN_DOMID_SHIFT, BUS_DMA_XEN_PREALLOC_REFS, type DmaLockOp } from "./flags.ts";
import { XenDmaMap } from "./map.ts";

/** Locks and unlocks around the callback of a deferred load. */
export type DmaLock = (op: DmaLockOp) => void;

export interface XenTagParams extends TagParams {
  /** Bits 31..16: the other domain (BUS_DMA_XEN_DOMID_SHIFT). Bits 15..0: none are defined. */
  flags: number;
  /** Without a lock, a load that may have to wait for references is a misuse. */
  lock?: DmaLock;
}

/** The parent of a tag: the root, or another tag. */
export interface XenParentTag {
  readonly space: DmaSpace;
  readonly grants: GrantTable;
  /** Boundary (bytes) that every tag below observes; never 0 and never more than a page. */
  readonly boundary: number;
}

export class XenDmaTag implements XenParentTag {
  readonly space: DmaSpace;
  readonly grants: GrantTable;
  readonly boundary: number;
  /** The parameters given to createXenTag. */
  readonly params: Readonly<XenTagParams>;
  readonly domid: number;
  readonly #machine: DmaTag;
  #maps = 0;
  /** Number of maps abandoned while busy. The machine tag lives until the last of them is gone. */
  #abandoned = 0;
  #destroyed = false;

  /** Called by createXenTag only. */
  constructor(parent: XenParentTag, params: XenTagParams, machine: DmaTag, boundary: number) {
    this.space = parent.space;
    this.grants = parent.grants;
    this.boundary = boundary;
    this.params = { ...params };
    this.domid = params.flags >>> BUS_DMA_XEN_DOMID_SHIFT;
    this.#machine = machine;
  }

  get name(): string {
    return this.params.name;
  }

  /** Number of live maps, without those abandoned while busy. */
  get maps(): number {
    return this.#maps;
  }

  /**
   * bus_dmamap_create(9). `flags`: BUS_DMA_XEN_PREALLOC_REFS or 0. Returns a map, or EINVAL
   * (another flag), ENOSPC (no grant references) or ENOMEM (no bus space). A failure allocates
   * nothing.
   */
  createMap(flags: number): XenDmaMap | Errno {
    if (this.#destroyed) {
      throw new DmaMisuse("TAG_DESTROYED", `tag ${this.name}: map created after destroy`);
    }
    if ((flags & ~BUS_DMA_XEN_PREALLOC_REFS) !== 0) return Errno.EINVAL;
    const prealloc = flags !== 0;
    if (prealloc && !this.grants.reserve(this.params.nSegments)) return Errno.ENOSPC;
    const machine = this.#createMachineMap();
    if (machine === undefined) return Errno.ENOMEM;
    this.#maps++;
    return new XenDmaMap(this, machine, prealloc);
  }

  /** bus_dma_tag_destroy(9). Throws DmaMisuse while a map of the tag is alive. */
  destroy(): void {
    if (this.#destroyed) throw new DmaMisuse("TAG_DESTROYED", `tag ${this.name}: destroyed twice`);
    if (this.#maps > 0) {
      throw new DmaMisuse(
        "TAG_IN_USE",
        `tag ${this.name}: destroyed with ${this.#maps} maps alive`,
      );
    }
    this.#destroyed = true;
    this.#destroyMachine();
  }

  /** Called by XenDmaMap.destroy. */
  mapGone(): void {
    this.#maps--;
  }

  /** Called by XenDmaMap.quarantine. */
  mapAbandoned(): void {
    this.#maps--;
    this.#abandoned++;
  }

  /** Called by an abandoned map when the device's use of it has ended. */
  mapReleased(): void {
    this.#abandoned--;
    this.#destroyMachine();
  }

  #createMachineMap(): DmaMap | undefined {
    try {
      return this.#machine.createMap();
    } catch (error) {
      if (error instanceof BusSpaceExhausted) return undefined;
      throw error;
    }
  }

  #destroyMachine(): void {
    if (this.#destroyed && this.#abandoned === 0) this.#machine.destroy();
  }
}

/** xen_get_dma_tag: returns the root of a device's Xen tags. */
export function getXenDmaTag(space: DmaSpace, grants: GrantTable): XenParentTag {
  return { space, grants, boundary: GRANT_PAGE_BYTES };
}

/**
 * bus_dma_tag_create(9) below a Xen tag. Returns EINVAL when maxSegSize is more than a page or
 * `flags` has undefined bits. Throws DmaMisuse for parameters that DmaSpace.createTag refuses.
 */
export function createXenTag(parent: XenParentTag, params: XenTagParams): XenDmaTag | Errno {
  if (params.maxSegSize > GRANT_PAGE_BYTES) return Errno.EINVAL;
  if ((params.flags & ((1 << BUS_DMA_XEN_DOMID_SHIFT) - 1)) !== 0) return Errno.EINVAL;
  const boundary =
    params.boundary === 0 ? parent.boundary : Math.min(params.boundary, parent.boundary);
  const { name, maxSize, nSegments, maxSegSize, direction, alignment } = params;
  const asked = { name, maxSize, nSegments, maxSegSize, direction };
  const wholePages = maxSegSize === GRANT_PAGE_BYTES || maxSize <= maxSegSize;
  const machine = parent.space.createTag(
    // Segments of whole pages in a page-aligned buffer never cross a page: no boundary is needed.
    boundary === GRANT_PAGE_BYTES && wholePages
      ? { ...asked, alignment: Math.max(alignment, GRANT_PAGE_BYTES), boundary: 0 }
      : { ...asked, alignment, boundary },
  );
  return new XenDmaTag(parent, params, machine, boundary);
}
