/**
 * A hostile peer may send any bytes: every message is applied, or refused with a WireError that
 * names transaction and field, and never costs more memory than it has bytes.
 */
import fc from "fast-check";
import { encode, pack } from "msgpackr";
import { describe, expect, it } from "vitest";
import { Op } from "../../shared/wire/catalogue.ts";
import { applyBatch } from "../../shared/wire/decode.ts";
import { CloseCode, Limits, WireError } from "../../shared/wire/protocol.ts";
import { RECORD_BYTES } from "../../shared/wire/records.ts";
import { holds } from "../support/counts.ts";
import { RecordingSink } from "../support/recording-sink.ts";

const RUNS = 10_000;

/** The WireError for a message; undefined when the message is applied. Throws any other error. */
function refusal(message: Uint8Array): WireError | undefined {
  const sink = new RecordingSink();
  try {
    applyBatch(message, sink, sink);
    return undefined;
  } catch (error) {
    if (error instanceof WireError) return error;
    throw error;
  }
}

/** A column transaction from its parts. */
function column(op: number, data: Uint8Array, records: readonly number[][]): unknown[] {
  const bytes = Buffer.alloc(records.length * RECORD_BYTES);
  for (const [i, [address = 0, length = 0, type = 0, space = 0]] of records.entries()) {
    bytes.writeBigUInt64LE(BigInt(address), i * RECORD_BYTES);
    bytes.writeUInt32LE(length, i * RECORD_BYTES + 8);
    bytes.writeUInt16LE(type, i * RECORD_BYTES + 12);
    bytes.writeUInt16LE(space, i * RECORD_BYTES + 14);
  }
  return [op, Buffer.from(data), bytes];
}

const legal = [
  [Op.HELLO, { version: 1, name: "ena0" }],
  [Op.WELCOME, { version: 1, list: [1, [2, [3]]], yes: true, none: null }],
  [Op.REFUSE, "VERSION", "no"],
  [Op.HEARTBEAT, 1, 2],
  [Op.PROGRESS, 3],
  [Op.FAULT, 0, "range", "somewhere", 0, 4096],
  [Op.WINDOW, 4096, 64],
  [Op.END_WINDOW, 4096],
  column(Op.WRITE, new Uint8Array(7), [
    [1, 3],
    [2 ** 40, 4, 1, 1],
  ]),
  column(Op.PUSH, new Uint8Array(2), [[9, 2]]),
  [Op.READ, 7, 0, 4096, 64],
  [Op.READ_REPLY, 7, 0, Buffer.alloc(64)],
  column(Op.MMIO_WRITE, new Uint8Array(4), [[0x54, 4, 2, 0]]),
  [Op.MMIO_READ, 1, 0, 8, 4],
  [Op.MMIO_READ_REPLY, 1, Buffer.alloc(4)],
  [Op.INTERRUPT, 3],
  [Op.MOVE, "ws://there:7700/nic"],
  [Op.GRANT, 1, Buffer.alloc(24)],
  [Op.GRANT, 2, Buffer.alloc(20)],
  [Op.END_GRANT, Buffer.alloc(8)],
  [Op.GRANT_USE, Buffer.alloc(8)],
  [Op.HYPERCALL, 1, 32, 6, Buffer.alloc(8)],
  [Op.HYPERCALL_REPLY, 1, 0, Buffer.alloc(8)],
  [Op.EVENT, 4095],
  [Op.XENSTORE, Buffer.alloc(16)],
];

