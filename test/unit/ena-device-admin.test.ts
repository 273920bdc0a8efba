import { describe, expect, test } from "vitest";
import { createEnaNic, type EnaOptions } from "../../device/ena/index.ts";
import {
  ACQ_BODY,
  AdminStatus,
  aqCommon,
  createCq,
  createSq,
  Opcode,
  Placement,
  SqDirection,
} from "../../shared/ena/admin.ts";
import {
  Capability,
  deviceAttributes,
  FeatureId,
  hostAttr,
  hwHints,
  maxQueuesExt,
  mtuFeature,
  statelessOffload,
} from "../../shared/ena/features.ts";
import { hostInfo } from "../../shared/ena/host-info.ts";
import { txDesc } from "../../shared/ena/io.ts";
import { llqFeature } from "../../shared/ena/llq.ts";
import { capsReg, DevSts, Register } from "../../shared/ena/registers.ts";
import {
  RSS_INLINE_INDEX_NONE,
  RSS_KEY_OFFSET,
  RSS_KEY_PARTS,
  rssHashFields,
  rssHashFunction,
  rssHashKey,
  rssIndTable,
} from "../../shared/ena/rss.ts";
import { basicStats, getStats, StatsType } from "../../shared/ena/stats.ts";
import { busAddress, NO_ADDRESS } from "../../shared/wire/records.ts";
import { build, featureEntry } from "../support/ena-guest.ts";
import { EnaTwin } from "../support/ena-twin.ts";
import { FakeHost, settle } from "../support/fake-host.ts";

async function rig(options: EnaOptions = {}, windows = true) {
  const host = new FakeHost({ queues: 2, maxMtu: 9216 });
  const nic = createEnaNic(host, options);
  const twin = new EnaTwin(nic, host, { windows });
  await twin.attach();
  host.takeInterrupts();
  return { host, nic, twin };
}

describe.each([
  ["rings in windows", true],
  ["rings that have to be read", false],
])("the admin queue, %s", (_name, windows) => {
  test("completes a command and raises vector 0", async () => {
    const { host, twin } = await rig({}, windows);
    const done = await twin.getFeature(FeatureId.MTU);
    expect(done.status).toBe(AdminStatus.SUCCESS);
    expect(mtuFeature.parse(done.entry, ACQ_BODY).mtu).toBe(9216);
    expect(host.takeInterrupts()).toEqual([0]);
  });

  test("goes round its ring many times", async () => {
    const { host, twin } = await rig({}, windows);
    for (let i = 0; i < 200; i++) {
      const count = 1 + (i % 31);
      const ids = Array.from({ length: count }, () =>
        twin.post(build(getStats, { opcode: Opcode.GET_STATS, type: StatsType.BASIC })),
      );
      twin.ringAdmin();
      await host.memory.answerReads();
      const done = twin.takeCompletions();
      expect(done.map((c) => c.commandId)).toEqual(ids);
      expect(done.filter((c) => c.status !== AdminStatus.SUCCESS)).toEqual([]);
    }
  });
});

test("attack-S2 commands beyond 256 in one batch are done in the next turn", async () => {
  const { twin } = await rig();
  // As one batch: the ring goes round, and the device reads each lap before the next.
  const lap = (count: number): number => {
    for (let i = 0; i < count; i++) {
      twin.post(build(getStats, { opcode: Opcode.GET_STATS, type: StatsType.BASIC }));
    }
    twin.write32(Register.AQ_DB, twin.aq.head);
    return twin.takeCompletions().length;
  };
  twin.nic.batchEnd();
  const done = Array.from({ length: 9 }, () => lap(32));
  expect(done).toEqual([32, 32, 32, 32, 32, 32, 32, 32, 0]);
  await twin.settle();
  expect(twin.takeCompletions()).toHaveLength(32);
  expect(lap(32)).toBe(32);
  expect(twin.nic.snapshot().status).toBe("ready");
});

test("INTR_MASK holds completions' interrupt back, and gives it when it opens", async () => {
  const { host, twin } = await rig();
  twin.write32(Register.INTR_MASK, 1);
  await twin.getFeature(FeatureId.MTU);
  expect(host.takeInterrupts()).toEqual([]);
  twin.write32(Register.INTR_MASK, 0);
  expect(host.takeInterrupts()).toEqual([0]);
});

