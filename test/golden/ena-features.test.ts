/**
 * ENA features, byte for byte
 *
 * How the hex was made: a C program included, unchanged, the headers of amzn-drivers:
 * kernel/fbsd/ena/ena-com/ena_defs/{ena_common_defs,ena_regs_defs,ena_admin_defs,ena_eth_io_defs}.h
 * (and kernel/linux/common/ena_com/ena_admin_defs.h for flow_steering_max_entries) with BIT and GENMASK defined, on x86-64. It zeroed each
 * structure, set the values listed through the structure's own members and the headers' own
 * _SHIFT and _MASK macros, and printed sizeof and the bytes. None of our code took part.
 */
import { describe, expect, test } from "vitest";
import { ACQ_BODY, ACQ_ENTRY_SIZE, AQ_ENTRY_SIZE } from "../../shared/ena/admin.ts";
import { AENQ_BODY, AENQ_ENTRY_SIZE, aenqKeepAlive } from "../../shared/ena/aenq.ts";
import {
  aenqConfig,
  deviceAttributes,
  featureCommand,
  hostAttr,
  hwHints,
  intrModeration,
  linkConfig,
  maxQueues,
  maxQueuesExt,
  mtuFeature,
  phcConfig,
  SET_FEATURE_BODY,
  statelessOffload,
} from "../../shared/ena/features.ts";
import { ENA_SPEC_VERSION, hostInfo } from "../../shared/ena/host-info.ts";
import {
  LlqEntrySize,
  LlqStride,
  llqDescsPerEntry,
  llqEntryAt,
  llqEntryBytes,
  llqFeature,
  llqHeaderAt,
  llqHeaderRoom,
} from "../../shared/ena/llq.ts";
import {
  HASH_PROTO_NUM,
  RSS_KEY_OFFSET,
  RSS_KEY_SIZE,
  rssHashFields,
  rssHashFunction,
  rssHashInput,
  rssHashKey,
  rssIndEntry,
  rssIndTable,
} from "../../shared/ena/rss.ts";
import { busAddress } from "../../shared/wire/records.ts";
import { golden, inJunk, writtenHex } from "./ena-golden.ts";

