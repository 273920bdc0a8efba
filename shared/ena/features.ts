/**
 * GET_FEATURE and SET_FEATURE: the frame of the command, and a body for each
 * feature but RSS (rss.ts) and LLQ (llq.ts).
 *
 * Source: amzn-drivers: kernel/fbsd/ena/ena-com/ena_defs/ena_admin_defs.h.
 * Ids 8, 30, 31 and flowSteeringMaxEntries: kernel/linux/common/ena_com/ena_admin_defs.h.
 *
 * Body offsets count from the body's first byte: SET_FEATURE_BODY of a command,
 * ACQ_BODY of the answer to GET.
 */
import { bits, flag, type Parsed, raw, struct, u8, u16, u32, u48 } from "../bytes/struct.ts";
import type { BusAddress } from "../wire/records.ts";
import { AQ_ENTRY_SIZE, aqEntryFields } from "./admin.ts";

/** enum ena_admin_aq_feature_id; also bit numbers of `supportedFeatures`. */
export const FeatureId = {
  DEVICE_ATTRIBUTES: 1,
  MAX_QUEUES_NUM: 2,
  HW_HINTS: 3,
  LLQ: 4,
  EXTRA_PROPERTIES_STRINGS: 5,
  EXTRA_PROPERTIES_FLAGS: 6,
  MAX_QUEUES_EXT: 7,
  FRAG_BYPASS: 8,
  RSS_HASH_FUNCTION: 10,
  STATELESS_OFFLOAD_CONFIG: 11,
  RSS_INDIRECTION_TABLE_CONFIG: 12,
  MTU: 14,
  RSS_HASH_INPUT: 18,
  INTERRUPT_MODERATION: 20,
  AENQ_CONFIG: 26,
  LINK_CONFIG: 27,
  HOST_ATTR_CONFIG: 28,
  PHC_CONFIG: 29,
  FLOW_STEERING_CONFIG: 30,
  HW_TIMESTAMP: 31,
} as const;
export type FeatureId = (typeof FeatureId)[keyof typeof FeatureId];

/** enum ena_admin_aq_caps_id: bit numbers of `capabilities`. */
export const Capability = {
  ENI_STATS: 0,
  ENA_SRD_INFO: 1,
  CUSTOMER_METRICS: 2,
  EXTENDED_RESET_REASONS: 3,
  CDESC_MBZ: 4,
} as const;
export type Capability = (typeof Capability)[keyof typeof Capability];

// ena_admin_get_feat_cmd, ena_admin_set_feat_cmd: 64 bytes
//   4                16      17           18        19  20             64
//   | control buffer | flags | feature id | version | - | body, if SET |     flags: 1:0 select
export const SET_FEATURE_BODY = 20;
const featureFields = {
  ...aqEntryFields,
  select: bits(u8(16), 0, 2),
  featureId: u8(17),
  featureVersion: u8(18),
} as const;
/** Writing it clears all 64 bytes, so a SET writes its frame first and its body after. */
export const featureCommand = struct(AQ_ENTRY_SIZE, featureFields);
export type FeatureCommand = Parsed<typeof featureCommand>;

// ena_admin_device_attr_feature_desc: 36 bytes
//   0         4                8          12             16           20           24    30  32        36
//   | impl id | device version | features | capabilities | phys width | virt width | mac | * | max mtu |
//     * flow steering entries in newer Linux headers, else reserved
export const MAC_ADDRESS_SIZE = 6;
export const deviceAttributes = struct(36, {
  implId: u32(0),
  deviceVersion: u32(4),
  supportedFeatures: u32(8),
  capabilities: u32(12),
  physAddrWidthBits: u32(16),
  virtAddrWidthBits: u32(20),
  /** Network byte order, as in a frame. */
  macAddr: raw(24, MAC_ADDRESS_SIZE),
  flowSteeringMaxEntries: u16(30),
  maxMtu: u32(32),
});
export type DeviceAttributes = Parsed<typeof deviceAttributes>;

// ena_admin_queue_feature_desc: 32 bytes
//   0        4          8        12         16        20          24            28         30         32
//   | sq num | sq depth | cq num | cq depth | llq num | llq depth | header size | tx descs | rx descs |
export const maxQueues = struct(32, {
  maxSqNum: u32(0),
  maxSqDepth: u32(4),
  maxCqNum: u32(8),
  maxCqDepth: u32(12),
  maxLegacyLlqNum: u32(16),
  maxLegacyLlqDepth: u32(20),
  maxHeaderSize: u32(24),
  maxPacketTxDescs: u16(28),
  maxPacketRxDescs: u16(30),
});

