/**
 * What holds of netfront's maps and grants at every moment, and what holds of the backend's idea of
 * them once nothing is under way.
 */
import type { XenDmaMap } from "../../frontend/xen/bus-dma-xen/index.ts";
import type { Rxq, Txq } from "../../frontend/xen/rings.ts";
import type { XenPair } from "./pair.ts";

/** Maps of a queue: its ring's slots and one. */
export const MAPS = 257;
/** Request ids of a queue: as many as its ring has slots. */
const TX_IDS = 256;
const RESERVED_REFERENCES = 8;
const BACKEND = 0;
const RING_PAGES_PER_PAIR = 2;

const present = (maps: readonly (XenDmaMap | undefined)[]): XenDmaMap[] =>
  maps.filter((map) => map !== undefined);

export const rxMaps = (rxq: Rxq): XenDmaMap[] => [...present(rxq.maps), ...present([rxq.stuckMap])];
export const txMaps = (txq: Txq): XenDmaMap[] => present(txq.maps);

/** The ids on a queue's free list; one that comes twice ends the walk. */
export function freeIds(txq: Txq): Set<number> {
  const ids = new Set<number>();
  for (let id = txq.freeId; id !== 0 && !ids.has(id); id = txq.nextId[id]!) ids.add(id);
  return ids;
}

/** Sentences for what does not hold; none when all does. */
export function violations(pair: XenPair): string[] {
  const wrong: string[] = [];
  const { info } = pair;
  const seen = new Set<number>();
  let live = 0;
  const queue = (name: string, pool: Rxq["pool"], used: readonly XenDmaMap[]): void => {
    const pooled = present(pool.maps);
    if (pooled.length !== pool.count) wrong.push(`${name}: pool counts ${pool.count}`);
    if (pooled.length + used.length !== MAPS) {
      wrong.push(`${name}: ${pooled.length} pooled, ${used.length} in use`);
    }
    if (new Set([...pooled, ...used]).size !== MAPS) wrong.push(`${name}: a map is there twice`);
    if (pooled.some((map) => map.loaded)) wrong.push(`${name}: a pooled map is loaded`);
    for (const map of used) {
      if (!map.loaded) {
        wrong.push(`${name}: a map in use is not loaded`);
        continue;
      }
      live++;
      if (seen.has(map.gref(0))) wrong.push(`${name}: reference ${map.gref(0)} is there twice`);
      seen.add(map.gref(0));
    }
  };
  for (const rxq of info.rxqs) {
    queue(rxq.name, rxq.pool, rxMaps(rxq));
    const mbufs = rxq.mbufs.filter((m) => m !== undefined).length;
    if (mbufs !== present(rxq.maps).length) wrong.push(`${rxq.name}: ${mbufs} buffers in slots`);
  }
  for (const txq of info.txqs) {
    const used = txMaps(txq);
    queue(txq.name, txq.pool, used);
    const free = freeIds(txq);
    if (free.size + txq.idsOut !== TX_IDS) {
      wrong.push(`${txq.name}: ${free.size} ids free, ${txq.idsOut} out`);
    }
    if ([...free].some((id) => txq.maps[id] !== undefined)) {
      wrong.push(`${txq.name}: a free id has a map`);
    }
    if (used.length !== txq.idsOut) wrong.push(`${txq.name}: ${txq.idsOut} ids out`);
    const slots = txq.ring?.claimed ?? 0;
    if (txq.idsOut + txq.extrasOut !== slots) wrong.push(`${txq.name}: ${slots} slots out`);
  }
  live += info.rxqs.length * RING_PAGES_PER_PAIR + info.grants.quarantined;
  if (info.grants.liveCount !== live) {
    wrong.push(`${info.grants.liveCount} live grants, ${live} in use`);
  }
  return wrong;
}

/** The same on the other side: each reference in use is granted there, to whom and as it must be. */
export function backendViolations(pair: XenPair): string[] {
  const wrong: string[] = [];
  const { grants } = pair;
  const check = (map: XenDmaMap, readonly: boolean): void => {
    const reference = map.gref(0);
    const frame = Math.floor(map.segmentAddress(0) / 4096) % 2 ** 32;
    if (grants.frameOf(reference) !== frame) wrong.push(`${reference} grants another frame`);
    if (grants.checkCopy(reference, 0, 1, false, BACKEND) !== 0) {
      wrong.push(`${reference} is not granted to the backend`);
    }
    const mayWrite = grants.checkCopy(reference, 0, 1, true, BACKEND) === 0;
    if (mayWrite === readonly) wrong.push(`${reference} has the wrong mode`);
  };
  for (const rxq of pair.info.rxqs) for (const map of rxMaps(rxq)) check(map, false);
  for (const txq of pair.info.txqs) for (const map of txMaps(txq)) check(map, true);
  const { granted } = grants.snapshot();
  const { liveCount } = pair.info.grants;
  if (granted !== liveCount) wrong.push(`${granted} granted there, ${liveCount} here`);
  return wrong;
}

/** The number of references that are not free, and of grants among them that are live. */
export function referencesInUse(pair: XenPair): number {
  const { grants } = pair.info;
  return grants.frames * 512 - RESERVED_REFERENCES - grants.freeCount + grants.liveCount;
}
