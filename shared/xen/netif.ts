/**
 * The slots of the network rings: requests, responses and extra info.
 *
 * Source: xen: xen/include/public/io/netif.h.
 * Everything is little-endian. These run for every packet: one function per
 * field over (view, at), writers that take numbers, no objects. `at` is always
 * the slot's first byte.
 *
 * Every writer fills its whole slot, padding included. A request and its
 * response share the bytes, so an unwritten byte would carry old content to the
 * other domain.
 */
import { type GrantRef, grantRef } from "./grant.ts";
import { ringSlots } from "./ring.ts";

const LE = true;

export const TX_SLOT_SIZE = 12;
export const RX_SLOT_SIZE = 8;
export const TX_RING_SLOTS = ringSlots(TX_SLOT_SIZE);
export const RX_RING_SLOTS = ringSlots(RX_SLOT_SIZE);

/** Slots of one packet that every backend accepts: data slots, without extra info. */
export const NR_SLOTS_MIN = 18;
/** Bytes of the longest packet that a first tx slot can announce. */
export const MAX_TX_SIZE = 0xffff;

/** Flags of a tx request. Bits 0 and 1 mean the opposite on receive. */
export const TxFlag = {
  CSUM_BLANK: 1 << 0,
  DATA_VALIDATED: 1 << 1,
  MORE_DATA: 1 << 2,
  EXTRA_INFO: 1 << 3,
} as const;

/** Flags of an rx response. */
export const RxFlag = {
  DATA_VALIDATED: 1 << 0,
  CSUM_BLANK: 1 << 1,
  MORE_DATA: 1 << 2,
  EXTRA_INFO: 1 << 3,
  /** Deprecated; nothing here sets it. */
  GSO_PREFIX: 1 << 4,
} as const;

/** Status of a response. In an rx response a number above zero is bytes received. */
export const NetifStatus = {
  OKAY: 0,
  ERROR: -1,
  DROPPED: -2,
  /** Answers a tx slot that was extra info. */
  NULL: 1,
} as const;
export type NetifStatus = (typeof NetifStatus)[keyof typeof NetifStatus];

// netif_tx_request: 12 bytes
//   0      4        6       8    10     12
//   | gref | offset | flags | id | size |     size: of the whole packet in its first slot
const TX_GREF = 0;
const TX_OFFSET = 4;
const TX_FLAGS = 6;
const TX_ID = 8;
const TX_SIZE = 10;

/** A buffer to send: bytes [offset, offset + size) of the granted page. */
export const txRequest = {
  gref: (v: DataView, at: number): GrantRef => grantRef(v.getUint32(at + TX_GREF, LE)),
  offset: (v: DataView, at: number): number => v.getUint16(at + TX_OFFSET, LE),
  flags: (v: DataView, at: number): number => v.getUint16(at + TX_FLAGS, LE),
  id: (v: DataView, at: number): number => v.getUint16(at + TX_ID, LE),
  size: (v: DataView, at: number): number => v.getUint16(at + TX_SIZE, LE),

  /** All 12 bytes. */
  write(
    v: DataView,
    at: number,
    gref: GrantRef,
    offset: number,
    flags: number,
    id: number,
    size: number,
  ): void {
    v.setUint32(at + TX_GREF, gref, LE);
    v.setUint16(at + TX_OFFSET, offset, LE);
    v.setUint16(at + TX_FLAGS, flags, LE);
    v.setUint16(at + TX_ID, id, LE);
    v.setUint16(at + TX_SIZE, size, LE);
  },
} as const;

// netif_tx_response: 4 bytes, in a slot of 12
//   0    2        4         12
//   | id | status | zeroes  |
const TXR_ID = 0;
const TXR_STATUS = 2;
const TXR_UNUSED = 4;

/** One for each tx slot, in any order. */
export const txResponse = {
  id: (v: DataView, at: number): number => v.getUint16(at + TXR_ID, LE),
  status: (v: DataView, at: number): number => v.getInt16(at + TXR_STATUS, LE),

  /** All 12 bytes of the slot. */
  write(v: DataView, at: number, id: number, status: number): void {
    v.setUint16(at + TXR_ID, id, LE);
    v.setInt16(at + TXR_STATUS, status, LE);
    v.setUint32(at + TXR_UNUSED, 0, LE);
    v.setUint32(at + TXR_UNUSED + 4, 0, LE);
  },
} as const;

// netif_rx_request: 8 bytes
//   0    2   4      8
//   | id | - | gref |
const RX_ID = 0;
const RX_PAD = 2;
const RX_GREF = 4;

/** A page to receive into. */
export const rxRequest = {
  id: (v: DataView, at: number): number => v.getUint16(at + RX_ID, LE),
  gref: (v: DataView, at: number): GrantRef => grantRef(v.getUint32(at + RX_GREF, LE)),

  /** All 8 bytes. */
  write(v: DataView, at: number, id: number, gref: GrantRef): void {
    v.setUint16(at + RX_ID, id, LE);
    v.setUint16(at + RX_PAD, 0, LE);
    v.setUint32(at + RX_GREF, gref, LE);
  },
} as const;

// netif_rx_response: 8 bytes, in the slot of the request that it answers
//   0    2        4       6        8
//   | id | offset | flags | status |
const RXR_ID = 0;
const RXR_OFFSET = 2;
const RXR_FLAGS = 4;
const RXR_STATUS = 6;

/** A fragment received: `status` bytes at `offset` of the page, or an error below zero. */
export const rxResponse = {
  id: (v: DataView, at: number): number => v.getUint16(at + RXR_ID, LE),
  offset: (v: DataView, at: number): number => v.getUint16(at + RXR_OFFSET, LE),
  flags: (v: DataView, at: number): number => v.getUint16(at + RXR_FLAGS, LE),
  status: (v: DataView, at: number): number => v.getInt16(at + RXR_STATUS, LE),

  /** All 8 bytes. */
  write(v: DataView, at: number, id: number, offset: number, flags: number, status: number): void {
    v.setUint16(at + RXR_ID, id, LE);
    v.setUint16(at + RXR_OFFSET, offset, LE);
    v.setUint16(at + RXR_FLAGS, flags, LE);
    v.setInt16(at + RXR_STATUS, status, LE);
  },
} as const;

if (TX_SIZE + 2 !== TX_SLOT_SIZE || TXR_UNUSED + 8 !== TX_SLOT_SIZE) {
  throw new RangeError("tx slot layout");
}
if (RX_GREF + 4 !== RX_SLOT_SIZE || RXR_STATUS + 2 !== RX_SLOT_SIZE) {
  throw new RangeError("rx slot layout");
}
