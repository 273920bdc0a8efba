/**
 * Applies a batch: walks its transactions in order and hands each to a Sink.
 *
 * Every field is checked against the catalogue before the sink sees it. What was applied before an
 * error stays applied, nothing after it is; the caller ends the connection with the WireError.
 */

import { END_GRANT_RECORD_SIZE, GRANT_USE_RECORD_SIZE } from "../xen/grant.ts";
import { Reader } from "./reader.ts";
import { RECORD_BYTES, record } from "./records.ts";
import {
  type FaultSeverity,
  GRANT_RECORD_BYTES,
  type GrantVersion,
  Limits,
  type LinkControl,
  Op,
  READ_STATUS_MAX,
  type Sink,
  WireError,
} from "./transactions.ts";
import { unpackGuarded } from "./values.ts";

/** Fields of each transaction, opcode included. */
export const FIELDS: Readonly<Record<number, number>> = {
  [Op.HELLO]: 2,
  [Op.WELCOME]: 2,
  [Op.REFUSE]: 3,
  [Op.HEARTBEAT]: 3,
  [Op.PROGRESS]: 2,
  [Op.FAULT]: 6,
  [Op.WINDOW]: 3,
  [Op.END_WINDOW]: 2,
  [Op.WRITE]: 3,
  [Op.PUSH]: 3,
  [Op.READ]: 5,
  [Op.READ_REPLY]: 4,
  [Op.MMIO_WRITE]: 3,
  [Op.MMIO_READ]: 5,
  [Op.MMIO_READ_REPLY]: 3,
  [Op.INTERRUPT]: 2,
  [Op.MOVE]: 2,
  [Op.GRANT]: 3,
  [Op.END_GRANT]: 2,
  [Op.GRANT_USE]: 2,
  [Op.HYPERCALL]: 5,
  [Op.HYPERCALL_REPLY]: 4,
  [Op.EVENT]: 2,
  [Op.XENSTORE]: 2,
};

const NAMES = new Map<number, string>(
  Object.entries(Op).map(([name, op]) => [op, name.toLowerCase()]),
);

/** "mmio_write" for 22; "opcode 99" for what the catalogue lacks. */
export function opName(op: number): string {
  return NAMES.get(op) ?? `opcode ${op}`;
}

/** Applies one message. Throws WireError, which names transaction and field. */
export function applyBatch(message: Uint8Array, sink: Sink, link: LinkControl): void {
  const r = new Reader(message);
  const n = r.array("batch", Limits.BATCH_TRANSACTIONS);
  for (let i = 0; i < n; i++) applyTransaction(r, sink, link, i);
  r.finish("batch");
}

