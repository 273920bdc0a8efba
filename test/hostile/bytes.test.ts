/**
 * Messages without a meaning, or nearly valid ones: random bytes, and batches of every transaction
 * with random fields, before and after the handshake. (fault-B1 to B7, fault-C5, C6, C9)
 */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Register } from "../../shared/ena/registers.ts";
import { Op } from "../../shared/wire/catalogue.ts";
import { CloseCode } from "../../shared/wire/protocol.ts";
import { RECORD_BYTES } from "../../shared/wire/records.ts";
import { cases } from "../support/counts.ts";
import { HostileStage } from "../support/hostile-stage.ts";
import type { Random } from "../support/random.ts";
import { BASE, RawEna } from "../support/raw-ena.ts";
import { column, type Piece, packBatch, RawFrontend } from "../support/raw-frontend.ts";

/** Close codes with which a device may answer hostile bytes. */
const CLOSES: readonly number[] = [
  CloseCode.PROTOCOL,
  CloseCode.REFUSED,
  CloseCode.LIMIT,
  CloseCode.REPLACED,
];

const OPS = Object.values(Op);

let stage: HostileStage;

beforeAll(async () => {
  stage = await HostileStage.open();
});

afterAll(async () => {
  await stage.close();
});

/** A random value of any msgpack type. */
function anything(random: Random): unknown {
  switch (random.below(9)) {
    case 0:
      return random.edgy(8);
    case 1:
      return random.edgy(32);
    case 2:
      return random.edgy(53);
    case 3:
      return random.bytes(random.below(80));
    case 4:
      return "x".repeat(random.below(70));
    case 5:
      return null;
    case 6:
      return random.oneIn(2) ? -random.edgy(31) : 0.5;
    case 7:
      return [random.edgy(16), [random.edgy(16)]];
    default:
      return { version: random.below(3), name: "n", personality: "ena" };
  }
}

/** An address that may lie inside a guest's only window, at BASE, or outside. */
function address(random: Random): number {
  return random.oneIn(2) ? BASE + random.edgy(20) : random.edgy(48);
}

function pieces(random: Random, op: number): Piece[] {
  return Array.from({ length: random.below(6) + 1 }, () => {
    const bytes = random.bytes(random.oneIn(4) ? random.below(600) + 1 : 4);
    const type = random.below(30);
    if (op === Op.MMIO_WRITE) {
      const space = random.pick([0, 0, 0, 2, 5]);
      const offset = random.oneIn(2)
        ? random.pick(Object.values(Register))
        : random.below(0x9000) & ~3;
      return { address: offset, bytes, type, space };
    }
    if (op === Op.WRITE && !random.oneIn(8)) {
      return { address: BASE + random.below(0x1_0000), bytes, type };
    }
    return { address: address(random), bytes, type, space: random.oneIn(10) ? 1 : 0 };
  });
}

/** A transaction whose fields have the right types and random values. */
function wellFormed(random: Random): unknown[] {
  const op = random.pick(OPS);
  switch (op) {
    case Op.HELLO:
      return [op, { version: random.edgy(16), personality: "ena", name: "x", instance: "y" }];
    case Op.WELCOME:
      return [op, {}];
    case Op.REFUSE:
      return [op, "CODE", "text"];
    case Op.HEARTBEAT:
      return [op, random.edgy(50), random.edgy(50)];
    case Op.PROGRESS:
      return [op, random.edgy(40)];
    case Op.FAULT:
      return [op, random.below(3), `c${random.below(500)}`, "text", 0, address(random)];
    case Op.WINDOW:
      return [op, address(random), random.edgy(22)];
    case Op.END_WINDOW:
      return [op, random.oneIn(2) ? BASE : address(random)];
    case Op.READ:
      return [op, random.edgy(32), 0, address(random), random.edgy(16)];
    case Op.READ_REPLY:
      return [op, random.below(300), random.below(2), random.bytes(random.below(100))];
    case Op.MMIO_READ:
      return [op, random.edgy(32), random.below(6), random.edgy(32), random.edgy(8)];
    case Op.MMIO_READ_REPLY:
      return [op, random.edgy(32), random.bytes(4)];
    case Op.INTERRUPT:
      return [op, random.below(256)];
    default:
      return column(op, pieces(random, op));
  }
}

/** One transaction, possibly with a defect. */
function transaction(random: Random): unknown {
  const good = wellFormed(random);
  if (!random.oneIn(6)) return good;
  switch (random.below(4)) {
    case 0:
      good[random.below(good.length)] = anything(random);
      return good;
    case 1:
      return [...good, anything(random)];
    case 2:
      return good.slice(0, -1);
    default:
      return anything(random);
  }
}