describe("ENA features, byte for byte", () => {
  golden(
    "ena_admin_get_feat_cmd",
    featureCommand,
    64,
    "bc0a0805341200001122334455660000031b0100000000000000000000000000" +
      "0000000000000000000000000000000000000000000000000000000000000000",
    {
      commandId: 0xabc,
      opcode: 0x8,
      phase: 0x1,
      ctrlData: false,
      ctrlDataIndirect: true,
      controlLength: 0x1234,
      controlAddress: busAddress(0x665544332211),
      select: 0x3,
      featureId: 0x1b,
      featureVersion: 0x1,
    },
  );
  golden(
    "ena_admin_device_attr_feature_desc",
    deviceAttributes,
    36,
    "04030201080706051e5c149c1f0000003000000039000000021324354657060500240000",
    {
      implId: 0x1020304,
      deviceVersion: 0x5060708,
      supportedFeatures: 0x9c145c1e,
      capabilities: 0x1f,
      physAddrWidthBits: 0x30,
      virtAddrWidthBits: 0x39,
      macAddr: Uint8Array.of(0x02, 0x13, 0x24, 0x35, 0x46, 0x57),
      flowSteeringMaxEntries: 0x506,
      maxMtu: 0x2400,
    },
  );
  golden(
    "ena_admin_queue_feature_desc",
    maxQueues,
    32,
    "0101000002020000030300000404000005050000060600000707000018171a19",
    {
      maxSqNum: 0x101,
      maxSqDepth: 0x202,
      maxCqNum: 0x303,
      maxCqDepth: 0x404,
      maxLegacyLlqNum: 0x505,
      maxLegacyLlqDepth: 0x606,
      maxHeaderSize: 0x707,
      maxPacketTxDescs: 0x1718,
      maxPacketRxDescs: 0x191a,
    },
  );
  golden(
    "ena_admin_queue_ext_feature_desc",
    maxQueuesExt,
    44,
    "0100000011010000220200003303000044040000550501006606020077070300" + "880804006000000012111413",
    {
      version: 0x1,
      maxTxSqNum: 0x111,
      maxTxCqNum: 0x222,
      maxRxSqNum: 0x333,
      maxRxCqNum: 0x444,
      maxTxSqDepth: 0x10555,
      maxTxCqDepth: 0x20666,
      maxRxSqDepth: 0x30777,
      maxRxCqDepth: 0x40888,
      maxTxHeaderSize: 0x60,
      maxPerPacketTxDescs: 0x1112,
      maxPerPacketRxDescs: 0x1314,
    },
  );
  golden(
    "ena_admin_ena_hw_hints",
    hwHints,
    32,
    "02010403ffff060508070a090c0b0e0d00000000000000000000000000000000",
    {
      mmioReadTimeoutMs: 0x102,
      driverWatchdogTimeoutMs: 0x304,
      missingTxCompletionTimeoutMs: 0xffff,
      missedTxCompletionCountThresholdToReset: 0x506,
      adminCompletionTimeoutMs: 0x708,
      netdevWdTimeoutMs: 0x90a,
      maxTxSglSize: 0xb0c,
      maxRxSglSize: 0xd0e,
    },
  );
  golden(
    "ena_admin_feature_llq_desc",
    llqFeature,
    36,
    "200000000004000003000100070004000f00020003010202010401020300682400000000",
    {
      maxLlqNum: 0x20,
      maxLlqDepth: 0x400,
      headerLocationSupported: 0x3,
      headerLocationEnabled: 0x1,
      entrySizeSupported: 0x7,
      entrySizeEnabled: 0x4,
      descsBeforeHeaderSupported: 0xf,
      descsBeforeHeaderEnabled: 0x2,
      strideSupported: 0x103,
      strideEnabled: 0x202,
      featureVersion: 0x1,
      entrySizeRecommended: 0x4,
      maxWideLlqDepth: 0x201,
      accelFlags: 0x3,
      maxTxBurstBytes: 0x2468,
    },
  );
  golden("ena_admin_feature_offload_desc", statelessOffload, 12, "a30000000900000004000000", {
    tx: 0xa3,
    rxSupported: 0x9,
    rxEnabled: 0x4,
  });
  golden("ena_admin_set_feature_mtu_desc", mtuFeature, 4, "29230000", { mtu: 0x2329 });
  golden("ena_admin_feature_intr_moder_desc", intrModeration, 4, "02010000", {
    intrDelayResolutionUs: 0x102,
  });
  golden("ena_admin_feature_aenq_desc", aenqConfig, 8, "df0000801b000000", {
    supportedGroups: 0x800000df,
    enabledGroups: 0x1b,
  });
  golden("ena_admin_get_feature_link_desc", linkConfig, 12, "a86100001002000002000000", {
    speedMbit: 0x61a8,
    supported: 0x210,
    autoneg: false,
    fullDuplex: true,
  });
  golden(
    "ena_admin_set_feature_host_attr_desc",
    hostAttr,
    20,
    "6f5e4d3c2b1a0000a1b2c3d4e5f6000079350100",
    {
      osInfoBa: busAddress(0x1a2b3c4d5e6f),
      debugBa: busAddress(0xf6e5d4c3b2a1),
      debugAreaSize: 0x13579,
    },
  );
  golden(
    "ena_admin_feature_phc_desc",
    phcConfig,
    28,
    "5a000000000100000403020108070605959493929190000040000000",
    {
      version: 0x5a,
      doorbellOffset: 0x100,
      expireTimeoutUs: 0x1020304,
      blockTimeoutUs: 0x5060708,
      outputAddress: busAddress(0x909192939495),
      outputLength: 0x40,
    },
  );
  golden(
    "ena_admin_feature_rss_flow_hash_function",
    rssHashFunction,
    12,
    "0600000002000000cefaedfe",
    { supportedFunc: 0x6, selectedFunc: 0x2, initVal: 0xfeedface },
  );
  golden(
    "ena_admin_feature_rss_flow_hash_control",
    rssHashKey,
    48,
    "0a0000000000000000c0b0a001c1b1a102c2b2a203c3b3a304c4b4a405c5b5a5" +
      "06c6b6a607c7b7a708c8b8a809c9b9a9",
    {
      keyParts: 0xa,
      key: [
        0xa0b0c000, 0xa1b1c101, 0xa2b2c202, 0xa3b3c303, 0xa4b4c404, 0xa5b5c505, 0xa6b6c606,
        0xa7b7c707, 0xa8b8c808, 0xa9b9c909,
      ],
    },
  );
  golden("ena_admin_feature_rss_flow_hash_input", rssHashInput, 4, "06000400", {
    supportedInputSort: 0x6,
    enabledInputSort: 0x4,
  });
  golden(
    "ena_admin_feature_rss_hash_control",
    rssHashFields,
    256,
    "0001000001010000020100000301000004010000050100000601000007010000" +
      "08010000090100000a0100000b0100000c0100000d0100000e0100000f010000" +
      "0002000001020000020200000302000004020000050200000602000007020000" +
      "08020000090200000a0200000b0200000c0200000d0200000e0200000f020000" +
      "0000000000000000000000000000000000000000000000000000000000000000" +
      "0000000000000000000000000000000000000000000000000000000000000000" +
      "0000000000000000000000000000000000000000000000000000000000000000" +
      "0000000000000000000000000000000000000000000000000000000000000000",
    {
      supported: [
        0x100, 0x101, 0x102, 0x103, 0x104, 0x105, 0x106, 0x107, 0x108, 0x109, 0x10a, 0x10b, 0x10c,
        0x10d, 0x10e, 0x10f,
      ],
      selected: [
        0x200, 0x201, 0x202, 0x203, 0x204, 0x205, 0x206, 0x207, 0x208, 0x209, 0x20a, 0x20b, 0x20c,
        0x20d, 0x20e, 0x20f,
      ],
    },
  );
  golden("ena_admin_feature_rss_ind_table", rssIndTable, 16, "0500090007000100ffffffff21430000", {
    minSizeLog2: 0x5,
    maxSizeLog2: 0x9,
    sizeLog2: 0x7,
    oneEntryUpdate: true,
    inlineIndex: 0xffffffff,
    inlineCqIdx: 0x4321,
  });
  golden("ena_admin_rss_ind_table_entry", rssIndEntry, 4, "0b0a0000", { cqIdx: 0xa0b });
  golden(
    "ena_admin_host_info",
    hostInfo,
    196,
    "04000000467265654253442031342e312d52454c454153450000000000000000" +
      "0000000000000000000000000000000000000000000000000000000000000000" +
      "0000000000000000000000000000000000000000000000000000000000000000" +
      "0000000000000000000000000000000000000000000000000000000000000000" +
      "00000000c85c1500313430313030300000000000000000000000000000000000" +
      "0000000000000000a8601500020821cd141312119493929100029db702010000" +
      "16010000",
    {
      osType: 0x4,
      osDistStr: "FreeBSD 14.1-RELEASE",
      osDist: 0x155cc8,
      kernelVerStr: "1401000",
      kernelVer: 0x1560a8,
      driverMajor: 0x2,
      driverMinor: 0x8,
      driverSubMinor: 0x21,
      moduleType: 0xcd,
      supportedNetworkFeatures: [0x11121314, 0x91929394],
      enaSpecVersion: 0x200,
      pciFunction: 0x5,
      pciDevice: 0x13,
      pciBus: 0xb7,
      numCpus: 0x102,
      driverSupportedFeatures: 0x116,
    },
  );
});

