/**
 * The state record: what a link has come to when a ring capture begins in the middle of its life.
 * Device and frontend fill it, each from its own tables; tracer and dissector read it, and go on
 * from there as if they had seen the link from its first word.
 *
 *   0      2          4        8                     8 + length
 *   | kind | reserved | length | records of the kind | the next entry ...
 *
 * It counts what the link has carried, and nothing that is still to be sent. A long record comes in
 * parts, each with whole entries.
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
  grantUseRecord,
  writeGrantRecord,
} from "../xen/grant.ts";
import type { GrantVersion } from "./transactions.ts";

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
  /** The ring lies in BAR 2, and `address` is an offset there. */
  inDevice: flag(u8(1), 0),
  /** Each of its outstanding requests is an ENA_REQUEST of this record. */
  requestsTold: flag(u8(1), 1),
  index: u16(2),
  /** The completion queue of a submission queue. */
  cqIndex: u16(4),
  /** Interrupt vector of a completion queue. */
  vector: u16(6),
  address: u64(8),
  depth: u32(16),
  entryBytes: u16(20),
  /** Entries written since the ring was made, modulo 2^16. */
  head: u16(22),
  /** Offset in BAR 0: the doorbell of a submission queue, the unmask register of a CQ. */
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
  /** Bus address of its buffer; 0 when its owner has not kept it. */
  readonly address: number;
}

/** A record of a kind: its fields, then `tail` bytes; 0 when the entry is one record to its end. */
export interface StateRecord {
  readonly fields: Struct<object> | undefined;
  readonly tail: number;
}

/** The records of each kind. Those of grants and admin commands are the wire's own, all tail. */
export const STATE_RECORDS: ReadonlyMap<number, StateRecord> = new Map<StateKind, StateRecord>([
  [StateKind.WINDOW, { fields: windowState, tail: 0 }],
  [StateKind.MEMORY, { fields: memoryState, tail: Number.POSITIVE_INFINITY }],
  [StateKind.GRANT_V1, { fields: undefined, tail: GRANT_RECORD_V1_SIZE }],
  [StateKind.GRANT_V2, { fields: undefined, tail: GRANT_RECORD_V2_SIZE }],
  [StateKind.GRANT_USE, { fields: undefined, tail: GRANT_USE_RECORD_SIZE }],
  [StateKind.ENA_LLQ, { fields: llqState, tail: 0 }],
  [StateKind.ENA_RING, { fields: enaRingState, tail: 0 }],
  [StateKind.ENA_REQUEST, { fields: enaRequestState, tail: 0 }],
  [StateKind.ENA_COMMAND, { fields: undefined, tail: AQ_ENTRY_SIZE }],
  [StateKind.XEN_RING, { fields: xenRingState, tail: GRANT_PAGE_BYTES }],
]);

/** Bytes of a part of the record: small enough for a packet that Wireshark opens. */
const PART_BYTES = 64 * 1024;
/** Memory is looked through, and told, by pieces of this size: most rings are mostly zeroes. */
const PIECE_BYTES = 4096;
const ZEROES = new Uint8Array(PIECE_BYTES);
/** Most bytes of windows that are told; the recorder's queue takes twice as many. */
const MAX_MEMORY_BYTES = 4 * 1024 * 1024;
/** Outstanding descriptors that are told, over all queues; a full ring has up to 4096. */
const MAX_REQUESTS = 0x1_0000;

/** Writes a state record. Calls `show` with each part, whose bytes are good during the call. */
export class LinkState {
  readonly #show: (part: Uint8Array) => void;
  readonly #bytes = new Uint8Array(PART_BYTES);
  readonly #view = viewOf(this.#bytes);
  #used = 0;
  /** The entry that a record of the same kind may join. */
  #entry = 0;
  #kind = 0;
  #memoryLeft = MAX_MEMORY_BYTES;
  #requestsLeft = MAX_REQUESTS;

  constructor(show: (part: Uint8Array) => void) {
    this.#show = show;
  }

