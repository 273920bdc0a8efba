/** Queues of an ENA device: what creates one, at every edge of its fields, and what ends one. */
import { describe, expect, test } from "vitest";
import { createEnaNic, type EnaOptions } from "../../device/ena/index.ts";
import {
  ACQ_BODY,
  AdminStatus,
  type CreateCq,
  type CreateSq,
  createCq,
  createCqResp,
  createSq,
  createSqResp,
  Opcode,
  Placement,
  SqDirection,
} from "../../shared/ena/admin.ts";
import { DevSts, devCtlReg, Register } from "../../shared/ena/registers.ts";
import { eniStats, getStats, StatsType } from "../../shared/ena/stats.ts";
import { busAddress, RecordType } from "../../shared/wire/records.ts";
import { build } from "../support/ena-guest.ts";
import { EnaTwin } from "../support/ena-twin.ts";
import { FakeHost, settle } from "../support/fake-host.ts";
import { frameOf } from "../support/packets.ts";

const { SUCCESS, ILLEGAL_PARAMETER, RESOURCE_ALLOCATION_FAILURE } = AdminStatus;
const END = 2 ** 48;
const NO_VECTOR = 0xffff_ffff;

async function rig(options: EnaOptions = {}, queues = 2) {
  const host = new FakeHost({ queues, maxMtu: 9216 });
  const nic = createEnaNic(host, options);
  const twin = new EnaTwin(nic, host);
  await twin.attach();
  host.takeFaults();
  host.takeInterrupts();
  const cq = async (fields: Partial<CreateCq> = {}) => {
    const { status, entry } = await twin.command(
      build(createCq, {
        opcode: Opcode.CREATE_CQ,
        interruptMode: true,
        entrySizeWords: 2,
        cqDepth: 8,
        msixVector: 1,
        cqBa: busAddress(2 ** 30),
        ...fields,
      }),
    );
    return { ...createCqResp.parse(entry, 0), status };
  };
  const sq = async (fields: Partial<CreateSq> = {}) => {
    const { status, entry } = await twin.command(
      build(createSq, {
        opcode: Opcode.CREATE_SQ,
        direction: SqDirection.TX,
        placement: Placement.HOST,
        contiguous: true,
        sqDepth: 8,
        sqBa: busAddress(2 ** 31),
        ...fields,
      }),
    );
    return { ...createSqResp.parse(entry, 0), status };
  };
  return { host, nic, twin, cq, sq };
}

const pattern = (length: number, seed = 1): Uint8Array =>
  Uint8Array.from({ length }, (_, i) => (i * 7 + seed) & 0xff);

describe("CREATE_CQ", () => {
  test("names index, depth and registers", async () => {
    const { cq } = await rig();
    for (const index of [0, 1, 2]) {
      expect(await cq({ cqDepth: 16 })).toMatchObject({
        status: SUCCESS,
        cqIdx: index,
        cqActualDepth: 16,
        numaNodeRegisterOffset: 0x3000 + index * 4,
        cqInterruptUnmaskRegisterOffset: 0x2000 + index * 4,
      });
    }
  });

  test("makes two for each queue pair of the configuration, and no more", async () => {
    const { host, cq } = await rig({}, 3);
    const statuses: number[] = [];
    for (let i = 0; i < 7; i++) statuses.push((await cq()).status);
    expect(statuses).toEqual([...new Array(6).fill(SUCCESS), RESOURCE_ALLOCATION_FAILURE]);
    expect(host.faults.at(-1)?.text).toContain("all 6 completion queues");
  });

  test.each([
    ["2 entries", { cqDepth: 2 }, SUCCESS],
    ["1 entry", { cqDepth: 1 }, ILLEGAL_PARAMETER],
    ["4096 entries", { cqDepth: 4096 }, SUCCESS],
    ["the last of memory, tx", { cqBa: busAddress(END - 64) }, SUCCESS],
    ["beyond memory, tx", { cqBa: busAddress(END - 63) }, ILLEGAL_PARAMETER],
    ["the last of memory, rx", { entrySizeWords: 4, cqBa: busAddress(END - 128) }, SUCCESS],
    ["beyond memory, rx", { entrySizeWords: 4, cqBa: busAddress(END - 127) }, ILLEGAL_PARAMETER],
    ["the last vector", { msixVector: 2 }, SUCCESS],
    ["a vector more", { msixVector: 3 }, ILLEGAL_PARAMETER],
    ["no vector", { msixVector: NO_VECTOR }, SUCCESS],
  ])("%s", async (_, fields, status) => {
    const { cq } = await rig();
    expect((await cq(fields)).status).toBe(status);
  });
});

