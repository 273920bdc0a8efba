/**
 * Describes a batch, one line for each transaction. Admin commands, completions, events, registers
 * and doorbells have their names, and so have their counterparts of Xen (wire-xen.ts). The module
 * is for --trace and failing tests, never for a path that has to be fast.
 *
 *   <- heartbeat sent=1203345 echo=0
 *   -> write 2 records: ENA_AQ 0x1000 GET_FEATURE DEVICE_ATTRIBUTES id=3
 *   -> mmio_write 1 record: AQ_DB = 0x1
 *   <- write 1 record: ENA_RX_CDESC x 12 at 0x5000
 *
 * It never throws, because a peer may send any bytes. Where the bytes are not a valid transaction,
 * the last line is the message of the decoder.
 */
import { hex, viewOf } from "../../shared/bytes/words.ts";
import {
  ACQ_ENTRY_SIZE,
  AdminStatus,
  AQ_ENTRY_SIZE,
  acqCommon,
  aqCommon,
  createCqResp,
  createSqResp,
  mmioReadResp,
  Opcode,
} from "../../shared/ena/admin.ts";
import { AENQ_ENTRY_SIZE } from "../../shared/ena/aenq.ts";
import { DESC_SIZE, RX_CDESC_SIZE, TX_CDESC_SIZE } from "../../shared/ena/io.ts";
import { Register } from "../../shared/ena/registers.ts";
import { type Entry, type Name, Op, type Received } from "../../shared/wire/catalogue.ts";
import { readEntry, readFields } from "../../shared/wire/decode.ts";
import { FAULT_SEVERITY_NAMES, Limits, ReadStatus, WireError } from "../../shared/wire/protocol.ts";
import { Reader } from "../../shared/wire/reader.ts";
import { RECORD_BYTES, RecordType, record, Space } from "../../shared/wire/records.ts";
import { CTRL_SLOT_SIZE } from "../../shared/xen/control.ts";
import { GRANT_PAGE_BYTES } from "../../shared/xen/grant.ts";
import { RX_SLOT_SIZE, TX_SLOT_SIZE } from "../../shared/xen/netif.ts";
import { RING_PAGE_BYTES } from "../../shared/xen/ring.ts";
import {
  describeAdminCommand,
  describeAdminCompletion,
  describeAenq,
  describeRegister,
  describeRegisterWrite,
} from "./ena.ts";
import { describeState } from "./state.ts";
import { xenDescriptions } from "./wire-xen.ts";
import {
  describeCtrlRequest,
  describeCtrlResponse,
  describeGntst,
  describeRingIndexes,
} from "./xen.ts";

export type TraceDirection = "in" | "out";

/** Number of records printed of a column. Only the number of the others is printed. */
const MAX_TOLD = 16;
const TYPE_NAMES = new Map<number, string>(
  Object.entries(RecordType).map(([name, type]) => [type, name]),
);
/** Bytes of one entry, for the types that come in arrays. */
const ENTRY_BYTES = new Map<number, number>([
  [RecordType.ENA_AQ, AQ_ENTRY_SIZE],
  [RecordType.ENA_ACQ, ACQ_ENTRY_SIZE],
  [RecordType.ENA_AENQ, AENQ_ENTRY_SIZE],
  [RecordType.ENA_TX_DESC, DESC_SIZE],
  [RecordType.ENA_RX_DESC, DESC_SIZE],
  [RecordType.ENA_TX_CDESC, TX_CDESC_SIZE],
  [RecordType.ENA_RX_CDESC, RX_CDESC_SIZE],
  [RecordType.XEN_TX_REQ, TX_SLOT_SIZE],
  [RecordType.XEN_TX_RSP, TX_SLOT_SIZE],
  [RecordType.XEN_RX_REQ, RX_SLOT_SIZE],
  [RecordType.XEN_RX_RSP, RX_SLOT_SIZE],
  [RecordType.XEN_CTRL_REQ, CTRL_SLOT_SIZE],
  [RecordType.XEN_CTRL_RSP, CTRL_SLOT_SIZE],
]);
const KNOWN_REGISTERS = new Set<number>(Object.values(Register));

/** Most entries of each table below, because a hostile device could fill them without end. */
const MAX_REMEMBERED = 4096;

/**
 * Describes the batches of one link. It remembers the offsets of the device's doorbells, so that
 * they have names. `traceBatch` is enough for a single batch.
 */
export class Tracer {
  /** Names of registers by offset in BAR 0, from the answers to CREATE_SQ and CREATE_CQ. */
  readonly #places = new Map<number, string>();
  /** Opcode and queue direction of admin commands by id. */
  readonly #commands = new Map<number, { opcode: number; direction: string }>();

  /** Returns one line for each transaction of the batch, in order. Never throws. */
  trace(direction: TraceDirection, batch: Uint8Array): string[] {
    const arrow = direction === "out" ? "->" : "<-";
    const lines: string[] = [];
    try {
      const r = new Reader().open(batch, 0, batch.length);
      const n = r.array("batch", Limits.BATCH_TRANSACTIONS);
      if (n === 0) lines.push(`${arrow} an empty batch`);
      for (let i = 0; i < n; i++) lines.push(`${arrow} ${this.#transaction(r, i)}`);
      r.finish("batch");
    } catch (error) {
      // All errors are caught, because a tracer that ends the process would hide the trace.
      const why = error instanceof WireError ? error.message : `can't be read: ${String(error)}`;
      lines.push(`${arrow} ! ${why}`);
    }
    return lines;
  }

