/**
 * The pieces of a packet. Each piece is at most a page and has its own id, map and grant.
 *
 *   chain ─► gather: (buffer, offset, length) ... ─► loadPieces: ids, maps loaded, granted read-only
 *
 * The scratch arrays contain the pieces of one packet from `gather` until its requests are written.
 * Nothing in between awaits.
 */
import { GRANT_PAGE_BYTES } from "../../shared/xen/grant.ts";
import { type Mbuf, mCopyData } from "../net/mbuf.ts";
import { BUS_DMA_NOWAIT, BUS_DMA_XEN_RO, type XenDmaMap } from "./bus-dma-xen/index.ts";
import type { NetfrontInfo } from "./info.ts";
import { dmaCallback, findTxRun, loadFailed, repoolTxMap, take, unpoolTxMap } from "./pool.ts";
import { NO_PACKET, type Txq } from "./rings.ts";

/** MAX_TX_REQ_FRAGS: pieces of the longest packet that begins in the middle of a page. */
export const MAX_TX_REQ_FRAGS = 18;
const NO_BYTES = new Uint8Array(0);

const buffers: Uint8Array[] = new Array<Uint8Array>(MAX_TX_REQ_FRAGS).fill(NO_BYTES);
const offsets = new Int32Array(MAX_TX_REQ_FRAGS);
/** Bytes and ids of the current pieces, for their requests. */
export const lengths = new Int32Array(MAX_TX_REQ_FRAGS);
export const ids = new Uint16Array(MAX_TX_REQ_FRAGS);

/**
 * Cuts the packet into pieces of at most a page, in the scratch arrays. Copies a chain of too many
 * pieces into one buffer. Returns the number of pieces, or -1 when the copy has too many as well.
 */
export function gather(info: NetfrontInfo, txq: Txq, m: Mbuf): number {
  let count = 0;
  for (let piece: Mbuf | undefined = m; piece !== undefined; piece = piece.next) {
    for (let from = 0; from < piece.length; from += GRANT_PAGE_BYTES) {
      if (count === info.maxTxFrags) return defrag(info, txq, m);
      buffers[count] = piece.buffer;
      offsets[count] = piece.at + from;
      lengths[count] = Math.min(GRANT_PAGE_BYTES, piece.length - from);
      count++;
    }
  }
  return count;
}

/** m_defrag(9). Rare; allocates. */
function defrag(info: NetfrontInfo, txq: Txq, m: Mbuf): number {
  const count = Math.ceil(m.pktLength / GRANT_PAGE_BYTES);
  if (count > info.maxTxFrags) return -1;
  const linear = new Uint8Array(m.pktLength);
  mCopyData(m, 0, m.pktLength, linear, 0);
  for (let i = 0; i < count; i++) {
    buffers[i] = linear;
    offsets[i] = i * GRANT_PAGE_BYTES;
    lengths[i] = Math.min(GRANT_PAGE_BYTES, m.pktLength - i * GRANT_PAGE_BYTES);
  }
  txq.stats.defrag++;
  return count;
}

/** As `gather`, for an untrusted backend: the pieces are bounce pages, which loadPieces fills. */
export function gatherBounced(info: NetfrontInfo, m: Mbuf): number {
  const count = Math.ceil(m.pktLength / GRANT_PAGE_BYTES);
  if (count > info.maxTxFrags) return -1;
  for (let i = 0; i < count; i++) {
    lengths[i] = Math.min(GRANT_PAGE_BYTES, m.pktLength - i * GRANT_PAGE_BYTES);
  }
  return count;
}

/** Allocates an id and a map for each piece and loads it. A failure undoes all, returns false. */
export function loadPieces(info: NetfrontInfo, txq: Txq, m: Mbuf, count: number): boolean {
  const run = count > 1 ? findTxRun(txq, count) : -1;
  for (let i = 0; i < count; i++) {
    const id = takeId(txq);
    const map = run < 0 ? unpoolTxMap(txq) : take(txq.pool, run + i);
    // There are more maps than ids. So a free id always finds a map, if no map or id was lost.
    if (map === undefined) throw new Error(`${txq.name}: no map for a free id`);
    if (!info.trusted) bouncePiece(txq, m, i, id);
    const flags = BUS_DMA_NOWAIT | BUS_DMA_XEN_RO;
    const error = map.load(buffers[i]!, offsets[i]!, lengths[i]!, dmaCallback, undefined, flags);
    buffers[i] = NO_BYTES;
    if (error !== 0) {
      repoolTxMap(txq, map);
      giveId(txq, id);
      for (let k = i - 1; k >= 0; k--) unloadUnsent(txq, ids[k]!);
      loadFailed(map, error);
      return false;
    }
    ids[i] = id;
    txq.maps[id] = map;
  }
  return true;
}

/** Unloads a piece whose grant no backend has seen, so the unload can't fail. */
function unloadUnsent(txq: Txq, id: number): void {
  const map = takeMap(txq, id);
  if (map.unload() !== 0) throw new Error(`${txq.name}: a grant nobody was told of is in use`);
  repoolTxMap(txq, map);
  giveId(txq, id);
}

/** Copies piece `i` to the bounce page of the id. The rest of the page is zeroed (XSA-403). */
function bouncePiece(txq: Txq, m: Mbuf, i: number, id: number): void {
  const page = txq.bounce[id] ?? new Uint8Array(GRANT_PAGE_BYTES);
  txq.bounce[id] = page;
  const length = lengths[i]!;
  mCopyData(m, i * GRANT_PAGE_BYTES, length, page, 0);
  page.fill(0, length);
  buffers[i] = page;
  offsets[i] = 0;
  txq.stats.bounced += length;
}

/** Removes the map from an id in use and returns it. Throws for an id without a map. */
export function takeMap(txq: Txq, id: number): XenDmaMap {
  const map = txq.maps[id];
  if (map === undefined) throw new Error(`${txq.name}: id ${id} has no map`);
  txq.maps[id] = undefined;
  return map;
}

function takeId(txq: Txq): number {
  const id = txq.freeId;
  // Every id in use has a slot of the ring, and the ring had room.
  if (id === 0) throw new Error(`${txq.name}: no free id`);
  txq.freeId = txq.nextId[id]!;
  return id;
}

/** Frees the id. */
export function giveId(txq: Txq, id: number): void {
  txq.packetOf[id] = NO_PACKET;
  txq.nextId[id] = txq.freeId;
  txq.freeId = id;
}
