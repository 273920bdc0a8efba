/** The public header of bus_dma(9) for Xen. A driver imports nothing else of it. */
export { SyncOp } from "../../bus/map.ts";
export {
  BUS_DMA_NOWAIT,
  BUS_DMA_XEN_DOMID_SHIFT,
  BUS_DMA_XEN_PREALLOC_REFS,
  BUS_DMA_XEN_RO,
  DmaLockOp,
} from "./flags.ts";
export type { XenDmaMap } from "./map.ts";
export type { XenDmaTag, XenParentTag, XenTagParams } from "./tag.ts";
export { createXenTag, getXenDmaTag } from "./tag.ts";
