/**
 * Rules that hold of netfront's maps and grants at every moment, and rules that hold of the
 * backend's view of them once nothing is in flight.
 */
import type { XenDmaMap } from "../../frontend/xen/bus-dma-xen/index.ts";
import type { Rxq, Txq } from "../../frontend/xen/rings.ts";
import type { XenPair } from "./pair.ts";
import { differences } from "./same.ts";

/** Maps of a queue: one for each slot of its ring, and one more. */
export const MAPS = 257;
/** Request ids of a queue: as many as its ring has slots. */
const TX_IDS = 256;
const RESERVED_REFERENCES = 8;
const BACKEND = 0;
const RING_PAGES_PER_PAIR = 2;

const present = <T>(all: readonly (T | undefined)[]): T[] => all.filter((one) => one !== undefined);

export const rxMaps = (rxq: Rxq): XenDmaMap[] => [...present(rxq.maps), ...present([rxq.stuckMap])];
export const txMaps = (txq: Txq): XenDmaMap[] => present(txq.maps);

/** The ids on a queue's free list. The walk ends at an id that appears twice. */
export function freeIds(txq: Txq): Set<number> {
  const ids = new Set<number>();
  for (let id = txq.freeId; id !== 0 && !ids.has(id); id = txq.nextId[id]!) ids.add(id);
  return ids;
}

/** One sentence for each broken rule; none when all hold. */
export function violations({ info }: XenPair): string[] {
  const { wrong, compare } = differences();
  const references: number[] = [];
  const queue = (
    { name, pool }: Rxq | Txq,
    used: readonly XenDmaMap[],
    granted: readonly XenDmaMap[] = [],
  ): void => {
    const pooled = present(pool.maps);
    const all = [...pooled, ...used];
    const loaded = [...used, ...granted].filter((map) => map.loaded);
    compare(`${name}: maps in the pool`, pooled.length, pool.count);
    compare(`${name}: maps`, all.length, MAPS);
    compare(`${name}: different maps`, new Set(all).size, MAPS);
    const wanted = used.length + granted.length;
    compare(`${name}: loaded maps`, all.filter((map) => map.loaded).length, wanted);
    compare(`${name}: loaded maps in use or to be posted again`, loaded.length, wanted);
    references.push(...loaded.map((map) => map.gref(0)));
  };
  for (const rxq of info.rxqs) {
    // A NIC that has stopped posts none of them again.
    queue(
      rxq,
      rxMaps(rxq),
      present(rxq.pool.maps).filter(({ index }) => rxq.granted[index] !== undefined),
    );
    compare(`${rxq.name}: buffers`, present(rxq.mbufs).length, present(rxq.maps).length);
  }
  for (const txq of info.txqs) {
    const used = txMaps(txq);
    queue(txq, used);
    const free = [...freeIds(txq)];
    compare(`${txq.name}: ids`, free.length + txq.idsOut, TX_IDS);
    compare(`${txq.name}: free ids with a map`, free.filter((id) => txq.maps[id]).length, 0);
    compare(`${txq.name}: ids out`, txq.idsOut, used.length);
    compare(`${txq.name}: slots out`, txq.ring?.claimed ?? 0, txq.idsOut + txq.extrasOut);
  }
  compare("different references", new Set(references).size, references.length);
  const live = references.length + info.rxqs.length * RING_PAGES_PER_PAIR;
  compare("live grants", info.grants.liveCount, live + info.grants.quarantined);
  return wrong;
}

/**
 * The same on the device: each reference in use is granted to the backend, with the right access.
 */
export function backendViolations({ grants, info }: XenPair): string[] {
  const { wrong, compare } = differences();
  const check = (map: XenDmaMap, readonly: boolean): void => {
    const reference = map.gref(0);
    const frame = Math.floor(map.segmentAddress(0) / 4096) % 2 ** 32;
    const allows = (write: boolean) => grants.checkCopy(reference, 0, 1, write, BACKEND) === 0;
    compare(`frame of ${reference}`, grants.frameOf(reference), frame);
    compare(`${reference} is granted to the backend`, allows(false), true);
    compare(`${reference} is granted for writes`, allows(true), !readonly);
  };
  for (const rxq of info.rxqs) for (const map of rxMaps(rxq)) check(map, false);
  for (const txq of info.txqs) for (const map of txMaps(txq)) check(map, true);
  compare("grants there", grants.snapshot()["granted"], info.grants.liveCount);
  return wrong;
}

/** The number of references in use, plus the number of live grants. */
export function referencesInUse(pair: XenPair): number {
  const { grants } = pair.info;
  return grants.frames * 512 - RESERVED_REFERENCES - grants.freeCount + grants.liveCount;
}
