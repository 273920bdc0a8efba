/**
 * Applies a batch: walks over its transactions in order and passes each to a Sink.
 *
 * Every field is checked against the catalogue before the sink gets it. At an error, earlier
 * transactions stay applied and later ones are not. The caller ends the connection with the
 * WireError.
 */

import { END_GRANT_RECORD_SIZE } from "../xen/grant.ts";
import { type Entry, entryOfOp, type Field, type LinkControl, Op, type Sink } from "./catalogue.ts";
import { GRANT_RECORD_BYTES, type GrantVersion, Limits, WireError } from "./protocol.ts";
import { Fmt, Reader } from "./reader.ts";
import { type MemoryAccess, NO_ADDRESS, RECORD_BYTES, record } from "./records.ts";
import { unpackGuarded } from "./values.ts";

/** Decodes `message` and passes each transaction on. Throws WireError at the first error. */
export function applyBatch(message: Uint8Array, sink: Sink, link: LinkControl): void {
  applyMessage(new Reader().open(message, 0, message.length), sink, link);
}

/** As `applyBatch`, for the message that the reader has opened. */
export function applyMessage(r: Reader, sink: Sink, link: LinkControl): void {
  const n = r.array("batch", Limits.BATCH_TRANSACTIONS);
  for (let i = 0; i < n; i++) applyTransaction(r, sink, link, i);
  r.finish("batch");
}

/** Reads the array header and opcode of a transaction and checks the number of its fields. */
export function readEntry(r: Reader, index: number): Entry {
  // Nearly always the header and the opcode are one byte each. Only others need texts for errors.
  const first = r.bytes[r.at]!;
  const second = r.bytes[r.at + 1]!;
  const isShort = r.at + 2 <= r.end && first > Fmt.FIXARRAY && first < Fmt.FIXSTR && second < 0x80;
  const fields = isShort ? first - Fmt.FIXARRAY : r.array(`transaction ${index}`, 16);
  if (fields === 0) throw new WireError("WIRE_EMPTY", `transaction ${index}: no opcode`);
  const op = isShort ? second : r.uint(`transaction ${index}: opcode`, 255);
  if (isShort) r.at += 2;
  const entry = entryOfOp(op);
  if (entry === undefined) {
    throw new WireError(
      "WIRE_OPCODE",
      `transaction ${index}: opcode ${op} is not in the catalogue`,
    );
  }
  if (fields !== entry.fields.length + 1) {
    throw new WireError(
      "WIRE_FIELDS",
      `transaction ${index}: ${entry.name} has ${entry.fields.length + 1} fields, found ${fields}`,
    );
  }
  return entry;
}

/** Reads and checks the fields behind the opcode. Binary values are views into the message. */
export function readFields(r: Reader, entry: Entry): Readonly<Record<string, unknown>> {
  const values: Record<string, unknown> = {};
  for (const { name, field, what } of entry.fields) {
    values[name] = readField(r, field, what, values["version"] as number);
  }
  return values;
}

function readUint(r: Reader, { min, max }: Field, what: string): number {
  const n = r.uint(what, max);
  if (n < min) throw new WireError("WIRE_RANGE", `${what}: ${n}, the least is ${min}`);
  return n;
}

function readField(r: Reader, field: Field, what: string, version: number): unknown {
  const { kind, max } = field;
  switch (kind) {
    case "uint":
      return readUint(r, field, what);
    case "text":
      return r.text(what, max);
    case "map":
      return unpackGuarded(r, what);
    case "bin":
      r.bin(what, max);
      break;
    case "packed": {
      const bytes =
        typeof field.recordBytes === "object" ? field.recordBytes[version] : field.recordBytes;
      readPacked(r, what, bytes!);
      break;
    }
    default:
      kind satisfies never;
  }
  return r.bytes.subarray(r.binAt, r.binAt + r.binLength);
}

/** Steps over records of `bytes` bytes each. Returns their number. */
function readPacked(r: Reader, what: string, bytes: number): number {
  r.bin(what, Limits.COLUMN_RECORDS * bytes);
  if (r.binLength % bytes !== 0) {
    throw new WireError(
      "WIRE_RECORDS",
      `${what}: ${r.binLength} bytes are not a whole number of records of ${bytes}`,
    );
  }
  return r.binLength / bytes;
}

