/**
 * Byte layouts of pcapng, one block at a time.
 *
 * Source: draft-ietf-opsawg-pcapng, sections 3 and 4. A section is in the byte order of the program that
 * wrote it, so every number is read with the section's order; we write little-endian.
 */

/** The order that this writer uses, for DataView. */
export const LE = true;

// Section 3.1, every block; the length stands at both ends and is a multiple of four
//   0      4        8              length - 4
//   | type | length | body ...     | length |
export const BLOCK_TYPE = 0;
export const BLOCK_LENGTH = 4;
export const BLOCK_BODY = 8;
/** Type and both lengths. */
export const BLOCK_OVERHEAD_BYTES = 12;
/** Longest block that is read, because it is in memory as a whole. */
export const MAX_BLOCK_BYTES = 16 * 1024 * 1024;

export const BlockType = {
  SECTION: 0x0a0d0d0a,
  INTERFACE: 1,
  /** Obsolete, but old files have it. */
  PACKET: 2,
  SIMPLE_PACKET: 3,
  NAMES: 4,
  STATISTICS: 5,
  ENHANCED_PACKET: 6,
} as const;

// Section 3.5, an option: value padded to a multiple of four, length without the padding
//   0      2        4
//   | code | length | value ...
export const OPTION_CODE = 0;
export const OPTION_LENGTH = 2;
export const OPTION_HEADER_BYTES = 4;
/** Longest option value: its length has 16 bits. */
export const MAX_OPTION_BYTES = 65_535;
/** In every block: the end of the options, and a comment. */
export const OPT_END = 0;
export const OPT_COMMENT = 1;

// Section 4.1, Section Header Block
//   8       12      14      16               24
//   | magic | major | minor | section length | options ...
export const SHB_MAGIC = 8;
export const SHB_MAJOR = 12;
export const SHB_OPTIONS = 24;
export const BYTE_ORDER_MAGIC = 0x1a2b3c4d;
export const ShbOption = { HARDWARE: 2, OS: 3, APPLICATION: 4 } as const;

// Section 4.2, Interface Description Block
//   8           10         12            16
//   | link type | reserved | snap length | options ...
export const IDB_LINK_TYPE = 8;
export const IDB_SNAP_LENGTH = 12;
export const IDB_OPTIONS = 16;
export const IdbOption = {
  NAME: 2,
  DESCRIPTION: 3,
  MAC: 6,
  SPEED: 8,
  TS_RESOLUTION: 9,
  FILTER: 11,
  OS: 12,
  FCS_LENGTH: 13,
  TS_OFFSET: 14,
} as const;
/** if_tsresol: the negative power of ten of the clock's unit. */
export const TS_NANOSECONDS = 9;
/** if_tsresol of an interface that does not say: microseconds. */
export const TS_DEFAULT = 6;
/** if_filter: its first byte says that the rest is the filter's text. */
export const FILTER_TEXT = 0;

// Section 4.3, Enhanced Packet Block; Appendix A, the obsolete Packet Block, has the same shape but
// for `interface` u16 and `drops` u16 in the first word
//   8           12          16         20         24         28
//   | interface | time high | time low | captured | original | data, padded | options ...
export const EPB_INTERFACE = 8;
export const EPB_TIME_HIGH = 12;
export const EPB_TIME_LOW = 16;
export const EPB_CAPTURED = 20;
export const EPB_ORIGINAL = 24;
export const EPB_DATA = 28;
export const PB_DROPS = 10;
/** Drops of an obsolete Packet Block that nobody counted. */
export const PB_DROPS_UNKNOWN = 0xffff;
export const EpbOption = {
  FLAGS: 2,
  DROP_COUNT: 4,
  PACKET_ID: 5,
  QUEUE: 6,
  VERDICT: 7,
} as const;
/** epb_verdict: its first byte says who judged. */
export const VERDICT_HARDWARE = 0;

/** Section 4.3.1: bits 0 and 1 of epb_flags. */
export const Direction = { UNKNOWN: 0, IN: 1, OUT: 2 } as const;
export type Direction = (typeof Direction)[keyof typeof Direction];
/** Bytes of frame check sequence at the packet's end; 0 when the flags do not say. */
export const flagFcsBytes = (flags: number): number => (flags >>> 5) & 0xf;
export const FLAG_CHECKSUM_NOT_READY = 1 << 9;
export const FLAG_CHECKSUM_VALID = 1 << 10;
export const FLAG_SEGMENTATION_OFFLOADED = 1 << 11;

// Section 4.4, Simple Packet Block: of the section's first interface, without a time
//   8          12
//   | original | data, padded |
export const SPB_ORIGINAL = 8;
export const SPB_DATA = 12;

// Section 4.5, Name Resolution Block: records as options are, then options
//   8
//   | type | length | address, names ending with zero | ... | 0 | 0 | options ...
export const NRB_RECORDS = 8;
export const NrbRecord = { END: 0, IPV4: 1, IPV6: 2, EUI48: 3, EUI64: 4 } as const;

// Section 4.6, Interface Statistics Block
//   8           12          16         20
//   | interface | time high | time low | options ...
export const ISB_INTERFACE = 8;
export const ISB_TIME_HIGH = 12;
export const ISB_OPTIONS = 20;
export const IsbOption = {
  START_TIME: 2,
  END_TIME: 3,
  RECEIVED: 4,
  DROPPED: 5,
  FILTER_ACCEPTED: 6,
  OS_DROPPED: 7,
  DELIVERED: 8,
} as const;

/** draft-ietf-opsawg-pcaplinktype. */
export const LinkType = { ETHERNET: 1, WIRESHARK_UPPER_PDU: 252 } as const;

/** `bytes` rounded up to a multiple of four. */
export const padded = (bytes: number): number => (bytes + 3) & ~3;
