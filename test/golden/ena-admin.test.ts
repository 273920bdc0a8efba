/**
 * ENA admin queue, byte for byte
 *
 * How the hex was made: a C program included, unchanged, the headers of amzn-drivers:
 * kernel/fbsd/ena/ena-com/ena_defs/{ena_common_defs,ena_regs_defs,ena_admin_defs,ena_eth_io_defs}.h
 * with BIT and GENMASK defined, on x86-64. It zeroed each
 * structure, set the values listed through the structure's own members and the headers' own
 * _SHIFT and _MASK macros, and printed sizeof and the bytes. None of our code took part.
 */
import { describe } from "vitest";
import {
  acqCommon,
  aqCommon,
  createCq,
  createCqResp,
  createSq,
  createSqResp,
  destroyCq,
  destroySq,
  mmioReadResp,
} from "../../shared/ena/admin.ts";
import { basicStats, eniStats, getStats } from "../../shared/ena/stats.ts";
import { queueId } from "../../shared/net/frame.ts";
import { busAddress } from "../../shared/wire/records.ts";
import { golden } from "./ena-golden.ts";

describe("ENA admin queue, byte for byte", () => {
  golden("ena_admin_aq_common_desc", aqCommon, 4, "bc0a0805", {
    commandId: 0xabc,
    opcode: 0x8,
    phase: 0x1,
    ctrlData: false,
    ctrlDataIndirect: true,
  });
  golden("ena_admin_acq_common_desc", acqCommon, 8, "de09050134127856", {
    commandId: 0x9de,
    status: 0x5,
    phase: 0x1,
    extendedStatus: 0x1234,
    sqHeadIndx: 0x5678,
  });
  golden(
    "ena_admin_aq_create_sq_cmd",
    createSq,
    36,
    "bc0a01054000230122110004ab896745230100001032547698ba00000000000000000000",
    {
      commandId: 0xabc,
      opcode: 0x1,
      phase: 0x1,
      ctrlData: false,
      ctrlDataIndirect: true,
      direction: 0x2,
      placement: 0x3,
      completionPolicy: 0x2,
      contiguous: true,
      cqIdx: queueId(0x1122),
      sqDepth: 0x400,
      sqBa: busAddress(0x123456789ab),
      sqHeadWriteback: busAddress(0xba9876543210),
    },
  );
  golden(
    "ena_admin_acq_create_sq_resp_desc",
    createSqResp,
    24,
    "de090501341278560b0a00004433221188776655ccbbaa99",
    {
      commandId: 0x9de,
      status: 0x5,
      phase: 0x1,
      extendedStatus: 0x1234,
      sqHeadIndx: 0x5678,
      sqIdx: queueId(0xa0b),
      sqDoorbellOffset: 0x11223344,
      llqDescriptorsOffset: 0x55667788,
      llqHeadersOffset: 0x99aabbcc,
    },
  );
  golden("ena_admin_aq_destroy_sq_cmd", destroySq, 8, "bc0a02050d0c2000", {
    commandId: 0xabc,
    opcode: 0x2,
    phase: 0x1,
    ctrlData: false,
    ctrlDataIndirect: true,
    sqIdx: queueId(0xc0d),
    direction: 0x1,
  });
  golden("ena_admin_aq_create_cq_cmd", createCq, 20, "bc0a03052002000824232221547698badcfe0000", {
    commandId: 0xabc,
    opcode: 0x3,
    phase: 0x1,
    ctrlData: false,
    ctrlDataIndirect: true,
    interruptMode: true,
    entrySizeWords: 0x2,
    cqDepth: 0x800,
    msixVector: 0x21222324,
    cqBa: busAddress(0xfedcba987654),
  });
  golden(
    "ena_admin_acq_create_cq_resp_desc",
    createCqResp,
    24,
    "de0905013412785632313433444342415453525164636261",
    {
      commandId: 0x9de,
      status: 0x5,
      phase: 0x1,
      extendedStatus: 0x1234,
      sqHeadIndx: 0x5678,
      cqIdx: queueId(0x3132),
      cqActualDepth: 0x3334,
      numaNodeRegisterOffset: 0x41424344,
      cqHeadDbRegisterOffset: 0x51525354,
      cqInterruptUnmaskRegisterOffset: 0x61626364,
    },
  );
  golden("ena_admin_aq_destroy_cq_cmd", destroyCq, 8, "bc0a040572710000", {
    commandId: 0xabc,
    opcode: 0x4,
    phase: 0x1,
    ctrlData: false,
    ctrlDataIndirect: true,
    cqIdx: queueId(0x7172),
  });
  golden("ena_admin_ena_mmio_req_read_less_resp", mmioReadResp, 8, "adde5800efcdab89", {
    reqId: 0xdead,
    regOff: 0x58,
    regVal: 0x89abcdef,
  });
  golden(
    "ena_admin_aq_get_stats_cmd",
    getStats,
    32,
    "bc0a0b05000200006655443322110000040100000807ffff796a5b4c3d2e1f00",
    {
      commandId: 0xabc,
      opcode: 0xb,
      phase: 0x1,
      ctrlData: false,
      ctrlDataIndirect: true,
      controlLength: 0x200,
      controlAddress: busAddress(0x112233445566),
      type: 0x4,
      scope: 0x1,
      queueIdx: 0x708,
      deviceId: 0xffff,
      requestedMetrics: 0x1f2e3d4c5b6a79,
    },
  );
  golden(
    "ena_admin_basic_stats",
    basicStats,
    56,
    "0100000000000100030200000000020009080706050403000f0e0d0c0b0a0000" +
      "5141312111010100b1a19181716101001202f2e1d1c10100",
    {
      txBytes: 0x1000000000001,
      txPkts: 0x2000000000203,
      rxBytes: 0x3040506070809,
      rxPkts: 0xa0b0c0d0e0f,
      rxDrops: 0x1011121314151,
      txDrops: 0x161718191a1b1,
      rxOverruns: 0x1c1d1e1f20212,
    },
  );
  golden(
    "ena_admin_eni_stats",
    eniStats,
    40,
    "605040302010000061514131211101002221000000000000ffffffffffff1f00" + "0000008000000000",
    {
      bwInAllowanceExceeded: 0x102030405060,
      bwOutAllowanceExceeded: 0x1112131415161,
      ppsAllowanceExceeded: 0x2122,
      conntrackAllowanceExceeded: 0x1fffffffffffff,
      linklocalAllowanceExceeded: 0x80000000,
    },
  );
});
