/** One NIC takes all that it can, and the others have their share. (fault-B9, I7, attack-S2, S10) */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { mmioReadReg, Register } from "../../shared/ena/registers.ts";
import { Op } from "../../shared/wire/catalogue.ts";
import { Limits } from "../../shared/wire/protocol.ts";
import { HostileStage } from "../support/hostile-stage.ts";
import { broadcast, RawEna } from "../support/raw-ena.ts";
import { column, packBatch } from "../support/raw-frontend.ts";
import { portOf } from "../support/status.ts";

/** Frames a second: so few that a slow machine exceeds it, too. */
const STORM_LIMIT = 100;

let stage: HostileStage;

beforeAll(async () => {
  stage = await HostileStage.openMixed("--storm-limit", `${STORM_LIMIT}`);
});

afterAll(async () => {
  await stage.close();
});

describe("storms", () => {
  afterAll(() => stage.unharmed());

  const FRAMES = 3000;
  it.each([
    ["broadcast", [0xff, 0xff, 0xff, 0xff, 0xff, 0xff]],
    ["multicast", [0x33, 0x33, 0, 0, 0, 1]],
    ["unknown", [2, 0, 0, 0xee, 0xee, 0xee]],
  ])("fault-I7, attack-S10: of %s frames the neighbours get the limit", async (kind, to) => {
    const name = stage.name();
    const before = await stage.neighbour.counts();
    const { ena, tx } = await RawEna.startWithQueues(stage.port, name);
    const frame = broadcast();
    frame.set(to, 0);
    for (let sent = 0; sent < FRAMES; sent++) {
      ena.transmit(tx, frame);
      if (sent % tx.sq.depth === tx.sq.depth - 1) expect(await ena.settle()).toBe(true);
    }
    expect(await ena.settle()).toBe(true);
    await stage.neighbour.flows();
    const { in: input } = portOf(await stage.status(), name);
    const refused = FRAMES - input.flooded;
    expect(input).toMatchObject({ frames: FRAMES, copies: 2 * input.flooded });
    expect(input.dropped).toEqual({ [`storm_${kind}`]: refused });
    expect(input.flooded).toBeGreaterThanOrEqual(STORM_LIMIT);
    expect(refused).toBeGreaterThan(0);
    const { foreign } = await stage.neighbour.counts();
    expect(foreign - before.foreign).toBeLessThanOrEqual(input.copies);
    await ena.raw.end();
  });
});

describe("batches as large as a batch may be", () => {
  afterAll(() => stage.unharmed());

  /** Bytes of a record and its four bytes of data, and of what surrounds them. */
  const RECORDS = Math.floor((Limits.MESSAGE_BYTES - 4096) / 20);
  /** Their answers are 25 MB. A guest that is slow to read them is cut, because 16 MiB may wait. */
  const BATCHES = 12;

  /** One batch of register writes; `value` of each one, by its number. */
  function writes(address: number, value: (i: number) => number): Buffer {
    const columns: unknown[] = [];
    for (let at = 0; at < RECORDS; at += Limits.COLUMN_RECORDS) {
      const length = Math.min(Limits.COLUMN_RECORDS, RECORDS - at);
      const pieces = Array.from({ length }, (_, i) => {
        const bytes = Buffer.alloc(4);
        bytes.writeUInt32LE(value(at + i));
        return { address, bytes, type: 2 };
      });
      columns.push(column(Op.MMIO_WRITE, pieces));
    }
    return packBatch(columns);
  }

  it.each<[string, () => Buffer]>([
    [
      "readless register reads",
      () => writes(Register.MMIO_REG_READ, (i) => mmioReadReg.pack(Register.DEV_STS, i & 0xffff)),
    ],
    ["writes to registers that are none", () => writes(0x100, () => 1)],
  ])("fault-B9, attack-S2: %s do not keep another guest waiting", async (_what, build) => {
    const batch = build();
    expect(batch.length).toBeGreaterThan(Limits.MESSAGE_BYTES * 0.9);
    expect(batch.length).toBeLessThanOrEqual(Limits.MESSAGE_BYTES);
    const attackerName = stage.name();
    const attacker = await RawEna.start(stage.port, attackerName);
    const other = await RawEna.start(stage.port, stage.name());
    const order: string[] = [];
    for (let i = 0; i < BATCHES; i++) attacker.raw.send(batch);
    const attack = attacker.raw.survived().then(async (yes) => {
      order.push("the attack's end");
      if (yes) return;
      const left = await stage.device.child.waitForJson<Record<string, unknown>>(
        ({ event, name }) => event === "left" && name === attackerName,
      );
      // This process may be too slow to read the code, or to show a sign of life.
      expect(left["reason"]).toMatch(/^more than \d+ bytes wait for a peer |^no sign of life/);
    });
    const honest: Promise<unknown>[] = [stage.neighbour.flows().then(() => order.push("frames"))];
    honest.push(other.raw.survived().then((yes) => order.push(yes ? "an answer" : "cut")));
    await Promise.all([attack, ...honest]);
    expect(order.toSorted()).toEqual(["an answer", "frames", "the attack's end"]);
    expect(order.indexOf("an answer")).toBeLessThan(order.indexOf("the attack's end"));
    await attacker.raw.end();
    await other.raw.end();
  });
});
