/**
 * The control ring: the frontend's requests for hashing and its table.
 *
 * Source: xen: xen/include/public/io/netif.h, structs xen_netif_ctrl_*.
 * A slot has 16 bytes, a response uses 12 of them; `ctrlResponse` owns all 16.
 */
import { type Parsed, struct, u16, u32 } from "../bytes/struct.ts";

export const CTRL_SLOT_SIZE = 16;

export const CtrlType = {
  INVALID: 0,
  GET_HASH_FLAGS: 1,
  SET_HASH_FLAGS: 2,
  SET_HASH_KEY: 3,
  GET_HASH_MAPPING_SIZE: 4,
  SET_HASH_MAPPING_SIZE: 5,
  SET_HASH_MAPPING: 6,
  SET_HASH_ALGORITHM: 7,
  GET_GREF_MAPPING_SIZE: 8,
  ADD_GREF_MAPPING: 9,
  DEL_GREF_MAPPING: 10,
} as const;
export type CtrlType = (typeof CtrlType)[keyof typeof CtrlType];

export const CtrlStatus = {
  SUCCESS: 0,
  NOT_SUPPORTED: 1,
  INVALID_PARAMETER: 2,
  BUFFER_OVERFLOW: 3,
} as const;
export type CtrlStatus = (typeof CtrlStatus)[keyof typeof CtrlStatus];

/** Kinds of packets that are hashed, as an extra info slot numbers them. */
export const HashType = { IPV4: 0, IPV4_TCP: 1, IPV6: 2, IPV6_TCP: 3 } as const;
export type HashType = (typeof HashType)[keyof typeof HashType];

/** The same as bits, as GET_HASH_FLAGS and SET_HASH_FLAGS carry them. */
export const HashFlag = {
  IPV4: 1 << HashType.IPV4,
  IPV4_TCP: 1 << HashType.IPV4_TCP,
  IPV6: 1 << HashType.IPV6,
  IPV6_TCP: 1 << HashType.IPV6_TCP,
} as const;

export const HashAlgorithm = { NONE: 0, TOEPLITZ: 1 } as const;
export type HashAlgorithm = (typeof HashAlgorithm)[keyof typeof HashAlgorithm];

// xen_netif_ctrl_request: 16 bytes
//   0    2      4         8         12        16
//   | id | type | data[0] | data[1] | data[2] |
export const ctrlRequest = struct(CTRL_SLOT_SIZE, {
  id: u16(0),
  type: u16(2),
  data0: u32(4),
  data1: u32(8),
  data2: u32(12),
});
export type CtrlRequest = Parsed<typeof ctrlRequest>;

// xen_netif_ctrl_response: 12 bytes, in a slot of 16
//   0    2      4        8      12       16
//   | id | type | status | data | zeroes |
export const ctrlResponse = struct(CTRL_SLOT_SIZE, {
  id: u16(0),
  type: u16(2),
  status: u32(4),
  data: u32(8),
});

/** An entry of the table that SET_HASH_MAPPING brings: 4 bytes. */
export const ctrlMappingEntry = struct(4, { queue: u32(0) });