test("unknown opcodes and features say UNSUPPORTED_OPCODE and are named", async () => {
  const { host, twin } = await rig();
  expect((await twin.command(build(aqCommon, { opcode: 77 }))).status).toBe(
    AdminStatus.UNSUPPORTED_OPCODE,
  );
  expect(host.faults.at(-1)?.text).toContain("?77");
  for (const id of [0, 5, 6, 8, 29, 30, 31, 200]) {
    expect((await twin.getFeature(id)).status).toBe(AdminStatus.UNSUPPORTED_OPCODE);
    expect((await twin.setFeature(id)).status).toBe(AdminStatus.UNSUPPORTED_OPCODE);
  }
  expect(host.faults.map((f) => f.text).join()).toContain("PHC_CONFIG");
  const metrics = await twin.command(
    build(getStats, { opcode: Opcode.GET_STATS, type: StatsType.CUSTOMER_METRICS }),
  );
  expect(metrics.status).toBe(AdminStatus.UNSUPPORTED_OPCODE);
});

test("every feature that is announced can be asked for", async () => {
  const { host, twin } = await rig();
  const attributes = deviceAttributes.parse(
    (await twin.getFeature(FeatureId.DEVICE_ATTRIBUTES)).entry,
    ACQ_BODY,
  );
  expect(attributes.macAddr).toEqual(host.config.mac);
  expect(attributes.maxMtu).toBe(9216);
  expect(attributes.capabilities & (1 << Capability.EXTENDED_RESET_REASONS)).not.toBe(0);
  for (let id = 1; id < 32; id++) {
    const announced = (attributes.supportedFeatures & (1 << id)) !== 0;
    // Host attributes have no GET.
    if (id === FeatureId.HOST_ATTR_CONFIG) continue;
    const { status } = await twin.getFeature(id);
    expect(status === AdminStatus.SUCCESS, `feature ${id}`).toBe(announced);
  }
});

test("without LLQ the feature is neither announced nor answered", async () => {
  const { twin } = await rig({ llq: false });
  const { entry } = await twin.getFeature(FeatureId.DEVICE_ATTRIBUTES);
  const { supportedFeatures } = deviceAttributes.parse(entry, ACQ_BODY);
  expect(supportedFeatures & (1 << FeatureId.LLQ)).toBe(0);
  expect((await twin.getFeature(FeatureId.LLQ)).status).toBe(AdminStatus.UNSUPPORTED_OPCODE);
});

test("queue limits are those of the configuration", async () => {
  const { twin } = await rig();
  const q = maxQueuesExt.parse((await twin.getFeature(FeatureId.MAX_QUEUES_EXT)).entry, ACQ_BODY);
  expect(q.version).toBe(1);
  expect([q.maxTxSqNum, q.maxTxCqNum, q.maxRxSqNum, q.maxRxCqNum]).toEqual([2, 2, 2, 2]);
});

test.each([
  [127, AdminStatus.ILLEGAL_PARAMETER],
  [128, AdminStatus.SUCCESS],
  [9216, AdminStatus.SUCCESS],
  [9217, AdminStatus.ILLEGAL_PARAMETER],
])("MTU %i answers %i", async (mtu, status) => {
  const { host, twin } = await rig();
  const before = host.port!.maxFrameBytes;
  const done = await twin.setFeature(FeatureId.MTU, mtuFeature, { mtu });
  expect(done.status).toBe(status);
  expect(host.port!.maxFrameBytes).toBe(status === AdminStatus.SUCCESS ? mtu + 18 : before);
});

test("guest-3 the hint for the admin timeout is whole seconds, whatever the round trip", async () => {
  const { host, twin } = await rig();
  // A timeout in CAPS would be a hint too; 0 leaves the choice to the driver.
  expect(capsReg.adminTimeout(twin.read32(Register.CAPS))).toBe(0);
  const broken: number[] = [];
  for (let rtt = 0; rtt < 1600; rtt += 7.3) {
    host.roundTripMs = rtt;
    const hints = hwHints.parse((await twin.getFeature(FeatureId.HW_HINTS)).entry, ACQ_BODY);
    const { adminCompletionTimeoutMs: ms, missingTxCompletionTimeoutMs } = hints;
    // At least the share of the round trip that the other hints have, and less than a second more.
    const over = ms - 3000 - (missingTxCompletionTimeoutMs - 5000);
    if (ms % 1000 !== 0 || over < 0 || over >= 1000) broken.push(rtt);
  }
  expect(broken).toEqual([]);
});

