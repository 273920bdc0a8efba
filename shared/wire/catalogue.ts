/**
 * The catalogue of the wire. Each transaction is declared here once. The decoder, the type of a
 * sink, the typed `post` of a writer, the traces, and the tables of README.md and of the Wireshark
 * dissector (`npm run generate`) are all derived from it.
 *
 * A transaction is a msgpack array: opcode, then the fields in the order of their declaration.
 * `write`, `push` and `mmio_write` are columns: [opcode, data bin, records bin]. The records
 * (records.ts) cut the data into pieces. The columns, `interrupt`, `event`, `progress` and the grants
 * are the hot path. Their codecs in batch.ts and decode.ts are written by hand, and a test compares
 * them with this catalogue.
 */
import { END_GRANT_RECORD_SIZE, GRANT_USE_RECORD_SIZE } from "../xen/grant.ts";
import type { Hello, Welcome } from "./hello.ts";
import type { Personality } from "./personality.ts";
import {
  type FaultSeverity,
  GRANT_RECORD_BYTES,
  type GrantVersion,
  Limits,
  READ_STATUS_MAX,
  type ReadStatus,
} from "./protocol.ts";
import { type BusAddress, type MemoryAccess, RECORD_BYTES } from "./records.ts";

/**
 * One field. `Sent` is its type for a sender, `Got` for the receiver. The receiver of a map gets
 * `unknown` and checks it.
 */
export interface Field<Sent = unknown, Got = Sent> {
  readonly kind: "uint" | "text" | "bin" | "packed" | "map";
  /** Least and largest value of a uint; largest number of bytes of anything else. */
  readonly min: number;
  readonly max: number;
  /** Bytes of one record of a `packed` field; a table where they depend on the field `version`. */
  readonly recordBytes?: number | Readonly<Record<number, number>>;
  /** Present when traces print the field in hexadecimal. */
  readonly hex?: true;
  /** Carry the types `Sent` and `Got` for the compiler; never set. */
  readonly sent?: Sent;
  readonly got?: Got;
}

const uint = <T extends number = number>(max: number, min = 0): Field<T> => ({
  kind: "uint",
  min,
  max,
});
const text = (max: number): Field<string> => ({ kind: "text", min: 0, max });
const bin = (max: number): Field<Uint8Array> => ({ kind: "bin", min: 0, max });
const packed = (recordBytes: number | Readonly<Record<number, number>>): Field<Uint8Array> => ({
  kind: "packed",
  min: 0,
  max:
    Limits.COLUMN_RECORDS *
    (typeof recordBytes === "number" ? recordBytes : Math.max(...Object.values(recordBytes))),
  recordBytes,
});
const map = <T>(): Field<T, unknown> => ({ kind: "map", min: 0, max: Limits.HELLO_BYTES });

const TAG = uint(0xffffffff);
const SPACE = uint(1);
const ADDRESS: Field<number, BusAddress> = { kind: "uint", min: 0, max: Limits.ADDRESS, hex: true };
const COUNT = uint(Number.MAX_SAFE_INTEGER);
const CODE = text(Limits.NAME_BYTES);
const TEXT = text(Limits.TEXT_BYTES);
const COLUMN = { data: bin(Limits.MESSAGE_BYTES), records: packed(RECORD_BYTES) };

interface Transaction {
  readonly op: number;
  /** The receiving end. `link`: both ends receive it, and the link itself handles it. */
  readonly to: "device" | "frontend" | "both" | "link";
  readonly fields: Readonly<Record<string, Field>>;
  /** Name of the transaction that answers this one. Absent for a posted transaction. */
  readonly reply?: string;
  /** The only personality that uses this transaction. Absent when all do. */
  readonly personality?: Personality;
  /** Meaning, for the table of the protocol page. */
  readonly says: string;
}

