/**
 * The state record: the state of a link when a ring capture begins in the middle of its life.
 * Device and frontend each fill it from their own tables. Tracer and dissector read it and go on
 * from there as if they had seen the link from its start.
 *
 *   0      2          4        8                     8 + length
 *   | kind | reserved | length | records of the kind | the next entry ...
 *
 * The record describes what the link has carried, without data that still waits to be sent. A long
 * record is written in parts of whole entries.
 *
 * Source: README.md of this room, "State of a link".
 */
import { flag, type Parsed, type Struct, struct, u8, u16, u32, u48, u64 } from "../bytes/struct.ts";
import { viewOf } from "../bytes/words.ts";
import { AQ_ENTRY_SIZE } from "../ena/admin.ts";
import {
  GRANT_PAGE_BYTES,
  GRANT_RECORD_V1_SIZE,
  GRANT_RECORD_V2_SIZE,
  GRANT_USE_RECORD_SIZE,
  type GrantRef,
  grantRecord,
  grantUseRecord,
} from "../xen/grant.ts";
import type { GrantVersion } from "./protocol.ts";

export const StateKind = {
  WINDOW: 1,
  /** Bytes of a window that are not all zero. */
  MEMORY: 2,
  GRANT_V1: 3,
  GRANT_V2: 4,
  GRANT_USE: 5,
  /** The shape of LLQ entries that the driver chose. */
  ENA_LLQ: 16,
  ENA_RING: 17,
  /** A descriptor without a completion. */
  ENA_REQUEST: 18,
  /** An admin command without a completion. */
  ENA_COMMAND: 19,
  XEN_RING: 32,
} as const;
export type StateKind = (typeof StateKind)[keyof typeof StateKind];

/** `ring` of ENA_RING and ENA_REQUEST. */
export const EnaRingKind = { AQ: 0, ACQ: 1, AENQ: 2, CQ: 3, TX_SQ: 4, RX_SQ: 5 } as const;

/** `ring` of XEN_RING. */
export const XenRingKind = { TX: 0, RX: 1, CTRL: 2 } as const;
export type XenRingKind = (typeof XenRingKind)[keyof typeof XenRingKind];

const ENTRY_HEADER_BYTES = 8;
const entryHeader = struct(ENTRY_HEADER_BYTES, { kind: u16(0), length: u32(4) });

const windowState = struct(12, { address: u64(0), length: u32(8) });
const memoryState = struct(8, { address: u64(0) });
const llqState = struct(4, { entryBytes: u16(0), descsBeforeHeader: u16(2) });
export const enaRingState = struct(32, {
  ring: u8(0),
  /** True when the ring lies in BAR 2, where `address` is an offset. */
  inDevice: flag(u8(1), 0),
  /** True when this record has an ENA_REQUEST for each outstanding request of the ring. */
  requestsTold: flag(u8(1), 1),
  index: u16(2),
  /** Index of the completion queue of a submission queue. */
  cqIndex: u16(4),
  /** Interrupt vector of a completion queue. */
  vector: u16(6),
  address: u64(8),
  depth: u32(16),
  entryBytes: u16(20),
  /** Entries written since the ring was made, modulo 2^16. */
  head: u16(22),
  /** Offset in BAR 0 of a submission queue's doorbell or of a CQ's unmask register. */
  register: u32(24),
  /** Offset in BAR 0 of a CQ's NUMA register; 0 when it is not known. */
  numaRegister: u32(28),
});
const enaRequestState = struct(12, {
  ring: u8(0),
  index: u16(2),
  reqId: u16(4),
  /** Bus address of the buffer; 0 when it is not known. */
  address: u48(6),
});
const xenRingState = struct(24, {
  ring: u8(0),
  queue: u16(2),
  /** The guest's event channel. */
  port: u32(4),
  reference: u32(8),
  address: u64(16),
});

export type EnaRingState = Parsed<typeof enaRingState>;

/** A shared ring with its page of 4096 bytes, which is a view. */
export interface XenRing extends Parsed<typeof xenRingState> {
  readonly page: Uint8Array;
}

/** A descriptor without a completion. */
export interface EnaRequest {
  readonly reqId: number;
  /** Bus address of the buffer; 0 when the owner of the queue did not keep it. */
  readonly address: number;
}

