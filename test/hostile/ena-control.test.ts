/**
 * A guest that breaks the rules of registers, admin queue and event queue. (fault-D1 to D9)
 */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import {
  ADMIN_QUEUE_DEPTH,
  AdminStatus,
  createCq,
  createSq,
  destroyCq,
  Opcode,
  Placement,
  SqDirection,
} from "../../shared/ena/admin.ts";
import { AenqGroup } from "../../shared/ena/aenq.ts";
import { aenqConfig, FeatureId, featureCommand, mtuFeature } from "../../shared/ena/features.ts";
import { DevSts, devCtlReg, Register } from "../../shared/ena/registers.ts";
import { RSS_INLINE_INDEX_NONE, rssIndTable } from "../../shared/ena/rss.ts";
import { queueId } from "../../shared/net/frame.ts";
import { Op } from "../../shared/wire/catalogue.ts";
import { busAddress } from "../../shared/wire/records.ts";
import { cases } from "../support/counts.ts";
import { build, featureEntry } from "../support/ena-guest.ts";
import { HostileStage } from "../support/hostile-stage.ts";
import { eventually } from "../support/process.ts";
import { BASE, BUFFERS, RawEna } from "../support/raw-ena.ts";
import { column, mmio, RawFrontend } from "../support/raw-frontend.ts";

const CASES = cases(10_000);

let stage: HostileStage;

beforeAll(async () => {
  stage = await HostileStage.open();
});

afterAll(async () => {
  await stage.close();
});

async function faultsOf(name: string): Promise<Readonly<Record<string, number>>> {
  const { nics } = await stage.status();
  return nics.find((nic) => nic.name === name)?.faults ?? {};
}

async function guest(use: (ena: RawEna, name: string) => Promise<void>): Promise<void> {
  const name = stage.name();
  const ena = await RawEna.start(stage.port, name);
  try {
    await use(ena, name);
  } finally {
    await ena.raw.end();
  }
}