test("hints grow with the round trip and never fall below the defaults", async () => {
  const { host, twin } = await rig();
  const local = hwHints.parse((await twin.getFeature(FeatureId.HW_HINTS)).entry, ACQ_BODY);
  expect(local.adminCompletionTimeoutMs).toBe(3000);
  host.roundTripMs = 100;
  const far = hwHints.parse((await twin.getFeature(FeatureId.HW_HINTS)).entry, ACQ_BODY);
  expect(far.adminCompletionTimeoutMs).toBe(5000);
  expect(far.missingTxCompletionTimeoutMs).toBe(7000);
  host.roundTripMs = 1e6;
  const moon = hwHints.parse((await twin.getFeature(FeatureId.HW_HINTS)).entry, ACQ_BODY);
  expect(moon.driverWatchdogTimeoutMs).toBe(36_000);
});

describe("a command that waits for bytes", () => {
  async function hostAttributes(twin: EnaTwin, host: FakeHost, page: number): Promise<void> {
    hostInfo.write(host.memory.view, twin.at(page), { osType: 4, kernelVerStr: "14.1" });
    twin.post(featureEntry(FeatureId.HOST_ATTR_CONFIG, hostAttr, { osInfoBa: busAddress(page) }));
  }

  test("is overtaken by those behind it", async () => {
    const { host, nic, twin } = await rig();
    await hostAttributes(twin, host, twin.alloc(4096));
    const behind = twin.post(build(getStats, { opcode: Opcode.GET_STATS, type: StatsType.BASIC }));
    twin.ringAdmin();
    expect(twin.takeCompletions().map((c) => c.commandId)).toEqual([behind]);
    await host.memory.answerReads();
    expect(twin.takeCompletions().map((c) => c.status)).toEqual([AdminStatus.SUCCESS]);
    expect(nic.snapshot().driver).toContain("14.1");
  });

  test("is refused when the frontend refuses the read", async () => {
    const { host, twin } = await rig();
    await hostAttributes(twin, host, twin.alloc(4096));
    twin.ringAdmin();
    host.memory.reads.splice(0)[0]!.refuse();
    await settle();
    expect(twin.takeCompletions().map((c) => c.status)).toEqual([AdminStatus.ILLEGAL_PARAMETER]);
  });

  test("comes to nothing after a reset", async () => {
    const { host, twin } = await rig();
    await hostAttributes(twin, host, twin.alloc(4096));
    twin.ringAdmin();
    const late = host.memory.reads.splice(0)[0]!;
    await twin.attach();
    const writes = host.memory.writes.length;
    host.takeFaults();
    late.answer();
    await settle();
    expect(host.takeFaults()).toEqual([]);
    expect(host.memory.writes.length).toBe(writes);
    expect(twin.takeCompletions()).toEqual([]);
  });

  test("that a reset abandons is not named as refused", async () => {
    const { host, twin } = await rig();
    await hostAttributes(twin, host, twin.alloc(4096));
    twin.ringAdmin();
    twin.reset();
    await settle();
    expect(host.takeFaults()).toEqual([]);
  });

  test("keeps its id: another command with it is refused", async () => {
    const { host, twin } = await rig();
    await hostAttributes(twin, host, twin.alloc(4096));
    const id = (twin.aq.slot + 31) & 31;
    twin.post(build(aqCommon, { opcode: Opcode.GET_STATS }), id);
    twin.ringAdmin();
    expect(twin.takeCompletions()).toMatchObject([
      { commandId: id, status: AdminStatus.ILLEGAL_PARAMETER },
    ]);
    expect(host.takeFaults()).toEqual(["AQ_COMMAND_ID_IN_USE"]);
  });
});