// ena_admin_queue_ext_feature_desc: 44 bytes
//   0         1   4           8           12          16          20
//   | version | - | tx sq num | tx cq num | rx sq num | rx cq num |
//   20            24            28            32            36               40         42         44
//   | tx sq depth | tx cq depth | rx sq depth | rx cq depth | tx header size | tx descs | rx descs |
export const MAX_QUEUES_EXT_VERSION = 1;
export const maxQueuesExt = struct(44, {
  version: u8(0),
  maxTxSqNum: u32(4),
  maxTxCqNum: u32(8),
  maxRxSqNum: u32(12),
  maxRxCqNum: u32(16),
  maxTxSqDepth: u32(20),
  maxTxCqDepth: u32(24),
  maxRxSqDepth: u32(28),
  maxRxCqDepth: u32(32),
  maxTxHeaderSize: u32(36),
  /** The number includes the meta descriptor. */
  maxPerPacketTxDescs: u16(40),
  maxPerPacketRxDescs: u16(42),
});

// ena_admin_ena_hw_hints: 32 bytes, sixteen u16
//   0           2          4            6                   8       10          12     14     16  32
//   | mmio read | watchdog | missing tx | missing tx thresh | admin | netdev wd | tx sgl | rx sgl | - |
/** Timeout hint for "never". The hint 0 selects the driver's own default. */
export const HW_HINTS_NO_TIMEOUT = 0xffff;
export const hwHints = struct(32, {
  mmioReadTimeoutMs: u16(0),
  driverWatchdogTimeoutMs: u16(2),
  missingTxCompletionTimeoutMs: u16(4),
  missedTxCompletionCountThresholdToReset: u16(6),
  adminCompletionTimeoutMs: u16(8),
  netdevWdTimeoutMs: u16(10),
  maxTxSglSize: u16(12),
  maxRxSglSize: u16(14),
});
export type HwHints = Parsed<typeof hwHints>;

/** ena_admin_feature_offload_desc.tx */
export const TxOffload = {
  L3_CSUM_IPV4: 1 << 0,
  L4_IPV4_CSUM_PART: 1 << 1,
  L4_IPV4_CSUM_FULL: 1 << 2,
  L4_IPV6_CSUM_PART: 1 << 3,
  L4_IPV6_CSUM_FULL: 1 << 4,
  TSO_IPV4: 1 << 5,
  TSO_IPV6: 1 << 6,
  TSO_ECN: 1 << 7,
} as const;
export type TxOffload = (typeof TxOffload)[keyof typeof TxOffload];

/** ena_admin_feature_offload_desc.rx_supported and rx_enabled */
export const RxOffload = {
  L3_CSUM_IPV4: 1 << 0,
  L4_IPV4_CSUM: 1 << 1,
  L4_IPV6_CSUM: 1 << 2,
  HASH: 1 << 3,
} as const;
export type RxOffload = (typeof RxOffload)[keyof typeof RxOffload];

// ena_admin_feature_offload_desc: 12 bytes
//   0    4              8            12
//   | tx | rx supported | rx enabled |     bits: TxOffload, RxOffload
export const statelessOffload = struct(12, { tx: u32(0), rxSupported: u32(4), rxEnabled: u32(8) });
export type StatelessOffload = Parsed<typeof statelessOffload>;

// ena_admin_set_feature_mtu_desc: 4 bytes
//   0     4
//   | mtu |     without the Ethernet header
export const mtuFeature = struct(4, { mtu: u32(0) });

// ena_admin_feature_intr_moder_desc: 4 bytes
//   0            2   4
//   | resolution | - |     microseconds for one step of the delays in the unmask register
export const intrModeration = struct(4, { intrDelayResolutionUs: u16(0) });

// ena_admin_feature_aenq_desc: 8 bytes
//   0                  4                8
//   | supported groups | enabled groups |     bit n: AenqGroup n. SET reads only the second
export const aenqConfig = struct(8, { supportedGroups: u32(0), enabledGroups: u32(4) });

/** enum ena_admin_link_types */
export const LinkSpeed = { SPEED_25G: 0x10 } as const;

// ena_admin_get_feature_link_desc: 12 bytes
//   0       4           8       12
//   | speed | supported | flags |     flags: 0 autonegotiation, 1 full duplex
const LINK_FLAGS = u32(8);
export const linkConfig = struct(12, {
  speedMbit: u32(0),
  supported: u32(4),
  autoneg: flag(LINK_FLAGS, 0),
  fullDuplex: flag(LINK_FLAGS, 1),
});

// ena_admin_set_feature_host_attr_desc: 20 bytes
//   0            6   8          14  16           20
//   | os info ba | - | debug ba | - | debug size |
export const hostAttr = struct(20, {
  osInfoBa: u48<BusAddress>(0),
  debugBa: u48<BusAddress>(8),
  debugAreaSize: u32(16),
});

// ena_admin_feature_phc_desc: 28 bytes
//   0         1   4          8        12      16               22  24              28
//   | version | - | doorbell | expire | block | output address | - | output length |
//     GET answers with the first half; SET gives address and length
export const phcConfig = struct(28, {
  version: u8(0),
  doorbellOffset: u32(4),
  expireTimeoutUs: u32(8),
  blockTimeoutUs: u32(12),
  outputAddress: u48<BusAddress>(16),
  outputLength: u32(24),
});
