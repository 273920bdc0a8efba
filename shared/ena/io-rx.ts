/**
 * Receive descriptors: the empty buffers that a driver posts, and the device's
 * completion for each buffer that it has filled.
 *
 * Source: amzn-drivers: kernel/fbsd/ena/ena-com/ena_defs/ena_eth_io_defs.h.
 * Conventions are in io.ts, which exports this file.
 */
import { type Bit, bit } from "../bytes/bits.ts";
import type { QueueId } from "../net/frame.ts";
import { type BusAddress, busAddress } from "../wire/records.ts";

const LE = true;
const TWO_32 = 0x1_0000_0000;
export const RX_DESC_SIZE = 16;
export const RX_CDESC_SIZE = 16;

// ena_eth_io_rx_desc: 16 bytes
//   0        2   3      4        6   8         12        14  16
//   | length | - | ctrl | req id | - | addr lo | addr hi | - |
//   ctrl: 0 phase, 2 first, 3 last, 4 comp req, 5 must be one (no driver sets it: do not insist)
const RX_LENGTH = 0;
const RX_RESERVED2 = 2;
const RX_CTRL = 3;
const RX_REQ_ID = 4;
const RX_RESERVED6 = 6;
const RX_ADDR_LO = 8;
const RX_ADDR_HI = 12;
const RX_RESERVED14 = 14;
const RX_FIRST_BIT = 2;
const RX_LAST_BIT = 3;
const RX_COMP_REQ_BIT = 4;
/** Drivers post one buffer per descriptor: first, last and completed. */
const RX_CTRL_SINGLE = (1 << RX_FIRST_BIT) | (1 << RX_LAST_BIT) | (1 << RX_COMP_REQ_BIT);

/** In an rx descriptor a length of 0 means this many. In a tx descriptor it means none. */
export const RX_LENGTH_ZERO_MEANS = 0x1_0000;

/** An rx descriptor: an empty buffer for the device to fill. */
export const rxDesc = {
  /** In bytes. A stored 0 is returned as 65536. */
  length: (v: DataView, at: number): number =>
    v.getUint16(at + RX_LENGTH, LE) || RX_LENGTH_ZERO_MEANS,
  phase: (v: DataView, at: number): Bit => bit(v.getUint8(at + RX_CTRL), 0),
  reqId: (v: DataView, at: number): number => v.getUint16(at + RX_REQ_ID, LE),
  address: (v: DataView, at: number): BusAddress =>
    busAddress(v.getUint16(at + RX_ADDR_HI, LE) * TWO_32 + v.getUint32(at + RX_ADDR_LO, LE)),

  /** All 16 bytes, as drivers write it. A length of 65536 goes out as 0. */
  write(
    v: DataView,
    at: number,
    length: number,
    phase: number,
    reqId: number,
    address: BusAddress,
  ): void {
    v.setUint16(at + RX_LENGTH, length, LE);
    v.setUint8(at + RX_RESERVED2, 0);
    v.setUint8(at + RX_CTRL, RX_CTRL_SINGLE | (phase & 1));
    v.setUint16(at + RX_REQ_ID, reqId, LE);
    v.setUint16(at + RX_RESERVED6, 0, LE);
    v.setUint32(at + RX_ADDR_LO, address >>> 0, LE);
    v.setUint16(at + RX_ADDR_HI, Math.floor(address / TWO_32), LE);
    v.setUint16(at + RX_RESERVED14, 0, LE);
  },
} as const;

// ena_eth_io_rx_cdesc_base: 16 bytes
//   0        4        6        8      12        14       15  16
//   | status | length | req id | hash | sub qid | offset | - |
//   status: 4:0 l3 proto, 6:5 vlans, 7 must be zero, 12:8 l4 proto, 13 l3 csum err,
//           14 l4 csum err, 15 ipv4 frag, 16 l4 csum checked, 17 must be zero, 24 phase,
//           25 l3 csum 2, 26 first, 27 last, 30 buffer
const RXC_STATUS = 0;
const RXC_LENGTH = 4;
const RXC_REQ_ID = 6;
const RXC_HASH = 8;
const RXC_SUB_QID = 12;
const RXC_OFFSET = 14;
const RXC_RESERVED15 = 15;
const RXC_L4_PROTO_SHIFT = 8;
const RXC_L3_CSUM_ERR_BIT = 13;
const RXC_L4_CSUM_ERR_BIT = 14;
const RXC_IPV4_FRAG_BIT = 15;
const RXC_L4_CSUM_CHECKED_BIT = 16;
const RXC_PHASE_BIT = 24;
const RXC_FIRST_BIT = 26;
const RXC_LAST_BIT = 27;
const RXC_BUFFER_BIT = 30;
const RXC_MBZ_MASK = (1 << 7) | (1 << 17);