  /** A window, and what is in it. */
  window(address: number, bytes: Uint8Array): void {
    windowState.write(this.#view, this.#record(StateKind.WINDOW, windowState.size), {
      address,
      length: bytes.length,
    });
    for (let at = 0; at < bytes.length && this.#memoryLeft > 0; at += PIECE_BYTES) {
      const piece = bytes.subarray(at, at + PIECE_BYTES);
      if (Buffer.compare(piece, ZEROES.subarray(0, piece.length)) === 0) continue;
      const to = this.#record(StateKind.MEMORY, memoryState.size + piece.length);
      memoryState.write(this.#view, to, { address: address + at });
      this.#bytes.set(piece, to + memoryState.size);
      this.#memoryLeft -= piece.length;
    }
  }

  /** An entry of a grant table that is not 0; `start` and `length` count in version 2. */
  grant(
    version: GrantVersion,
    reference: number,
    flags: number,
    domid: number,
    frame: number,
    start: number,
    length: number,
  ): void {
    const kind = version === 1 ? StateKind.GRANT_V1 : StateKind.GRANT_V2;
    const at = this.#record(kind, version === 1 ? GRANT_RECORD_V1_SIZE : GRANT_RECORD_V2_SIZE);
    const view = new DataView(this.#bytes.buffer, at);
    writeGrantRecord(view, 0, version, reference, flags, domid, frame, start, length);
  }

  /** A grant in use: how many uses read, and how many of them write. */
  grantUse(reference: number, readers: number, writers: number): void {
    const at = this.#record(StateKind.GRANT_USE, GRANT_USE_RECORD_SIZE);
    grantUseRecord.write(this.#view, at, reference, readers, writers);
  }

  llq(entryBytes: number, descsBeforeHeader: number): void {
    const at = this.#record(StateKind.ENA_LLQ, llqState.size);
    llqState.write(this.#view, at, { entryBytes, descsBeforeHeader });
  }

  /** A ring that is no submission queue. Completion queues come before the queues that use them. */
  enaRing(ring: Partial<EnaRingState>): void {
    const at = this.#record(StateKind.ENA_RING, enaRingState.size);
    enaRingState.write(this.#view, at, ring);
  }

  /** A submission queue and its outstanding requests, in the order of their posting. */
  submissionQueue(queue: Partial<EnaRingState>, requests: readonly EnaRequest[]): void {
    const { ring = 0, index = 0 } = queue;
    const requestsTold = requests.length <= this.#requestsLeft;
    this.enaRing({ ...queue, requestsTold });
    if (!requestsTold) return;
    this.#requestsLeft -= requests.length;
    for (const { reqId, address } of requests) {
      const at = this.#record(StateKind.ENA_REQUEST, enaRequestState.size);
      enaRequestState.write(this.#view, at, { ring, index, reqId, address });
    }
  }

  /** An admin command that waits for its completion: a whole entry. */
  adminCommand(entry: Uint8Array): void {
    this.#bytes.set(entry, this.#record(StateKind.ENA_COMMAND, AQ_ENTRY_SIZE));
  }

  /** A shared ring and its page, behind the grants. */
  xenRing(ring: XenRing): void {
    const at = this.#record(StateKind.XEN_RING, xenRingState.size + GRANT_PAGE_BYTES);
    xenRingState.write(this.#view, at, ring);
    this.#bytes.set(ring.page, at + xenRingState.size);
  }

  /** Shows what is not shown yet. */
  flush(): void {
    if (this.#used > 0) this.#show(this.#bytes.subarray(0, this.#used));
    this.#used = 0;
    this.#kind = 0;
  }

  /** Room for a record, in the open entry where that is of its kind. Returns the first byte. */
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
  /** Bytes behind the last whole record, or of a kind that is not known. */
  readonly rest: number;
}

/**
 * The entries of a part of a record, which may be any bytes. Undefined ends them early: the entry
 * does not lie within the part.
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
    const { fields, tail } = STATE_RECORDS.get(kind) ?? { fields: undefined, tail: 0 };
    const body = part.subarray(at + ENTRY_HEADER_BYTES, at + ENTRY_HEADER_BYTES + length);
    const size = Math.min((fields?.size ?? 0) + tail, Math.max(length, fields?.size ?? 0));
    const count = size === 0 ? 0 : Math.floor(length / size);
    const records = Array.from({ length: count }, (_, i) =>
      body.subarray(i * size, (i + 1) * size),
    );
    yield { kind, records, rest: length - count * size };
    at += ENTRY_HEADER_BYTES + length;
  }
}
