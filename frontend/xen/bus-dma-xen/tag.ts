/** Xen DMA tags: a machine tag, and the domain to which its maps are granted. */
import type { Errno } from "../../bus/errno.ts";
import type { DmaSpace } from "../../bus/space.ts";
import type { TagParams } from "../../bus/tag.ts";
import type { GrantTable } from "../grant-table.ts";
import type { DmaLockOp } from "./flags.ts";
import type { XenDmaMap } from "./map.ts";

/** Taken around the callback of a deferred load. */
export type DmaLock = (op: DmaLockOp) => void;

export interface XenTagParams extends TagParams {
  /** Bits 31..16: the other domain (BUS_DMA_XEN_DOMID_SHIFT). Bits 15..0: none are defined. */
  flags: number;
  /** Without one no load of the tag's maps may wait for references. */
  lock?: DmaLock;
}

/** The tag from which every other comes: xen_get_dma_tag. */
export interface XenParentTag {
  readonly space: DmaSpace;
  readonly grants: GrantTable;
  /** Boundary that every tag below it keeps, bytes. */
  readonly boundary: number;
}

export class XenDmaTag implements XenParentTag {
  readonly space: DmaSpace;
  readonly grants: GrantTable;
  readonly boundary: number;
  readonly params: Readonly<XenTagParams>;
  readonly domid: number;

  /** Through createXenTag. */
  constructor(parent: XenParentTag, params: XenTagParams) {
    this.space = parent.space;
    this.grants = parent.grants;
    this.boundary = params.boundary;
    this.params = params;
    this.domid = params.flags >>> 16;
  }

  get name(): string {
    return this.params.name;
  }

  /** Maps alive, those given up while busy not among them. */
  get maps(): number {
    throw new Error("not built yet");
  }

  /** bus_dmamap_create(9). `flags`: BUS_DMA_XEN_PREALLOC_REFS or 0. Returns ENOSPC, ENOMEM or EINVAL. */
  createMap(_flags: number): XenDmaMap | Errno {
    throw new Error("not built yet");
  }

  /** bus_dma_tag_destroy(9): after the last of its maps. */
  destroy(): void {
    throw new Error("not built yet");
  }
}

export function getXenDmaTag(space: DmaSpace, grants: GrantTable): XenParentTag {
  return { space, grants, boundary: 4096 };
}

/** bus_dma_tag_create(9) below a Xen tag. Returns EINVAL when maxSegSize is more than a page. */
export function createXenTag(parent: XenParentTag, params: XenTagParams): XenDmaTag | Errno {
  return new XenDmaTag(parent, params);
}