const statusAt = (v: DataView, at: number): number => v.getUint32(at + RXC_STATUS, LE);

/**
 * An rx completion: one for each buffer. Protocols, checksum verdicts and hash
 * count in a packet's last; offset in its first.
 */
export const rxCdesc = {
  status: statusAt,

  l3ProtoOf: (status: number): number => status & 0x1f,
  l4ProtoOf: (status: number): number => (status >>> RXC_L4_PROTO_SHIFT) & 0x1f,
  l3CsumErrOf: (status: number): Bit => bit(status, RXC_L3_CSUM_ERR_BIT),
  l4CsumErrOf: (status: number): Bit => bit(status, RXC_L4_CSUM_ERR_BIT),
  ipv4FragOf: (status: number): Bit => bit(status, RXC_IPV4_FRAG_BIT),
  l4CsumCheckedOf: (status: number): Bit => bit(status, RXC_L4_CSUM_CHECKED_BIT),
  phaseOf: (status: number): Bit => bit(status, RXC_PHASE_BIT),
  firstOf: (status: number): Bit => bit(status, RXC_FIRST_BIT),
  lastOf: (status: number): Bit => bit(status, RXC_LAST_BIT),
  /** With Capability.CDESC_MBZ, drivers treat a non-zero value as malformed. */
  mbzOf: (status: number): number => status & RXC_MBZ_MASK,

  phase: (v: DataView, at: number): Bit => bit(statusAt(v, at), RXC_PHASE_BIT),
  length: (v: DataView, at: number): number => v.getUint16(at + RXC_LENGTH, LE),
  reqId: (v: DataView, at: number): number => v.getUint16(at + RXC_REQ_ID, LE),
  hash: (v: DataView, at: number): number => v.getUint32(at + RXC_HASH, LE),
  offset: (v: DataView, at: number): number => v.getUint8(at + RXC_OFFSET),

  /** The status word without phase, first and last: the parser's results for a packet. */
  packVerdict: (
    l3Proto: number,
    l4Proto: number,
    l3CsumErr: number,
    l4CsumErr: number,
    l4CsumChecked: number,
    ipv4Frag: number,
  ): number =>
    (l3Proto & 0x1f) |
    ((l4Proto & 0x1f) << RXC_L4_PROTO_SHIFT) |
    ((l3CsumErr & 1) << RXC_L3_CSUM_ERR_BIT) |
    ((l4CsumErr & 1) << RXC_L4_CSUM_ERR_BIT) |
    ((l4CsumChecked & 1) << RXC_L4_CSUM_CHECKED_BIT) |
    ((ipv4Frag & 1) << RXC_IPV4_FRAG_BIT),

  /** All 16 bytes; `verdict` comes from packVerdict. The word with the phase is written last. */
  write(
    v: DataView,
    at: number,
    verdict: number,
    phase: number,
    first: number,
    last: number,
    length: number,
    reqId: number,
    hash: number,
    subQid: QueueId,
    offset: number,
  ): void {
    v.setUint16(at + RXC_LENGTH, length, LE);
    v.setUint16(at + RXC_REQ_ID, reqId, LE);
    v.setUint32(at + RXC_HASH, hash, LE);
    v.setUint16(at + RXC_SUB_QID, subQid, LE);
    v.setUint8(at + RXC_OFFSET, offset);
    v.setUint8(at + RXC_RESERVED15, 0);
    v.setUint32(
      at + RXC_STATUS,
      verdict |
        ((phase & 1) << RXC_PHASE_BIT) |
        ((first & 1) << RXC_FIRST_BIT) |
        ((last & 1) << RXC_LAST_BIT) |
        (1 << RXC_BUFFER_BIT),
      LE,
    );
  },
} as const;

if (RX_RESERVED14 + 2 !== RX_DESC_SIZE) throw new RangeError("rx descriptor layout");
if (RXC_RESERVED15 + 1 !== RX_CDESC_SIZE) throw new RangeError("rx completion layout");
