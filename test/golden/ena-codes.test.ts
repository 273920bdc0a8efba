/**
 * ENA constants against the headers, number by number.
 *
 * How the numbers were made: a C program included the headers of amzn-drivers:
 * kernel/fbsd/ena/ena-com/ena_defs/*.h (FeatureId, ResetReason and DriverFeature:
 * kernel/linux/common/ena_com/*.h) and printed each enumerator, or _MASK macro for bits.
 */
import { describe, expect, test } from "vitest";
import { type Codes, nameOf, namesOf } from "../../shared/bytes/names.ts";
import { AdminStatus, Opcode, Placement, SqDirection } from "../../shared/ena/admin.ts";
import { AenqGroup, AenqSyndrome } from "../../shared/ena/aenq.ts";
import {
  Capability,
  FeatureId,
  LinkSpeed,
  RxOffload,
  TxOffload,
} from "../../shared/ena/features.ts";
import { DriverFeature, OsType } from "../../shared/ena/host-info.ts";
import { L3Proto, L4Proto } from "../../shared/ena/io.ts";
import {
  AccelMode,
  LlqDescsBeforeHeader,
  LlqEntrySize,
  LlqHeaderLocation,
  LlqStride,
} from "../../shared/ena/llq.ts";
import { DevCtl, DevSts, Register, ResetReason } from "../../shared/ena/registers.ts";
import { HashField, HashFunction, HashProto, HashSort } from "../../shared/ena/rss.ts";
import { StatsType } from "../../shared/ena/stats.ts";