describe("broken admin rings", () => {
  test.each([
    ["beyond the ring", 33, "AQ_DOORBELL_BEYOND_RING"],
    ["behind the head", 0xffff, "AQ_DOORBELL_BEYOND_RING"],
  ])("a doorbell %s is fatal until reset", async (_what, ahead, code) => {
    const { host, twin } = await rig();
    twin.write32(Register.AQ_DB, (twin.aq.head + ahead) & 0xffff);
    expect(host.takeFaults()).toEqual([code]);
    expect(twin.read32(Register.DEV_STS) & DevSts.FATAL_ERROR).not.toBe(0);
    await twin.attach();
    expect((await twin.getFeature(FeatureId.MTU)).status).toBe(AdminStatus.SUCCESS);
  });

  test("an entry with the old phase is fatal", async () => {
    const { host, twin } = await rig();
    twin.write32(Register.AQ_DB, twin.aq.head + 1);
    expect(host.takeFaults()).toEqual(["AQ_WRONG_PHASE"]);
    expect(twin.takeCompletions()).toEqual([]);
  });
});

describe("queues", () => {
  test("SQ and CQ have the same number, registers differ, order is taken", async () => {
    const { host, twin } = await rig();
    const tx = await twin.createQueue(SqDirection.TX, 64, 1);
    const rx = await twin.createQueue(SqDirection.RX, 64, 1);
    expect([tx.cqIdx, tx.sqIdx, rx.cqIdx, rx.sqIdx]).toEqual([0, 0, 1, 1]);
    expect(new Set([tx.doorbell, rx.doorbell, tx.unmask, rx.unmask]).size).toBe(4);
    expect((await twin.destroyCq(tx.cqIdx)).status).toBe(AdminStatus.RESOURCE_BUSY);
    expect((await twin.destroySq(SqDirection.RX, tx.sqIdx)).status).toBe(
      AdminStatus.ILLEGAL_PARAMETER,
    );
    expect((await twin.destroySq(SqDirection.TX, tx.sqIdx)).status).toBe(AdminStatus.SUCCESS);
    expect((await twin.destroySq(SqDirection.TX, tx.sqIdx)).status).toBe(
      AdminStatus.ILLEGAL_PARAMETER,
    );
    expect((await twin.destroyCq(tx.cqIdx)).status).toBe(AdminStatus.SUCCESS);
    expect((await twin.destroyCq(tx.cqIdx)).status).toBe(AdminStatus.ILLEGAL_PARAMETER);
    host.takeFaults();
    twin.write32(tx.doorbell, 1);
    twin.write32(tx.unmask, 1);
    expect(host.takeFaults()).toEqual(["DOORBELL_NO_QUEUE", "UNMASK_NO_QUEUE"]);
  });

  test("no more than configured", async () => {
    const { twin } = await rig();
    await twin.createQueue(SqDirection.TX, 8, 1);
    await twin.createQueue(SqDirection.TX, 8, 2);
    await expect(twin.createQueue(SqDirection.TX, 8, 2)).rejects.toThrow("CREATE_SQ: 1");
  });

  const goodCq = { interruptMode: true, entrySizeWords: 2, cqDepth: 64, msixVector: 1 };
  test.each([
    ["depth not a power of two", { cqDepth: 65 }],
    ["depth 0", { cqDepth: 0 }],
    ["depth 1", { cqDepth: 1 }],
    ["too deep", { cqDepth: 8192 }],
    ["entry size of no direction", { entrySizeWords: 3 }],
    ["vector out of range", { msixVector: 3 }],
    ["address 0", { cqBa: 0 }],
    ["address past the end", { cqBa: 2 ** 48 - 64 }],
  ])("CREATE_CQ refuses: %s", async (_what, change) => {
    const { host, twin } = await rig();
    const good = { ...goodCq, cqBa: twin.alloc(4096) };
    const make = (fields: object) =>
      twin.command(build(createCq, { opcode: Opcode.CREATE_CQ, ...fields }));
    expect((await make({ ...good, ...change })).status).toBe(AdminStatus.ILLEGAL_PARAMETER);
    expect(host.takeFaults()).toEqual(["CREATE_CQ_REFUSED"]);
    expect((await make(good)).status).toBe(AdminStatus.SUCCESS);
  });

  test("a driver without interrupts names vector 0xffffffff", async () => {
    const { host, twin } = await rig();
    const tx = await twin.createQueue(SqDirection.TX, 8, 0xffff_ffff);
    twin.postTx(tx, 0, twin.buffer(new Uint8Array(60)), 60);
    host.takeInterrupts();
    twin.ring(tx);
    twin.unmask(tx);
    expect(twin.completed(tx)).toEqual([0]);
    expect(host.takeInterrupts()).toEqual([]);
  });

  test.each([
    ["a CQ that is not there", { cqIdx: 9 }],
    ["no direction", { direction: 0 }],
    ["direction 3", { direction: 3 }],
    ["the other direction's CQ", { direction: SqDirection.RX }],
    ["depth not a power of two", { sqDepth: 48 }],
    ["depth over the CQ's", { sqDepth: 128 }],
    ["placement 2", { placement: 2 }],
    ["device placement before SET LLQ", { placement: Placement.DEV }],
    ["not contiguous", { contiguous: false }],
    ["a completion policy", { completionPolicy: 2 }],
    ["address 0", { sqBa: 0 }],
  ])("CREATE_SQ refuses: %s", async (_what, change) => {
    const { host, twin } = await rig();
    await twin.command(
      build(createCq, { opcode: Opcode.CREATE_CQ, ...goodCq, cqBa: twin.alloc(4096) }),
    );
    const good = {
      direction: SqDirection.TX,
      placement: Placement.HOST,
      contiguous: true,
      cqIdx: 0,
      sqDepth: 64,
      sqBa: twin.alloc(4096),
    };
    const make = (fields: object) =>
      twin.command(build(createSq, { opcode: Opcode.CREATE_SQ, ...fields }));
    expect((await make({ ...good, ...change })).status).toBe(AdminStatus.ILLEGAL_PARAMETER);
    expect(host.takeFaults()).toEqual(["CREATE_SQ_REFUSED"]);
    expect((await make(good)).status).toBe(AdminStatus.SUCCESS);
  });

  test("a queue whose ring's window is freed stops, and others go on", async () => {
    const { host, nic, twin } = await rig();
    const a = await twin.createQueue(SqDirection.TX, 8, 1);
    const b = await twin.createQueue(SqDirection.TX, 8, 2);
    nic.windowRemoved(a.sqAddress, 128);
    expect(host.takeFaults()).toEqual(["RING_WINDOW_FREED"]);
    for (const q of [a, b]) {
      twin.postTx(q, 0, twin.buffer(new Uint8Array(60)), 60);
      twin.ring(q);
    }
    expect(twin.completed(a)).toEqual([]);
    expect(twin.completed(b)).toEqual([0]);
  });
});

