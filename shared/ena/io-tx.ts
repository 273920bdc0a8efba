/**
 * Transmit descriptors: one for each buffer of a packet, posted by the driver,
 * and the device's one completion for the packet.
 *
 * Source: amzn-drivers: kernel/fbsd/ena/ena-com/ena_defs/ena_eth_io_defs.h.
 * Conventions are in io.ts, which exports this file.
 */
import { type Bit, bit } from "../bytes/bits.ts";
import type { QueueId } from "../net/frame.ts";
import { type BusAddress, busAddress } from "../wire/records.ts";

const LE = true;
const TWO_32 = 0x1_0000_0000;
export const TX_DESC_SIZE = 16;
export const TX_CDESC_SIZE = 8;

// ena_eth_io_tx_desc: 16 bytes
//   0          4           8         12        14  15           16
//   | len_ctrl | meta_ctrl | addr lo | addr hi | - | header len |
//   len_ctrl:  15:0 length, 21:16 req id 15:10, 23 meta (0), 24 phase, 26 first, 27 last, 28 comp req
//   meta_ctrl: 3:0 l3 proto, 4 df, 7 tso, 12:8 l4 proto, 13 l3 csum, 14 l4 csum, 15 no fcs,
//              17 l4 partial, 31:22 req id 9:0
const TX_LEN_CTRL = 0;
const TX_META_CTRL = 4;
const TX_ADDR_LO = 8;
const TX_ADDR_HI_HDR = 12;
const TX_LENGTH_MASK = 0xffff;
const TX_REQ_ID_HI_SHIFT = 16;
const TX_REQ_ID_HI_MASK = 0x3f;
const TX_REQ_ID_LO_SHIFT = 22;
const TX_REQ_ID_LO_BITS = 10;
const TX_REQ_ID_LO_MASK = 0x3ff;
const TX_META_BIT = 23;
const TX_PHASE_BIT = 24;
const TX_FIRST_BIT = 26;
const TX_LAST_BIT = 27;
const TX_COMP_REQ_BIT = 28;
const TX_DF_BIT = 4;
const TX_TSO_BIT = 7;
const TX_L4_PROTO_SHIFT = 8;
const TX_L3_CSUM_BIT = 13;
const TX_L4_CSUM_BIT = 14;
const TX_L4_PARTIAL_BIT = 17;
const TX_HEADER_LENGTH_SHIFT = 24;

/** The longest buffer one tx descriptor can name. */
export const TX_MAX_BUFFER_BYTES = TX_LENGTH_MASK;

const lenCtrlAt = (v: DataView, at: number): number => v.getUint32(at + TX_LEN_CTRL, LE);
const metaCtrlAt = (v: DataView, at: number): number => v.getUint32(at + TX_META_CTRL, LE);

/**
 * A tx descriptor. Request id, comp req, header length and all offload bits
 * count only in a packet's first data descriptor; phase, length, address and
 * last in each.
 */