function applyTransaction(r: Reader, sink: Sink, link: LinkControl, index: number): void {
  const fields = r.array(`transaction ${index}`, 16);
  if (fields === 0) throw new WireError("WIRE_EMPTY", `transaction ${index}: no opcode`);
  const op = r.uint(`transaction ${index}: opcode`, 255);
  const want = FIELDS[op];
  if (want === undefined) {
    throw new WireError(
      "WIRE_OPCODE",
      `transaction ${index}: opcode ${op} is not in the catalogue`,
    );
  }
  if (fields !== want) {
    throw new WireError(
      "WIRE_FIELDS",
      `transaction ${index}: ${opName(op)} has ${want} fields, found ${fields}`,
    );
  }
  switch (op) {
    case Op.WRITE:
    case Op.PUSH:
    case Op.MMIO_WRITE:
      applyColumn(r, sink, op);
      return;
    case Op.INTERRUPT: {
      const vector = r.uint("interrupt: vector", Limits.VECTORS - 1);
      if (sink.interrupt === undefined) throw notForUs(op);
      sink.interrupt(vector);
      return;
    }
    case Op.PROGRESS:
      link.progress(r.uint("progress: bytes", Number.MAX_SAFE_INTEGER));
      return;
    case Op.HEARTBEAT:
      link.heartbeat(
        r.uint("heartbeat: sent", Number.MAX_SAFE_INTEGER),
        r.uint("heartbeat: echo", Number.MAX_SAFE_INTEGER),
      );
      return;
    case Op.WINDOW: {
      const address = r.uint("window: address", Limits.ADDRESS);
      const length = r.uint("window: length", Limits.WINDOW_BYTES);
      if (sink.window === undefined) throw notForUs(op);
      sink.window(address, length);
      return;
    }
    case Op.END_WINDOW: {
      const address = r.uint("end_window: address", Limits.ADDRESS);
      if (sink.endWindow === undefined) throw notForUs(op);
      sink.endWindow(address);
      return;
    }
    case Op.READ: {
      const tag = r.uint("read: tag", 0xffffffff);
      const space = r.uint("read: space", 1);
      const address = r.uint("read: address", Limits.ADDRESS);
      const length = r.uint("read: length", Limits.READ_BYTES);
      if (sink.read === undefined) throw notForUs(op);
      sink.read(tag, space, address, length);
      return;
    }
    case Op.READ_REPLY: {
      const tag = r.uint("read_reply: tag", 0xffffffff);
      const status = r.uint("read_reply: status", READ_STATUS_MAX);
      r.bin("read_reply: bytes", Limits.READ_BYTES);
      if (sink.readReply === undefined) throw notForUs(op);
      sink.readReply(tag, status, r.bytes, r.binAt, r.binLength);
      return;
    }
    case Op.MMIO_READ: {
      const tag = r.uint("mmio_read: tag", 0xffffffff);
      const bar = r.uint("mmio_read: bar", 5);
      const offset = r.uint("mmio_read: offset", Limits.BAR_OFFSET);
      const length = r.uint("mmio_read: length", Limits.MMIO_BYTES);
      if (sink.mmioRead === undefined) throw notForUs(op);
      sink.mmioRead(tag, bar, offset, length);
      return;
    }
    case Op.MMIO_READ_REPLY: {
      const tag = r.uint("mmio_read_reply: tag", 0xffffffff);
      r.bin("mmio_read_reply: bytes", Limits.MMIO_BYTES);
      if (sink.mmioReadReply === undefined) throw notForUs(op);
      sink.mmioReadReply(tag, r.bytes, r.binAt, r.binLength);
      return;
    }
    case Op.FAULT: {
      const severity = r.uint("fault: severity", 2) as FaultSeverity;
      const code = r.text("fault: code", Limits.NAME_BYTES);
      const text = r.text("fault: text", Limits.TEXT_BYTES);
      const space = r.uint("fault: space", 0xffff);
      sink.fault(severity, code, text, space, r.uint("fault: address", Limits.ADDRESS));
      return;
    }
    case Op.REFUSE: {
      const code = r.text("refuse: code", Limits.NAME_BYTES);
      const text = r.text("refuse: text", Limits.TEXT_BYTES);
      if (sink.refuse === undefined) throw notForUs(op);
      sink.refuse(code, text);
      return;
    }
    case Op.MOVE: {
      const url = r.text("move: url", Limits.TEXT_BYTES);
      if (sink.move === undefined) throw notForUs(op);
      sink.move(url);
      return;
    }
    case Op.GRANT: {
      const version = r.uint("grant: version", 2);
      if (version === 0) throw new WireError("WIRE_RANGE", "grant: version 0 is out of range");
      const count = packedRecords(r, op, GRANT_RECORD_BYTES[version as GrantVersion]);
      if (sink.grant === undefined) throw notForUs(op);
      sink.grant(version as GrantVersion, r.view, r.binAt, count);
      return;
    }
    case Op.END_GRANT: {
      const count = packedRecords(r, op, END_GRANT_RECORD_SIZE);
      if (sink.endGrant === undefined) throw notForUs(op);
      sink.endGrant(r.view, r.binAt, count);
      return;
    }
    case Op.GRANT_USE: {
      const count = packedRecords(r, op, GRANT_USE_RECORD_SIZE);
      if (sink.grantUse === undefined) throw notForUs(op);
      sink.grantUse(r.view, r.binAt, count);
      return;
    }
    case Op.HYPERCALL: {
      const tag = r.uint("hypercall: tag", 0xffffffff);
      const number = r.uint("hypercall: number", 0xff);
      const command = r.uint("hypercall: command", 0xff);
      r.bin("hypercall: bytes", Limits.HYPERCALL_BYTES);
      if (sink.hypercall === undefined) throw notForUs(op);
      sink.hypercall(tag, number, command, r.bytes, r.binAt, r.binLength);
      return;
    }
    case Op.HYPERCALL_REPLY: {
      const tag = r.uint("hypercall_reply: tag", 0xffffffff);
      const errno = r.uint("hypercall_reply: errno", 0xff);
      r.bin("hypercall_reply: bytes", Limits.HYPERCALL_BYTES);
      if (sink.hypercallReply === undefined) throw notForUs(op);
      sink.hypercallReply(tag, errno, r.bytes, r.binAt, r.binLength);
      return;
    }
    case Op.EVENT: {
      const port = r.uint("event: port", Limits.PORTS - 1);
      if (sink.event === undefined) throw notForUs(op);
      sink.event(port);
      return;
    }
    case Op.XENSTORE:
      r.bin("xenstore: bytes", Limits.XENSTORE_BYTES);
      if (sink.xenstore === undefined) throw notForUs(op);
      sink.xenstore(r.bytes, r.binAt, r.binLength);
      return;
    case Op.HELLO:
    case Op.WELCOME: {
      const value = unpackGuarded(r, opName(op));
      const take = op === Op.HELLO ? sink.hello : sink.welcome;
      if (take === undefined) throw notForUs(op);
      take.call(sink, value);
      return;
    }
  }
}

