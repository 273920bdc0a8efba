/**
 * grant_table_op: its numbers and argument structures.
 *
 * Source: xen: xen/include/public/grant_table.h. OUT marks the fields that the
 * hypervisor writes. It uses `patch`, so that the guest's own words stay: an
 * address of a 64-bit kernel reads as Infinity (shared/bytes/u64.ts) and could
 * not be written back. A call carries one or more structures in a row, each with
 * its own status.
 */
import { i16, struct, u16, u32, u64 } from "../bytes/struct.ts";

export const GnttabOp = {
  MAP_GRANT_REF: 0,
  UNMAP_GRANT_REF: 1,
  SETUP_TABLE: 2,
  DUMP_TABLE: 3,
  TRANSFER: 4,
  COPY: 5,
  QUERY_SIZE: 6,
  UNMAP_AND_REPLACE: 7,
  SET_VERSION: 8,
  GET_STATUS_FRAMES: 9,
  GET_VERSION: 10,
  SWAP_GRANT_REF: 11,
  CACHE_FLUSH: 12,
} as const;
export type GnttabOp = (typeof GnttabOp)[keyof typeof GnttabOp];

/** Flags of MAP_GRANT_REF. */
export const GntMap = {
  DEVICE_MAP: 1 << 0,
  HOST_MAP: 1 << 1,
  READONLY: 1 << 2,
  APPLICATION_MAP: 1 << 3,
  CONTAINS_PTE: 1 << 4,
} as const;

/** Flags of COPY: they mark a side as a reference. Without its flag a side is a frame of the caller. */
export const GntCopy = { SOURCE_GREF: 1 << 0, DEST_GREF: 1 << 1 } as const;

// gnttab_map_grant_ref: 32 bytes
//   0           8       12    16    18       20       24             32
//   | host addr | flags | ref | dom | status | handle | dev bus addr |     OUT status and on
export const gnttabMapGrantRef = struct(32, {
  hostAddr: u64(0),
  flags: u32(8),
  ref: u32(12),
  dom: u16(16),
  status: i16(18),
  handle: u32(20),
  devBusAddr: u64(24),
});

// gnttab_unmap_grant_ref: 24 bytes
//   0           8              16       20       22  24
//   | host addr | dev bus addr | handle | status | - |     OUT status
export const gnttabUnmapGrantRef = struct(24, {
  hostAddr: u64(0),
  devBusAddr: u64(8),
  handle: u32(16),
  status: i16(20),
});

// gnttab_setup_table: 24 bytes
//   0     2   4           8        10  16           24
//   | dom | - | nr frames | status | - | frame list |     OUT status
export const gnttabSetupTable = struct(24, {
  dom: u16(0),
  nrFrames: u32(4),
  status: i16(8),
  frameList: u64(16),
});

// gnttab_transfer: 24 bytes
//   0     8       10  12    16       18  24
//   | mfn | domid | - | ref | status | - |     OUT status
export const gnttabTransfer = struct(24, {
  mfn: u64(0),
  domid: u16(8),
  ref: u32(12),
  status: i16(16),
});

// gnttab_copy: 40 bytes: two gnttab_copy_ptr of 16, then their common fields
//   0       8       10       12  16   24      26       28  32    34      36       38  40
//   | union | domid | offset | - | union | domid | offset | - | len | flags | status | - |
//     source                       dest                                       OUT status
/** The union holds a reference in its low half, or a frame number in all of it. */
export const gnttabCopy = struct(40, {
  sourceRef: u32(0),
  sourceFrameHigh: u32(4),
  sourceDomid: u16(8),
  sourceOffset: u16(10),
  destRef: u32(16),
  destFrameHigh: u32(20),
  destDomid: u16(24),
  destOffset: u16(26),
  len: u16(32),
  flags: u16(34),
  status: i16(36),
});

// gnttab_query_size: 16 bytes
//   0     2   4           8               12       14  16
//   | dom | - | nr frames | max nr frames | status | - |     OUT nr frames and on
export const gnttabQuerySize = struct(16, {
  dom: u16(0),
  nrFrames: u32(4),
  maxNrFrames: u32(8),
  status: i16(12),
});

/** gnttab_set_version: 4 bytes; version is IN, and OUT the one in force afterwards. */
export const gnttabSetVersion = struct(4, { version: u32(0) });

// gnttab_get_status_frames: 16 bytes
//   0           4     6        8            16
//   | nr frames | dom | status | frame list |     OUT status
export const gnttabGetStatusFrames = struct(16, {
  nrFrames: u32(0),
  dom: u16(4),
  status: i16(6),
  frameList: u64(8),
});

// gnttab_get_version: 8 bytes
//   0     2   4         8
//   | dom | - | version |     OUT version
export const gnttabGetVersion = struct(8, { dom: u16(0), version: u32(4) });
