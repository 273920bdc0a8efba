/**
 * A queue's maps: one grant reference each, out of the pool while a request names it.
 *
 *   pool ── unpool ──► slot or id ── load: granted ── unload: ended ──► repool ──► pool
 *
 * Taking a map from the pool is the original's claiming of a reference, putting it back its
 * releasing. Maps in the pool and maps in use are RING_SIZE + 1 together, always.
 *
 * After xn_get_rx_map, xn_unpool_*_map, xn_repool_*_map, xn_get_map_gref and xn_dma_cb of the
 * reviewed driver (prati0100/freebsd: sys/dev/xen/netfront/netfront.c).
 */
import { type Index32, slotOf } from "../../shared/ring/index32.ts";
import { RX_RING_SLOTS } from "../../shared/xen/netif.ts";
import { Errno } from "../bus/errno.ts";
import type { XenDmaMap } from "./bus-dma-xen/index.ts";
import type { MapPool, Rxq, Txq } from "./rings.ts";

/** The map of a slot, which has none from then on. Throws when it has none: a slot is taken once. */
export function getRxMap(rxq: Rxq, ri: Index32): XenDmaMap {
  const slot = slotOf(ri, RX_RING_SLOTS);
  const map = rxq.maps[slot];
  if (map === undefined) throw new Error(`${rxq.name}: slot ${slot} has no map`);
  rxq.maps[slot] = undefined;
  return map;
}

/** A map out of the pool; undefined when it is empty. */
export const unpoolRxMap = (rxq: Rxq): XenDmaMap | undefined => unpool(rxq.pool);
export const unpoolTxMap = (txq: Txq): XenDmaMap | undefined => unpool(txq.pool);

/** A map that nobody uses any more, back in the pool. Throws when the pool is full. */
export const repoolRxMap = (rxq: Rxq, map: XenDmaMap): void => repool(rxq.pool, map, rxq.name);
export const repoolTxMap = (txq: Txq, map: XenDmaMap): void => repool(txq.pool, map, txq.name);

/** The one grant reference of a loaded map. */
export const getMapGref = (map: XenDmaMap): number => map.gref(0);

/**
 * Decides about a load that failed, as `load` returned it. A shortage of references (ENOSPC) is
 * nobody's bug, since a backend may hold them: the caller drops or waits. Any other error is a load
 * that makes no sense, and the callback's assertion gets it.
 */
export function loadFailed(map: XenDmaMap, error: Errno): void {
  if (error !== Errno.ENOSPC) dmaCallback(undefined, map, 0, error);
}

/** For loads after which there is nothing to do: it only checks that they are as they must be. */
export function dmaCallback(_arg: undefined, map: XenDmaMap, nseg: number, error: number): void {
  if (error !== 0) throw new Error(`${map.tag.name}: load called back with error ${error}`);
  if (nseg !== 1) throw new Error(`${map.tag.name}: ${nseg} segments in a map of one`);
}

function unpool(pool: MapPool): XenDmaMap | undefined {
  if (pool.count === 0) return undefined;
  const i = --pool.count;
  const map = pool.maps[i];
  pool.maps[i] = undefined;
  return map;
}

function repool(pool: MapPool, map: XenDmaMap, name: string): void {
  if (pool.count === pool.maps.length) throw new Error(`${name}: more maps than the pool had`);
  pool.maps[pool.count++] = map;
}