/** Reads a bin of packed records and returns how many there are. */
function packedRecords(r: Reader, op: number, bytes: number): number {
  const name = opName(op);
  r.bin(`${name}: records`, Limits.COLUMN_RECORDS * bytes);
  if (r.binLength % bytes !== 0) {
    throw new WireError(
      "WIRE_RECORDS",
      `${name}: ${r.binLength} bytes of records are not a whole number of ${bytes}`,
    );
  }
  return r.binLength / bytes;
}

function applyColumn(r: Reader, sink: Sink, op: number): void {
  const name = opName(op);
  r.bin(`${name}: data`, Limits.MESSAGE_BYTES);
  let at = r.binAt;
  const end = at + r.binLength;
  r.bin(`${name}: records`, Limits.COLUMN_RECORDS * RECORD_BYTES);
  const records = r.binAt;
  if (r.binLength % RECORD_BYTES !== 0) {
    throw new WireError(
      "WIRE_RECORDS",
      `${name}: ${r.binLength} bytes of records are not a whole number of ${RECORD_BYTES}`,
    );
  }
  if (op === Op.PUSH && sink.push === undefined) throw notForUs(op);
  if (op === Op.MMIO_WRITE && sink.mmioWrite === undefined) throw notForUs(op);
  const stop = records + r.binLength;
  const { bytes, view } = r;
  for (let rec = records; rec < stop; rec += RECORD_BYTES) {
    const address = record.address(view, rec);
    const length = record.length(view, rec);
    const space = record.space(view, rec);
    const type = record.type(view, rec);
    if (length === 0 || length > Limits.RECORD_BYTES || length > end - at) {
      throw badRecord(name, (rec - records) / RECORD_BYTES, `length ${length}`);
    }
    if (op === Op.MMIO_WRITE) {
      if (address > Limits.BAR_OFFSET || space > 5) {
        throw badRecord(name, (rec - records) / RECORD_BYTES, `BAR ${space} offset ${address}`);
      }
      sink.mmioWrite!(space, address, type, bytes, at, length);
    } else {
      if (address + length - 1 > Limits.ADDRESS || space > 1) {
        const what = `space ${space} address ${address}+${length}`;
        throw badRecord(name, (rec - records) / RECORD_BYTES, what);
      }
      if (op === Op.WRITE) sink.write(space, address, type, bytes, at, length);
      else sink.push!(space, address, type, bytes, at, length);
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

function notForUs(op: number): WireError {
  return new WireError("WIRE_DIRECTION", `${opName(op)} does not travel in this direction`);
}
