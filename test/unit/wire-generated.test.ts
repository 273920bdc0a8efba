/**
 * The output of `npm run generate` is in the tree, and the hand-written codecs match the catalogue.
 */
import { readFileSync } from "node:fs";
import { unpack } from "msgpackr";
import { describe, expect, it } from "vitest";
import { generated } from "../../scripts/generate.ts";
import { BatchWriter } from "../../shared/wire/batch.ts";
import { catalogue, entryOfOp, type Name, Op } from "../../shared/wire/catalogue.ts";
import { applyBatch } from "../../shared/wire/decode.ts";
import { GRANT_RECORD_BYTES, Limits } from "../../shared/wire/protocol.ts";
import { RECORD_BYTES } from "../../shared/wire/records.ts";
import { END_GRANT_RECORD_SIZE } from "../../shared/xen/grant.ts";
import { column, packBatch } from "../support/raw-frontend.ts";
import { RecordingSink } from "../support/recording-sink.ts";

const root = new URL("../..", import.meta.url);

describe("generated files", () => {
  it.each([...generated(root)])("page-W1 %s is what `npm run generate` writes", (path, text) => {
    expect(readFileSync(new URL(path, root), "utf8")).toBe(text);
  });
});

/** The transactions with hand-written codecs. */
const HOT = [
  "write",
  "push",
  "mmio_write",
  "interrupt",
  "event",
  "progress",
] as const satisfies Name[];

describe("the catalogue", () => {
  it("has each opcode once, and replies that exist", () => {
    const entries = Object.values(catalogue) as { op: number; reply?: string }[];
    expect(new Set(entries.map(({ op }) => op)).size).toBe(entries.length);
    for (const { reply } of entries)
      if (reply !== undefined) expect(catalogue).toHaveProperty(reply);
  });

  /** One batch with every transaction that has a hand-written codec. */
  function hot(): unknown[][] {
    let message = new Uint8Array(0);
    const writer = new BatchWriter((bytes, at, length, release) => {
      message = bytes.slice(at, at + length);
      release();
    });
    for (const op of [Op.WRITE, Op.PUSH, Op.MMIO_WRITE]) {
      writer.column(op, 0, 4096, 1, Uint8Array.of(1, 2, 3), 0, 3);
    }
    writer.interrupt(200);
    writer.event(4000);
    writer.progress(2 ** 40);
    writer.flush();
    return unpack(message) as unknown[][];
  }

  it("declares the fields that the hand-written encoders send", () => {
    const sent = new Map(hot().map(([op, ...fields]) => [op, fields]));
    for (const name of HOT) {
      const { op, fields } = entryOfOp(catalogue[name].op)!;
      const values = sent.get(op)!;
      expect(values).toHaveLength(fields.length);
      for (const [i, { field }] of fields.entries()) {
        const value = values[i] as Uint8Array | number;
        expect(value instanceof Uint8Array).toBe(field.kind !== "uint");
        if (value instanceof Uint8Array) expect(value.length).toBeLessThanOrEqual(field.max);
        if (field.kind === "packed") expect(field.recordBytes).toBe(RECORD_BYTES);
      }
    }
  });

  it("declares what the hand-written encoders of grants send", () => {
    const bytes = (build: (writer: BatchWriter) => void): number[] => {
      let sent: number[] = [];
      const writer = new BatchWriter((message, at, length, release) => {
        sent = [...message.subarray(at, at + length)];
        release();
      });
      build(writer);
      writer.flush();
      return sent;
    };
    const records = Uint8Array.from({ length: 600 }, (_, i) => i);
    for (const count of [1, 20]) {
      const grants = count * GRANT_RECORD_BYTES[2];
      expect(bytes((w) => w.grants(2, records, grants))).toEqual(
        bytes((w) => w.post("grant", { version: 2, records: records.subarray(0, grants) })),
      );
      const ends = count * END_GRANT_RECORD_SIZE;
      expect(bytes((w) => w.endGrants(records, ends))).toEqual(
        bytes((w) => w.post("end_grant", { records: records.subarray(0, ends) })),
      );
    }
  });

  const refusal = (...transactions: unknown[]): string => {
    const sink = new RecordingSink();
    try {
      applyBatch(packBatch(transactions), sink, sink);
      return "";
    } catch (error) {
      return (error as Error).message;
    }
  };

  it.each(["write", "push", "mmio_write"] as const)(
    "%s: the hand-written decoder keeps the declared bounds",
    (name) => {
      const { op, fields } = catalogue[name];
      const piece = { address: 4096, bytes: Buffer.alloc(1) };
      const records = fields.records.max / RECORD_BYTES;
      expect(records).toBe(Limits.COLUMN_RECORDS);
      expect(refusal(column(op, new Array(records).fill(piece)))).toBe("");
      expect(refusal(column(op, new Array(records + 1).fill(piece)))).toMatch(/records: .* limit/);
      const long = Buffer.alloc(fields.data.max + 1);
      expect(refusal([op, long, Buffer.alloc(0)])).toMatch(/data: .* limit/);
      expect(refusal([op, Buffer.alloc(0), Buffer.alloc(RECORD_BYTES + 1)])).toMatch(
        /whole number/,
      );
    },
  );

  it("a sender's field out of bounds is found at the sender", () => {
    const writer = new BatchWriter((_bytes, _at, _length, release) => release());
    writer.post("event", { port: Limits.PORTS });
    expect(() => writer.flush()).toThrow(/^event: port: 4096/);
  });

  it.each([
    ["interrupt", "vector"],
    ["event", "port"],
    ["progress", "bytes"],
  ] as const)("%s: the hand-written decoder keeps the declared bound", (name, field) => {
    const { op, fields } = entryOfOp(catalogue[name].op)!;
    const { max } = fields[0]!.field;
    expect(refusal([op, max])).toBe("");
    expect(refusal([op, max + 1])).toMatch(new RegExp(`^${name}: ${field}: `));
  });
});