describe("a batch from a hostile peer", () => {
  it("is applied when it is legal: one of each transaction", () => {
    const sink = new RecordingSink();
    applyBatch(pack(legal), sink, sink);
    expect(sink.told.map(([name]) => name)).toEqual([
      "hello",
      "welcome",
      "refuse",
      "heartbeat",
      "progress",
      "fault",
      "window",
      "endWindow",
      "write",
      "write",
      "push",
      "read",
      "readReply",
      "mmioWrite",
      "mmioRead",
      "mmioReadReply",
      "interrupt",
      "move",
      "grant",
      "grant",
      "endGrant",
      "grantUse",
      "hypercall",
      "hypercallReply",
      "event",
      "xenstore",
    ]);
  });

  it("fault-B1: is refused when it is cut at any byte", () => {
    const whole = pack(legal);
    for (let n = 0; n < whole.length; n++) {
      expect(refusal(whole.subarray(0, n))?.code, `cut at ${n}`).toMatch(/^WIRE_/);
    }
  });

  it("fault-B7: is refused with anything behind its end", () => {
    const whole = pack(legal);
    for (const tail of [[0], [0xc0], [0x90], [...whole]]) {
      expect(refusal(Uint8Array.from([...whole, ...tail]))?.code).toBe("WIRE_TRAILING");
    }
  });

  it.each([
    ["array32 of 2^32-1", "ddffffffff"],
    ["map32", "dfffffffff"],
    ["bin32 of 2^32-1 as data", "91" + "9312" + "c6ffffffff"],
    ["str32 as code", "91" + "9302" + "dbffffffff"],
    ["ext32", "91" + "92" + "c9ffffffff01"],
    ["a transaction array of 2^32-1", "91" + "ddffffffff"],
  ])("fault-B2: %s is refused before anything is allocated", (_name, hex) => {
    const before = process.memoryUsage().arrayBuffers;
    expect(refusal(Buffer.from(hex, "hex"))?.code).toMatch(/^WIRE_/);
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(1 << 20);
  });

  it("fault-B3: a depth bomb is refused without a deep stack", () => {
    const deep = Buffer.concat([
      Buffer.from([0x91, 0x92, Op.HELLO]),
      Buffer.alloc(100_000, 0x91),
      Buffer.from([0]),
    ]);
    expect(refusal(deep)?.code).toBe("WIRE_DEPTH");
    expect(refusal(Buffer.alloc(100_000, 0x91))?.code).toMatch(/^WIRE_/);
  });

  it("fault-B4: a __proto__ key, extension types and bigints out of range are refused", () => {
    const proto = Buffer.from([
      0x91,
      0x92,
      Op.HELLO,
      0x81,
      0xa9,
      ...Buffer.from("__proto__"),
      0x81,
      0xa1,
      0x61,
      0x01,
    ]);
    expect(refusal(proto)?.code).toBe("WIRE_TYPE");
    expect(({} as Record<string, unknown>)["a"]).toBeUndefined();
    expect(refusal(encode([[Op.HELLO, new Date()]]))?.code).toBe("WIRE_TYPE");
    expect(refusal(pack([[Op.WINDOW, 2n ** 53n, 1]]))?.code).toBe("WIRE_RANGE");
    expect(refusal(pack([[Op.WINDOW, -1, 1]]))?.code).toMatch(/WIRE_(RANGE|TYPE)/);
    expect(refusal(pack([[Op.WINDOW, 1.5, 1]]))?.code).toBe("WIRE_TYPE");
    expect(refusal(pack([[Op.WINDOW, Number.NaN, 1]]))?.code).toBe("WIRE_TYPE");
  });

  it.each([
    ["an opcode of no transaction", [[99, 1]], "WIRE_OPCODE"],
    ["too few fields", [[Op.WINDOW, 1]], "WIRE_FIELDS"],
    ["too many fields", [[Op.INTERRUPT, 1, 2]], "WIRE_FIELDS"],
    ["no opcode", [[]], "WIRE_EMPTY"],
    ["a vector out of range", [[Op.INTERRUPT, Limits.VECTORS]], "WIRE_RANGE"],
    ["an address above 48 bits", [[Op.READ, 1, 0, 2n ** 48n, 1]], "WIRE_RANGE"],
    ["a read too long", [[Op.READ, 1, 0, 0, Limits.READ_BYTES + 1]], "WIRE_RANGE"],
    ["a window too large", [[Op.WINDOW, 0, Limits.WINDOW_BYTES + 1]], "WIRE_RANGE"],
    ["an unknown space", [column(Op.WRITE, new Uint8Array(1), [[0, 1, 0, 2]])], "WIRE_RECORDS"],
    [
      "a record address above 48 bits",
      [column(Op.WRITE, new Uint8Array(1), [[2 ** 48, 1]])],
      "WIRE_RECORDS",
    ],
    ["a record of length 0", [column(Op.WRITE, new Uint8Array(0), [[0, 0]])], "WIRE_RECORDS"],
    ["a record beyond the data", [column(Op.WRITE, new Uint8Array(3), [[0, 4]])], "WIRE_RECORDS"],
    ["data that no record names", [column(Op.PUSH, new Uint8Array(3), [[0, 2]])], "WIRE_RECORDS"],
    [
      "a BAR that no function has",
      [column(Op.MMIO_WRITE, new Uint8Array(4), [[0, 4, 0, 6]])],
      "WIRE_RECORDS",
    ],
    ["half a grant", [[Op.GRANT, 1, Buffer.alloc(13)]], "WIRE_RECORDS"],
    ["grants of another version", [[Op.GRANT, 2, Buffer.alloc(12)]], "WIRE_RECORDS"],
    ["a grant version that is none", [[Op.GRANT, 3, Buffer.alloc(0)]], "WIRE_RANGE"],
    ["grant version 0", [[Op.GRANT, 0, Buffer.alloc(0)]], "WIRE_RANGE"],
    ["half a reference", [[Op.END_GRANT, Buffer.alloc(6)]], "WIRE_RECORDS"],
    ["half a use", [[Op.GRANT_USE, Buffer.alloc(12)]], "WIRE_RECORDS"],
    ["a port that no domain has", [[Op.EVENT, Limits.PORTS]], "WIRE_RANGE"],
    [
      "more arguments than a hypercall takes",
      [[Op.HYPERCALL, 1, 20, 5, Buffer.alloc(Limits.HYPERCALL_BYTES + 1)]],
      "WIRE_RANGE",
    ],
    [
      "a xenstore message over its limit",
      [[Op.XENSTORE, Buffer.alloc(Limits.XENSTORE_BYTES + 1)]],
      "WIRE_RANGE",
    ],
    ["a read status that Xen has not", [[Op.READ_REPLY, 1, 14, Buffer.alloc(0)]], "WIRE_RANGE"],
    ["half a record", [[Op.WRITE, Buffer.alloc(0), Buffer.alloc(15)]], "WIRE_RECORDS"],
    ["text where binary belongs", [[Op.READ_REPLY, 1, 0, "text"]], "WIRE_TYPE"],
    ["text too long", [[Op.FAULT, 0, "x".repeat(65), "", 0, 0]], "WIRE_RANGE"],
  ])("%s is refused by name", (_name, batch, code) => {
    const error = refusal(pack(batch));
    expect(error?.code).toBe(code);
    expect(error?.close).toBe(CloseCode.PROTOCOL);
    expect(error?.message).toMatch(/\w+.*: ./);
  });

  it("refuses what does not travel in this direction", () => {
    const half = { write() {}, fault() {} };
    const control = { heartbeat() {}, progress() {} };
    for (const t of legal) {
      const op = t[0] as number;
      if (([Op.WRITE, Op.FAULT, Op.HEARTBEAT, Op.PROGRESS] as number[]).includes(op)) continue;
      expect(() => applyBatch(pack([t]), half, control)).toThrow(/does not travel/);
    }
  });

  it("applies nothing after an error and undoes nothing before it", () => {
    const sink = new RecordingSink();
    const batch = pack([[Op.INTERRUPT, 1], [99], [Op.INTERRUPT, 2]]);
    expect(() => applyBatch(batch, sink, sink)).toThrow(WireError);
    expect(sink.told).toEqual([["interrupt", 1]]);
  });

  it("property: random bytes never do worse than a WireError", () => {
    holds(
      fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
        refusal(bytes);
      }),
      { numRuns: RUNS },
    );
  });

  it("property: legal batches with flipped bytes never do worse than a WireError", () => {
    const whole = pack(legal);
    holds(
      fc.property(
        fc.array(fc.tuple(fc.nat(whole.length - 1), fc.nat(255)), { minLength: 1, maxLength: 6 }),
        (flips) => {
          const bytes = Uint8Array.from(whole);
          for (const [at, value] of flips) bytes[at] = value;
          refusal(bytes);
        },
      ),
      { numRuns: RUNS },
    );
  });

  it("property: any value in any field never does worse than a WireError", () => {
    const field = fc.oneof(
      fc.nat(300),
      fc.maxSafeInteger(),
      fc.double(),
      fc.string(),
      fc.uint8Array({ maxLength: 40 }).map((b) => Buffer.from(b)),
      fc.constant(null),
      fc.boolean(),
      fc.dictionary(fc.string(), fc.anything({ maxDepth: 2 })),
    );
    holds(
      fc.property(
        fc.array(fc.tuple(fc.nat(40), fc.array(field, { maxLength: 6 })), { maxLength: 5 }),
        (transactions) => {
          refusal(pack(transactions.map(([op, fields]) => [op, ...fields])));
        },
      ),
      { numRuns: RUNS },
    );
  });
});
