/**
 * Builds batches: the sender's half of the wire.
 *
 * Columns are written in place. The bytes of a record go straight into the message that will be
 * sent, so a frame is copied once in this process. The records gather beside the message and are
 * appended when another kind of transaction follows. The output equals that of msgpackr.
 *
 *   | room | array n | 0x93 op bin | data ............ | bin | records | next transaction ...
 *          ^ start                  ^ dataAt          ^ at
 *
 * A batch ends when the burst of work ends (`flush`), or by itself at its soft limit. No timer
 * ends a batch.
 */
import { copyBytes } from "../bytes/copy.ts";
import { BufferPool, type PooledBuffer } from "../bytes/pool.ts";
import { FRAME_ROOM } from "../transport/frames.ts";
import { catalogue, entryOfOp, Op, type PostName, type Sent } from "./catalogue.ts";
import { type GrantVersion, Limits } from "./protocol.ts";
import { Fmt } from "./reader.ts";
import { RECORD_BYTES, RecordType, record, Space } from "./records.ts";
import { packTransaction } from "./values.ts";

/** Soft limit of a batch. A larger batch costs the receiver reassembly and has no advantage. */
const SOFT_BYTES = 96 * 1024;
/** The largest soft limit that a writer may be given. */
export const MAX_SOFT_BYTES = 160 * 1024;
/** Largest number of records in one column; then the writer opens another column. */
const COLUMN_RECORDS = 1024;
/** Front room for the transport's frame header and the batch's own array header behind it. */
const ROOM = FRAME_ROOM + 10;
/** Bytes of the largest bin header and of the largest number. */
const BIN_HEADER = 5;
const NUMBER = 9;
/** The largest batch: beyond the soft limit one record, its column's records and one control. */
const BATCH_BYTES =
  MAX_SOFT_BYTES + Limits.RECORD_BYTES + COLUMN_RECORDS * RECORD_BYTES + 16 * 1024;

/** Bytes that a loop moves faster than copyWithin. */
const SHORT_MOVE = 64;

const BE = false; // msgpack's own integers

/** Bytes of the first buffer of a batch. A broadcast makes a small batch for each link at once. */
const SMALL_BYTES = 4096;

/**
 * Two pools for all links. Idle links hold no buffer; busy links reuse buffers still in the cache.
 * A batch that outgrows a small buffer moves to a large one.
 */
const large = new BufferPool(BATCH_BYTES, 64);
const small = new BufferPool(SMALL_BYTES, 1024);

/** The records of a column under construction. Idle links hold none. */
class Records {
  readonly bytes = new Uint8Array(COLUMN_RECORDS * RECORD_BYTES);
  readonly view = new DataView(this.bytes.buffer);
}
const spareRecords: Records[] = [];

const ZERO = new Uint8Array(Limits.RECORD_BYTES);
const ZERO_VIEW = new DataView(ZERO.buffer);

/**
 * Sends the finished message bytes[at .. at + length) and calls `release` once when its bytes are no
 * longer needed.
 */
export type SendMessage = (
  bytes: Uint8Array,
  at: number,
  length: number,
  release: () => void,
) => void;

/** Of the process: the tests see the batches of all links, also of links that begin later. */
let inspect: ((batch: Uint8Array) => void) | undefined;

/**
 * Passes every batch of this process to `look` before the batch is sent. The tests decode the
 * batches there, so that a field out of bounds is found at its sender.
 */
export function inspectBatches(look: typeof inspect): void {
  inspect = look;
}

export class BatchWriter {
  readonly #send: SendMessage;
  readonly #softBytes: number;
  /** Undefined while no column is under construction. */
  #records: Records | undefined;
  #recordCount = 0;
  /** Address at which the next frame bytes in Space.GRANT continue the last record; -1 for none. */
  #next = -1;
  /** Opcode of the column under construction, or -1. */
  #open = -1;
  #dataAt = 0;
  /** Of the message under construction. Undefined while there is none. */
  #buffer: PooledBuffer | undefined;
  /** Bytes of the message under construction, and their view. Each `reserve` may replace them. */
  outgoing: Uint8Array = ZERO;
  #view: DataView = ZERO_VIEW;
  /** Offset of the next byte in the buffer; 0 while there is no buffer. */
  #at = 0;
  #transactions = 0;
  /** Total bytes passed to `send`. */
  sentBytes = 0;
  sentBatches = 0;

