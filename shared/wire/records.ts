/**
 * The packed record of every column, and the types that name its bytes for taps.
 *
 *   0              8          12      14     16
 *   | address u64  | length   | type  | space |     little-endian
 *
 * Source: README.md of this folder, "Columns".
 */
import { getU64, setU64 } from "../bytes/u64.ts";

export const RECORD_BYTES = 16;

const ADDRESS = 0;
const LENGTH = 8;
const TYPE = 12;
const SPACE = 14;
const LE = true;

/** What the bytes of a record are. Taps decode by it; neither side acts on it. */
export const RecordType = {
  RAW: 0,
  FRAME: 1,
  REGISTER: 2,
  MMIO_RESPONSE: 3,
  ENA_AQ: 16,
  ENA_ACQ: 17,
  ENA_AENQ: 18,
  ENA_TX_DESC: 19,
  ENA_TX_CDESC: 20,
  ENA_RX_DESC: 21,
  ENA_RX_CDESC: 22,
  ENA_LLQ_ENTRY: 23,
  ENA_CONTROL: 24,
  ENA_HOST_INFO: 25,
  XEN_RING_INDEX: 32,
  XEN_TX_REQ: 33,
  XEN_TX_RSP: 34,
  XEN_RX_REQ: 35,
  XEN_RX_RSP: 36,
  XEN_CTRL_REQ: 37,
  XEN_CTRL_RSP: 38,
  XEN_RING_PAGE: 39,
} as const;
export type RecordType = (typeof RecordType)[keyof typeof RecordType];

/** Address spaces of `write`, `push` and `read`; for `mmioWrite` the field holds the BAR. */
export const Space = { BUS: 0, GRANT: 1 } as const;
export type Space = (typeof Space)[keyof typeof Space];

/**
 * A piece of memory that a transaction names, with its bytes src[at .. at + length). These six have
 * this order wherever they are arguments.
 */
export interface MemoryAccess {
  space: number;
  address: number;
  type: number;
  src: Uint8Array;
  at: number;
  length: number;
}

/** One record in place, `at` being its first byte. */
export const record = {
  /** Infinity when the number does not fit a double exactly. */
  address: (v: DataView, at: number): number => getU64(v, at + ADDRESS),
  length: (v: DataView, at: number): number => v.getUint32(at + LENGTH, LE),
  type: (v: DataView, at: number): number => v.getUint16(at + TYPE, LE),
  space: (v: DataView, at: number): number => v.getUint16(at + SPACE, LE),

  write(v: DataView, at: number, address: number, length: number, type: number, space: number) {
    setU64(v, at + ADDRESS, address);
    v.setUint32(at + LENGTH, length, LE);
    v.setUint16(at + TYPE, type, LE);
    v.setUint16(at + SPACE, space, LE);
  },

  /** Lengthens a record whose bytes go on: the batch writer merges what is contiguous. */
  setLength: (v: DataView, at: number, length: number): void =>
    v.setUint32(at + LENGTH, length, LE),
} as const;