describe("registers", () => {
  afterAll(() => stage.unharmed());

  it("fault-D6: every offset of every BAR reads as something, and never as all ones", async () => {
    const raw = await RawFrontend.join(stage.port, stage.name());
    for (const bar of [0, 1, 2, 3, 4, 5]) {
      for (let offset = 0; offset < 0x8400; offset += 256) {
        const bytes = Buffer.from((await raw.read(offset, 256, bar))!);
        expect(bytes).toHaveLength(256);
        for (let at = 0; at < 256; at += 4) expect(bytes.readUInt32LE(at)).not.toBe(0xffff_ffff);
      }
    }
    for (const [offset, length] of [
      [1, 1],
      [3, 7],
      [0xffff_ffff, 4],
      [0xffff_ff00, 256],
    ] as const) {
      expect(await raw.read(offset, length)).toHaveLength(length);
    }
    expect(await raw.read(0, 0)).toHaveLength(0);
    await raw.end();
  });

  it("fault-D5: an event ring that comes after the first command is named", async () => {
    const name = stage.name();
    const raw = await RawFrontend.join(stage.port, name);
    const ena = new RawEna(raw);
    await ena.reset();
    const set = ena.write32.bind(ena);
    set(Register.AQ_BASE_LO, BASE);
    set(Register.AQ_CAPS, (64 << 16) | ADMIN_QUEUE_DEPTH);
    set(Register.ACQ_BASE_LO, BASE + 0x1000);
    set(Register.ACQ_CAPS, (64 << 16) | ADMIN_QUEUE_DEPTH);
    set(Register.AQ_DB, 1);
    expect((await raw.read32(Register.DEV_STS)) & DevSts.FATAL_ERROR).not.toBe(0);
    expect(await faultsOf(name)).toEqual({ AENQ_NOT_CONFIGURED: 1 });
    const told = raw.heard.told.find(([what]) => what === "fault");
    expect(String(told?.[3])).toContain("set up the event ring first");
    // A reset clears the error.
    await ena.renew();
    expect(await ena.createQueue(SqDirection.TX)).toBeDefined();
    await raw.end();
  });

  it.each<[string, number[], string]>([
    ["nothing set", [], "AQ_NOT_CONFIGURED"],
    ["a depth that is no power of two", [Register.AQ_CAPS, (64 << 16) | 33], "AQ_NOT_CONFIGURED"],
    ["a depth of 0", [Register.AQ_CAPS, 64 << 16], "AQ_NOT_CONFIGURED"],
    ["entries of 65535 bytes", [Register.AQ_CAPS, 0xffff_0020], "AQ_NOT_CONFIGURED"],
    ["an address of 64 bits", [Register.AQ_BASE_HI, 0xffff_ffff], "AQ_NOT_CONFIGURED"],
    ["a completion ring too small", [Register.ACQ_CAPS, (64 << 16) | 16], "ACQ_TOO_SMALL"],
  ])("an admin doorbell with %s is fatal until reset", async (_what, wrong, fault) => {
    const name = stage.name();
    const ena = new RawEna(await RawFrontend.join(stage.port, name));
    await ena.reset();
    if (wrong.length > 0) ena.setUpAdmin();
    if (wrong.length > 0) ena.write32(wrong[0]!, wrong[1]!);
    ena.write32(Register.AQ_DB, 1);
    expect((await ena.raw.read32(Register.DEV_STS)) & DevSts.FATAL_ERROR).not.toBe(0);
    expect(await faultsOf(name)).toEqual({ [fault]: 1 });
    await ena.reset();
    expect((await ena.raw.read32(Register.DEV_STS)) & DevSts.FATAL_ERROR).toBe(0);
    await ena.raw.end();
  });

  it("fault-D2: admin doorbells beyond the ring and backwards are fatal until reset", async () => {
    for (const value of [ADMIN_QUEUE_DEPTH + 2, 65_535]) {
      await guest(async (ena, name) => {
        await ena.command(build(destroyCq, { opcode: 99 }));
        ena.write32(Register.AQ_DB, value);
        expect((await ena.raw.read32(Register.DEV_STS)) & DevSts.FATAL_ERROR).not.toBe(0);
        expect(Object.keys(await faultsOf(name)).at(-1)).toMatch(/^AQ_DOORBELL_/);
      });
    }
  });

  it("work during reset is named and not done", async () => {
    await guest(async (ena, name) => {
      ena.write32(Register.DEV_CTL, devCtlReg.packReset(0, true));
      ena.write32(Register.AQ_DB, 1);
      ena.write32(0x1000, 1);
      ena.write32(0x2000, 1);
      expect(await ena.raw.survived()).toBe(true);
      expect(await faultsOf(name)).toEqual({ REGISTER_IN_RESET: 3 });
    });
  });

  it("fault-C14: resets in a row, and during one another, end in a device that works", async () => {
    await guest(async (ena) => {
      for (let i = 0; i < 200; i++)
        ena.write32(Register.DEV_CTL, devCtlReg.packReset(i % 32, true));
      await ena.renew();
      expect(await ena.createQueue(SqDirection.RX)).toBeDefined();
    });
  });

  it("attack-S2c: 20,000 resets are all done and counted, and write a line a second", async () => {
    await guest(async (ena, name) => {
      const lines = (): number =>
        stage.device.child.stderr.split("\n").filter((line) => {
          return line.includes("ena: reset") && line.includes(`nic=${name}`);
        }).length;
      const began = performance.now();
      const reset = mmio(Register.DEV_CTL, devCtlReg.packReset(0, true));
      const end = mmio(Register.DEV_CTL, 0);
      const batch = (count: number) => Array.from({ length: count }, () => [reset, end]).flat();
      // As many as one batch may cause, and then batches with more, of which one is left each time.
      for (let i = 0; i < 400; i++) {
        ena.raw.batch(...batch(50));
        expect(await ena.raw.survived()).toBe(true);
      }
      for (let i = 0; i < 20; i++) ena.raw.batch(...batch(2000));
      expect(await ena.raw.survived()).toBe(true);
      const { nics } = await stage.status();
      const { nic } = nics.find((each) => each.name === name) as unknown as {
        nic: { counters: { resets: number } };
      };
      expect(nic.counters.resets).toBeGreaterThanOrEqual(20_000);
      expect(nic.counters.resets).toBeLessThan(20_000 + 20 * 70);
      await ena.reset();
      await eventually("no line of a reset", () => lines() || undefined);
      const seconds = (performance.now() - began) / 1000;
      expect(lines()).toBeLessThanOrEqual(seconds + 2);
    });
  });

  it("property: random walks over the registers leave a device that a reset revives", async () => {
    const { random } = stage;
    await guest(async (ena) => {
      const offsets = Object.values(Register);
      for (let done = 0; done < CASES; done++) {
        const offset = random.oneIn(4) ? random.below(0x2200) * 4 : random.pick(offsets);
        const value = random.oneIn(2) ? random.edgy(32) : BASE + random.below(0x8_0000);
        if (random.oneIn(20)) {
          const bytes = random.bytes(random.below(20) + 1);
          ena.raw.batch(
            column(Op.MMIO_WRITE, [{ address: random.edgy(16), bytes, space: random.below(6) }]),
          );
        } else ena.write32(offset, value);
        if (done % 50 !== 49) continue;
        expect(await ena.raw.survived(), stage.seeded("closed")).toBe(true);
        await ena.renew();
        expect(await ena.createQueue(SqDirection.TX), stage.seeded("dead")).toBeDefined();
      }
    });
  });
});