describe("CREATE_SQ", () => {
  test("names index, doorbell and, in the device, its place in BAR 2", async () => {
    const { twin, cq, sq } = await rig({}, 3);
    await twin.enableLlq();
    const rows: number[][] = [];
    for (const placement of [Placement.HOST, Placement.DEV, Placement.HOST]) {
      const { cqIdx } = await cq();
      const made = await sq({ cqIdx, placement });
      rows.push([made.status, made.sqIdx, made.sqDoorbellOffset, made.llqDescriptorsOffset]);
    }
    expect(rows).toEqual([
      [SUCCESS, 0, 0x1000, 0],
      [SUCCESS, 1, 0x1004, 1024 * 256],
      [SUCCESS, 2, 0x1008, 0],
    ]);
  });

  test.each([
    ["the last of memory", {}, { sqBa: busAddress(END - 128) }, "", SUCCESS],
    ["beyond memory", {}, { sqBa: busAddress(END - 127) }, "address space", ILLEGAL_PARAMETER],
    ["as deep as its CQ", { cqDepth: 4096 }, { sqDepth: 4096 }, "", SUCCESS],
    ["in the device", { cqDepth: 2048 }, { sqDepth: 1024, placement: Placement.DEV }, "", SUCCESS],
    [
      "in the device, too deep",
      { cqDepth: 2048 },
      { sqDepth: 2048, placement: Placement.DEV },
      "2 to 1024",
      ILLEGAL_PARAMETER,
    ],
    ["no direction", {}, { direction: 0 }, "direction 0", ILLEGAL_PARAMETER],
    ["a direction too many", {}, { direction: 3 }, "direction 3", ILLEGAL_PARAMETER],
    [
      "rx in the device",
      { entrySizeWords: 4 },
      { direction: SqDirection.RX, placement: Placement.DEV },
      "of an rx queue",
      ILLEGAL_PARAMETER,
    ],
  ] as [string, Partial<CreateCq>, Partial<CreateSq>, string, number][])(
    "%s",
    async (_, cqFields, sqFields, text, status) => {
      const { host, twin, cq, sq } = await rig();
      await twin.enableLlq();
      const { cqIdx } = await cq(cqFields);
      expect((await sq({ cqIdx, ...sqFields })).status).toBe(status);
      expect(host.faults.at(-1)?.text ?? "").toContain(text);
      expect(host.faults.length).toBe(text === "" ? 0 : 1);
    },
  );

  test("device placement comes after the choice of its layout", async () => {
    const { host, cq, sq } = await rig();
    const { cqIdx } = await cq();
    expect((await sq({ cqIdx, placement: Placement.DEV })).status).toBe(ILLEGAL_PARAMETER);
    expect(host.faults.at(-1)?.text).toContain("before the LLQ feature");
  });

  test("a completion queue serves one, and another after that one's end", async () => {
    const { host, twin, cq, sq } = await rig();
    const { cqIdx } = await cq();
    expect((await sq({ cqIdx })).status).toBe(SUCCESS);
    expect((await sq({ cqIdx })).status).toBe(ILLEGAL_PARAMETER);
    expect(host.faults.at(-1)?.text).toContain("already serves a tx queue");
    await twin.destroySq(SqDirection.TX, 0);
    expect((await sq({ cqIdx })).status).toBe(SUCCESS);
  });
});