  /** Returns one line for each entry of a part of a state record. Never throws. */
  state(part: Uint8Array): string[] {
    return describeState(part, (offset, what) => this.#place(offset, what));
  }

  #place(offset: number, what: string): void {
    if (this.#places.size < MAX_REMEMBERED) this.#places.set(offset, what);
  }

  #transaction(r: Reader, index: number): string {
    const entry = readEntry(r, index);
    const { name } = entry;
    if (name === "write" || name === "push" || name === "mmio_write") {
      return `${name} ${this.#column(r, entry.op, name)}`;
    }
    const fields = readFields(r, entry);
    const describe = this.#special[name] as ((fields: unknown) => string) | undefined;
    return `${name} ${describe?.(fields) ?? plainFields(entry, fields)}`;
  }

  /** Descriptions of transactions that contain more than plain fields. */
  readonly #special: { readonly [N in Name]?: (fields: Received<N>) => string } = {
    hello: ({ greeting }) => JSON.stringify(greeting),
    welcome: ({ greeting }) => JSON.stringify(greeting),
    fault: ({ severity, code, text, space, address }) =>
      `${FAULT_SEVERITY_NAMES[severity]} ${JSON.stringify(code)} ${JSON.stringify(text)} ${place(space, address)}`,
    read: ({ tag, space, address, length }) =>
      `tag=${tag} ${place(space, address)} length=${length}`,
    read_reply: ({ tag, status, bytes }) => `tag=${tag}${refusal(status)} bytes=${bytes.length}`,
    mmio_read: ({ tag, bar, offset, length }) =>
      `tag=${tag} ${bar === 0 ? this.#register(offset) : `BAR${bar}+${hex(offset)}`} length=${length}`,
    mmio_read_reply: ({ tag, bytes }) =>
      `tag=${tag} ${bytes.length === 4 ? hex(viewOf(bytes).getUint32(0, true)) : `${bytes.length} bytes`}`,
    ...xenDescriptions(),
  };

  #column(r: Reader, op: number, name: string): string {
    r.bin(`${name}: data`, Limits.MESSAGE_BYTES);
    let at = r.binAt;
    const end = at + r.binLength;
    r.bin(`${name}: records`, Limits.COLUMN_RECORDS * RECORD_BYTES);
    const { view, bytes } = r;
    const count = Math.floor(r.binLength / RECORD_BYTES);
    const told: string[] = [];
    let lastRun = "";
    let left = 0;
    for (let i = 0; i < count; i++) {
      const rec = r.binAt + i * RECORD_BYTES;
      const length = record.length(view, rec);
      if (length > end - at) {
        told.push("! records beyond the data");
        break;
      }
      const type = record.type(view, rec);
      const data = bytes.subarray(at, at + length);
      at += length;
      const detail = this.#detail(
        op,
        type,
        record.address(view, rec),
        record.space(view, rec),
        data,
      );
      if (detail === undefined) {
        // Records that move frames come by the hundred. Only the first of a run is printed.
        const run = `${op}/${type}`;
        if (run === lastRun) {
          left++;
          continue;
        }
        lastRun = run;
        told.push(bulk(op, type, record.address(view, rec), record.space(view, rec), length));
      } else {
        lastRun = "";
        told.push(...detail);
      }
      if (told.length >= MAX_TOLD) {
        left += count - i - 1;
        break;
      }
    }
    const more = left > 0 ? `; ${left} more` : "";
    return `${count} ${count === 1 ? "record" : "records"}: ${told.join("; ")}${more}`;
  }

  /** Describes control traffic in full; returns undefined for records that move frames. */
  #detail(
    op: number,
    type: number,
    address: number,
    space: number,
    data: Uint8Array,
  ): string[] | undefined {
    if (op === Op.MMIO_WRITE) {
      if (space !== 0 || data.length !== 4) return undefined;
      return [this.#registerWrite(address, viewOf(data).getUint32(0, true))];
    }
    if (type === RecordType.XEN_RING_INDEX) {
      const told = describeRingIndexes(address % RING_PAGE_BYTES, data);
      return [`${TYPE_NAMES.get(type)} ${place(space, address)} ${told}`];
    }
    const describe = DESCRIBE.get(type);
    if (describe !== undefined) {
      const entry = ENTRY_BYTES.get(type) ?? data.length;
      const lines: string[] = [];
      for (let at = 0; at < data.length; at += entry) {
        const bytes = data.subarray(at, at + entry);
        this.#learn(type, bytes);
        lines.push(`${TYPE_NAMES.get(type)} ${place(space, address + at)} ${describe(bytes)}`);
      }
      return lines;
    }
    if (type === RecordType.MMIO_RESPONSE) return [readlessAnswer(address, data)];
    return undefined;
  }

  #register(offset: number): string {
    return this.#places.get(offset) ?? describeRegister(offset);
  }

  #registerWrite(offset: number, value: number): string {
    if (KNOWN_REGISTERS.has(offset)) return describeRegisterWrite(offset, value);
    return `${this.#places.get(offset) ?? hex(offset)} = ${hex(value)}`;
  }

  /** Remembers the queue of each doorbell register. */
  #learn(type: number, entry: Uint8Array): void {
    if (entry.length < AQ_ENTRY_SIZE) return;
    const view = viewOf(entry);
    if (type === RecordType.ENA_AQ) {
      const { opcode, commandId } = aqCommon.parse(view, 0);
      // createSq: byte 4, bits 7:5 are the direction, 1 for tx.
      const direction = entry[4]! >> 5 === 1 ? "tx" : "rx";
      this.#commands.set(commandId, { opcode, direction });
      return;
    }
    if (type !== RecordType.ENA_ACQ) return;
    const { status, commandId } = acqCommon.parse(view, 0);
    const command = this.#commands.get(commandId);
    this.#commands.delete(commandId);
    if (status !== AdminStatus.SUCCESS) return;
    if (command?.opcode === Opcode.CREATE_SQ) {
      const { sqIdx, sqDoorbellOffset } = createSqResp.parse(view, 0);
      this.#place(sqDoorbellOffset, `doorbell of ${command.direction} SQ ${sqIdx}`);
    } else if (command?.opcode === Opcode.CREATE_CQ) {
      const { cqIdx, cqInterruptUnmaskRegisterOffset, numaNodeRegisterOffset } = createCqResp.parse(
        view,
        0,
      );
      if (cqInterruptUnmaskRegisterOffset !== 0) {
        this.#place(cqInterruptUnmaskRegisterOffset, `unmask of CQ ${cqIdx}`);
      }
      if (numaNodeRegisterOffset !== 0) {
        this.#place(numaNodeRegisterOffset, `numa node of CQ ${cqIdx}`);
      }
    }
  }
}

