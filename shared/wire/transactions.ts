/**
 * The catalogue of the wire: every transaction, its fields, their types and bounds.
 * README.md beside this file is the same in words; a test holds the two together.
 *
 * A transaction is a msgpack array: opcode, then fields. A column transaction carries
 * [opcode, data bin, records bin]: the records (records.ts) cut the data into pieces.
 */
import { MAX_FRAME_BYTES } from "../net/frame.ts";
import { GRANT_RECORD_V1_SIZE, GRANT_RECORD_V2_SIZE } from "../xen/grant.ts";

export const PROTOCOL_VERSION = 1;
export const SUBPROTOCOL = "ringwire.v1";
/** Where the device listens for NICs. */
export const NIC_PATH = "/nic";

export const Op = {
  HELLO: 0,
  WELCOME: 1,
  REFUSE: 2,
  HEARTBEAT: 3,
  PROGRESS: 4,
  FAULT: 5,
  MOVE: 6,
  WINDOW: 16,
  END_WINDOW: 17,
  WRITE: 18,
  PUSH: 19,
  READ: 20,
  READ_REPLY: 21,
  MMIO_WRITE: 22,
  MMIO_READ: 23,
  MMIO_READ_REPLY: 24,
  INTERRUPT: 25,
  GRANT: 32,
  END_GRANT: 33,
  GRANT_USE: 34,
  HYPERCALL: 35,
  HYPERCALL_REPLY: 36,
  EVENT: 37,
  XENSTORE: 38,
} as const;
export type Op = (typeof Op)[keyof typeof Op];

/** Bounds that every decoder enforces; the session may agree on smaller ones. */
export const Limits = {
  /** Bytes of one message, so of one batch. */
  MESSAGE_BYTES: 1 << 20,
  /** Transactions in a batch. */
  BATCH_TRANSACTIONS: 4096,
  /** Records in a column. */
  COLUMN_RECORDS: 8192,
  /** Bytes of one record; of a read and its reply. */
  RECORD_BYTES: 1 << 17,
  READ_BYTES: 1 << 16,
  /** Bytes of one window, of all windows of a NIC, and their number. */
  WINDOW_BYTES: 1 << 22,
  WINDOWS_BYTES: 1 << 26,
  WINDOWS: 1024,
  /** Bytes of windows made in a second, the taken away ones too: zeroing them is the device's work. */
  WINDOWS_BYTES_A_SECOND: 1 << 29,
  /** Bytes of a register access. */
  MMIO_BYTES: 256,
  /** BAR2 (device memory) ends here; register offsets are checked by the NIC. */
  BAR_OFFSET: 0xffffffff,
  /** Highest address: 48 bits, as ENA's DMA width. */
  ADDRESS: 2 ** 48 - 1,
  VECTORS: 256,
  /** Reads that a device may have outstanding with one frontend. */
  READS: 256,
  /** Ranges of used tags that a receiver keeps for each kind of request: a peer that counts has one. */
  TAG_RANGES: 1024,
  /** Bytes of pushed data a device holds for a NIC, unless welcome says otherwise. */
  PUSH_BYTES: 16 << 20,
  /** The least that welcome may say: one whole frame. With less, a frame could wait for ever. */
  PUSH_BYTES_MIN: MAX_FRAME_BYTES,
  /** Pushes that a device holds for a NIC, whatever their length. */
  PUSHES: 1 << 16,
  /** Argument structures of one hypercall, and of its reply. */
  HYPERCALL_BYTES: 1 << 14,
  /** Hypercalls that a frontend may have outstanding. */
  HYPERCALLS: 256,
  /** xs_wire header and payload (xen: xen/include/public/io/xs_wire.h, XENSTORE_PAYLOAD_MAX). */
  XENSTORE_BYTES: 16 + 4096,
  /** Event-channel ports of a domain: two-level ABI, 64-bit. */
  PORTS: 4096,
  TEXT_BYTES: 1024,
  NAME_BYTES: 64,
  HELLO_BYTES: 4096,
} as const;

