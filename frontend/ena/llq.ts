/**
 * Low latency queues: chooses the configuration to request from the device's offer.
 *
 * After ena_set_llq_configurations and ena_com_config_llq_info (amzn-drivers:
 * kernel/fbsd/ena/ena.c, ena-com/ena_com.c): inline header, several descriptors in an entry, two
 * before the header, 128-byte entries unless the device recommends 256. A choice that the device
 * does not offer falls back to the next best.
 */
import {
  AccelMode,
  LlqDescsBeforeHeader,
  LlqEntrySize,
  type LlqFeature,
  LlqHeaderLocation,
  LlqStride,
  llqDescsPerEntry,
  llqEntryBytes,
  llqHeaderRoom,
} from "../../shared/ena/llq.ts";

export interface LlqConfig {
  /** The body of SET_FEATURE. */
  readonly request: Partial<LlqFeature>;
  readonly entryBytes: number;
  /** True for 256-byte entries, of which fewer fit. */
  readonly wide: boolean;
  readonly descsBeforeHeader: number;
  /** Descriptors in each entry after a packet's first. */
  readonly descsPerEntry: number;
  /** Maximum bytes of a pushed header. The field of its length has eight bits. */
  readonly headerRoom: number;
  /** True when a meta descriptor must precede every packet. */
  readonly disableMetaCaching: boolean;
  /** Maximum entries between two doorbells; 0 for no limit. */
  readonly maxEntriesInBurst: number;
}

const MAX_HEADER_BYTES = 255;

/** Returns the configuration to request, or undefined when no choice fits the offer. */
export function chooseLlq(offer: LlqFeature): LlqConfig | undefined {
  if ((offer.headerLocationSupported & LlqHeaderLocation.INLINE) === 0) return undefined;
  const stride = firstOf(offer.strideSupported, STRIDES);
  const wide = offer.entrySizeRecommended === LlqEntrySize.SIZE_256B;
  const size = firstOf(offer.entrySizeSupported, wide ? SIZES_WIDE : SIZES);
  const before = firstOf(offer.descsBeforeHeaderSupported, DESCS_BEFORE);
  if (stride === undefined || size === undefined || before === undefined) return undefined;

  const entryBytes = llqEntryBytes(size);
  const headerRoom = Math.min(llqHeaderRoom(entryBytes, before), MAX_HEADER_BYTES);
  if (headerRoom <= 0) return undefined;
  const limited = (offer.accelFlags & AccelMode.LIMIT_TX_BURST) !== 0;
  return {
    request: {
      headerLocationEnabled: LlqHeaderLocation.INLINE,
      entrySizeEnabled: size,
      descsBeforeHeaderEnabled: before,
      strideEnabled: stride,
      // Both flags, whatever the offer: the device ignores a flag that it does not support.
      accelFlags: AccelMode.DISABLE_META_CACHING | AccelMode.LIMIT_TX_BURST,
    },
    entryBytes,
    wide: size === LlqEntrySize.SIZE_256B,
    descsBeforeHeader: before,
    descsPerEntry: llqDescsPerEntry(entryBytes, stride),
    headerRoom,
    disableMetaCaching: (offer.accelFlags & AccelMode.DISABLE_META_CACHING) !== 0,
    maxEntriesInBurst: limited ? Math.floor(offer.maxTxBurstBytes / entryBytes) : 0,
  };
}

const STRIDES = [LlqStride.MULTIPLE_DESCS_PER_ENTRY, LlqStride.SINGLE_DESC_PER_ENTRY] as const;
const SIZES = [LlqEntrySize.SIZE_128B, LlqEntrySize.SIZE_192B, LlqEntrySize.SIZE_256B] as const;
const SIZES_WIDE = [LlqEntrySize.SIZE_256B, ...SIZES] as const;
const DESCS_BEFORE = [
  LlqDescsBeforeHeader.TWO,
  LlqDescsBeforeHeader.ONE,
  LlqDescsBeforeHeader.FOUR,
  LlqDescsBeforeHeader.EIGHT,
] as const;

/** Returns the first of `wanted` whose bit the device offers. */
const firstOf = (offered: number, wanted: readonly number[]): number | undefined =>
  wanted.find((bit) => (offered & bit) !== 0);