describe("LLQ", () => {
  const good = {
    headerLocationEnabled: 1,
    entrySizeEnabled: 1,
    descsBeforeHeaderEnabled: 2,
    strideEnabled: 2,
  };
  test.each([
    ["header ring", { headerLocationEnabled: 2 }],
    ["192 bytes", { entrySizeEnabled: 2 }],
    ["two sizes at once", { entrySizeEnabled: 5 }],
    ["eight descriptors", { descsBeforeHeaderEnabled: 8 }],
    ["no stride", { strideEnabled: 0 }],
  ])("SET refuses: %s", async (_what, change) => {
    const { twin } = await rig();
    const set = (fields: object) => twin.setFeature(FeatureId.LLQ, llqFeature, fields);
    expect((await set({ ...good, ...change })).status).toBe(AdminStatus.ILLEGAL_PARAMETER);
    expect((await set(good)).status).toBe(AdminStatus.SUCCESS);
  });

  // Every driver's ena_com_set_llq asks for both, whatever the device offered.
  test.each([false, true])(
    "guest-1 acceleration flags that were not offered are ignored (meta caching can be off: %s)",
    async (disableMetaCaching) => {
      const host = new FakeHost();
      const twin = new EnaTwin(createEnaNic(host, { disableMetaCaching }), host);
      await twin.attach();
      for (const accelFlags of [3, 2, 0xffff]) {
        const done = await twin.setFeature(FeatureId.LLQ, llqFeature, { ...good, accelFlags });
        expect(done.status).toBe(AdminStatus.SUCCESS);
      }
      expect(host.takeFaults()).toEqual([]);
      // Only offered features are active: they decide whether a packet needs a meta descriptor.
      await twin.setFeature(FeatureId.LLQ, llqFeature, { ...good, accelFlags: 3 });
      const q = await twin.createQueue(SqDirection.TX, 8, 1, Placement.DEV);
      const entry = new DataView(new ArrayBuffer(128));
      txDesc.write(entry, 0, 0, 0, q.sq.phase, 1, 1, 1, 0, NO_ADDRESS, 60);
      twin.nic.pci.mmioWrite(2, q.llqOffset, new Uint8Array(entry.buffer), 0, 128);
      q.sq.next();
      twin.ring(q);
      expect(host.takeFaults()).toEqual(disableMetaCaching ? ["TX_META_REQUIRED"] : []);
      expect(host.switchPort.frames.length).toBe(disableMetaCaching ? 0 : 1);
    },
  );
});