export const txDesc = {
  lenCtrl: lenCtrlAt,
  metaCtrl: metaCtrlAt,

  // Out of len_ctrl.
  lengthOf: (lenCtrl: number): number => lenCtrl & TX_LENGTH_MASK,
  isMetaOf: (lenCtrl: number): Bit => bit(lenCtrl, TX_META_BIT),
  phaseOf: (lenCtrl: number): Bit => bit(lenCtrl, TX_PHASE_BIT),
  firstOf: (lenCtrl: number): Bit => bit(lenCtrl, TX_FIRST_BIT),
  lastOf: (lenCtrl: number): Bit => bit(lenCtrl, TX_LAST_BIT),
  compReqOf: (lenCtrl: number): Bit => bit(lenCtrl, TX_COMP_REQ_BIT),
  // Out of meta_ctrl.
  l3ProtoOf: (metaCtrl: number): number => metaCtrl & 0xf,
  tsoEnableOf: (metaCtrl: number): Bit => bit(metaCtrl, TX_TSO_BIT),
  l4ProtoOf: (metaCtrl: number): number => (metaCtrl >>> TX_L4_PROTO_SHIFT) & 0x1f,
  l3CsumEnableOf: (metaCtrl: number): Bit => bit(metaCtrl, TX_L3_CSUM_BIT),
  l4CsumEnableOf: (metaCtrl: number): Bit => bit(metaCtrl, TX_L4_CSUM_BIT),
  l4PartialOf: (metaCtrl: number): Bit => bit(metaCtrl, TX_L4_PARTIAL_BIT),
  // Out of both: the id is split between them.
  reqIdOf: (lenCtrl: number, metaCtrl: number): number =>
    (((lenCtrl >>> TX_REQ_ID_HI_SHIFT) & TX_REQ_ID_HI_MASK) << TX_REQ_ID_LO_BITS) |
    (metaCtrl >>> TX_REQ_ID_LO_SHIFT),

  length: (v: DataView, at: number): number => lenCtrlAt(v, at) & TX_LENGTH_MASK,
  isMeta: (v: DataView, at: number): Bit => bit(lenCtrlAt(v, at), TX_META_BIT),
  first: (v: DataView, at: number): Bit => bit(lenCtrlAt(v, at), TX_FIRST_BIT),
  last: (v: DataView, at: number): Bit => bit(lenCtrlAt(v, at), TX_LAST_BIT),
  reqId: (v: DataView, at: number): number => txDesc.reqIdOf(lenCtrlAt(v, at), metaCtrlAt(v, at)),
  address: (v: DataView, at: number): BusAddress =>
    busAddress(v.getUint16(at + TX_ADDR_HI_HDR, LE) * TWO_32 + v.getUint32(at + TX_ADDR_LO, LE)),
  headerLength: (v: DataView, at: number): number =>
    v.getUint32(at + TX_ADDR_HI_HDR, LE) >>> TX_HEADER_LENGTH_SHIFT,

  /** The offload bits of meta_ctrl, without the request id: constant over a flow's packets. */
  packOffload: (
    l3Proto: number,
    l4Proto: number,
    l3CsumEnable: number,
    l4CsumEnable: number,
    l4Partial: number,
    tsoEnable: number,
    df: number,
  ): number =>
    (l3Proto & 0xf) |
    ((l4Proto & 0x1f) << TX_L4_PROTO_SHIFT) |
    ((l3CsumEnable & 1) << TX_L3_CSUM_BIT) |
    ((l4CsumEnable & 1) << TX_L4_CSUM_BIT) |
    ((l4Partial & 1) << TX_L4_PARTIAL_BIT) |
    ((tsoEnable & 1) << TX_TSO_BIT) |
    ((df & 1) << TX_DF_BIT),

  /** All 16 bytes. `offload` comes from packOffload, or is 0. */
  write(
    v: DataView,
    at: number,
    length: number,
    reqId: number,
    phase: number,
    first: number,
    last: number,
    compReq: number,
    offload: number,
    address: BusAddress,
    headerLength: number,
  ): void {
    v.setUint32(
      at + TX_LEN_CTRL,
      (length & TX_LENGTH_MASK) |
        (((reqId >>> TX_REQ_ID_LO_BITS) & TX_REQ_ID_HI_MASK) << TX_REQ_ID_HI_SHIFT) |
        ((phase & 1) << TX_PHASE_BIT) |
        ((first & 1) << TX_FIRST_BIT) |
        ((last & 1) << TX_LAST_BIT) |
        ((compReq & 1) << TX_COMP_REQ_BIT),
      LE,
    );
    v.setUint32(
      at + TX_META_CTRL,
      offload | ((reqId & TX_REQ_ID_LO_MASK) << TX_REQ_ID_LO_SHIFT),
      LE,
    );
    v.setUint32(at + TX_ADDR_LO, address >>> 0, LE);
    v.setUint32(
      at + TX_ADDR_HI_HDR,
      (Math.floor(address / TWO_32) & 0xffff) | (headerLength << TX_HEADER_LENGTH_SHIFT),
      LE,
    );
  },
} as const;

// ena_eth_io_tx_meta_desc: 16 bytes
//   0          4        8       12  16
//   | len_ctrl | word 1 | word 2 | - |
//   len_ctrl: 14 ext valid, 19:16 mss 13:10, 20 extended, 21 store, 23 meta (1), 24 phase,
//             26 first, 27 last, 28 comp req       word 1: 5:0 req id hi, which no driver fills
//   word 2:   7:0 l3 hdr len, 15:8 l3 hdr offset, 21:16 l4 hdr words, 31:22 mss 9:0
const META_WORD1 = 4;
const META_WORD2 = 8;
const META_WORD3 = 12;
const META_EXT_VALID_BIT = 14;
const META_MSS_HI_SHIFT = 16;
const META_MSS_HI_MASK = 0xf;
const META_ETH_META_TYPE_BIT = 20;
const META_STORE_BIT = 21;
const META_L3_HDR_OFF_SHIFT = 8;
const META_L4_HDR_WORDS_SHIFT = 16;
const META_MSS_LO_SHIFT = 22;
const META_MSS_LO_BITS = 10;
const META_MSS_LO_MASK = 0x3ff;
/** The bits that drivers set in every meta descriptor. */
const META_ALWAYS =
  ((1 << META_EXT_VALID_BIT) |
    (1 << META_ETH_META_TYPE_BIT) |
    (1 << META_STORE_BIT) |
    (1 << TX_META_BIT)) >>>
  0;

