/**
 * The texts that logs and captures print: one line for each ENA command, event and descriptor. The
 * bytes are those of the other golden tests, which say how they were made.
 */
import { describe, expect, test } from "vitest";
import {
  describeAdminCommand,
  describeAdminCompletion,
  describeAenq,
  describeRegister,
  describeRegisterWrite,
} from "../../cli/trace/ena.ts";
import { AdminStatus, AQ_ENTRY_SIZE, acqCommon, createSq, Opcode } from "../../shared/ena/admin.ts";
import {
  AENQ_ENTRY_SIZE,
  AenqGroup,
  AenqSyndrome,
  aenqCommon,
  aenqKeepAlive,
  aenqLinkChange,
} from "../../shared/ena/aenq.ts";
import {
  FeatureId,
  featureCommand,
  mtuFeature,
  SET_FEATURE_BODY,
} from "../../shared/ena/features.ts";
import { Register } from "../../shared/ena/registers.ts";
import { getStats, StatsType } from "../../shared/ena/stats.ts";
import { queueId } from "../../shared/net/frame.ts";
import { busAddress } from "../../shared/wire/records.ts";

const bytesOf = (hex: string): Uint8Array => Uint8Array.from(Buffer.from(hex, "hex"));

/** An entry of `size` zero bytes, filled in. */
function entry(size: number, fill: (view: DataView) => void): Uint8Array {
  const bytes = new Uint8Array(size);
  fill(new DataView(bytes.buffer));
  return bytes;
}

describe("ENA traces", () => {
  test("registers", () => {
    expect(describeRegister(Register.DEV_CTL)).toBe("DEV_CTL");
    expect(describeRegister(0x1040)).toBe("0x1040");
    expect(describeRegisterWrite(Register.DEV_CTL, 0x3100_0001)).toBe(
      "DEV_CTL = DEV_RESET reason=DEVICE_REQUEST",
    );
    expect(describeRegisterWrite(Register.DEV_CTL, 0)).toBe("DEV_CTL = 0 reason=NORMAL");
    expect(describeRegisterWrite(Register.DEV_STS, 9)).toBe("DEV_STS = READY|RESET_IN_PROGRESS");
    expect(describeRegisterWrite(Register.MMIO_REG_READ, 0x0058_0007)).toBe(
      "MMIO_REG_READ = DEV_STS seq=7",
    );
    expect(describeRegisterWrite(0x1000, 17)).toBe("0x1000 = 0x11");
  });

  test("feature commands", () => {
    const get = entry(AQ_ENTRY_SIZE, (v) =>
      featureCommand.write(v, 0, {
        opcode: Opcode.GET_FEATURE,
        commandId: 3,
        featureId: FeatureId.DEVICE_ATTRIBUTES,
      }),
    );
    expect(describeAdminCommand(get)).toBe("GET_FEATURE DEVICE_ATTRIBUTES id=3");
    const set = entry(AQ_ENTRY_SIZE, (v) => {
      featureCommand.write(v, 0, {
        opcode: Opcode.SET_FEATURE,
        commandId: 9,
        featureId: FeatureId.MTU,
        controlLength: 48,
      });
      mtuFeature.write(v, SET_FEATURE_BODY, { mtu: 9001 });
    });
    expect(describeAdminCommand(set)).toBe("SET_FEATURE MTU id=9 buffer=48 mtu=9001");
  });

  test("queue commands", () => {
    const sq = "bc0a01054000230122110004ab896745230100001032547698ba00000000000000000000";
    expect(describeAdminCommand(bytesOf(sq))).toBe("CREATE_SQ RX id=2748 cq=4386 depth=1024 DEV");
    const host = entry(AQ_ENTRY_SIZE, (v) =>
      createSq.write(v, 0, {
        opcode: Opcode.CREATE_SQ,
        commandId: 1,
        direction: 1,
        placement: 1,
        cqIdx: queueId(2),
        sqDepth: 256,
        sqBa: busAddress(0x1000),
      }),
    );
    expect(describeAdminCommand(host)).toBe("CREATE_SQ TX id=1 cq=2 depth=256 HOST base=0x1000");
    expect(describeAdminCommand(bytesOf("bc0a02050d0c2000"))).toBe("DESTROY_SQ TX id=2748 sq=3085");
    expect(describeAdminCommand(bytesOf("bc0a040572710000"))).toBe("DESTROY_CQ id=2748 cq=29042");
    expect(describeAdminCommand(bytesOf("bc0a03052002000824232221547698badcfe0000"))).toBe(
      "CREATE_CQ id=2748 depth=2048 entry=8 vector=555885348 base=0xfedcba987654",
    );
    const stats = entry(AQ_ENTRY_SIZE, (v) =>
      getStats.write(v, 0, { opcode: Opcode.GET_STATS, commandId: 4, type: StatsType.ENI }),
    );
    expect(describeAdminCommand(stats)).toBe("GET_STATS ENI id=4");
  });

  test("what is unknown or too short is said to be so", () => {
    expect(describeAdminCommand(bytesOf("05004d01"))).toBe("?77 id=5");
    expect(describeAdminCommand(bytesOf("0500"))).toBe("admin command truncated: 2 of 64 bytes");
    expect(describeAdminCommand(bytesOf("05000801"))).toBe("GET_FEATURE truncated: 4 of 64 bytes");
    expect(describeAdminCompletion(new Uint8Array(3))).toBe(
      "admin completion truncated: 3 of 64 bytes",
    );
    expect(describeAenq(new Uint8Array(3))).toBe("event truncated: 3 of 64 bytes");
  });

  test("completions", () => {
    const done = entry(8, (v) => acqCommon.write(v, 0, { commandId: 3 }));
    expect(describeAdminCompletion(done)).toBe("SUCCESS id=3");
    const failed = entry(8, (v) =>
      acqCommon.write(v, 0, {
        commandId: 4,
        status: AdminStatus.ILLEGAL_PARAMETER,
        extendedStatus: 0x12,
      }),
    );
    expect(describeAdminCompletion(failed)).toBe("ILLEGAL_PARAMETER id=4 extended=0x12");
  });

  test("events", () => {
    const up = entry(AENQ_ENTRY_SIZE, (v) => aenqLinkChange.write(v, 0, { linkUp: true }));
    expect(describeAenq(up)).toBe("LINK_CHANGE up");
    const alive = entry(AENQ_ENTRY_SIZE, (v) =>
      aenqKeepAlive.write(v, 0, { group: AenqGroup.KEEP_ALIVE, txDrops: 2 }),
    );
    expect(describeAenq(alive)).toBe("KEEP_ALIVE rxDrops=0 txDrops=2 rxOverruns=0");
    const hints = entry(AENQ_ENTRY_SIZE, (v) =>
      aenqCommon.write(v, 0, {
        group: AenqGroup.NOTIFICATION,
        syndrome: AenqSyndrome.UPDATE_HINTS,
      }),
    );
    expect(describeAenq(hints)).toBe("NOTIFICATION UPDATE_HINTS");
    const reset = entry(AENQ_ENTRY_SIZE, (v) =>
      aenqCommon.write(v, 0, { group: AenqGroup.DEVICE_REQUEST_RESET }),
    );
    expect(describeAenq(reset)).toBe("DEVICE_REQUEST_RESET");
  });
});
