/**
 * Flags of the Xen bus_dma(9).
 *
 * Source: FreeBSD sys/sys/bus_dma.h; prati0100/freebsd: sys/xen/busdma_xen.h.
 */

/** Flag of a load: it fails with ENOSPC instead of waiting for grant references. */
export const BUS_DMA_NOWAIT = 1 << 0;
/** Flag of createMap: the map allocates its grant references at creation, one for each segment. */
export const BUS_DMA_XEN_PREALLOC_REFS = 1 << 5;
/** Flag of a load: the other domain may only read. */
export const BUS_DMA_XEN_RO = 1 << 16;
/** Bits 31..16 of a tag's flags are the domain to which its maps are granted. */
export const BUS_DMA_XEN_DOMID_SHIFT = 16;

/** Operation of a lock function. */
export const DmaLockOp = { LOCK: 1, UNLOCK: 2 } as const;
export type DmaLockOp = (typeof DmaLockOp)[keyof typeof DmaLockOp];