/** Fields of a record that has only a tail: of a grant or an admin command, in its wire format. */
const noFields = struct(0, {});

/** Layout of one kind of record: the fields, then `tail` bytes (Infinity: to the entry's end). */
interface StateRecord {
  readonly fields: Struct<object>;
  readonly tail: number;
}

/** Layouts by kind. */
export const STATE_RECORDS: ReadonlyMap<number, StateRecord> = new Map<StateKind, StateRecord>([
  [StateKind.WINDOW, { fields: windowState, tail: 0 }],
  [StateKind.MEMORY, { fields: memoryState, tail: Number.POSITIVE_INFINITY }],
  [StateKind.GRANT_V1, { fields: noFields, tail: GRANT_RECORD_V1_SIZE }],
  [StateKind.GRANT_V2, { fields: noFields, tail: GRANT_RECORD_V2_SIZE }],
  [StateKind.GRANT_USE, { fields: noFields, tail: GRANT_USE_RECORD_SIZE }],
  [StateKind.ENA_LLQ, { fields: llqState, tail: 0 }],
  [StateKind.ENA_RING, { fields: enaRingState, tail: 0 }],
  [StateKind.ENA_REQUEST, { fields: enaRequestState, tail: 0 }],
  [StateKind.ENA_COMMAND, { fields: noFields, tail: AQ_ENTRY_SIZE }],
  [StateKind.XEN_RING, { fields: xenRingState, tail: GRANT_PAGE_BYTES }],
]);

/** Largest part of the record in bytes, small enough for a packet that Wireshark opens. */
const PART_BYTES = 64 * 1024;
/** Bytes of a piece of memory. Pieces of zeroes are left out: most rings are mostly zeroes. */
const PIECE_BYTES = 4096;
const ZEROES = new Uint8Array(PIECE_BYTES);
const NO_BYTES: Uint8Array = ZEROES.subarray(0, 0);
/** Most bytes of window contents in a record. The recorder's queue accepts twice as many. */
const MAX_MEMORY_BYTES = 4 * 1024 * 1024;
/** Most outstanding descriptors in a record, over all queues. A full ring has up to 4096. */
const MAX_REQUESTS = 0x1_0000;

/** Writes a state record. Calls `show` with each part, whose bytes are valid during the call. */
export class LinkState {
  readonly #show: (part: Uint8Array) => void;
  readonly #bytes = new Uint8Array(PART_BYTES);
  readonly #view = viewOf(this.#bytes);
  #used = 0;
  /** Offset of the open entry, which further records of the same kind join. */
  #entry = 0;
  #kind = 0;
  #memoryLeft = MAX_MEMORY_BYTES;
  #requestsLeft = MAX_REQUESTS;

  constructor(show: (part: Uint8Array) => void) {
    this.#show = show;
  }

  /** Adds a window and its contents. */
  window(address: number, bytes: Uint8Array): void {
    this.#add(StateKind.WINDOW, windowState, { address, length: bytes.length });
    for (let at = 0; at < bytes.length && this.#memoryLeft > 0; at += PIECE_BYTES) {
      const piece = bytes.subarray(at, at + PIECE_BYTES);
      if (Buffer.compare(piece, ZEROES.subarray(0, piece.length)) === 0) continue;
      this.#add(StateKind.MEMORY, memoryState, { address: address + at }, piece);
      this.#memoryLeft -= piece.length;
    }
  }

