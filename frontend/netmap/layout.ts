/**
 * Byte layout of the structures that an application shares with netmap.
 *
 * Source: netmap: sys/net/netmap.h, "struct netmap_slot", "struct netmap_ring", "struct netmap_if",
 * as a C compiler lays them out on x86-64 (LP64, little-endian).
 */
import { setU64 } from "../../shared/bytes/u64.ts";

const LE = true;

// netmap_slot: 16 bytes
//   0         4     6       8             16
//   | buf_idx | len | flags | ptr         |
export const SLOT_BUF_IDX = 0;
export const SLOT_LEN = 4;
export const SLOT_FLAGS = 6;
export const SLOT_PTR = 8;
export const SLOT_BYTES = 16;

// netmap_ring: a header of 256 bytes, then the slots. (u) written by the application, (k) by netmap.
//   0         8           12            16       18    20      24     28      32      40
//   | buf_ofs | num_slots | nr_buf_size | ringid | dir | head u| cur u| tail k| flags | pad
//   40         56            64          72 pad    128        256
//   | ts (k)   | offset_mask | buf_align |         | sem[128] | slot[0] ...
export const RING_BUF_OFS = 0;
export const RING_NUM_SLOTS = 8;
export const RING_NR_BUF_SIZE = 12;
export const RING_RINGID = 16;
export const RING_DIR = 18;
export const RING_HEAD = 20;
export const RING_CUR = 24;
export const RING_TAIL = 28;
export const RING_FLAGS = 32;
export const RING_TS = 40;
export const RING_SEM = 128;
export const RING_BYTES = 256;

// netmap_if: 56 bytes, then offsets from the netmap_if to each ring: NIC tx, host tx, NIC rx, host
// rx. 0 for a ring that this registration did not bind.
//   0          16           20         24            28            32
//   | ni_name  | ni_version | ni_flags | ni_tx_rings | ni_rx_rings | ni_bufs_head (u)
//   36                 40                 44            56
//   | ni_host_tx_rings | ni_host_rx_rings | ni_spare1[3] | ring_ofs[0] ...
export const IF_NAME = 0;
export const IF_NAME_BYTES = 16;
export const IF_FLAGS = 20;
export const IF_TX_RINGS = 24;
export const IF_RX_RINGS = 28;
export const IF_BUFS_HEAD = 32;
export const IF_HOST_TX_RINGS = 36;
export const IF_HOST_RX_RINGS = 40;
export const IF_BYTES = 56;
export const RING_OFS_BYTES = 8;

if (SLOT_PTR + 8 !== SLOT_BYTES || RING_SEM + 128 !== RING_BYTES) {
  throw new RangeError("netmap layout: a field leaves its structure");
}

/** Bytes of a ring with the given number of slots. */
export const ringBytes = (slots: number): number => RING_BYTES + slots * SLOT_BYTES;

/** Bytes of a netmap_if with the given number of rings. */
export const ifBytes = (rings: number): number => IF_BYTES + rings * RING_OFS_BYTES;

/** The fields of a netmap_if, except its bufs head and ring offsets. */
export interface IfFields {
  readonly name: string;
  readonly flags: number;
  readonly txRings: number;
  readonly rxRings: number;
  readonly hostTxRings: number;
  readonly hostRxRings: number;
}

/** Writes the 56 bytes at `at`. ni_version stays 0, as in netmap, and so does ni_bufs_head. */
export function writeIf(v: DataView, at: number, fields: IfFields): void {
  for (let i = 0; i < IF_BYTES; i++) v.setUint8(at + i, 0);
  // A long name is cut, so that its last byte is always 0.
  const length = Math.min(fields.name.length, IF_NAME_BYTES - 1);
  for (let i = 0; i < length; i++) v.setUint8(at + IF_NAME + i, fields.name.charCodeAt(i));
  v.setUint32(at + IF_FLAGS, fields.flags, LE);
  v.setUint32(at + IF_TX_RINGS, fields.txRings, LE);
  v.setUint32(at + IF_RX_RINGS, fields.rxRings, LE);
  v.setUint32(at + IF_HOST_TX_RINGS, fields.hostTxRings, LE);
  v.setUint32(at + IF_HOST_RX_RINGS, fields.hostRxRings, LE);
}

export function parseIf(v: DataView, at: number): IfFields {
  let name = "";
  for (let i = 0; i < IF_NAME_BYTES; i++) {
    const c = v.getUint8(at + IF_NAME + i);
    if (c === 0) break;
    name += String.fromCharCode(c);
  }
  return {
    name,
    flags: v.getUint32(at + IF_FLAGS, LE),
    txRings: v.getUint32(at + IF_TX_RINGS, LE),
    rxRings: v.getUint32(at + IF_RX_RINGS, LE),
    hostTxRings: v.getUint32(at + IF_HOST_TX_RINGS, LE),
    hostRxRings: v.getUint32(at + IF_HOST_RX_RINGS, LE),
  };
}

/** ring_ofs[i], signed: offset in bytes from the netmap_if to the ring. */
export const ringOfs = (v: DataView, at: number, i: number): number =>
  Number(v.getBigInt64(at + IF_BYTES + i * RING_OFS_BYTES, LE));

export function setRingOfs(v: DataView, at: number, i: number, offset: number): void {
  v.setBigInt64(at + IF_BYTES + i * RING_OFS_BYTES, BigInt(offset), LE);
}

export const bufsHead = (v: DataView, at: number): number => v.getUint32(at + IF_BUFS_HEAD, LE);

export function setBufsHead(v: DataView, at: number, head: number): void {
  v.setUint32(at + IF_BUFS_HEAD, head, LE);
}

/** The header of a new ring. head, cur and tail come from the kring. */
export interface RingFields {
  /** Bytes from the ring to buffer 0. */
  readonly bufOfs: number;
  readonly slots: number;
  readonly bufSize: number;
  readonly ringId: number;
  readonly dir: number;
  readonly head: number;
  readonly cur: number;
  readonly tail: number;
}

/** Writes all 256 bytes of a ring header. */
export function writeRing(v: DataView, at: number, ring: RingFields): void {
  for (let i = 0; i < RING_BYTES; i += 4) v.setUint32(at + i, 0, LE);
  setU64(v, at + RING_BUF_OFS, ring.bufOfs);
  v.setUint32(at + RING_NUM_SLOTS, ring.slots, LE);
  v.setUint32(at + RING_NR_BUF_SIZE, ring.bufSize, LE);
  v.setUint16(at + RING_RINGID, ring.ringId, LE);
  v.setUint16(at + RING_DIR, ring.dir, LE);
  v.setUint32(at + RING_HEAD, ring.head, LE);
  v.setUint32(at + RING_CUR, ring.cur, LE);
  v.setUint32(at + RING_TAIL, ring.tail, LE);
}
