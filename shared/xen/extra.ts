/**
 * Extra info: slots between the first and the second fragment of a packet, in both rings.
 *
 * Source: xen: xen/include/public/io/netif.h, struct netif_extra_info.
 *
 *   0      1       2                      8        12
 *   | type | flags | body by type         | zeroes |     the last four only in a tx slot
 *
 *   GSO    2 size u16 | 4 type u8 | 5 - | 6 features u16
 *   MCAST  2 address, six bytes
 *   HASH   2 type u8 | 3 algorithm u8 | 4 value u32
 *
 * Runs for every packet with an offload: field functions, no objects. A writer
 * takes the size of the slot it stands in and fills all of it.
 */
import { RX_SLOT_SIZE, TX_SLOT_SIZE } from "./netif.ts";

const LE = true;

/** Bytes in use, in either ring. */
export const EXTRA_SIZE = 8;

export const ExtraType = {
  /** Never used: invalid. */
  NONE: 0,
  GSO: 1,
  MCAST_ADD: 2,
  MCAST_DEL: 3,
  HASH: 4,
} as const;
export type ExtraType = (typeof ExtraType)[keyof typeof ExtraType];
/** The first number that is not a type. */
export const EXTRA_TYPE_MAX = 5;

/** In `flags`: another extra info slot follows. */
export const EXTRA_FLAG_MORE = 1 << 0;

/** Type of a GSO body: the protocol of the segments. */
export const GsoType = { NONE: 0, TCPV4: 1, TCPV6: 2 } as const;
export type GsoType = (typeof GsoType)[keyof typeof GsoType];

const TYPE = 0;
const FLAGS = 1;
const GSO_SIZE = 2;
const GSO_TYPE = 4;
const GSO_PAD = 5;
const GSO_FEATURES = 6;
const MCAST_ADDR = 2;
const MCAST_ADDR_BYTES = 6;
const HASH_TYPE = 2;
const HASH_ALGORITHM = 3;
const HASH_VALUE = 4;

const head = (v: DataView, at: number, slotBytes: number, type: number, more: number): void => {
  v.setUint8(at + TYPE, type);
  v.setUint8(at + FLAGS, more & EXTRA_FLAG_MORE);
  if (slotBytes > EXTRA_SIZE) v.setUint32(at + EXTRA_SIZE, 0, LE);
};

/** One extra info slot. `slotBytes` is TX_SLOT_SIZE or RX_SLOT_SIZE; `more` is 0 or 1. */
export const extra = {
  type: (v: DataView, at: number): number => v.getUint8(at + TYPE),
  flags: (v: DataView, at: number): number => v.getUint8(at + FLAGS),

  /** Bytes of payload in each segment. */
  gsoSize: (v: DataView, at: number): number => v.getUint16(at + GSO_SIZE, LE),
  gsoType: (v: DataView, at: number): number => v.getUint8(at + GSO_TYPE),
  gsoFeatures: (v: DataView, at: number): number => v.getUint16(at + GSO_FEATURES, LE),
  /** Byte `i` of the six of a multicast address. */
  mcastByte: (v: DataView, at: number, i: number): number => v.getUint8(at + MCAST_ADDR + i),
  /** A number of HashType, not a bit. */
  hashType: (v: DataView, at: number): number => v.getUint8(at + HASH_TYPE),
  hashAlgorithm: (v: DataView, at: number): number => v.getUint8(at + HASH_ALGORITHM),
  hashValue: (v: DataView, at: number): number => v.getUint32(at + HASH_VALUE, LE),

  writeGso(
    v: DataView,
    at: number,
    slotBytes: number,
    more: number,
    size: number,
    type: number,
    features = 0,
  ): void {
    head(v, at, slotBytes, ExtraType.GSO, more);
    v.setUint16(at + GSO_SIZE, size, LE);
    v.setUint8(at + GSO_TYPE, type);
    v.setUint8(at + GSO_PAD, 0);
    v.setUint16(at + GSO_FEATURES, features, LE);
  },

  /** `type` is MCAST_ADD or MCAST_DEL; the address is the six bytes src[from ..]. */
  writeMcast(
    v: DataView,
    at: number,
    slotBytes: number,
    more: number,
    type: number,
    src: Uint8Array,
    from: number,
  ): void {
    head(v, at, slotBytes, type, more);
    for (let i = 0; i < MCAST_ADDR_BYTES; i++) v.setUint8(at + MCAST_ADDR + i, src[from + i] ?? 0);
  },

  writeHash(
    v: DataView,
    at: number,
    slotBytes: number,
    more: number,
    type: number,
    algorithm: number,
    value: number,
  ): void {
    head(v, at, slotBytes, ExtraType.HASH, more);
    v.setUint8(at + HASH_TYPE, type);
    v.setUint8(at + HASH_ALGORITHM, algorithm);
    v.setUint32(at + HASH_VALUE, value, LE);
  },
} as const;

if (GSO_FEATURES + 2 !== EXTRA_SIZE || HASH_VALUE + 4 !== EXTRA_SIZE) {
  throw new RangeError("extra info layout");
}
if (MCAST_ADDR + MCAST_ADDR_BYTES !== EXTRA_SIZE || RX_SLOT_SIZE !== EXTRA_SIZE) {
  throw new RangeError("extra info layout");
}
if (TX_SLOT_SIZE !== EXTRA_SIZE + 4) throw new RangeError("extra info in a tx slot");