describe("RSS", () => {
  async function table(twin: EnaTwin, host: FakeHost, queues: number[], inWindow: boolean) {
    const bytes = queues.length * 4;
    const address = inWindow ? twin.allocRing(bytes) : twin.alloc(bytes);
    queues.forEach((q, i) => {
      host.memory.view.setUint16(twin.at(address) + i * 4, q, true);
    });
    return twin.setFeature(
      FeatureId.RSS_INDIRECTION_TABLE_CONFIG,
      rssIndTable,
      {
        sizeLog2: Math.log2(queues.length),
        inlineIndex: RSS_INLINE_INDEX_NONE,
      },
      { address, length: bytes },
    );
  }

  test.each([true, false])(
    "a table is taken and read back (buffer in a window: %s)",
    async (inWindow) => {
      const { host, twin } = await rig();
      const a = await twin.createQueue(SqDirection.RX, 8, 1);
      const b = await twin.createQueue(SqDirection.RX, 8, 2);
      const wanted = Array.from({ length: 128 }, (_, i) => (i % 3 === 0 ? a.sqIdx : b.sqIdx));
      expect((await table(twin, host, wanted, inWindow)).status).toBe(AdminStatus.SUCCESS);
      // One entry names a queue that does not exist, so the table is refused and the old one stays.
      const bad = await table(twin, host, [...wanted.slice(0, 127), 7], inWindow);
      expect(bad.status).toBe(AdminStatus.ILLEGAL_PARAMETER);
      const address = twin.alloc(512);
      host.memory.bytes.fill(0xa5, twin.at(address), twin.at(address) + 512);
      const got = await twin.getFeature(FeatureId.RSS_INDIRECTION_TABLE_CONFIG, {
        address,
        length: 512,
      });
      expect(rssIndTable.parse(got.entry, ACQ_BODY).sizeLog2).toBe(7);
      const back = wanted.map((_, i) => host.memory.view.getUint32(twin.at(address) + i * 4, true));
      expect(back).toEqual(wanted);
    },
  );

  test.each([
    ["a size that is not offered", 8, 1024],
    ["a buffer that is too short", 7, 100],
  ])("a table with %s is refused", async (_what, sizeLog2, length) => {
    const { twin } = await rig();
    const done = await twin.setFeature(
      FeatureId.RSS_INDIRECTION_TABLE_CONFIG,
      rssIndTable,
      { sizeLog2, inlineIndex: RSS_INLINE_INDEX_NONE },
      { address: twin.allocRing(2048), length },
    );
    expect(done.status).toBe(AdminStatus.ILLEGAL_PARAMETER);
  });

  test.each(["reversed", "asSent"] as const)(
    "guest-2 a driver that reads the key and sets it again changes nothing (order: %s)",
    async (rssKeyOrder) => {
      const host = new FakeHost();
      const twin = new EnaTwin(createEnaNic(host, { rssKeyOrder }), host);
      await twin.attach();
      const address = twin.allocRing(rssHashKey.size);
      const control = { address, length: rssHashKey.size };
      const at = twin.at(address);
      const key = (): Buffer =>
        Buffer.from(host.memory.bytes.slice(at + RSS_KEY_OFFSET, at + rssHashKey.size));
      const inOrder = (bytes: Uint8Array): Buffer =>
        rssKeyOrder === "reversed" ? Buffer.from(bytes).reverse() : Buffer.from(bytes);
      const get = async (): Promise<Buffer> => {
        host.memory.bytes.fill(0xa5, at, at + rssHashKey.size);
        await twin.getFeature(FeatureId.RSS_HASH_FUNCTION, control);
        expect(rssHashKey.parse(host.memory.view, at).keyParts).toBe(RSS_KEY_PARTS);
        return key();
      };
      const set = () =>
        twin.setFeature(FeatureId.RSS_HASH_FUNCTION, rssHashFunction, { selectedFunc: 2 }, control);
      // Microsoft's key is active until a driver sets another: no driver may read zeros.
      const first = await get();
      expect(inOrder(first).subarray(0, 4).toString("hex")).toBe("6d5a56da");
      expect((await set()).status).toBe(AdminStatus.SUCCESS);
      expect(await get()).toEqual(first);
      // A key of the driver's own, and the default again after a reset.
      host.memory.bytes.fill(0x5c, at + RSS_KEY_OFFSET, at + rssHashKey.size - 1);
      const own = key();
      await set();
      expect(await get()).toEqual(own);
      await twin.attach();
      expect(await get()).toEqual(first);
    },
  );

  test("the key is read back in the driver's order, a wrong size or function is refused", async () => {
    const { host, twin } = await rig();
    const address = twin.allocRing(rssHashKey.size);
    const set = (keyParts: number, selectedFunc: number) => {
      const key = Array.from({ length: 10 }, (_, i) => 0x01020304 + i);
      rssHashKey.write(host.memory.view, twin.at(address), { keyParts, key });
      return twin.setFeature(
        FeatureId.RSS_HASH_FUNCTION,
        rssHashFunction,
        { selectedFunc, initVal: 0xffff_ffff },
        { address, length: rssHashKey.size },
      );
    };
    expect((await set(9, 2)).status).toBe(AdminStatus.ILLEGAL_PARAMETER);
    expect((await set(10, 4)).status).toBe(AdminStatus.ILLEGAL_PARAMETER);
    expect((await set(10, 2)).status).toBe(AdminStatus.SUCCESS);
    const sent = host.memory.bytes.slice(twin.at(address), twin.at(address) + rssHashKey.size);
    host.memory.bytes.fill(0xa5, twin.at(address), twin.at(address) + rssHashKey.size);
    await twin.getFeature(FeatureId.RSS_HASH_FUNCTION, { address, length: rssHashKey.size });
    expect(host.memory.bytes.slice(twin.at(address), twin.at(address) + rssHashKey.size)).toEqual(
      sent,
    );
  });

  test("hash fields: what is offered can be set, and nothing else", async () => {
    const { host, twin } = await rig();
    const address = twin.allocRing(rssHashFields.size);
    const control = { address, length: rssHashFields.size };
    await twin.getFeature(FeatureId.RSS_HASH_INPUT, control);
    const { supported, selected } = rssHashFields.parse(host.memory.view, twin.at(address));
    expect(selected).toEqual(supported);
    expect(supported.slice(0, 8)).toEqual([60, 60, 60, 60, 12, 12, 12, 3]);
    const set = (fields: readonly number[]) => {
      rssHashFields.write(host.memory.view, twin.at(address), { selected: fields });
      return twin.setFeature(FeatureId.RSS_HASH_INPUT, undefined, {}, control);
    };
    expect((await set([12, ...supported.slice(1)])).status).toBe(AdminStatus.SUCCESS);
    expect((await set([63, ...supported.slice(1)])).status).toBe(AdminStatus.ILLEGAL_PARAMETER);
    await twin.getFeature(FeatureId.RSS_HASH_INPUT, control);
    expect(rssHashFields.parse(host.memory.view, twin.at(address)).selected[0]).toBe(12);
  });
});

test("statistics are the device's totals", async () => {
  const { twin } = await rig();
  const tx = await twin.createQueue(SqDirection.TX, 8, 1);
  for (let i = 0; i < 3; i++) twin.postTx(tx, i, twin.buffer(new Uint8Array(100)), 100);
  twin.ring(tx);
  const done = await twin.command(
    build(getStats, { opcode: Opcode.GET_STATS, type: StatsType.BASIC }),
  );
  expect(basicStats.parse(done.entry, ACQ_BODY)).toMatchObject({
    txPkts: 3,
    txBytes: 300,
    rxPkts: 0,
  });
  const eni = await twin.command(
    build(getStats, { opcode: Opcode.GET_STATS, type: StatsType.ENI }),
  );
  expect(eni.status).toBe(AdminStatus.SUCCESS);
});

test("the offloads that are told are those that are done", async () => {
  const { twin } = await rig();
  const { entry } = await twin.getFeature(FeatureId.STATELESS_OFFLOAD_CONFIG);
  expect(statelessOffload.parse(entry, ACQ_BODY)).toEqual({
    tx: 0x7f,
    rxSupported: 15,
    rxEnabled: 15,
  });
});
