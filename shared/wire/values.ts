/**
 * Free-form values: the maps of hello and welcome, and the rare control transactions. msgpackr
 * encodes and decodes them. Before it decodes, this file walks over the bytes, so that the decoded
 * value is small, shallow and plain.
 */
import { Packr, Unpackr } from "msgpackr";
import type { Reader } from "./reader.ts";
import { Limits, WireError } from "./transactions.ts";

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

/** Encodes a transaction that is not a column. Large integers become uint64. */
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
  if (r.at >= r.end) throw new WireError("WIRE_TRUNCATED", `${what}: the message ends inside it`);
  const f = r.bytes[r.at]!;
  if (f < 0x80 || f >= 0xe0 || f === 0xc0 || f === 0xc2 || f === 0xc3) {
    r.at += 1;
  } else if ((f & 0xf0) === 0x80) {
    r.at += 1;
    skipMap(r, what, f & 0x0f, depth, budget);
  } else if (f === 0xde) {
    r.at += 1;
    skipMap(r, what, take(r, 2, what), depth, budget);
  } else if ((f & 0xf0) === 0x90 || f === 0xdc) {
    const n = r.array(what, MAX_ITEMS);
    for (let i = 0; i < n; i++) skip(r, what, depth + 1, budget);
  } else if ((f & 0xe0) === 0xa0 || f === 0xd9 || f === 0xda) {
    r.text(what, Limits.HELLO_BYTES);
  } else if (f === 0xc4 || f === 0xc5) {
    r.bin(what, Limits.HELLO_BYTES);
  } else if (f === 0xca || f === 0xcb) {
    r.at += 1;
    take(r, f === 0xca ? 4 : 8, what);
  } else if (f >= 0xcc && f <= 0xd3) {
    r.at += 1;
    take(r, 1 << ((f - 0xcc) & 3), what);
  } else {
    throw new WireError(
      "WIRE_TYPE",
      `${what}: msgpack format 0x${f.toString(16)} is not used here`,
    );
  }
}

function skipMap(
  r: Reader,
  what: string,
  n: number,
  depth: number,
  budget: { items: number },
): void {
  if (n > MAX_ITEMS)
    throw new WireError("WIRE_RANGE", `${what}: ${n} keys, the limit is ${MAX_ITEMS}`);
  for (let i = 0; i < n; i++) {
    const key = r.text(`${what}: key`, Limits.NAME_BYTES);
    if (key === "__proto__") throw new WireError("WIRE_TYPE", `${what}: a key named __proto__`);
    skip(r, `${what}.${key}`, depth + 1, budget);
  }
}

/** Steps over `width` bytes. Returns their value for a width of 2, else 0. */
function take(r: Reader, width: number, what: string): number {
  if (width > r.end - r.at)
    throw new WireError("WIRE_TRUNCATED", `${what}: the message ends inside it`);
  const n = width === 2 ? r.view.getUint16(r.at, false) : 0;
  r.at += width;
  return n;
}