describe("ENA features inside their entries", () => {
  const HEX =
    "bc0a090530000000aabbccddeeff0000010e0000292300000000000000000000" +
    "0000000000000000000000000000000000000000000000000000000000000000";

  test("ena_admin_set_feat_cmd with an MTU: frame first, then the body", () => {
    const { bytes, view, at } = inJunk(AQ_ENTRY_SIZE);
    featureCommand.write(view, at, {
      commandId: 0xabc,
      opcode: 9,
      phase: 1,
      ctrlDataIndirect: true,
      controlLength: 0x30,
      controlAddress: busAddress(0xffeeddccbbaa),
      select: 1,
      featureId: 14,
    });
    mtuFeature.write(view, at + SET_FEATURE_BODY, { mtu: 9001 });
    expect(writtenHex(bytes)).toBe(HEX);
  });

  // sizeof and offsetof, printed by the same C program.
  test("entries have 64 bytes and bodies begin where the headers say", () => {
    expect([AQ_ENTRY_SIZE, ACQ_ENTRY_SIZE, AENQ_ENTRY_SIZE]).toEqual([64, 64, 64]);
    expect(SET_FEATURE_BODY).toBe(20);
    expect([ACQ_BODY, AENQ_BODY]).toEqual([8, 16]);
    expect([RSS_KEY_OFFSET, RSS_KEY_SIZE, HASH_PROTO_NUM]).toEqual([8, 40, 16]);
    expect(ENA_SPEC_VERSION).toBe(0x0200);
  });

  test("an update of hardware hints fits behind an event's header", () => {
    expect(AENQ_BODY + hwHints.size).toBeLessThanOrEqual(AENQ_ENTRY_SIZE);
    expect(aenqKeepAlive.size).toBeLessThanOrEqual(AENQ_ENTRY_SIZE);
  });
});

describe("LLQ geometry", () => {
  test("entry sizes in bytes, and none for what is no size", () => {
    const { SIZE_128B, SIZE_192B, SIZE_256B } = LlqEntrySize;
    expect([SIZE_128B, SIZE_192B, SIZE_256B, 3, 0].map(llqEntryBytes)).toEqual([
      128, 192, 256, 0, 0,
    ]);
  });

  test("the header follows two descriptors and gets the rest: 96 bytes of 128, 224 of 256", () => {
    expect(llqHeaderAt(2)).toBe(32);
    expect([llqHeaderRoom(128, 2), llqHeaderRoom(256, 2)]).toEqual([96, 224]);
  });

  test("further entries take one descriptor or as many as fit", () => {
    expect(llqDescsPerEntry(128, LlqStride.MULTIPLE_DESCS_PER_ENTRY)).toBe(8);
    expect(llqDescsPerEntry(128, LlqStride.SINGLE_DESC_PER_ENTRY)).toBe(1);
  });

  test("the running tail is masked by the depth", () => {
    expect(llqEntryAt(0x1000, 5, 4, 128)).toBe(0x1000 + 128);
    expect(llqEntryAt(0x1000, 65535, 4, 128)).toBe(0x1000 + 3 * 128);
  });
});