/** The largest mss the two halves hold: 14 bits. */
export const TX_META_MAX_MSS = 0x3fff;

const word2At = (v: DataView, at: number): number => v.getUint32(at + META_WORD2, LE);

/**
 * A meta descriptor: header lengths and mss for the packet that follows. It has
 * `first`, so the data descriptor behind it has not. phase, first, last and
 * compReq lie where a tx descriptor has them; read them with `txDesc`.
 */
export const txMeta = {
  extValid: (v: DataView, at: number): Bit => bit(lenCtrlAt(v, at), META_EXT_VALID_BIT),
  ethMetaType: (v: DataView, at: number): Bit => bit(lenCtrlAt(v, at), META_ETH_META_TYPE_BIT),
  mss: (v: DataView, at: number): number =>
    (((lenCtrlAt(v, at) >>> META_MSS_HI_SHIFT) & META_MSS_HI_MASK) << META_MSS_LO_BITS) |
    (word2At(v, at) >>> META_MSS_LO_SHIFT),
  l3HdrLen: (v: DataView, at: number): number => word2At(v, at) & 0xff,
  l3HdrOffset: (v: DataView, at: number): number =>
    (word2At(v, at) >>> META_L3_HDR_OFF_SHIFT) & 0xff,
  l4HdrLenWords: (v: DataView, at: number): number =>
    (word2At(v, at) >>> META_L4_HDR_WORDS_SHIFT) & 0x3f,

  /** All 16 bytes, as drivers write it: extended, valid, stored, first of its packet. */
  write(
    v: DataView,
    at: number,
    phase: number,
    mss: number,
    l3HdrLen: number,
    l3HdrOffset: number,
    l4HdrLenWords: number,
  ): void {
    v.setUint32(
      at + TX_LEN_CTRL,
      META_ALWAYS |
        (((mss >>> META_MSS_LO_BITS) & META_MSS_HI_MASK) << META_MSS_HI_SHIFT) |
        ((phase & 1) << TX_PHASE_BIT) |
        (1 << TX_FIRST_BIT),
      LE,
    );
    v.setUint32(at + META_WORD1, 0, LE);
    v.setUint32(
      at + META_WORD2,
      (l3HdrLen & 0xff) |
        ((l3HdrOffset & 0xff) << META_L3_HDR_OFF_SHIFT) |
        ((l4HdrLenWords & 0x3f) << META_L4_HDR_WORDS_SHIFT) |
        ((mss & META_MSS_LO_MASK) << META_MSS_LO_SHIFT),
      LE,
    );
    v.setUint32(at + META_WORD3, 0, LE);
  },
} as const;

// ena_eth_io_tx_cdesc: 8 bytes
//   0        2        3       4         6         8
//   | req id | status | flags | sub qid | sq head |     flags: 0 phase, 7:6 must be zero
const TXC_REQ_ID = 0;
const TXC_STATUS = 2;
const TXC_FLAGS = 3;
const TXC_SUB_QID = 4;
const TXC_SQ_HEAD = 6;

/** A tx completion: one for each packet, whatever number of descriptors it took. */
export const txCdesc = {
  reqId: (v: DataView, at: number): number => v.getUint16(at + TXC_REQ_ID, LE),
  phase: (v: DataView, at: number): Bit => bit(v.getUint8(at + TXC_FLAGS), 0),
  /** With Capability.CDESC_MBZ, drivers treat a non-zero value as malformed. */
  mbz: (v: DataView, at: number): number => v.getUint8(at + TXC_FLAGS) >>> 6,

  write(
    v: DataView,
    at: number,
    reqId: number,
    status: number,
    phase: number,
    subQid: QueueId,
    sqHeadIdx: number,
  ): void {
    v.setUint16(at + TXC_REQ_ID, reqId, LE);
    v.setUint8(at + TXC_STATUS, status);
    v.setUint16(at + TXC_SUB_QID, subQid, LE);
    v.setUint16(at + TXC_SQ_HEAD, sqHeadIdx, LE);
    v.setUint8(at + TXC_FLAGS, phase & 1);
  },
} as const;

if (TX_ADDR_HI_HDR + 4 !== TX_DESC_SIZE || META_WORD3 + 4 !== TX_DESC_SIZE) {
  throw new RangeError("tx descriptor layout");
}
if (TXC_SQ_HEAD + 2 !== TX_CDESC_SIZE) throw new RangeError("tx completion layout");