/** Describes one batch without the doorbell names of earlier batches. Never throws. */
export function traceBatch(direction: TraceDirection, batch: Uint8Array): string[] {
  return new Tracer().trace(direction, batch);
}

const DESCRIBE = new Map<number, (bytes: Uint8Array) => string>([
  [RecordType.ENA_AQ, describeAdminCommand],
  [RecordType.ENA_ACQ, describeAdminCompletion],
  [RecordType.ENA_AENQ, describeAenq],
  [RecordType.XEN_CTRL_REQ, describeCtrlRequest],
  [RecordType.XEN_CTRL_RSP, describeCtrlResponse],
]);

/** Formats fields as the catalogue declares them: `0x1000 length=4096`, `"ws://there"`. */
function plainFields({ fields }: Entry, values: Readonly<Record<string, unknown>>): string {
  return fields
    .map(({ name, field }) => {
      const value = values[name];
      if (field.kind === "text") return JSON.stringify(value);
      if (value instanceof Uint8Array) return `${name}=${value.length}`;
      return field.hex ? hex(value as number) : `${name}=${value}`;
    })
    .join(" ");
}

/** Formats an address as "0x1000", or reference and offset of a grant as "gref 9+0x40". */
function place(space: number, address: number): string {
  if (space !== Space.GRANT) return hex(address);
  const offset = address % GRANT_PAGE_BYTES;
  return `gref ${(address - offset) / GRANT_PAGE_BYTES}+${hex(offset)}`;
}

/** Describes a refusal. A grant's is a negated grant status; a bus uses only the status 1. */
function refusal(status: number): string {
  if (status === ReadStatus.OK) return "";
  return status === ReadStatus.REFUSED ? " refused" : ` refused ${describeGntst(-status)}`;
}

/** Returns "ENA_RX_CDESC x 12 at 0x5000", "FRAME 1514 bytes at 0x10002000". */
function bulk(op: number, type: number, address: number, space: number, length: number): string {
  const name = TYPE_NAMES.get(type) ?? `type ${type}`;
  const entry = ENTRY_BYTES.get(type);
  const what =
    entry !== undefined && length % entry === 0 ? `x ${length / entry}` : `${length} bytes`;
  const where = op === Op.MMIO_WRITE ? `BAR${space}+${hex(address)}` : place(space, address);
  return `${name} ${what} at ${where}`;
}

/** Describes a readless answer: value and offset, then the request id, in one or two records. */
function readlessAnswer(address: number, data: Uint8Array): string {
  const view = viewOf(data);
  if (data.length === mmioReadResp.size) {
    const { reqId, regOff, regVal } = mmioReadResp.parse(view, 0);
    return `${describeRegister(regOff)} reads ${hex(regVal)} seq=${reqId}`;
  }
  if (data.length === 6) {
    return `${describeRegister(view.getUint16(0, true))} reads ${hex(view.getUint32(2, true))}`;
  }
  if (data.length === 2) return `seq=${view.getUint16(0, true)}`;
  return `MMIO_RESPONSE ${data.length} bytes at ${hex(address)}`;
}