describe("admin commands", () => {
  afterAll(() => stage.unharmed());

  it("fault-D1: every opcode and every feature has an answer", async () => {
    await guest(async (ena) => {
      const known: number[] = Object.values(Opcode);
      for (let opcode = 0; opcode < 256; opcode++) {
        const answer = await ena.command(build(destroyCq, { opcode, cqIdx: queueId(999) }));
        if (known.includes(opcode)) expect(answer.status, `opcode ${opcode}`).toBeDefined();
        else expect(answer.status, `opcode ${opcode}`).toBe(AdminStatus.UNSUPPORTED_OPCODE);
      }
      const features: number[] = Object.values(FeatureId);
      for (const opcode of [Opcode.GET_FEATURE, Opcode.SET_FEATURE]) {
        for (let featureId = 0; featureId < 64; featureId++) {
          for (const featureVersion of [0, 255]) {
            const answer = await ena.command(
              build(featureCommand, { opcode, featureId, featureVersion }),
            );
            if (features.includes(featureId) && featureVersion === 0) continue;
            const what = `opcode ${opcode} feature ${featureId} version ${featureVersion}`;
            expect(answer.status, what).toBe(AdminStatus.UNSUPPORTED_OPCODE);
          }
        }
      }
    });
  });

  it("fault-D2: an id that waits for an answer is not taken twice", async () => {
    await guest(async (ena, name) => {
      ena.raw.onRead = () => undefined;
      const table = indirection(7, 0x7777_0000);
      ena.post(table, 5);
      ena.post(table, 5);
      ena.ringAdmin();
      expect(await ena.raw.survived()).toBe(true);
      expect(ena.takeCompletions().map((answer) => answer.status)).toEqual([
        AdminStatus.ILLEGAL_PARAMETER,
      ]);
      expect(await faultsOf(name)).toEqual({ AQ_COMMAND_ID_IN_USE: 1 });
    });
  });

  it("a command with the old phase is fatal until reset", async () => {
    await guest(async (ena, name) => {
      ena.write32(Register.AQ_DB, 1);
      expect((await ena.raw.read32(Register.DEV_STS)) & DevSts.FATAL_ERROR).not.toBe(0);
      expect(await faultsOf(name)).toEqual({ AQ_WRONG_PHASE: 1 });
    });
  });

  const cq = {
    opcode: Opcode.CREATE_CQ,
    entrySizeWords: 2,
    cqDepth: 64,
    msixVector: 1,
    cqBa: busAddress(BASE + 0x1_0000),
  };
  it.each<[string, object]>([
    ["entries of 3 words", { entrySizeWords: 3 }],
    ["entries of 31 words", { entrySizeWords: 31 }],
    ["depth 0", { cqDepth: 0 }],
    ["depth 1", { cqDepth: 1 }],
    ["depth 63", { cqDepth: 63 }],
    ["depth 32768", { cqDepth: 32_768 }],
    ["vector 1000", { msixVector: 1000 }],
    ["address 0", { cqBa: 0 }],
    ["an address at the end", { cqBa: 2 ** 48 - 64 }],
  ])("fault-D3: a completion queue with %s is refused", async (_what, wrong) => {
    await guest(async (ena, name) => {
      const answer = await ena.command(build(createCq, { ...cq, ...wrong }));
      expect(answer.status).toBe(AdminStatus.ILLEGAL_PARAMETER);
      expect(await faultsOf(name)).toEqual({ CREATE_CQ_REFUSED: 1 });
    });
  });

  const sq = {
    opcode: Opcode.CREATE_SQ,
    direction: SqDirection.TX,
    placement: Placement.HOST,
    contiguous: true,
    cqIdx: queueId(0),
    sqDepth: 64,
    sqBa: busAddress(BASE + 0x1_2000),
  };
  it.each<[string, object]>([
    ["a completion queue that is not there", { cqIdx: 7 }],
    ["completion queue 65535", { cqIdx: 65_535 }],
    ["no direction", { direction: 0 }],
    ["direction 7", { direction: 7 }],
    ["the other direction", { direction: SqDirection.RX }],
    ["placement 2", { placement: 2 }],
    ["device placement without LLQ", { placement: Placement.DEV }],
    ["scattered pages", { contiguous: false }],
    ["completion policy 3", { completionPolicy: 3 }],
    ["depth 65", { sqDepth: 65 }],
    ["depth 0", { sqDepth: 0 }],
    ["more depth than its completion queue", { sqDepth: 128 }],
    ["address 0", { sqBa: 0 }],
    ["an address at the end", { sqBa: 2 ** 48 - 16 }],
  ])("fault-D3: a submission queue with %s is refused", async (_what, wrong) => {
    await guest(async (ena, name) => {
      await ena.command(build(createCq, cq));
      const answer = await ena.command(build(createSq, { ...sq, ...wrong }));
      expect(answer.status).toBe(AdminStatus.ILLEGAL_PARAMETER);
      expect(await faultsOf(name)).toEqual({ CREATE_SQ_REFUSED: 1 });
      // The completion queue is still unused.
      expect((await ena.command(build(createSq, sq))).status).toBe(AdminStatus.SUCCESS);
    });
  });

  it("fault-D3: more queues than there are, and two on one completion queue, are refused", async () => {
    await guest(async (ena) => {
      await ena.command(build(createCq, cq));
      expect((await ena.command(build(createSq, sq))).status).toBe(AdminStatus.SUCCESS);
      expect((await ena.command(build(createSq, sq))).status).toBe(AdminStatus.ILLEGAL_PARAMETER);
      let made = 1;
      for (; made < 100; made++) {
        if ((await ena.command(build(createCq, cq))).status !== AdminStatus.SUCCESS) break;
      }
      expect(made).toBe(16);
    });
  });

  it("fault-D4: destroyed in the wrong order, twice, or never made", async () => {
    await guest(async (ena) => {
      const tx = await ena.createQueue(SqDirection.TX);
      const dropCq = async () => (await ena.destroyCq(tx.cqIdx)).status;
      const dropSq = async (direction: number, sqIdx: number = tx.sqIdx) =>
        (await ena.destroySq(direction, sqIdx)).status;
      expect(await dropCq()).toBe(AdminStatus.RESOURCE_BUSY);
      expect(await dropSq(SqDirection.RX)).toBe(AdminStatus.ILLEGAL_PARAMETER);
      expect(await dropSq(0)).toBe(AdminStatus.ILLEGAL_PARAMETER);
      expect(await dropSq(SqDirection.TX, 500)).toBe(AdminStatus.ILLEGAL_PARAMETER);
      expect(await dropSq(SqDirection.TX)).toBe(AdminStatus.SUCCESS);
      expect(await dropSq(SqDirection.TX)).toBe(AdminStatus.ILLEGAL_PARAMETER);
      expect(await dropCq()).toBe(AdminStatus.SUCCESS);
      expect(await dropCq()).toBe(AdminStatus.ILLEGAL_PARAMETER);
    });
  });

  /** SET_FEATURE of an RSS table with 2^size entries at `address`. */
  function indirection(size: number, address: number, length = 4 * 2 ** size): Uint8Array {
    return featureEntry(
      FeatureId.RSS_INDIRECTION_TABLE_CONFIG,
      rssIndTable,
      { sizeLog2: size, inlineIndex: RSS_INLINE_INDEX_NONE },
      { address, length },
    );
  }

  it.each<[string, (ena: RawEna) => Uint8Array]>([
    [
      "names a queue that is not there",
      (ena) => {
        ena.memory.fill(9, BUFFERS - BASE, BUFFERS - BASE + 512);
        return indirection(7, BUFFERS);
      },
    ],
    ["is too large", () => indirection(15, BUFFERS)],
    ["is too small", () => indirection(0, BUFFERS)],
    ["is shorter than it says", () => indirection(7, BUFFERS, 16)],
    ["lies outside our memory", () => indirection(7, 0x7777_0000)],
    ["lies across our memory's end", () => indirection(7, BASE + 0x10_0000 - 100)],
    ["lies at the end of the address space", () => indirection(7, 2 ** 48 - 4)],
    ["lies at 0", () => indirection(7, 0)],
  ])("fault-D8: an RSS table that %s is refused, and the old one stays", async (_what, make) => {
    await guest(async (ena) => {
      const answer = await ena.command(make(ena));
      expect(answer.status).not.toBe(AdminStatus.SUCCESS);
      // No table was set before, so there is still none.
      const get = await ena.getFeature(FeatureId.RSS_INDIRECTION_TABLE_CONFIG);
      expect(get.status).toBe(AdminStatus.SUCCESS);
      expect(rssIndTable.parse(get.entry, 8).sizeLog2).toBe(0);
    });
  });

  it.each([
    [0, AdminStatus.ILLEGAL_PARAMETER],
    [127, AdminStatus.ILLEGAL_PARAMETER],
    [128, AdminStatus.SUCCESS],
    [9216, AdminStatus.SUCCESS],
    [9217, AdminStatus.ILLEGAL_PARAMETER],
    [2 ** 32 - 1, AdminStatus.ILLEGAL_PARAMETER],
  ])("fault-D9: MTU %i has status %i", async (mtu, status) => {
    await guest(async (ena) => {
      expect((await ena.setFeature(FeatureId.MTU, mtuFeature, { mtu })).status).toBe(status);
    });
  });

  it("fault-D5: an event ring that nobody empties overflows: counted, named, and no harm", async () => {
    const name = stage.name();
    const ena = new RawEna(await RawFrontend.join(stage.port, name));
    await ena.reset();
    ena.setUpAdmin(2);
    const enabledGroups = (1 << AenqGroup.LINK_CHANGE) | (1 << AenqGroup.KEEP_ALIVE);
    const enabled = await ena.setFeature(FeatureId.AENQ_CONFIG, aenqConfig, { enabledGroups });
    expect(enabled.status).toBe(AdminStatus.SUCCESS);
    // The event queue has two entries, and a keep-alive each second fills them.
    await eventually(
      "an event to be lost",
      async () => (await faultsOf(name))["AENQ_OVERFLOW"] ?? undefined,
    );
    expect(await ena.createQueue(SqDirection.TX)).toBeDefined();
    await ena.raw.end();
  });

  it.each([40_000, 65_535, 1])(
    "an event doorbell of %i is named and changes nothing",
    async (value) => {
      await guest(async (ena, name) => {
        ena.write32(Register.AENQ_HEAD_DB, value);
        expect(await ena.raw.survived()).toBe(true);
        expect(await faultsOf(name)).toEqual({ AENQ_HEAD_DB_RANGE: 1 });
      });
    },
  );

  it("property: commands of random bytes are all answered, by that NIC alone", async () => {
    const { random } = stage;
    await guest(async (ena) => {
      const opcodes = Object.values(Opcode);
      for (let done = 0; done < CASES; done += 16) {
        const count = 16;
        for (let i = 0; i < count; i++) {
          const command = random.bytes(64);
          if (!random.oneIn(8)) command[2] = random.pick(opcodes);
          // Small numbers in most fields pass the first check more often.
          for (let k = 4; k < 24; k++) if (random.oneIn(2)) command[k] = random.below(4);
          if (random.oneIn(2)) command.writeUInt32LE(BASE + random.below(0x10_0000), 8);
          ena.post(command);
        }
        ena.ringAdmin();
        let answers = 0;
        for (let look = 0; look < 20 && answers < count; look++) {
          expect(await ena.raw.survived(), stage.seeded("closed")).toBe(true);
          answers += ena.takeCompletions().length;
        }
        expect(answers, stage.seeded("unanswered")).toBe(count);
        if (!random.oneIn(4)) continue;
        await ena.renew();
      }
      await ena.renew();
      expect(await ena.createQueue(SqDirection.TX)).toBeDefined();
    });
  });
});