/** Only the last two stop anything. */
export const FaultSeverity = { NOTE: 0, QUEUE: 1, DEVICE: 2 } as const;
export type FaultSeverity = (typeof FaultSeverity)[keyof typeof FaultSeverity];
export const FAULT_SEVERITY_NAMES = ["note", "queue", "device"] as const;

/**
 * Outcome of a read, in its reply. For a grant it is the negated GNTST status, of which
 * REFUSED is general_error.
 */
export const ReadStatus = { OK: 0, REFUSED: 1 } as const;
export type ReadStatus = number;
/** Highest status: 13 is GNTST_no_space. */
export const READ_STATUS_MAX = 13;

/** Bytes of a record of `grant`, by version of the entry in it. */
export const GRANT_RECORD_BYTES = { 1: GRANT_RECORD_V1_SIZE, 2: GRANT_RECORD_V2_SIZE } as const;
export type GrantVersion = 1 | 2;

/** WebSocket close codes of this protocol (RFC 6455, 7.4.2: 4000 to 4999 are private). */
export const CloseCode = {
  NORMAL: 1000,
  GOING_AWAY: 1001,
  PROTOCOL: 4000,
  REFUSED: 4001,
  REPLACED: 4002,
  LIMIT: 4003,
  DEAD_PEER: 4004,
  FAILED: 4005,
  MOVED: 4006,
} as const;
export type CloseCode = (typeof CloseCode)[keyof typeof CloseCode];

/** A rule of the wire broken by the peer: ends the connection, and only that. */
export class WireError extends Error {
  readonly code: string;
  readonly close: CloseCode;
  constructor(code: string, message: string, close: CloseCode = CloseCode.PROTOCOL) {
    super(message);
    this.name = "WireError";
    this.code = code;
    this.close = close;
  }
}

/** What the link itself answers. */
export interface LinkControl {
  heartbeat(sent: number, echo: number): void;
  progress(bytes: number): void;
}

/** What one side does with what it receives; a missing method means: not for this side. */
export interface Sink {
  hello?(value: unknown): void;
  welcome?(value: unknown): void;
  refuse?(code: string, text: string): void;
  fault(severity: FaultSeverity, code: string, text: string, space: number, address: number): void;
  window?(address: number, length: number): void;
  endWindow?(address: number): void;
  /** One record of a `write` column: src[at .. at + length), valid during the call. */
  write(
    space: number,
    address: number,
    type: number,
    src: Uint8Array,
    at: number,
    length: number,
  ): void;
  /** One record of a `push` column; `src` is valid until the batch has been applied and worked on. */
  push?(
    space: number,
    address: number,
    type: number,
    src: Uint8Array,
    at: number,
    length: number,
  ): void;
  read?(tag: number, space: number, address: number, length: number): void;
  readReply?(tag: number, status: ReadStatus, src: Uint8Array, at: number, length: number): void;
  mmioWrite?(
    bar: number,
    offset: number,
    type: number,
    src: Uint8Array,
    at: number,
    length: number,
  ): void;
  mmioRead?(tag: number, bar: number, offset: number, length: number): void;
  mmioReadReply?(tag: number, src: Uint8Array, at: number, length: number): void;
  interrupt?(vector: number): void;
  /** The NIC is to connect to the device at `url` instead. */
  move?(url: string): void;
  /** `count` packed records from byte `at` of `view`; valid during the call, as in the next two. */
  grant?(version: GrantVersion, view: DataView, at: number, count: number): void;
  endGrant?(view: DataView, at: number, count: number): void;
  grantUse?(view: DataView, at: number, count: number): void;
  hypercall?(
    tag: number,
    number: number,
    command: number,
    src: Uint8Array,
    at: number,
    length: number,
  ): void;
  hypercallReply?(tag: number, errno: number, src: Uint8Array, at: number, length: number): void;
  /** `port` is the frontend's, in both directions. */
  event?(port: number): void;
  xenstore?(src: Uint8Array, at: number, length: number): void;
}