  /** Adds a nonzero entry of a grant table. `start` and `length` are used in version 2 only. */
  grant(
    version: GrantVersion,
    reference: GrantRef,
    flags: number,
    domid: number,
    frame: number,
    start: number,
    length: number,
  ): void {
    const kind = version === 1 ? StateKind.GRANT_V1 : StateKind.GRANT_V2;
    const at = this.#record(kind, version === 1 ? GRANT_RECORD_V1_SIZE : GRANT_RECORD_V2_SIZE);
    grantRecord.write(this.#view, at, version, reference, flags, domid, frame, start, length);
  }

  /** Adds the use counts of a grant. `readers` counts all uses, `writers` those that write. */
  grantUse(reference: GrantRef, readers: number, writers: number): void {
    const at = this.#record(StateKind.GRANT_USE, GRANT_USE_RECORD_SIZE);
    grantUseRecord.write(this.#view, at, reference, readers, writers);
  }

  /** Adds the layout of low latency queue entries. */
  llq(entryBytes: number, descsBeforeHeader: number): void {
    this.#add(StateKind.ENA_LLQ, llqState, { entryBytes, descsBeforeHeader });
  }

  /** Adds a ring other than a submission queue. Add a CQ before the queues that use it. */
  enaRing(ring: Partial<EnaRingState>): void {
    this.#add(StateKind.ENA_RING, enaRingState, ring);
  }

  /** Adds a submission queue and its outstanding requests, in the order of their posting. */
  submissionQueue(queue: Partial<EnaRingState>, requests: readonly EnaRequest[]): void {
    const { ring = 0, index = 0 } = queue;
    const requestsTold = requests.length <= this.#requestsLeft;
    this.enaRing({ ...queue, requestsTold });
    if (!requestsTold) return;
    this.#requestsLeft -= requests.length;
    for (const { reqId, address } of requests) {
      this.#add(StateKind.ENA_REQUEST, enaRequestState, { ring, index, reqId, address });
    }
  }

  /** Adds an admin command without a completion. `entry` is a whole queue entry. */
  adminCommand(entry: Uint8Array): void {
    this.#add(StateKind.ENA_COMMAND, noFields, {}, entry);
  }

  /** Adds a shared ring with its page. Add all grants before. */
  xenRing(ring: XenRing): void {
    this.#add(StateKind.XEN_RING, xenRingState, ring, ring.page);
  }

  /** Passes the last, unfinished part to `show`. */
  flush(): void {
    if (this.#used > 0) this.#show(this.#bytes.subarray(0, this.#used));
    this.#used = 0;
    this.#kind = 0;
  }

  #add<T>(kind: StateKind, fields: Struct<T>, value: Partial<T>, tail = NO_BYTES): void {
    const at = this.#record(kind, fields.size + tail.length);
    fields.write(this.#view, at, value);
    this.#bytes.set(tail, at + fields.size);
  }

  /** Reserves a record, in the open entry if the kinds agree. Returns the record's offset. */
  #record(kind: StateKind, bytes: number): number {
    if (this.#used + ENTRY_HEADER_BYTES + bytes > PART_BYTES) this.flush();
    if (kind !== this.#kind || kind === StateKind.MEMORY) {
      this.#entry = this.#used;
      this.#kind = kind;
      this.#used += ENTRY_HEADER_BYTES;
    }
    const at = this.#used;
    this.#used += bytes;
    const length = this.#used - this.#entry - ENTRY_HEADER_BYTES;
    entryHeader.write(this.#view, this.#entry, { kind, length });
    return at;
  }
}

/** An entry of a state record: `records` are views of one record each. */
export interface StateEntry {
  readonly kind: number;
  readonly records: readonly Uint8Array[];
  /** Number of bytes behind the last whole record; all bytes of an unknown kind. */
  readonly rest: number;
}

/**
 * Yields the entries of a part, which may contain any bytes. Yields undefined and ends when the next
 * entry does not lie within the part.
 */
export function* stateEntries(part: Uint8Array): Generator<StateEntry | undefined> {
  const view = viewOf(part);
  for (let at = 0; at < part.length; ) {
    const left = part.length - at - ENTRY_HEADER_BYTES;
    const header = left < 0 ? undefined : entryHeader.parse(view, at);
    if (header === undefined || header.length > left) {
      yield undefined;
      return;
    }
    const { kind, length } = header;
    const { fields, tail } = STATE_RECORDS.get(kind) ?? { fields: noFields, tail: 0 };
    const body = part.subarray(at + ENTRY_HEADER_BYTES, at + ENTRY_HEADER_BYTES + length);
    // A piece of memory fills its entry. Every other record has one size.
    const size =
      tail === Number.POSITIVE_INFINITY ? Math.max(length, fields.size) : fields.size + tail;
    const count = size === 0 ? 0 : Math.floor(length / size);
    const records = Array.from({ length: count }, (_, i) =>
      body.subarray(i * size, (i + 1) * size),
    );
    yield { kind, records, rest: length - count * size };
    at += ENTRY_HEADER_BYTES + length;
  }
}