/** Every transaction of the wire, declared once. */
export const catalogue = {
  hello: {
    op: 0,
    to: "device",
    fields: { greeting: map<Hello>() },
    reply: "welcome",
    says: "first transaction of a connection, sent once",
  },
  welcome: {
    op: 1,
    to: "frontend",
    fields: { greeting: map<Welcome>() },
    says: "the NIC exists and work may begin",
  },
  refuse: {
    op: 2,
    to: "frontend",
    fields: { code: CODE, text: TEXT },
    says: "sent in place of welcome; close 4001 follows",
  },
  heartbeat: {
    op: 3,
    to: "link",
    fields: { sent: COUNT, echo: COUNT },
    says: "sign of life, and its echo",
  },
  progress: {
    op: 4,
    to: "link",
    fields: { bytes: COUNT },
    says: "bytes of messages that the sender has received and applied since the start",
  },
  fault: {
    op: 5,
    to: "both",
    fields: {
      severity: uint<FaultSeverity>(2),
      code: CODE,
      text: TEXT,
      space: uint(0xffff),
      address: ADDRESS,
    },
    says: "a broken rule or a refused access",
  },
  move: {
    op: 6,
    to: "frontend",
    fields: { url: TEXT },
    says: "asks the NIC to connect to another device",
  },
  window: {
    op: 16,
    to: "device",
    fields: { address: ADDRESS, length: uint(Limits.WINDOW_BYTES) },
    says: "creates coherent memory, zeroed on both sides",
  },
  end_window: { op: 17, to: "device", fields: { address: ADDRESS }, says: "removes a window" },
  write: {
    op: 18,
    to: "both",
    fields: COLUMN,
    says: "F→D: a change to a window. D→F: a DMA write",
  },
  push: {
    op: 19,
    to: "device",
    fields: COLUMN,
    says: "streaming bytes ahead of the doorbell that needs them",
  },
  read: {
    op: 20,
    to: "frontend",
    fields: { tag: TAG, space: SPACE, address: ADDRESS, length: uint(Limits.READ_BYTES) },
    reply: "read_reply",
    says: "DMA read",
  },
  read_reply: {
    op: 21,
    to: "device",
    fields: { tag: TAG, status: uint<ReadStatus>(READ_STATUS_MAX), bytes: bin(Limits.READ_BYTES) },
    says: "status 0 and the bytes, or another status and no bytes",
  },
  mmio_write: {
    op: 22,
    to: "device",
    fields: COLUMN,
    says: "registers, doorbells, device memory; `space` is the BAR",
  },
  mmio_read: {
    op: 23,
    to: "device",
    fields: {
      tag: TAG,
      bar: uint(5),
      offset: { ...uint(Limits.BAR_OFFSET), hex: true },
      length: uint(Limits.MMIO_BYTES),
    },
    reply: "mmio_read_reply",
    says: "register read",
  },
  mmio_read_reply: {
    op: 24,
    to: "frontend",
    fields: { tag: TAG, bytes: bin(Limits.MMIO_BYTES) },
    says: "the bytes of the registers",
  },
  interrupt: {
    op: 25,
    to: "frontend",
    fields: { vector: uint(Limits.VECTORS - 1) },
    says: "MSI-X vector",
  },
  grant: {
    op: 32,
    to: "device",
    fields: { version: uint<GrantVersion>(2, 1), records: packed(GRANT_RECORD_BYTES) },
    personality: "xen",
    says: "new values of grant entries",
  },
  end_grant: {
    op: 33,
    to: "device",
    fields: { records: packed(END_GRANT_RECORD_SIZE) },
    personality: "xen",
    says: "grant entries that are 0 now",
  },
  grant_use: {
    op: 34,
    to: "frontend",
    fields: { records: packed(GRANT_USE_RECORD_SIZE) },
    personality: "xen",
    says: "changes of the use counts of grants",
  },
  hypercall: {
    op: 35,
    to: "device",
    fields: {
      tag: TAG,
      number: uint(0xff),
      command: uint(0xff),
      bytes: bin(Limits.HYPERCALL_BYTES),
    },
    reply: "hypercall_reply",
    personality: "xen",
    says: "argument structures of one call",
  },
  hypercall_reply: {
    op: 36,
    to: "frontend",
    fields: { tag: TAG, errno: uint(0xff), bytes: bin(Limits.HYPERCALL_BYTES) },
    personality: "xen",
    says: "the structures with the hypervisor's results",
  },
  event: {
    op: 37,
    to: "both",
    fields: { port: uint(Limits.PORTS - 1) },
    personality: "xen",
    says: "event-channel notification; the port is the frontend's",
  },
  xenstore: {
    op: 38,
    to: "both",
    fields: { bytes: bin(Limits.XENSTORE_BYTES) },
    personality: "xen",
    says: "one xs_wire message: request, reply or watch event",
  },
} as const satisfies Record<string, Transaction>;

