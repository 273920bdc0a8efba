import fc from "fast-check";
import { Packr, unpack } from "msgpackr";
import { describe, expect, it } from "vitest";
import { BatchWriter } from "../../shared/wire/batch.ts";
import { Op } from "../../shared/wire/catalogue.ts";
import { applyBatch } from "../../shared/wire/decode.ts";
import { Limits } from "../../shared/wire/protocol.ts";
import { RECORD_BYTES, RecordType, record, Space } from "../../shared/wire/records.ts";
import { holds } from "../support/counts.ts";
import { RecordingSink, type Told } from "../support/recording-sink.ts";
import { same, sameBytes, sameList } from "../support/same.ts";

/** Collects messages, with a copy of their bytes, and returns the buffers. */
function collector(): { writer: BatchWriter; messages: Uint8Array[] } {
  const messages: Uint8Array[] = [];
  const writer = new BatchWriter((bytes, at, length, release) => {
    messages.push(Uint8Array.from(bytes.subarray(at, at + length)));
    bytes.fill(0xa5);
    release();
  });
  return { writer, messages };
}

function apply(messages: readonly Uint8Array[]): Told[] {
  const sink = new RecordingSink();
  for (const message of messages) applyBatch(message, sink, sink);
  return sink.told;
}

function sameFields(got: Told, wanted: Told): void {
  same(got.length, wanted.length, "fields");
  for (const [i, field] of got.entries()) {
    if (Array.isArray(field)) sameList(field, wanted[i] as number[], "bytes");
    else same(field, wanted[i]);
  }
}

