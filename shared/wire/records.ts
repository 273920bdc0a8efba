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

/** Types of the bytes of a record. Taps decode by the type; neither end acts on it. */
export const recordTypes = {
  RAW: { type: 0, says: "raw" },
  FRAME: { type: 1, says: "frame" },
  REGISTER: { type: 2, says: "register or doorbell" },
  MMIO_RESPONSE: { type: 3, says: "readless MMIO response" },
  ENA_AQ: { type: 16, says: "ENA admin commands" },
  ENA_ACQ: { type: 17, says: "ENA admin completions" },
  ENA_AENQ: { type: 18, says: "ENA events (AENQ)" },
  ENA_TX_DESC: { type: 19, says: "ENA Tx descriptors" },
  ENA_TX_CDESC: { type: 20, says: "ENA Tx completion descriptors" },
  ENA_RX_DESC: { type: 21, says: "ENA Rx descriptors" },
  ENA_RX_CDESC: { type: 22, says: "ENA Rx completion descriptors" },
  ENA_LLQ_ENTRY: { type: 23, says: "ENA LLQ entries" },
  ENA_CONTROL: { type: 24, says: "ENA control buffer" },
  ENA_HOST_INFO: { type: 25, says: "ENA host information" },
  XEN_RING_INDEX: { type: 32, says: "Xen ring indexes (words of the header)" },
  XEN_TX_REQ: { type: 33, says: "Xen Tx requests, extra info among them" },
  XEN_TX_RSP: { type: 34, says: "Xen Tx responses" },
  XEN_RX_REQ: { type: 35, says: "Xen Rx requests" },
  XEN_RX_RSP: { type: 36, says: "Xen Rx responses, extra info among them" },
  XEN_CTRL_REQ: { type: 37, says: "Xen control requests" },
  XEN_CTRL_RSP: { type: 38, says: "Xen control responses" },
  XEN_RING_PAGE: { type: 39, says: "Xen ring page, whole" },
} as const;
type RecordTypes = typeof recordTypes;
/**
 * Types of records, by name. A type names the contents of a record for captures; it changes
 * nothing.
 */
export const RecordType = Object.fromEntries(
  Object.entries(recordTypes).map(([name, { type }]) => [name, type]),
) as { readonly [Name in keyof RecordTypes]: RecordTypes[Name]["type"] };
/** One of the types of records. */
export type RecordType = RecordTypes[keyof RecordTypes]["type"];

/** Address spaces of `write`, `push` and `read`. For `mmioWrite` the field holds the BAR. */
export const Space = { BUS: 0, GRANT: 1 } as const;
export type Space = (typeof Space)[keyof typeof Space];

/**
 * An address in the frontend's memory: a bus address, or in Space.GRANT a number of grantAddress.
 * Only the compiler knows the difference to other numbers. A call that swaps an address with a
 * length, an offset or a type does not compile.
 */
export type BusAddress = number & { readonly __busAddress: unique symbol };
/** Call this only where an address is allocated, or computed from bytes of a peer. */
export const busAddress = (n: number): BusAddress => n as BusAddress;
/** Stands for no memory: no allocator returns address 0. */
export const NO_ADDRESS = busAddress(0);
/** Returns the address `bytes` bytes behind `address`. */
export const beyond = (address: BusAddress, bytes: number): BusAddress =>
  busAddress(address + bytes);
/** Many addresses, NO_ADDRESS at first. */
export type BusAddresses = Float64Array & { [i: number]: BusAddress };
export const busAddresses = (count: number): BusAddresses =>
  new Float64Array(count) as BusAddresses;

/**
 * A piece of memory that a transaction names, with its bytes src[at .. at + length). Functions with
 * these six arguments use the same order.
 */
export interface MemoryAccess {
  space: number;
  address: BusAddress;
  type: number;
  src: Uint8Array;
  at: number;
  length: number;
}

/** Reads and writes one record in place. `at` is the offset of its first byte. */
export const record = {
  /** Returns Infinity for an address that a double can't hold exactly. */
  address: (v: DataView, at: number): BusAddress => busAddress(getU64(v, at + ADDRESS)),
  length: (v: DataView, at: number): number => v.getUint32(at + LENGTH, LE),
  type: (v: DataView, at: number): number => v.getUint16(at + TYPE, LE),
  space: (v: DataView, at: number): number => v.getUint16(at + SPACE, LE),

  setLength: (v: DataView, at: number, length: number): void =>
    v.setUint32(at + LENGTH, length, LE),

  write(v: DataView, at: number, address: number, length: number, type: number, space: number) {
    setU64(v, at + ADDRESS, address);
    v.setUint32(at + LENGTH, length, LE);
    v.setUint16(at + TYPE, type, LE);
    v.setUint16(at + SPACE, space, LE);
  },
} as const;