describe("an end of a queue", () => {
  test("what was announced is sent, completed and told; with nothing announced, nobody hears", async () => {
    const { host, twin } = await rig();
    const q = await twin.createQueue(SqDirection.TX, 8, 1);
    const idle = await twin.createQueue(SqDirection.TX, 8, 2);
    host.switchPort.flushes = 0;
    expect((await twin.destroySq(SqDirection.TX, idle.sqIdx)).status).toBe(SUCCESS);
    expect(host.switchPort.flushes).toBe(0);
    host.backlogged = true;
    for (let i = 0; i < 2; i++) twin.postTx(q, i, twin.buffer(pattern(60)), 60);
    twin.ring(q);
    expect(host.switchPort.frames.length).toBe(0);
    expect((await twin.destroySq(SqDirection.TX, q.sqIdx)).status).toBe(SUCCESS);
    expect([host.switchPort.frames.length, host.switchPort.flushes]).toEqual([2, 1]);
    expect(twin.completed(q)).toEqual([0, 1]);
    expect(host.memory.writes.some(({ type }) => type === RecordType.ENA_TX_CDESC)).toBe(true);
  });

  test("completions of each direction have their own type on the wire", async () => {
    const { host, twin } = await rig();
    const tx = await twin.createQueue(SqDirection.TX, 8, 1);
    const rx = await twin.createQueue(SqDirection.RX, 8, 1);
    twin.postTx(tx, 0, twin.buffer(pattern(60)), 60);
    twin.postRx(rx, 0, twin.alloc(64), 64);
    host.memory.writes.length = 0;
    twin.ring(tx);
    twin.ring(rx);
    host.port!.deliver(frameOf(pattern(60)));
    host.port!.flush();
    expect(host.memory.writes.map(({ type }) => type)).toEqual([
      RecordType.ENA_TX_CDESC,
      RecordType.FRAME,
      RecordType.ENA_RX_CDESC,
    ]);
  });

  // 8 completions of 8 bytes, and behind them 8 descriptors of 16.
  test.each([
    ["up to the completions", -64, 64, false],
    ["the completions' first byte", 0, 1, true],
    ["the completions' last byte", 63, 1, true],
    ["the descriptors' first byte", 64, 1, true],
    ["the descriptors' last byte", 191, 1, true],
    ["what lies behind", 192, 64, false],
    ["all of it and more", -64, 400, true],
  ])("a window that is freed: %s", async (_, from, length, gone) => {
    const { host, nic, twin } = await rig();
    const q = await twin.createQueue(SqDirection.TX, 8, 1);
    expect(q.sqAddress).toBe(q.cqAddress + 64);
    nic.windowRemoved(q.cqAddress + from, length);
    expect(host.takeFaults()).toEqual(gone ? ["RING_WINDOW_FREED"] : []);
    expect(nic.snapshot().tx[0]?.state).toBe(gone ? "RING_WINDOW_FREED" : "idle");
    // A queue that has stopped stops no second time.
    nic.windowRemoved(q.cqAddress + from, length);
    expect(host.takeFaults()).toEqual([]);
  });

  test("a completion queue that serves nobody goes with its window, one that serves stays", async () => {
    const { host, nic, cq } = await rig();
    const address = 2 ** 30;
    expect((await cq({ cqBa: busAddress(address) })).cqIdx).toBe(0);
    expect((await cq({ cqBa: busAddress(address + 4096) })).cqIdx).toBe(1);
    nic.windowRemoved(address + 64, 4096 - 64);
    expect((await cq({ cqBa: busAddress(address + 8192) })).cqIdx).toBe(2);
    nic.windowRemoved(address, 64);
    expect((await cq({ cqBa: busAddress(address) })).cqIdx).toBe(0);
    expect(host.takeFaults()).toEqual([]);
  });

  test("of a queue in the device only the completions lie in the driver's memory", async () => {
    const { host, nic, twin } = await rig();
    await twin.enableLlq();
    const q = await twin.createQueue(SqDirection.TX, 8, 1, Placement.DEV);
    nic.windowRemoved(0, 4096);
    expect(host.takeFaults()).toEqual([]);
    nic.windowRemoved(q.cqAddress, 1);
    expect(host.takeFaults()).toEqual(["RING_WINDOW_FREED"]);
  });
});