/** Sends `count` messages. Opens a new connection whenever the device has ended the last one. */
async function storm(
  count: number,
  connect: () => Promise<RawFrontend>,
  message: (random: Random) => Uint8Array,
): Promise<Map<number, number>> {
  const codes = new Map<number, number>();
  let sent = 0;
  while (sent < count) {
    const raw = await connect();
    while (sent < count && raw.open) {
      raw.send(message(stage.random));
      // Checks every 8 messages, so that few messages follow the one that ends the connection.
      if (++sent % 8 === 0 && !(await raw.flushed())) break;
    }
    if (await raw.flushed()) raw.ws.close(CloseCode.NORMAL);
    const { code, reason } = await raw.closed;
    codes.set(code, (codes.get(code) ?? 0) + 1);
    if (code !== CloseCode.NORMAL) {
      expect(CLOSES, stage.seeded(`closed with ${code} "${reason}"`)).toContain(code);
      expect(reason, stage.seeded("a close without a sentence")).toMatch(/\w+.*\w/);
    }
  }
  return codes;
}

describe("messages that mean nothing", () => {
  afterAll(() => stage.unharmed());

  it("random bytes end that connection only, before hello", async () => {
    const codes = await storm(
      cases(10_000),
      () => RawFrontend.connect(stage.port),
      (random) => random.bytes(random.below(300)),
    );
    expect(codes.get(CloseCode.PROTOCOL)).toBeGreaterThan(0);
  });

  it("random bytes end that connection only, after hello", async () => {
    const codes = await storm(
      cases(10_000),
      () => RawFrontend.join(stage.port, stage.name()),
      (random) => random.bytes(random.below(300)),
    );
    expect(codes.get(CloseCode.PROTOCOL)).toBeGreaterThan(0);
  });

  it("a valid batch with flipped bytes ends that connection at most", async () => {
    const codes = await storm(
      cases(10_000),
      () => RawFrontend.join(stage.port, stage.name()),
      (random) => {
        const batch = packBatch([wellFormed(random), wellFormed(random)]);
        for (let n = random.below(4); n >= 0; n--) {
          batch[random.below(batch.length)] = random.below(256);
        }
        return batch;
      },
    );
    expect(codes.get(CloseCode.PROTOCOL)).toBeGreaterThan(0);
  });
});

describe("batches of every transaction with random fields", () => {
  afterAll(() => stage.unharmed());

  const batch = (random: Random) =>
    packBatch(Array.from({ length: random.below(6) + 1 }, () => transaction(random)));

  it("end that connection at most, before hello", async () => {
    await storm(cases(10_000), () => RawFrontend.connect(stage.port), batch);
  });

  it("end that connection at most, with a device that runs", async () => {
    const codes = await storm(
      cases(10_000),
      async () => {
        const { ena, rx } = await RawEna.startWithQueues(stage.port, stage.name());
        ena.refill(rx, 32);
        return ena.raw;
      },
      batch,
    );
    expect(codes.get(CloseCode.PROTOCOL)).toBeGreaterThan(0);
  });

  it("of legal transactions leave the connection standing or name what was wrong", async () => {
    // All fields have the right type and range, so the device can only refuse their meaning.
    await storm(
      cases(10_000),
      async () => (await RawEna.start(stage.port, stage.name())).raw,
      (random) => {
        const legal = () => {
          for (;;) {
            const t = wellFormed(random);
            if (([Op.MMIO_WRITE, Op.WINDOW, Op.WRITE, Op.PUSH] as unknown[]).includes(t[0])) {
              return t;
            }
          }
        };
        return packBatch([legal(), legal(), legal()]);
      },
    );
  });

  it("columns that lie about their records end the connection", async () => {
    const lies: [string, unknown[]][] = [
      [
        "a length beyond the data",
        column(Op.PUSH, [{ address: 1, bytes: Buffer.alloc(4), length: 5 }]),
      ],
      ["a length of 0", column(Op.PUSH, [{ address: 1, bytes: Buffer.alloc(4), length: 0 }])],
      [
        "a length of 2^32-1",
        column(Op.PUSH, [{ address: 1, bytes: Buffer.alloc(4), length: 2 ** 32 - 1 }]),
      ],
      ["half a record", [Op.PUSH, Buffer.alloc(0), Buffer.alloc(RECORD_BYTES / 2)]],
      ["an address above 48 bits", column(Op.PUSH, [{ address: 2 ** 50, bytes: Buffer.alloc(4) }])],
    ];
    for (const [what, lie] of lies) {
      const raw = await RawFrontend.join(stage.port, stage.name());
      raw.batch(lie);
      const { code, reason } = await raw.closed;
      expect(code, what).toBe(CloseCode.PROTOCOL);
      expect(reason, what).toMatch(/^push: /);
    }
  });
});
