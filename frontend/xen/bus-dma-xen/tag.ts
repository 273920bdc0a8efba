/**
 * Xen DMA tags: a machine tag, and the domain to which its maps are granted.
 *
 * The machine tag (the original's shadow) decides where buffers lie on the bus; it differs from
 * what the driver asked for in one thing: no segment crosses a page, because a grant is a page.
 * Where segments may be whole pages, every buffer of a load also begins a page of its own, so that
 * no page is granted twice.
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

/** Taken around the callback of a deferred load. */
export type DmaLock = (op: DmaLockOp) => void;

export interface XenTagParams extends TagParams {
  /** Bits 31..16: the other domain (BUS_DMA_XEN_DOMID_SHIFT). Bits 15..0: none are defined. */
  flags: number;
  /** Without one, loads that might have to wait for references are a misuse. */
  lock?: DmaLock;
}

/** What a tag is made below: the root, or another tag. */
export interface XenParentTag {
  readonly space: DmaSpace;
  readonly grants: GrantTable;
  /** Every tag below keeps it, bytes; never 0 and never more than a page. */
  readonly boundary: number;
}

export class XenDmaTag implements XenParentTag {
  readonly space: DmaSpace;
  readonly grants: GrantTable;
  readonly boundary: number;
  /** As asked for. */
  readonly params: Readonly<XenTagParams>;
  readonly domid: number;
  readonly #machine: DmaTag;
  #maps = 0;
  /** Maps given up while busy: the machine tag outlives this one by them. */
  #abandoned = 0;
  #destroyed = false;

  /** Through createXenTag. */
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

  /** Maps alive, without those given up while busy. */
  get maps(): number {
    return this.#maps;
  }

  /**
   * bus_dmamap_create(9). `flags`: BUS_DMA_XEN_PREALLOC_REFS or 0. Returns EINVAL (another flag),
   * ENOSPC (no grant references) or ENOMEM (no bus space) in place of a map; then nothing is taken.
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
    this.#destroyMachine();
  }

  /** By XenDmaMap.destroy. */
  mapGone(): void {
    this.#maps--;
  }

  /** By XenDmaMap.quarantine. */
  mapAbandoned(): void {
    this.#maps--;
    this.#abandoned++;
  }

  /** By an abandoned map, once the device's use of it has ended. */
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

/** xen_get_dma_tag: the root of a device's Xen tags. */
export function getXenDmaTag(space: DmaSpace, grants: GrantTable): XenParentTag {
  return { space, grants, boundary: GRANT_PAGE_BYTES };
}

/**
 * bus_dma_tag_create(9) below a Xen tag. Returns EINVAL when maxSegSize is more than a page, or
 * `flags` has bits that mean nothing. Throws DmaMisuse for what DmaSpace.createTag refuses.
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
    // A buffer that begins a page, cut at pages, crosses none: no boundary has to be looked at.
    boundary === GRANT_PAGE_BYTES && wholePages
      ? { ...asked, alignment: Math.max(alignment, GRANT_PAGE_BYTES), boundary: 0 }
      : { ...asked, alignment, boundary },
  );
  return new XenDmaTag(parent, params, machine, boundary);
}
