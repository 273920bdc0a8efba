/**
 * Low latency queues: the feature that negotiates them, and the layout of their
 * entries in BAR 2.
 *
 * Source: amzn-drivers: kernel/fbsd/ena/ena-com/ena_defs/ena_admin_defs.h,
 * struct ena_admin_feature_llq_desc; placement follows ena_eth_com.c.
 */
import { type Parsed, struct, u8, u16, u32 } from "../bytes/struct.ts";
import { DESC_SIZE } from "./io.ts";

/** enum ena_admin_llq_header_location */
export const LlqHeaderLocation = { INLINE: 1, RING: 2 } as const;
export type LlqHeaderLocation = (typeof LlqHeaderLocation)[keyof typeof LlqHeaderLocation];

/** enum ena_admin_llq_ring_entry_size; as bytes: `llqEntryBytes`. */
export const LlqEntrySize = { SIZE_128B: 1, SIZE_192B: 2, SIZE_256B: 4 } as const;
export type LlqEntrySize = (typeof LlqEntrySize)[keyof typeof LlqEntrySize];

/** enum ena_admin_llq_num_descs_before_header; each value is also the number it stands for. */
export const LlqDescsBeforeHeader = { NONE: 0, ONE: 1, TWO: 2, FOUR: 4, EIGHT: 8 } as const;
export type LlqDescsBeforeHeader = (typeof LlqDescsBeforeHeader)[keyof typeof LlqDescsBeforeHeader];

/** enum ena_admin_llq_stride_ctrl */
export const LlqStride = { SINGLE_DESC_PER_ENTRY: 1, MULTIPLE_DESCS_PER_ENTRY: 2 } as const;
export type LlqStride = (typeof LlqStride)[keyof typeof LlqStride];

/** enum ena_admin_accel_mode_feat, as masks of `accelFlags`. */
export const AccelMode = { DISABLE_META_CACHING: 1 << 0, LIMIT_TX_BURST: 1 << 1 } as const;
export type AccelMode = (typeof AccelMode)[keyof typeof AccelMode];

export const LLQ_FEATURE_VERSION_1 = 1;

// ena_admin_feature_llq_desc: 36 bytes; in each pair the device's bitmap, then the driver's choice
//   0         4           8                 12           16                    20           24
//   | llq num | llq depth | header location | entry size | descs before header | stride     |
//   24        25            26                28            30          32  36
//   | version | recommended | wide llq depth  | accel flags | max burst | - |
//     accel flags: supported in a GET answer, enabled in a SET
export const llqFeature = struct(36, {
  maxLlqNum: u32(0),
  maxLlqDepth: u32(4),
  headerLocationSupported: u16(8),
  headerLocationEnabled: u16(10),
  entrySizeSupported: u16(12),
  entrySizeEnabled: u16(14),
  descsBeforeHeaderSupported: u16(16),
  descsBeforeHeaderEnabled: u16(18),
  strideSupported: u16(20),
  strideEnabled: u16(22),
  featureVersion: u8(24),
  entrySizeRecommended: u8(25),
  maxWideLlqDepth: u16(26),
  accelFlags: u16(28),
  maxTxBurstBytes: u16(30),
});
export type LlqFeature = Parsed<typeof llqFeature>;

// One LLQ entry in BAR 2, inline header, two descriptors before it:
//   0       16      32                   entry size
//   | desc  | desc  | header ...        |      first entry of a packet
//   | desc  | desc  | desc | ... zeroes |      further entries, stride MULTIPLE

/** Bytes of an `LlqEntrySize`; 0 for a value without a size. */
export function llqEntryBytes(size: number): number {
  if (size === LlqEntrySize.SIZE_128B) return 128;
  if (size === LlqEntrySize.SIZE_192B) return 192;
  return size === LlqEntrySize.SIZE_256B ? 256 : 0;
}

/** Offset of the entry at the free-running index `tail`; `depth` is a power of two, in entries. */
export const llqEntryAt = (base: number, tail: number, depth: number, entryBytes: number): number =>
  base + (tail & (depth - 1)) * entryBytes;

/** Offset of the header inside a packet's first entry. */
export const llqHeaderAt = (descsBeforeHeader: number): number => descsBeforeHeader * DESC_SIZE;

/** The longest header that fits behind the descriptors of a packet's first entry. */
export const llqHeaderRoom = (entryBytes: number, descsBeforeHeader: number): number =>
  entryBytes - descsBeforeHeader * DESC_SIZE;

/** Descriptors in each entry after a packet's first. */
export const llqDescsPerEntry = (entryBytes: number, stride: number): number =>
  stride === LlqStride.MULTIPLE_DESCS_PER_ENTRY ? entryBytes / DESC_SIZE : 1;
