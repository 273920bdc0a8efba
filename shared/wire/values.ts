/**
 * Free-form values: the maps of hello and welcome, and the rare control transactions. msgpackr
 * encodes and decodes them. Before it decodes, this file walks over the bytes, so that the decoded
 * value is small, shallow and plain.
 */
import { Packr, Unpackr } from "msgpackr";
import { Limits, WireError } from "./protocol.ts";
import { Fmt, type Reader } from "./reader.ts";

// Records and structured clones are extensions of msgpackr that other implementations lack.
// copyBuffers is false, so binary values are views into the message.
const options = {
  useRecords: false,
  copyBuffers: false,
  mapsAsObjects: true,
  int64AsType: "number" as const,
};
const packr = new Packr(options);
const unpackr = new Unpackr(options);

const MAX_DEPTH = 4;
const MAX_ITEMS = 256;
/** Formats of values without further bytes, besides small integers. */
const PLAIN: ReadonlySet<number> = new Set([Fmt.NIL, Fmt.FALSE, Fmt.TRUE]);

/** Encodes a transaction that is not a column. Large integers become int64. */
export function packTransaction(fields: readonly unknown[]): Uint8Array {
  return packr.pack(fields.map((f) => (typeof f === "number" && f > 0xffffffff ? BigInt(f) : f)));
}

/** Decodes the value at the reader's position. The caller checks its shape. */
export function unpackGuarded(r: Reader, what: string): unknown {
  const start = r.at;
  const budget = { items: MAX_ITEMS };
  skip(r, what, 0, budget);
  if (r.at - start > Limits.HELLO_BYTES) {
    throw new WireError(
      "WIRE_RANGE",
      `${what}: ${r.at - start} bytes, the limit is ${Limits.HELLO_BYTES}`,
    );
  }
  return unpackr.unpack(r.bytes.subarray(start, r.at));
}

/** Steps over one value without building it. Refuses extension types and deep nesting. */
function skip(r: Reader, what: string, depth: number, budget: { items: number }): void {
  if (depth > MAX_DEPTH)
    throw new WireError("WIRE_DEPTH", `${what}: nested deeper than ${MAX_DEPTH}`);
  if (budget.items-- === 0)
    throw new WireError("WIRE_RANGE", `${what}: more than ${MAX_ITEMS} values`);
  const f = r.peek(what);
  if (f < Fmt.FIXMAP || f >= Fmt.NEGATIVE_FIXINT || PLAIN.has(f)) {
    r.skip(1, what);
  } else if (f < Fmt.FIXARRAY || f === Fmt.MAP16) {
    const keys = r.map(what, MAX_ITEMS);
    for (let i = 0; i < keys; i++) {
      const key = r.text(`${what}: key`, Limits.NAME_BYTES);
      if (key === "__proto__") throw new WireError("WIRE_TYPE", `${what}: a key named __proto__`);
      skip(r, `${what}.${key}`, depth + 1, budget);
    }
  } else if (f < Fmt.FIXSTR || f === Fmt.ARRAY16) {
    const n = r.array(what, MAX_ITEMS);
    for (let i = 0; i < n; i++) skip(r, what, depth + 1, budget);
  } else if (f < Fmt.NIL || f === Fmt.STR8 || f === Fmt.STR16) {
    r.text(what, Limits.HELLO_BYTES);
  } else if (f === Fmt.BIN8 || f === Fmt.BIN16) {
    r.bin(what, Limits.HELLO_BYTES);
  } else if (f >= Fmt.FLOAT32 && f <= Fmt.INT64) {
    // Floats of 4 and 8 bytes, then integers of 1, 2, 4 and 8: without a sign, and with one.
    r.skip(1, what);
    r.skip(1 << (f & 3), what);
  } else {
    throw new WireError(
      "WIRE_TYPE",
      `${what}: msgpack format 0x${f.toString(16)} is not used here`,
    );
  }
}