function applyTransaction(r: Reader, sink: Sink, link: LinkControl, index: number): void {
  const entry = readEntry(r, index);
  switch (entry.op) {
    case Op.WRITE:
    case Op.PUSH:
    case Op.MMIO_WRITE:
      applyColumn(r, sink, entry);
      return;
    case Op.INTERRUPT: {
      const vector = r.uint("interrupt: vector", Limits.VECTORS - 1);
      if (sink.interrupt === undefined) throw notForUs(entry);
      sink.interrupt(vector);
      return;
    }
    case Op.PROGRESS:
      link.progress({ bytes: r.uint("progress: bytes", Number.MAX_SAFE_INTEGER) });
      return;
    case Op.EVENT: {
      const port = r.uint("event: port", Limits.PORTS - 1);
      if (sink.event === undefined) throw notForUs(entry);
      sink.event({ port });
      return;
    }
    case Op.GRANT: {
      const [versionField, records] = entry.fields;
      const version = readUint(r, versionField!.field, versionField!.what) as GrantVersion;
      const count = readPacked(r, records!.what, GRANT_RECORD_BYTES[version]);
      if (sink.grant === undefined) throw notForUs(entry);
      sink.grant({ version, view: r.view, at: r.binAt, count });
      return;
    }
    case Op.END_GRANT: {
      const count = readPacked(r, entry.fields[0]!.what, END_GRANT_RECORD_SIZE);
      if (sink.endGrant === undefined) throw notForUs(entry);
      sink.endGrant({ view: r.view, at: r.binAt, count });
      return;
    }
    default: {
      const fields = readFields(r, entry);
      const target: Sink = entry.to === "link" ? link : sink;
      const handler = target[entry.method] as ((fields: unknown) => void) | undefined;
      if (handler === undefined) throw notForUs(entry);
      handler.call(target, fields);
    }
  }
}

function applyColumn(r: Reader, sink: Sink, entry: Entry): void {
  const { op, name, fields } = entry;
  r.bin(fields[0]!.what, Limits.MESSAGE_BYTES);
  let at = r.binAt;
  const end = at + r.binLength;
  readPacked(r, fields[1]!.what, RECORD_BYTES);
  const records = r.binAt;
  const handler = op === Op.WRITE ? sink.write : op === Op.PUSH ? sink.push : sink.mmioWrite;
  if (handler === undefined) throw notForUs(entry);
  const stop = records + r.binLength;
  const { view, bytes: src } = r;
  // All records of the column share one object, so that a record allocates nothing.
  const access: MemoryAccess = { space: 0, address: NO_ADDRESS, type: 0, src, at: 0, length: 0 };
  for (let rec = records; rec < stop; rec += RECORD_BYTES) {
    const address = record.address(view, rec);
    const length = record.length(view, rec);
    const space = record.space(view, rec);
    if (length === 0 || length > Limits.RECORD_BYTES || length > end - at) {
      throw badRecord(name, (rec - records) / RECORD_BYTES, `length ${length}`);
    }
    access.space = space;
    access.address = address;
    access.type = record.type(view, rec);
    access.at = at;
    access.length = length;
    if (op === Op.MMIO_WRITE) {
      if (address > Limits.BAR_OFFSET || space > 5) {
        throw badRecord(name, (rec - records) / RECORD_BYTES, `BAR ${space} offset ${address}`);
      }
      sink.mmioWrite!(access);
    } else {
      if (address + length - 1 > Limits.ADDRESS || space > 1) {
        const what = `space ${space} address ${address}+${length}`;
        throw badRecord(name, (rec - records) / RECORD_BYTES, what);
      }
      if (op === Op.WRITE) sink.write!(access);
      else sink.push!(access);
    }
    at += length;
  }
  if (at !== end) {
    throw new WireError("WIRE_RECORDS", `${name}: ${end - at} bytes of data that no record names`);
  }
}

function badRecord(name: string, index: number, what: string): WireError {
  return new WireError("WIRE_RECORDS", `${name}: record ${index}: ${what} is out of bounds`);
}

function notForUs({ name }: Entry): WireError {
  return new WireError("WIRE_DIRECTION", `${name} does not travel in this direction`);
}
