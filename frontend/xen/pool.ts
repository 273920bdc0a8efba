/**
 * The map pool of a queue. Each map has one grant reference, and is out of the pool while a request
 * names that reference.
 *
 *   pool ── unpool ──► slot or id ── load: granted ── unload: ended ──► repool ──► pool
 *
 * `unpool` replaces the original's claim of a reference, and `repool` replaces its release. The
 * number of maps in the pool plus the number of maps in use is always RING_SIZE + 1.
 *
 * After xn_get_rx_map, xn_unpool_*_map, xn_repool_*_map, xn_get_map_gref and xn_dma_cb of the
 * reviewed driver (prati0100/freebsd: sys/dev/xen/netfront/netfront.c).
 */

import { type Index32, slotOf } from "../../shared/ring/index32.ts";
import type { GrantRef } from "../../shared/xen/grant.ts";
import { RX_RING_SLOTS } from "../../shared/xen/netif.ts";
import { Errno } from "../bus/errno.ts";
import type { XenDmaMap } from "./bus-dma-xen/index.ts";
import type { MapPool, Rxq, Txq } from "./rings.ts";

/** Removes the map from its slot and returns it. Throws for an empty slot. */
export function getRxMap(rxq: Rxq, ri: Index32): XenDmaMap {
  const slot = slotOf(ri, RX_RING_SLOTS);
  const map = rxq.maps[slot];
  if (map === undefined) throw new Error(`${rxq.name}: slot ${slot} has no map`);
  rxq.maps[slot] = undefined;
  return map;
}

/** Removes a map from the pool and returns it; undefined when the pool is empty. */
export const unpoolRxMap = (rxq: Rxq): XenDmaMap | undefined => unpool(rxq.pool);
export const unpoolTxMap = (txq: Txq): XenDmaMap | undefined => unpool(txq.pool);

/** Returns an unused map to the pool. Throws when the pool is full. */
export const repoolRxMap = (rxq: Rxq, map: XenDmaMap): void => repool(rxq.pool, map, rxq.name);
export const repoolTxMap = (txq: Txq, map: XenDmaMap): void => repool(txq.pool, map, txq.name);

/** Returns the grant reference of a loaded map. */
export const getMapGref = (map: XenDmaMap): GrantRef => map.gref(0);

/**
 * Handles the errno of a failed `load`. A shortage of references (ENOSPC) is not a bug, because a
 * backend may hold them: the caller drops or waits. Any other errno means an invalid load, and the
 * assertion of the callback throws.
 */
export function loadFailed(map: XenDmaMap, error: Errno): void {
  if (error !== Errno.ENOSPC) dmaCallback(undefined, map, 0, error);
}

/** Callback of every load. It only asserts that the load succeeded with one segment. */
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
