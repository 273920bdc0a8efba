/**
 * The map pool of a queue. Each map has one grant reference, and is out of the pool while a request
 * names that reference.
 *
 *   pool ── unpool ──► slot or id ── load: granted ── unload: ended ──► repool ──► pool
 *
 * A map with an entry in `rxq.granted` waits in the pool with its page, which is still granted.
 *
 * `unpool` replaces the original's claim of a reference, and `repool` replaces its release. The
 * number of maps in the pool plus the number of maps in use is always RING_SIZE + 1.
 *
 * The maps of a tag have consecutive references, because they are created one after another. Bytes
 * in pages of consecutive references travel in one record. So the pages of a large packet get maps
 * with consecutive indexes where possible, and a receive slot gets the map with its own number.
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
export const unpoolTxMap = (txq: Txq): XenDmaMap | undefined => unpool(txq.pool);
/** As unpoolTxMap. With `slot`, the map of that slot, or one that no empty slot needs. */
export function unpoolRxMap({ pool }: Rxq, slot?: number): XenDmaMap | undefined {
  if (slot === undefined) return unpool(pool);
  return take(pool, slot) ?? take(pool, homeless(pool, slot)) ?? unpool(pool);
}

/** Removes any map whose buffer is to be posted again; undefined when there is none. */
export function unpoolGranted({ pool, granted }: Rxq): XenDmaMap | undefined {
  const index = granted.findIndex((m) => m !== undefined);
  return index < 0 ? undefined : take(pool, index);
}

/**
 * Returns the index of a pooled map whose own slot another map fills. Slots are filled in order, so
 * the search goes back from `slot`. -1 when there is none.
 */
function homeless({ places }: MapPool, slot: number): number {
  for (let back = 1; back < RX_RING_SLOTS; back++) {
    const index = (slot - back) & (RX_RING_SLOTS - 1);
    if (places[index]! >= 0) return index;
  }
  return -1;
}

/**
 * Finds `n` maps with consecutive indexes in the pool. Returns the first index, for `take`, or
 * -1. The search goes round, so that packets that complete in order leave no gaps.
 */
export function findTxRun({ pool }: Txq, n: number): number {
  const { places } = pool;
  const size = places.length;
  let have = 0;
  for (let i = 0, at = pool.cursor; i < size + n; i++, at++) {
    if (at >= size) {
      at = 0;
      have = 0;
    }
    have = places[at]! < 0 ? 0 : have + 1;
    if (have < n) continue;
    pool.cursor = at + 1;
    return at + 1 - n;
  }
  return -1;
}

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
  const map = pool.maps[--pool.count]!;
  pool.maps[pool.count] = undefined;
  pool.places[map.index] = -1;
  return map;
}

/** Removes the map with this index and returns it; undefined while it is in use. */
export function take(pool: MapPool, index: number): XenDmaMap | undefined {
  const place = pool.places[index] ?? -1;
  if (place < 0) return undefined;
  const map = pool.maps[place];
  const last = pool.maps[--pool.count]!;
  pool.maps[place] = last;
  pool.places[last.index] = place;
  pool.maps[pool.count] = undefined;
  pool.places[index] = -1;
  return map;
}

export function repool(pool: MapPool, map: XenDmaMap, name: string): void {
  if (pool.count === pool.maps.length) throw new Error(`${name}: more maps than the pool had`);
  pool.places[map.index] = pool.count;
  pool.maps[pool.count++] = map;
}