type Catalogue = typeof catalogue;
/** Name of a transaction on the protocol page, in traces and in error texts. */
export type Name = keyof Catalogue;
type NamesTo<End extends Transaction["to"]> = {
  [N in Name]: Catalogue[N]["to"] extends End ? N : never;
}[Name];

/** Opcodes by name: `Op.END_WINDOW`. */
export const Op = Object.fromEntries(
  Object.entries(catalogue).map(([name, { op }]) => [name.toUpperCase(), op]),
) as { readonly [N in Name as Uppercase<N>]: Catalogue[N]["op"] };
export type Op = Catalogue[Name]["op"];

/** The fields of a transaction for its sender. */
export type Sent<N extends Name> = {
  readonly [F in keyof Catalogue[N]["fields"]]: Catalogue[N]["fields"][F] extends Field<
    infer T,
    unknown
  >
    ? T
    : never;
};
/** The fields of a transaction for its handler: checked. Bytes are views, valid during the call. */
export type Received<N extends Name> = {
  readonly [F in keyof Catalogue[N]["fields"]]: Catalogue[N]["fields"][F] extends Field<
    unknown,
    infer T
  >
    ? T
    : never;
};

/** Handlers of the transactions with codecs written by hand. */
interface HotHandlers {
  /** Handles one record of a column. The decoder reuses `access` for the next record. */
  write(access: MemoryAccess): void;
  /** As `write`, but `access.src` stays valid until the batch has been applied and processed. */
  push(access: MemoryAccess): void;
  /** `access.space` is the BAR, `access.address` the offset in it. */
  mmioWrite(access: MemoryAccess): void;
  interrupt(vector: number): void;
  grant(grants: GrantRecords): void;
  endGrant(ends: PackedRecords): void;
}

/** The records of a transaction, valid during the call: `count` of them from offset `at` of `view`. */
export interface PackedRecords {
  readonly view: DataView;
  readonly at: number;
  readonly count: number;
}
export interface GrantRecords extends PackedRecords {
  readonly version: GrantVersion;
}

/** Transactions that `BatchWriter.post` sends. */
export type PostName = Exclude<Name, "write" | "push" | "mmio_write" | "interrupt">;

type Camel<S extends string> = S extends `${infer Head}_${infer Rest}`
  ? `${Head}${Capitalize<Camel<Rest>>}`
  : S;

/** A method for each transaction. */
export type Handlers = HotHandlers & {
  [N in Exclude<PostName, "grant" | "end_grant"> as Camel<N>]: (fields: Received<N>) => void;
};
/** Handlers of the transactions that a device receives. */
export type DeviceSink = Pick<Handlers, Camel<NamesTo<"device" | "both">>>;
/** Handlers of the transactions that a frontend receives. */
export type FrontendSink = Pick<Handlers, Camel<NamesTo<"frontend" | "both">>>;
/** Handlers of the transactions that the link itself processes. */
export type LinkControl = Pick<Handlers, Camel<NamesTo<"link">>>;
/** Handlers of one end. A transaction without a handler is not meant for this end. */
export type Sink = Partial<Handlers>;

/** A declaration in the form that the decoder uses. */
export interface Entry {
  readonly op: number;
  readonly name: Name;
  /** Name of the handler in a sink. */
  readonly method: keyof Handlers;
  readonly to: Transaction["to"];
  readonly fields: readonly {
    readonly name: string;
    readonly field: Field;
    /** Transaction and field for error texts, such as `read: tag`. */
    readonly what: string;
  }[];
}

const byOp: (Entry | undefined)[] = new Array(256).fill(undefined);
for (const [key, { op, to, fields }] of Object.entries(catalogue)) {
  const name = key as Name;
  byOp[op] = {
    op,
    name,
    method: name.replace(/_(.)/g, (_, c: string) => c.toUpperCase()) as keyof Handlers,
    to,
    fields: Object.entries(fields).map(([field, declared]) => ({
      name: field,
      field: declared,
      what: declared.kind === "map" ? name : `${name}: ${field}`,
    })),
  };
}

/** Returns the entry of opcode 0 to 255, or undefined when the catalogue lacks it. */
export const entryOfOp = (op: number): Entry | undefined => byOp[op];
