/**
 * Receive side scaling: three features, and the control buffers they point to.
 *
 * Source: amzn-drivers: kernel/fbsd/ena/ena-com/ena_defs/ena_admin_defs.h,
 * structs ena_admin_feature_rss_*, ena_admin_rss_ind_table_entry, ena_admin_proto_input.
 *
 *   feature                        body            control buffer
 *   RSS_HASH_FUNCTION              rssHashFunction rssHashKey, 48 bytes
 *   RSS_INDIRECTION_TABLE_CONFIG   rssIndTable     2^size entries of 4 bytes
 *   RSS_HASH_INPUT                 rssHashInput    rssHashFields, 256 bytes
 */
import { bits, flag, list, struct, u8, u16, u32 } from "../bytes/struct.ts";
import { HASH_PROTOCOLS } from "../net/toeplitz.ts";

/** enum ena_admin_hash_functions: bit numbers in the bitmaps below. */
export const HashFunction = { TOEPLITZ: 1, CRC32: 2 } as const;
export type HashFunction = (typeof HashFunction)[keyof typeof HashFunction];

// ena_admin_feature_rss_flow_hash_function: 12 bytes
//   0                4               8            12
//   | supported func | selected func | init value |     7:0 bitmaps of HashFunction
export const rssHashFunction = struct(12, {
  supportedFunc: bits(u32(0), 0, 8),
  selectedFunc: bits(u32(4), 0, 8),
  initVal: u32(8),
});

// ena_admin_feature_rss_flow_hash_control: 48 bytes
//   0           4   8         48
//   | key parts | - | key[10] |     key parts counts 32-bit words
export const RSS_KEY_PARTS = 10;
/** Offset of the key, for callers that use its 40 bytes and not its words. */
export const RSS_KEY_OFFSET = 8;
export const RSS_KEY_SIZE = RSS_KEY_PARTS * 4;
export const rssHashKey = struct(RSS_KEY_OFFSET + RSS_KEY_SIZE, {
  keyParts: u32(0),
  key: list(u32(RSS_KEY_OFFSET), RSS_KEY_PARTS, 4),
});

/**
 * enum ena_admin_flow_hash_proto (indexes of the arrays in `rssHashFields`) and enum
 * ena_admin_flow_hash_fields: the numbers that the hash itself works with.
 */
export { HashField, HashProtocol as HashProto } from "../net/toeplitz.ts";
export const HASH_PROTO_NUM = HASH_PROTOCOLS;

// ena_admin_feature_rss_flow_hash_input: 4 bytes
//   0                2              4
//   | supported sort | enabled sort |     1 L3 sort, 2 L4 sort: HashSort
/** Masks: swap addresses (ports) when the destination is the smaller. */
export const HashSort = { L3: 1 << 1, L4: 1 << 2 } as const;
export type HashSort = (typeof HashSort)[keyof typeof HashSort];
export const rssHashInput = struct(4, { supportedInputSort: u16(0), enabledInputSort: u16(2) });

// ena_admin_feature_rss_hash_control: 256 bytes of ena_admin_proto_input, 4 bytes each
//   0               64             128 256
//   | supported[16] | selected[16] | - |       proto input: | fields | - |
const PROTO_INPUT_SIZE = 4;
export const rssHashFields = struct(256, {
  supported: list(u16(0), HASH_PROTO_NUM, PROTO_INPUT_SIZE),
  selected: list(u16(HASH_PROTO_NUM * PROTO_INPUT_SIZE), HASH_PROTO_NUM, PROTO_INPUT_SIZE),
});

// ena_admin_feature_rss_ind_table: 16 bytes
//   0          2          4      6       7   8              12     14  16
//   | min size | max size | size | flags | - | inline index | cq idx | - |     sizes are log2
/** An inlineIndex that names no entry: the whole table is in the control buffer. */
export const RSS_INLINE_INDEX_NONE = 0xffff_ffff;
export const rssIndTable = struct(16, {
  minSizeLog2: u16(0),
  maxSizeLog2: u16(2),
  sizeLog2: u16(4),
  oneEntryUpdate: flag(u8(6), 0),
  inlineIndex: u32(8),
  inlineCqIdx: u16(12),
});

// ena_admin_rss_ind_table_entry: 4 bytes
//   0        2   4
//   | cq idx | - |
/** Drivers write the index of the rx submission queue here, although the field is named cq idx. */
export const RSS_IND_ENTRY_SIZE = 4;
export const rssIndEntry = struct(RSS_IND_ENTRY_SIZE, { cqIdx: u16(0) });