  constructor(send: SendMessage, softBytes = SOFT_BYTES) {
    this.#send = send;
    this.#softBytes = Math.min(softBytes, MAX_SOFT_BYTES);
  }

  /** Approximate number of bytes in the batch under construction. */
  get pendingBytes(): number {
    return this.#at === 0 ? 0 : this.#at - this.#start;
  }

  get empty(): boolean {
    return this.#transactions === 0;
  }

  /**
   * Opens a record of `length` bytes in a column of `op` and returns the offset of its bytes in
   * `outgoing`. The caller fills them before any other call to this writer. `space` is the BAR for
   * MMIO_WRITE. Frame bytes in Space.GRANT that continue the last record become part of it.
   * Throws RangeError for a length outside 1 to Limits.RECORD_BYTES.
   */
  reserve(op: Op, space: number, address: number, type: number, length: number): number {
    if (length > Limits.RECORD_BYTES || length <= 0) {
      throw new RangeError(`a record of ${length} bytes; it may hold 1 to ${Limits.RECORD_BYTES}`);
    }
    if (this.#at >= this.#softBytes) this.flush();
    if (this.#open !== op || this.#recordCount === COLUMN_RECORDS) this.#openColumn(op);
    this.#fit(length);
    const at = this.#at;
    this.#at = at + length;
    const granted = type === RecordType.FRAME && space === Space.GRANT;
    if (granted && address === this.#next && this.#extend(length)) return at;
    record.write(
      this.#records!.view,
      this.#recordCount * RECORD_BYTES,
      address,
      length,
      type,
      space,
    );
    this.#recordCount++;
    this.#next = granted ? address + length : -1;
    return at;
  }

  /** Adds `length` bytes to the last record of the open column. False if it would be too long. */
  #extend(length: number): boolean {
    const at = (this.#recordCount - 1) * RECORD_BYTES;
    const total = record.length(this.#records!.view, at) + length;
    if (total > Limits.RECORD_BYTES) return false;
    record.setLength(this.#records!.view, at, total);
    this.#next += length;
    return true;
  }

  /** Adds the bytes src[at .. at + length) as one record, or several above Limits.RECORD_BYTES. */
  column(
    op: Op,
    space: number,
    address: number,
    type: number,
    src: Uint8Array,
    at: number,
    length: number,
  ): void {
    let done = 0;
    while (done < length) {
      const n = Math.min(length - done, Limits.RECORD_BYTES);
      const to = this.reserve(op, space, address + done, type, n);
      copyBytes(src, at + done, this.outgoing, to, n);
      done += n;
    }
  }

  /** Adds a write of a doorbell or register: one record of four bytes, little-endian. */
  mmioWrite32(bar: number, offset: number, type: number, value: number): void {
    const at = this.reserve(Op.MMIO_WRITE, bar, offset, type, 4);
    this.#view.setUint32(at, value, true);
  }

  /** Adds an interrupt of this MSI-X vector. */
  interrupt(vector: number): void {
    this.#single(Op.INTERRUPT, vector);
  }

  /** Adds a notification of this event channel. */
  event(port: number): void {
    this.#single(Op.EVENT, port);
  }

  /** Adds a report of the bytes received since the start. Most batches have one. */
  progress(bytes: number): void {
    this.#single(Op.PROGRESS, bytes);
  }

  /** Adds new values of grant entries: the first `bytes` bytes of `records`. */
  grants(version: GrantVersion, records: Uint8Array, bytes: number): void {
    this.#begin(3 + BIN_HEADER + bytes);
    this.outgoing[this.#at] = Fmt.FIXARRAY | 3;
    this.outgoing[this.#at + 1] = Op.GRANT;
    this.outgoing[this.#at + 2] = version;
    this.#at += 3;
    this.#bin(records, bytes);
  }

  /** Adds ends of grants: the first `bytes` bytes of `records`. */
  endGrants(records: Uint8Array, bytes: number): void {
    this.#begin(2 + BIN_HEADER + bytes);
    this.outgoing[this.#at] = Fmt.FIXARRAY | 2;
    this.outgoing[this.#at + 1] = Op.END_GRANT;
    this.#at += 2;
    this.#bin(records, bytes);
  }

  /** Adds a transaction whose only field is a number. */
  #single(op: Op, value: number): void {
    this.#begin(2 + NUMBER);
    this.outgoing[this.#at] = Fmt.FIXARRAY | 2;
    this.outgoing[this.#at + 1] = op;
    this.#at += 2;
    this.#uint(value);
  }

  /** Adds any other transaction. */
  post<N extends PostName>(name: N, fields: Sent<N>): void {
    const { op, fields: declared } = entryOfOp(catalogue[name].op)!;
    const values = fields as Readonly<Record<string, unknown>>;
    let most = 2;
    for (const { name: field } of declared) {
      const value = values[field];
      if (typeof value === "number") most += NUMBER;
      else if (value instanceof Uint8Array) most += BIN_HEADER + value.byteLength;
      else {
        this.#postPacked(packTransaction([op, ...declared.map((each) => values[each.name])]));
        return;
      }
    }
    this.#begin(most);
    this.outgoing[this.#at++] = Fmt.FIXARRAY | (declared.length + 1);
    this.outgoing[this.#at++] = op;
    for (const { name: field } of declared) {
      const value = values[field] as number | Uint8Array;
      if (typeof value === "number") this.#uint(value);
      else this.#bin(value, value.byteLength);
    }
  }

  #postPacked(bytes: Uint8Array): void {
    this.#begin(bytes.byteLength);
    this.outgoing.set(bytes, this.#at);
    this.#at += bytes.byteLength;
  }

  #uint(n: number): void {
    const b = this.outgoing;
    const at = this.#at;
    if (n < 0x80) {
      b[at] = n;
      this.#at += 1;
    } else if (n < 0x100) {
      b[at] = Fmt.UINT8;
      b[at + 1] = n;
      this.#at += 2;
    } else if (n < 0x10000) {
      b[at] = Fmt.UINT16;
      this.#view.setUint16(at + 1, n, BE);
      this.#at += 3;
    } else if (n < 2 ** 32) {
      b[at] = Fmt.UINT32;
      this.#view.setUint32(at + 1, n, BE);
      this.#at += 5;
    } else {
      b[at] = Fmt.INT64;
      this.#view.setUint32(at + 1, Math.floor(n / 2 ** 32), BE);
      this.#view.setUint32(at + 5, n >>> 0, BE);
      this.#at += NUMBER;
    }
  }

  #bin(bytes: Uint8Array, length: number): void {
    this.#binHeader(this.#at, length);
    this.#at += binHeaderBytes(length);
    copyBytes(bytes, 0, this.outgoing, this.#at, length);
    this.#at += length;
  }

  /** Sends the batch under construction. Returns false when it is empty. */
  flush(): boolean {
    if (this.#transactions === 0) return false;
    this.#closeColumn();
    const n = this.#transactions;
    let start = this.#start;
    if (n < 16) {
      this.outgoing[--start] = Fmt.FIXARRAY | n;
    } else {
      start -= 3;
      this.outgoing[start] = Fmt.ARRAY16;
      this.#view.setUint16(start + 1, n, BE);
    }
    const { bytes, release } = this.#buffer!;
    const length = this.#at - start;
    this.#buffer = undefined;
    this.outgoing = ZERO;
    this.#at = 0;
    this.#transactions = 0;
    this.#pool = length > SMALL_BYTES / 2 ? large : small;
    this.sentBytes += length;
    this.sentBatches++;
    inspect?.(bytes.subarray(start, start + length));
    this.#send(bytes, start, length, release);
    return true;
  }

  /** Drops the batch under construction, because the link has ended. */
  discard(): void {
    this.#buffer?.release();
    this.#buffer = undefined;
    this.outgoing = ZERO;
    this.#at = 0;
    this.#transactions = 0;
    this.#endColumn();
  }

  /** Offset of the first transaction. */
  #start = ROOM;
  /** Pool for the next batch: large after a batch that nearly filled a small buffer. */
  #pool = small;

  /** Begins a transaction: closes an open column and makes sure that `bytes` more bytes fit. */
  #begin(bytes: number): void {
    const isFull = this.#transactions === Limits.BATCH_TRANSACTIONS - 1;
    if (isFull || this.#at + bytes >= this.#softBytes + Limits.RECORD_BYTES) this.flush();
    this.#closeColumn();
    this.#take();
    this.#fit(bytes);
    this.#transactions++;
  }

  #take(): void {
    if (this.#at !== 0) return;
    this.#use(this.#pool.get());
    this.#start = ROOM;
    this.#at = ROOM;
  }

  /** Moves the batch to a large buffer if a small one can't hold `bytes` more and the records. */
  #fit(bytes: number): void {
    const from = this.#buffer!;
    if (from.bytes.length !== SMALL_BYTES) return;
    const records = BIN_HEADER + (this.#recordCount + 1) * RECORD_BYTES;
    if (this.#at + bytes + records <= SMALL_BYTES) return;
    this.#use(large.get());
    copyBytes(from.bytes, 0, this.outgoing, 0, this.#at);
    from.release();
  }

  #use(buffer: PooledBuffer): void {
    this.#buffer = buffer;
    this.outgoing = buffer.bytes;
    this.#view = buffer.view;
  }

  #openColumn(op: Op): void {
    this.#begin(BIN_HEADER + 2);
    this.#open = op;
    this.#records = spareRecords.pop() ?? new Records();
    this.outgoing[this.#at] = Fmt.FIXARRAY | 3;
    this.outgoing[this.#at + 1] = op;
    this.#at += 2 + BIN_HEADER;
    this.#dataAt = this.#at;
  }

  /** Writes the header of the data, whose length is known now, and the records behind the data. */
  #closeColumn(): void {
    if (this.#open < 0) return;
    const b = this.outgoing;
    const length = this.#at - this.#dataAt;
    const header = binHeaderBytes(length);
    const gap = BIN_HEADER - header;
    if (gap !== 0) {
      // This header is shorter than the space kept for it: move the shorter side over the gap.
      const before = this.#dataAt - BIN_HEADER - this.#start;
      if (before <= length) {
        move(b, this.#start + gap, this.#start, before);
        this.#start += gap;
      } else {
        move(b, this.#dataAt - gap, this.#dataAt, length);
        this.#dataAt -= gap;
        this.#at -= gap;
      }
    }
    this.#binHeader(this.#dataAt - header, length);
    const bytes = this.#recordCount * RECORD_BYTES;
    this.#binHeader(this.#at, bytes);
    this.#at += binHeaderBytes(bytes);
    copyBytes(this.#records!.bytes, 0, b, this.#at, bytes);
    this.#at += bytes;
    this.#endColumn();
  }

  #endColumn(): void {
    if (this.#records !== undefined) spareRecords.push(this.#records);
    this.#records = undefined;
    this.#open = -1;
    this.#recordCount = 0;
    this.#next = -1;
  }

  #binHeader(at: number, length: number): void {
    if (length < 0x100) {
      this.outgoing[at] = Fmt.BIN8;
      this.outgoing[at + 1] = length;
    } else if (length < 0x10000) {
      this.outgoing[at] = Fmt.BIN16;
      this.#view.setUint16(at + 1, length, BE);
    } else {
      this.outgoing[at] = Fmt.BIN32;
      this.#view.setUint32(at + 1, length, BE);
    }
  }
}

function binHeaderBytes(length: number): number {
  return length < 0x100 ? 2 : length < 0x10000 ? 3 : 5;
}

/** Moves `bytes` bytes inside an array. The two places may overlap. */
function move(b: Uint8Array, to: number, from: number, bytes: number): void {
  if (bytes > SHORT_MOVE) b.copyWithin(to, from, from + bytes);
  else if (to < from) for (let i = 0; i < bytes; i++) b[to + i] = b[from + i]!;
  else for (let i = bytes - 1; i >= 0; i--) b[to + i] = b[from + i]!;
}