const TABLES: readonly (readonly [string, Codes, Codes])[] = [
  [
    "Opcode",
    Opcode,
    {
      CREATE_SQ: 1,
      DESTROY_SQ: 2,
      CREATE_CQ: 3,
      DESTROY_CQ: 4,
      GET_FEATURE: 8,
      SET_FEATURE: 9,
      GET_STATS: 11,
    },
  ],
  [
    "AdminStatus",
    AdminStatus,
    {
      SUCCESS: 0,
      RESOURCE_ALLOCATION_FAILURE: 1,
      BAD_OPCODE: 2,
      UNSUPPORTED_OPCODE: 3,
      MALFORMED_REQUEST: 4,
      ILLEGAL_PARAMETER: 5,
      UNKNOWN_ERROR: 6,
      RESOURCE_BUSY: 7,
    },
  ],
  ["SqDirection", SqDirection, { TX: 1, RX: 2 }],
  ["Placement", Placement, { HOST: 1, DEV: 3 }],
  ["StatsType", StatsType, { BASIC: 0, EXTENDED: 1, ENI: 2, ENA_SRD: 3, CUSTOMER_METRICS: 4 }],
  [
    "FeatureId",
    FeatureId,
    {
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
    },
  ],
  [
    "Capability",
    Capability,
    { ENI_STATS: 0, ENA_SRD_INFO: 1, CUSTOMER_METRICS: 2, EXTENDED_RESET_REASONS: 3, CDESC_MBZ: 4 },
  ],
  ["LinkSpeed", LinkSpeed, { SPEED_25G: 0x10 }],
  [
    "TxOffload",
    TxOffload,
    {
      L3_CSUM_IPV4: 1,
      L4_IPV4_CSUM_PART: 2,
      L4_IPV4_CSUM_FULL: 4,
      L4_IPV6_CSUM_PART: 8,
      L4_IPV6_CSUM_FULL: 16,
      TSO_IPV4: 32,
      TSO_IPV6: 64,
      TSO_ECN: 128,
    },
  ],
  ["RxOffload", RxOffload, { L3_CSUM_IPV4: 1, L4_IPV4_CSUM: 2, L4_IPV6_CSUM: 4, HASH: 8 }],
  [
    "AenqGroup",
    AenqGroup,
    {
      LINK_CHANGE: 0,
      FATAL_ERROR: 1,
      WARNING: 2,
      NOTIFICATION: 3,
      KEEP_ALIVE: 4,
      REFRESH_CAPABILITIES: 5,
      CONF_NOTIFICATIONS: 6,
      DEVICE_REQUEST_RESET: 7,
    },
  ],
  ["AenqSyndrome", AenqSyndrome, { UPDATE_HINTS: 2 }],
  ["HashFunction", HashFunction, { TOEPLITZ: 1, CRC32: 2 }],
  [
    "HashProto",
    HashProto,
    {
      TCP4: 0,
      UDP4: 1,
      TCP6: 2,
      UDP6: 3,
      IP4: 4,
      IP6: 5,
      IP4_FRAG: 6,
      NOT_IP: 7,
      TCP6_EX: 8,
      IP6_EX: 9,
    },
  ],
  ["HashField", HashField, { L2_DA: 1, L2_SA: 2, L3_DA: 4, L3_SA: 8, L4_DP: 16, L4_SP: 32 }],
  ["HashSort", HashSort, { L3: 2, L4: 4 }],
  ["LlqHeaderLocation", LlqHeaderLocation, { INLINE: 1, RING: 2 }],
  ["LlqEntrySize", LlqEntrySize, { SIZE_128B: 1, SIZE_192B: 2, SIZE_256B: 4 }],
  ["LlqDescsBeforeHeader", LlqDescsBeforeHeader, { NONE: 0, ONE: 1, TWO: 2, FOUR: 4, EIGHT: 8 }],
  ["LlqStride", LlqStride, { SINGLE_DESC_PER_ENTRY: 1, MULTIPLE_DESCS_PER_ENTRY: 2 }],
  ["L3Proto", L3Proto, { UNKNOWN: 0, IPV4: 8, IPV6: 11, FCOE: 21, ROCE: 22 }],
  ["L4Proto", L4Proto, { UNKNOWN: 0, TCP: 12, UDP: 13, ROUTEABLE_ROCE: 23 }],
  ["DevCtl", DevCtl, { DEV_RESET: 1, AQ_RESTART: 2, QUIESCENT: 4, IO_RESUME: 8 }],
  [
    "DevSts",
    DevSts,
    {
      READY: 1,
      AQ_RESTART_IN_PROGRESS: 2,
      AQ_RESTART_FINISHED: 4,
      RESET_IN_PROGRESS: 8,
      RESET_FINISHED: 16,
      FATAL_ERROR: 32,
      QUIESCENT_STATE_IN_PROGRESS: 64,
      QUIESCENT_STATE_ACHIEVED: 128,
    },
  ],
  [
    "ResetReason",
    ResetReason,
    {
      NORMAL: 0,
      KEEP_ALIVE_TO: 1,
      ADMIN_TO: 2,
      MISS_TX_CMPL: 3,
      INV_RX_REQ_ID: 4,
      INV_TX_REQ_ID: 5,
      TOO_MANY_RX_DESCS: 6,
      INIT_ERR: 7,
      DRIVER_INVALID_STATE: 8,
      OS_TRIGGER: 9,
      OS_NETDEV_WD: 10,
      SHUTDOWN: 11,
      USER_TRIGGER: 12,
      GENERIC: 13,
      MISS_INTERRUPT: 14,
      SUSPECTED_POLL_STARVATION: 15,
      RX_DESCRIPTOR_MALFORMED: 16,
      TX_DESCRIPTOR_MALFORMED: 17,
      MISSING_ADMIN_INTERRUPT: 18,
      DEVICE_REQUEST: 19,
      MISS_FIRST_INTERRUPT: 20,
    },
  ],
  [
    "DriverFeature",
    DriverFeature,
    {
      RX_OFFSET: 2,
      INTERRUPT_MODERATION: 4,
      RX_BUF_MIRRORING: 8,
      RSS_CONFIGURABLE_FUNCTION_KEY: 16,
      RX_PAGE_REUSE: 64,
      TX_IPV6_CSUM_OFFLOAD: 128,
      PHC: 256,
      DEBUG_AREA_EXT: 512,
    },
  ],
  ["AccelMode", AccelMode, { DISABLE_META_CACHING: 1 << 0, LIMIT_TX_BURST: 1 << 1 }],
  [
    "Register",
    Register,
    {
      VERSION: 0x0,
      CONTROLLER_VERSION: 0x4,
      CAPS: 0x8,
      CAPS_EXT: 0xc,
      AQ_BASE_LO: 0x10,
      AQ_BASE_HI: 0x14,
      AQ_CAPS: 0x18,
      ACQ_BASE_LO: 0x20,
      ACQ_BASE_HI: 0x24,
      ACQ_CAPS: 0x28,
      AQ_DB: 0x2c,
      ACQ_TAIL: 0x30,
      AENQ_CAPS: 0x34,
      AENQ_BASE_LO: 0x38,
      AENQ_BASE_HI: 0x3c,
      AENQ_HEAD_DB: 0x40,
      AENQ_TAIL: 0x44,
      INTR_MASK: 0x4c,
      DEV_CTL: 0x54,
      DEV_STS: 0x58,
      MMIO_REG_READ: 0x5c,
      MMIO_RESP_LO: 0x60,
      MMIO_RESP_HI: 0x64,
      RSS_IND_ENTRY_UPDATE: 0x68,
      PHC_DB: 0x100,
    },
  ],
];

describe("ENA constants", () => {
  test.each(TABLES)("%s", (_, ours, header) => {
    expect(ours).toEqual(header);
  });

  test.each(TABLES)("%s: every number has its name", (_, ours, header) => {
    for (const [name, value] of Object.entries(header)) expect(nameOf(ours, value)).toBe(name);
  });

  test("ENA_ADMIN_OS_*, from ena_plat.h of kernel/fbsd and ena_com.h of kernel/linux", () => {
    expect(OsType).toEqual({ LINUX: 1, FREEBSD: 4 });
  });

  test("a number without a name is shown", () => {
    expect(nameOf(Opcode, 9)).toBe("SET_FEATURE");
    expect(nameOf(Opcode, 77)).toBe("?77");
  });

  test("bits are named together, the unknown ones in hex", () => {
    expect(namesOf(DevSts, 0)).toBe("0");
    expect(namesOf(DevSts, DevSts.READY | DevSts.RESET_IN_PROGRESS)).toBe(
      "READY|RESET_IN_PROGRESS",
    );
    expect(namesOf(DevSts, 0x8000_0001)).toBe("READY|0x80000000");
  });
});