describe("BatchWriter", () => {
  it("writes the bytes of a doorbell that the protocol page shows", () => {
    const { writer, messages } = collector();
    writer.mmioWrite32(0, 0x1000, RecordType.REGISTER, 0x0403_0201);
    writer.flush();
    expect(Buffer.from(messages[0]!).toString("hex")).toBe(
      // batch of 1, column of 3: opcode 22, bin8 of 4, bin8 of 16
      "91" + "9316" + "c40401020304" + "c410" + "0010000000000000" + "04000000" + "0200" + "0000",
    );
  });

  it("writes an interrupt, small and large", () => {
    const { writer, messages } = collector();
    writer.interrupt(1);
    writer.interrupt(200);
    writer.flush();
    expect(Buffer.from(messages[0]!).toString("hex")).toBe("92" + "921901" + "9219ccc8");
  });

  it("sends nothing when there is nothing", () => {
    const { writer, messages } = collector();
    expect(writer.flush()).toBe(false);
    expect(messages).toHaveLength(0);
  });

  it("refuses a record longer than a receiver would take", () => {
    const { writer } = collector();
    expect(() => writer.reserve(Op.WRITE, 0, 0, 0, Limits.RECORD_BYTES + 1)).toThrow(RangeError);
    expect(() => writer.reserve(Op.WRITE, 0, 0, 0, 0)).toThrow(RangeError);
  });

  it("splits what is longer than a record and keeps every message within the limit", () => {
    const { writer, messages } = collector();
    const bytes = Uint8Array.from({ length: 3 * Limits.RECORD_BYTES + 5 }, (_, i) => i * 7);
    writer.column(Op.WRITE, 0, 0x10000, RecordType.RAW, bytes, 0, bytes.length);
    writer.flush();
    for (const m of messages) expect(m.length).toBeLessThanOrEqual(Limits.MESSAGE_BYTES);
    const image = new Uint8Array(bytes.length);
    for (const told of apply(messages)) {
      image.set(told[4] as number[], (told[2] as number) - 0x10000);
    }
    sameBytes(image, bytes);
  });

  it("starts a new message past the soft limit, so that a burst is not one huge message", () => {
    const { writer, messages } = collector();
    const frame = new Uint8Array(1514);
    for (let i = 0; i < 256; i++) {
      writer.column(Op.WRITE, 0, i * 2048, RecordType.FRAME, frame, 0, frame.length);
    }
    writer.flush();
    expect(messages.length).toBeGreaterThan(3);
    for (const m of messages) expect(m.length).toBeLessThan(110_000);
    expect(apply(messages)).toHaveLength(256);
  });

  describe("frame bytes that continue the last record by grant", () => {
    const { GRANT, BUS } = Space;
    const { FRAME, RAW } = RecordType;
    type Step = readonly [op: Op, space: number, type: number, address: number, length: number];
    /** The records of these steps: name, address and length each. */
    function recordsOf(steps: readonly Step[]): unknown[] {
      const { writer, messages } = collector();
      const all = new Uint8Array(1 << 17).map((_, i) => i);
      for (const [op, space, type, address, length] of steps) {
        writer.column(op, space, address, type, all, address & 0xff, length);
      }
      writer.flush();
      const told = apply(messages);
      for (const [, , address, , bytes] of told) {
        const from = address as number;
        sameList(
          bytes as number[],
          [...all.subarray(from & 0xff, (from & 0xff) + (bytes as number[]).length)],
          "bytes",
        );
      }
      return told.map(([name, , address, , bytes]) => [name, address, (bytes as number[]).length]);
    }

    it("are one record with it, as long as a record may be", () => {
      expect(
        recordsOf([
          [Op.PUSH, GRANT, FRAME, 0x9000, 0x1000],
          [Op.PUSH, GRANT, FRAME, 0xa000, 0x1000],
          [Op.PUSH, GRANT, FRAME, 0xb000, 96],
          [Op.PUSH, GRANT, FRAME, 0xc000, 60],
        ]),
      ).toEqual([
        ["push", 0x9000, 0x2000 + 96],
        ["push", 0xc000, 60],
      ]);
      expect(
        recordsOf([
          [Op.WRITE, GRANT, FRAME, 0x10_0000, 0x100],
          [Op.WRITE, GRANT, FRAME, 0x10_0100, Limits.RECORD_BYTES - 0x100],
        ]),
      ).toEqual([["write", 0x10_0000, Limits.RECORD_BYTES]]);
      expect(
        recordsOf([
          [Op.WRITE, GRANT, FRAME, 0x10_0000, 0x100],
          [Op.WRITE, GRANT, FRAME, 0x10_0100, Limits.RECORD_BYTES - 0xff],
        ]),
      ).toEqual([
        ["write", 0x10_0000, 0x100],
        ["write", 0x10_0100, Limits.RECORD_BYTES - 0xff],
      ]);
    });

    it.each<[string, readonly Step[]]>([
      ["of another address", [[Op.PUSH, GRANT, FRAME, 0xa001, 9]]],
      ["of another space", [[Op.PUSH, BUS, FRAME, 0xa000, 9]]],
      ["of another type", [[Op.PUSH, GRANT, RAW, 0xa000, 9]]],
      ["of another column", [[Op.WRITE, GRANT, FRAME, 0xa000, 9]]],
      [
        "behind another column",
        [
          [Op.WRITE, GRANT, FRAME, 0x2000, 9],
          [Op.PUSH, GRANT, FRAME, 0xa000, 9],
        ],
      ],
      [
        "behind another record",
        [
          [Op.PUSH, BUS, FRAME, 0x2000, 9],
          [Op.PUSH, GRANT, FRAME, 0xa000, 9],
        ],
      ],
    ])("are not, %s", (_, steps) => {
      const first: Step = [Op.PUSH, GRANT, FRAME, 0x9000, 0x1000];
      expect(recordsOf([first, ...steps])).toHaveLength(1 + steps.length);
    });

    it("begin a record in the next message, also one behind a dropped batch", () => {
      const { writer, messages } = collector();
      const frame = new Uint8Array(64);
      writer.column(Op.PUSH, GRANT, 0x9000, FRAME, frame, 0, 64);
      writer.flush();
      writer.column(Op.PUSH, GRANT, 0x9040, FRAME, frame, 0, 64);
      writer.discard();
      writer.column(Op.PUSH, GRANT, 0x9080, FRAME, frame, 0, 64);
      writer.flush();
      expect(apply(messages).map(([, , address]) => address)).toEqual([0x9000, 0x9080]);
    });
  });

  it("keeps little memory for a small batch until the socket has taken it", () => {
    const sent: Uint8Array[] = [];
    const writer = new BatchWriter((bytes) => sent.push(bytes));
    const frame = new Uint8Array(60);
    for (let i = 0; i < 100; i++) {
      writer.column(Op.WRITE, 0, 0x1000, RecordType.FRAME, frame, 0, frame.length);
      writer.flush();
    }
    // The buffers lie one behind the other in the arena.
    const at = sent.map(({ byteOffset }) => byteOffset).sort((a, b) => a - b);
    const apart = at.slice(1).map((n, i) => n - at[i]!);
    expect(Math.min(...apart)).toBeGreaterThan(0);
    expect(apart.sort((a, b) => a - b)[50]).toBeLessThan(8192);
  });

  it("keeps every byte of a batch that outgrows its first buffer, wherever that happens", () => {
    for (let length = 3800; length < 4100; length++) {
      const { writer, messages } = collector();
      const bytes = Uint8Array.from({ length }, (_, i) => i * 5 + length);
      writer.interrupt(3);
      writer.column(Op.WRITE, 0, 0x1000, RecordType.FRAME, bytes, 0, length);
      writer.column(Op.WRITE, 0, 0x9000, RecordType.FRAME, bytes, 0, 9);
      writer.post("window", { address: 0x10000, length });
      writer.flush();
      const [interrupt, first, second, window, ...more] = apply(messages);
      sameFields(interrupt!, ["interrupt", 3]);
      sameFields(first!, ["write", 0, 0x1000, RecordType.FRAME, [...bytes]]);
      sameFields(second!, ["write", 0, 0x9000, RecordType.FRAME, [...bytes.subarray(0, 9)]]);
      sameFields(window!, ["window", 0x10000, length]);
      same(more.length, 0, "more transactions");
    }
  });

  it("property: any sequence has msgpackr's bytes and comes back in order", () => {
    const packr = new Packr({ useRecords: false });
    const columnStep = fc.record({
      kind: fc.constant("column" as const),
      op: fc.constantFrom(Op.WRITE, Op.PUSH, Op.MMIO_WRITE),
      space: fc.constantFrom(0, 1),
      address: fc.oneof(fc.integer({ min: 0, max: 0xffff_ffff }), fc.integer({ min: 0, max: 100 })),
      type: fc.integer({ min: 0, max: 0xffff }),
      length: fc.oneof(
        fc.integer({ min: 1, max: 80 }),
        fc.constantFrom(255, 256, 257, 65_534, 65_535, 65_536, 1514),
      ),
      seed: fc.integer({ min: 0, max: 255 }),
    });
    const step = fc.oneof(
      { weight: 4, arbitrary: columnStep },
      fc.record({
        kind: fc.constant("interrupt" as const),
        vector: fc.integer({ min: 0, max: 255 }),
      }),
      fc.record({
        kind: fc.constant("window" as const),
        address: fc.integer({ min: 0, max: 2 ** 48 - 1 }),
        length: fc.integer({ min: 0, max: Limits.WINDOW_BYTES }),
      }),
      fc.record({
        kind: fc.constant("read_reply" as const),
        tag: fc.integer({ min: 0, max: 0xffff_ffff }),
        length: fc.oneof(
          fc.integer({ min: 0, max: 80 }),
          fc.constantFrom(255, 256, 65_535, 65_536),
        ),
      }),
      fc.record({ kind: fc.constant("refuse" as const), text: fc.string({ maxLength: 40 }) }),
      fc.record({ kind: fc.constant("flush" as const) }),
    );
    holds(
      fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
        const { writer, messages } = collector();
        const expected: Told[] = [];
        for (const s of steps) {
          if (s.kind === "flush") writer.flush();
          else if (s.kind === "interrupt") {
            writer.interrupt(s.vector);
            expected.push(["interrupt", s.vector]);
          } else if (s.kind === "window") {
            writer.post("window", { address: s.address, length: s.length });
            expected.push(["window", s.address, s.length]);
          } else if (s.kind === "read_reply") {
            const bytes = Uint8Array.from({ length: s.length }, (_, i) => s.tag + i);
            writer.post("read_reply", { tag: s.tag, status: 0, bytes });
            expected.push(["readReply", s.tag, 0, [...bytes]]);
          } else if (s.kind === "refuse") {
            writer.post("refuse", { code: "TEST", text: s.text });
            expected.push(["refuse", "TEST", s.text]);
          } else {
            const src = Uint8Array.from({ length: s.length + 3 }, (_, i) => s.seed + i);
            writer.column(s.op, s.space, s.address, s.type, src, 3, s.length);
            const name = { [Op.WRITE]: "write", [Op.PUSH]: "push", [Op.MMIO_WRITE]: "mmioWrite" }[
              s.op
            ] as string;
            expected.push([name, s.space, s.address, s.type, [...src.subarray(3)]]);
          }
        }
        writer.flush();
        const told = apply(messages);
        same(told.length, expected.length, "transactions");
        for (const [i, fields] of told.entries()) sameFields(fields, expected[i]!);
        for (const message of messages) {
          // msgpackr reads the message, and encodes the result to the same bytes.
          const value = unpack(message) as unknown[][];
          for (const t of value) {
            for (const [i, f] of t.entries()) {
              if (typeof f === "number" && f > 0xffff_ffff) t[i] = BigInt(f);
            }
          }
          sameBytes(packr.pack(value), message, "msgpackr's bytes");
        }
      }),
      { numRuns: 150 },
    );
  });
});

describe("record", () => {
  it("has the layout of the protocol page", () => {
    const bytes = new Uint8Array(RECORD_BYTES).fill(0xa5);
    const view = new DataView(bytes.buffer);
    record.write(view, 0, 0x1234_5678_9abc, 0x01020304, 0x0506, 0x0001);
    expect(Buffer.from(bytes).toString("hex")).toBe(
      "bc9a785634120000" + "04030201" + "0605" + "0100",
    );
    expect(record.address(view, 0)).toBe(0x1234_5678_9abc);
    expect(record.length(view, 0)).toBe(0x01020304);
    expect(record.type(view, 0)).toBe(0x0506);
    expect(record.space(view, 0)).toBe(1);
  });
});
