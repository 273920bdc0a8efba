/**
 * Numbers of the protocol that both ends share: version, limits, severities, statuses, close codes.
 * The transactions are in catalogue.ts.
 */
import { MAX_FRAME_BYTES } from "../net/frame.ts";
import { GRANT_RECORD_V1_SIZE, GRANT_RECORD_V2_SIZE } from "../xen/grant.ts";

/** Version of the protocol. Both sides must have the same. */
export const PROTOCOL_VERSION = 1;
/** Name of the WebSocket subprotocol. */
export const SUBPROTOCOL = "ringwire.v1";
/** URL path at which the device accepts NICs. */
export const NIC_PATH = "/nic";

/** Bounds that every decoder enforces. A session may agree on smaller ones. */
export const Limits = {
  /** Bytes of one message, which is one batch. */
  MESSAGE_BYTES: 1 << 20,
  /** Transactions in a batch. */
  BATCH_TRANSACTIONS: 4096,
  /** Records in a column. */
  COLUMN_RECORDS: 8192,
  /** Bytes of one record, and of a read and its reply. */
  RECORD_BYTES: 1 << 17,
  READ_BYTES: 1 << 16,
  /** Bytes of one window, of all windows of a NIC, and their number. */
  WINDOW_BYTES: 1 << 22,
  WINDOWS_BYTES: 1 << 26,
  WINDOWS: 1024,
  /** Bytes of windows created in a second, removed ones included. The device must zero them. */
  WINDOWS_BYTES_A_SECOND: 1 << 29,
  /** Bytes of a register access. */
  MMIO_BYTES: 256,
  /** Highest offset in BAR 2 (device memory). The NIC checks the offsets of registers. */
  BAR_OFFSET: 0xffffffff,
  /** Highest address: 48 bits, as ENA's DMA width. */
  ADDRESS: 2 ** 48 - 1,
  VECTORS: 256,
  /** Reads that a device may have outstanding with one frontend. */
  READS: 256,
  /** Ranges of used tags kept for each kind of request. A sender that counts needs one range. */
  TAG_RANGES: 1024,
  /** Default of the bytes of pushed data that a device holds for a NIC; see `welcome`. */
  PUSH_BYTES: 16 << 20,
  /** Least `pushBytes` of a welcome: one whole frame. With less, a frame could wait for ever. */
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

/** Severity of a fault. QUEUE stops a queue, DEVICE stops the device, NOTE stops nothing. */
export const FaultSeverity = { NOTE: 0, QUEUE: 1, DEVICE: 2 } as const;
export type FaultSeverity = (typeof FaultSeverity)[keyof typeof FaultSeverity];
export const FAULT_SEVERITY_NAMES = ["note", "queue", "device"] as const;

/**
 * Status in the reply of a read. For a grant the status is the negated GNTST value; REFUSED then is
 * general_error.
 */
export const ReadStatus = { OK: 0, REFUSED: 1 } as const;
export type ReadStatus = number;
/** Highest status: 13 is GNTST_no_space. */
export const READ_STATUS_MAX = 13;

/** Bytes of a record of `grant`, by version of the entry in it. */
export const GRANT_RECORD_BYTES = { 1: GRANT_RECORD_V1_SIZE, 2: GRANT_RECORD_V2_SIZE } as const;
export type GrantVersion = 1 | 2;

/** When a frontend connects again: never, only if its NIC was up before, or in any case. */
export type Again = "never" | "once up" | "always";

/** Reasons for which a device refuses a hello. A frontend gives up on any other code. */
export const refusals = {
  VERSION: { again: "never", says: "the device speaks another version of the protocol" },
  PERSONALITY: { again: "never", says: "the device has no NIC of this personality" },
  NAME_IN_USE: { again: "once up", says: "a NIC or an uplink has the name" },
  MAC_IN_USE: { again: "once up", says: "a NIC has the address" },
  NAME_DENIED: { again: "never", says: "the client may not have the name" },
  STOPPING: { again: "always", says: "the device is about to stop" },
  NO_PLACE: { again: "always", says: "the device has as many NICs as it may have" },
  WIRE_HELLO: { again: "never", says: "a field of hello is wrong" },
} as const satisfies Record<string, { readonly again: Again; readonly says: string }>;
export type RefusalCode = keyof typeof refusals;

interface Close {
  readonly code: number;
  readonly says: string;
  /** False when a frontend gives up. */
  readonly again: boolean;
  /** The refusal that this code stands for when it comes before the welcome. */
  readonly early?: RefusalCode;
}

const close = (code: number, says: string, more: Partial<Close> = {}): Close => ({
  code,
  says,
  again: true,
  ...more,
});

/** WebSocket close codes: RFC 6455, 7.4.1, and from 4000 on those of this protocol (7.4.2). */
export const closes = {
  NORMAL: close(1000, "the peer stops"),
  GOING_AWAY: close(1001, "the device stops", { early: "STOPPING" }),
  BAD_FRAME: close(1002, "a frame that RFC 6455 does not allow"),
  TEXT_MESSAGE: close(1003, "a text message"),
  BAD_TEXT: close(1007, "a text message that is not UTF-8"),
  POLICY: close(
    1008,
    "pings come faster than their answers are read, or a message comes in too many pieces",
  ),
  TOO_LONG: close(1009, "a message of more than 1 MiB"),
  PROTOCOL: close(4000, "a rule of this page was broken"),
  REFUSED: close(4001, "the device refuses the NIC, see `refuse`", { again: false }),
  REPLACED: close(4002, "another connection took the name or the address"),
  LIMIT: close(
    4003,
    "a limit was ignored (windows in a second, pushes, heartbeats, gaps between tags), or unsent bytes passed 16 MiB",
    { early: "NO_PLACE" },
  ),
  DEAD_PEER: close(4004, "no sign of life"),
  FAILED: close(4005, "an error inside the peer, or copies of a window differ"),
  MOVED: close(4006, "the NIC moved to another device, see `move`"),
  NO_MEMORY: close(4007, "the device has no memory left for this NIC", { early: "NO_PLACE" }),
} as const satisfies Record<string, Close>;

/** Codes with which a side closes the WebSocket, by name. */
export const CloseCode = Object.fromEntries(
  Object.entries(closes).map(([name, { code }]) => [name, code]),
) as { readonly [Name in keyof typeof closes]: number };
/** One of the codes, or another number from the peer. */
export type CloseCode = number;

/** Returns undefined for a code outside the table, such as 1006 for a lost connection. */
export const closeOf = (code: number): Close | undefined =>
  Object.values(closes).find((known) => known.code === code);

/** The rule of the wire that a peer broke: for logs, and as a refusal of its hello. */
export type WireErrorCode =
  | `WIRE_${"DEPTH" | "DIRECTION" | "EMPTY" | "FIELDS" | "FLOOD" | "HELLO" | "OPCODE" | "PROGRESS"}`
  | `WIRE_${"RANGE" | "RECORDS" | "STATE" | "TAG" | "TEXT" | "TRAILING" | "TRUNCATED" | "TYPE"}`
  | `WINDOW_${"CHURN" | "EMPTY" | "LIMIT" | "OVERLAP" | "RANGE" | "UNKNOWN"}`
  | `XENSTORE_${"EVENT" | "MESSAGE" | "OUTSTANDING" | "REPLY" | "WATCHER_STUCK"}`
  | "GRANT_REFERENCE"
  | "GRANT_VERSION"
  | "HYPERCALL_TAG"
  | "MEMORY_BUDGET"
  | "MOVE_URL"
  | "PUSH_BUDGET"
  | "PUSH_SPACE"
  | "READ_TAG"
  | "WIRE_VERSION"
  | "WRITE_OUTSIDE";

/** The peer broke a rule of the wire. The error ends this connection and has no other effect. */
export class WireError extends Error {
  readonly code: WireErrorCode;
  readonly close: CloseCode;
  constructor(code: WireErrorCode, message: string, close: CloseCode = CloseCode.PROTOCOL) {
    super(message);
    this.name = "WireError";
    this.code = code;
    this.close = close;
  }
}
