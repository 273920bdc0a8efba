/**
 * Flags of the Xen bus_dma(9).
 *
 * Source: FreeBSD sys/sys/bus_dma.h; prati0100/freebsd: sys/xen/busdma_xen.h.
 */

/** Of a load: fail with ENOSPC instead of waiting for grant references. */
export const BUS_DMA_NOWAIT = 1 << 0;
/** Of createMap: the map has its grant references from now on, one for each segment. */
export const BUS_DMA_XEN_PREALLOC_REFS = 1 << 5;
/** Of a load: the other domain may only read. */
export const BUS_DMA_XEN_RO = 1 << 16;
/** Bits 31..16 of a tag's flags are the domain that its maps are granted to. */
export const BUS_DMA_XEN_DOMID_SHIFT = 16;

/** What a lock function is asked to do. */
export const DmaLockOp = { LOCK: 1, UNLOCK: 2 } as const;
export type DmaLockOp = (typeof DmaLockOp)[keyof typeof DmaLockOp];