describe("vectors", () => {
  test("nothing armed or remembered outlives a reset", async () => {
    const { host, nic, twin } = await rig();
    const armed = await twin.createQueue(SqDirection.TX, 8, 1);
    const pending = await twin.createQueue(SqDirection.TX, 8, 2);
    twin.unmask(armed);
    twin.postTx(pending, 0, twin.buffer(pattern(60)), 60);
    twin.ring(pending);
    expect(nic.snapshot().interrupts).toMatchObject([
      {},
      { armed: true, pending: false },
      { armed: false, pending: true },
    ]);
    twin.write32(Register.INTR_MASK, 1);
    nic.events.keepAlive();
    twin.write32(Register.DEV_CTL, devCtlReg.packReset(0, true));
    expect(nic.snapshot().interrupts).toMatchObject([
      {},
      { armed: false, pending: false },
      { armed: false, pending: false },
    ]);
    host.takeInterrupts();
    twin.write32(Register.INTR_MASK, 0);
    expect(host.takeInterrupts()).toEqual([]);
    await twin.attach();
    // Unmasked from the start: a completion raises it at once.
    expect(host.takeInterrupts().length).toBeGreaterThan(0);
  });

  test("a masked interrupt comes once, when the mask opens, and only if something came", async () => {
    const { host, nic, twin } = await rig();
    twin.write32(Register.INTR_MASK, 1);
    twin.write32(Register.INTR_MASK, 0);
    expect(host.takeInterrupts()).toEqual([]);
    twin.write32(Register.INTR_MASK, 1);
    nic.events.keepAlive();
    nic.events.keepAlive();
    twin.write32(Register.INTR_MASK, 1);
    expect(host.takeInterrupts()).toEqual([]);
    twin.write32(Register.INTR_MASK, 0);
    twin.write32(Register.INTR_MASK, 0);
    expect(host.takeInterrupts()).toEqual([0]);
  });
});

describe("control", () => {
  test("DEV_CTL knows reset and its end, and counts resets", async () => {
    const { host, nic, twin } = await rig();
    expect(nic.snapshot().counters["resets"]).toBe(1);
    twin.write32(Register.DEV_CTL, 0x10);
    expect(host.takeFaults()).toEqual(["DEV_CTL_UNSUPPORTED"]);
    twin.write32(Register.DEV_CTL, 0);
    expect(twin.read32(Register.DEV_STS)).toBe(DevSts.READY);
    twin.write32(Register.DEV_CTL, devCtlReg.packReset(4, true));
    twin.write32(Register.DEV_CTL, devCtlReg.packReset(4, true));
    expect(nic.snapshot()).toMatchObject({ status: "resetting", counters: { resets: 3 } });
    expect(host.takeFaults()).toEqual([]);
  });

  test("a push that no descriptor names is released by a reset", async () => {
    const { host, twin } = await rig();
    twin.buffer(pattern(60));
    expect(host.memory.pushes.live).toBe(1);
    twin.reset();
    await settle();
    expect(host.memory.pushes.live).toBe(0);
  });

  test("statistics of the host's allowances are all 0", async () => {
    const { twin } = await rig();
    const { entry } = await twin.command(
      build(getStats, { opcode: Opcode.GET_STATS, type: StatsType.ENI }),
    );
    expect(Object.values(eniStats.parse(entry, ACQ_BODY)).map(Number)).toEqual(
      Object.values(eniStats.parse(entry, ACQ_BODY)).map(() => 0),
    );
  });
});
