/**
 * The driver's half of ENA, one method for each step. Nothing is checked, so that a test can also
 * break the rules. A subclass reaches the device: EnaTwin calls a NIC model in this process, RawEna
 * speaks over a link.
 *
 *   memory from `base`          MMIO response | AQ | ACQ | AENQ | rings ... | buffers
 */
import type { Struct } from "../../shared/bytes/struct.ts";
import { viewOf } from "../../shared/bytes/words.ts";
import {
  ACQ_ENTRY_SIZE,
  ADMIN_QUEUE_DEPTH,
  AdminStatus,
  AQ_ENTRY_SIZE,
  acqCommon,
  createCq,
  createCqResp,
  createSq,
  createSqResp,
  destroyCq,
  destroySq,
  Opcode,
  Placement,
  SqDirection,
  stampCommand,
} from "../../shared/ena/admin.ts";
import { AENQ_DEPTH, AENQ_ENTRY_SIZE } from "../../shared/ena/aenq.ts";
import { FeatureId, featureCommand, SET_FEATURE_BODY } from "../../shared/ena/features.ts";
import { rxCdesc, rxDesc, txCdesc, txDesc, txMeta } from "../../shared/ena/io.ts";
import {
  LlqDescsBeforeHeader,
  LlqEntrySize,
  LlqHeaderLocation,
  LlqStride,
  llqFeature,
} from "../../shared/ena/llq.ts";
import { devCtlReg, queueCapsReg, Register } from "../../shared/ena/registers.ts";
import { queueId } from "../../shared/net/frame.ts";
import { PhaseCursor } from "../../shared/ring/phase.ts";
import { type BusAddress, busAddress, NO_ADDRESS } from "../../shared/wire/records.ts";

export type Completion = ReturnType<EnaGuest["takeCompletions"]>[number];
export type EnaQueue = Awaited<ReturnType<EnaGuest["createQueue"]>>;

/** Default fields of a transmit descriptor: a whole packet. */
const TX = { length: 0, reqId: 0, address: 0, first: 1, last: 1, offload: 0, headerLength: 0 };
export type TxFields = Readonly<Partial<typeof TX & { phase: number }>>;

/** Control buffer: where the data of a feature lies that does not fit into the command. */
interface Control {
  readonly address: number;
  readonly length: number;
}

const NO_CONTROL: Control = { address: 0, length: 0 };
/** Bits of a meta descriptor's len_ctrl that make its fields valid. */
export const EXT_VALID = 1 << 14;
export const ETH_META_TYPE = 1 << 20;

export abstract class EnaGuest {
  readonly memory: Uint8Array;
  readonly view: DataView;
  aq = new PhaseCursor(ADMIN_QUEUE_DEPTH);
  acq = new PhaseCursor(ADMIN_QUEUE_DEPTH);
  aenq = new PhaseCursor(AENQ_DEPTH);
  aqAddress = 0;
  acqAddress = 0;
  aenqAddress = 0;
  readonly responseAddress: number;
  /** First free address of the guest's memory. */
  protected next: number;
  readonly #base: number;

  constructor(memory: Uint8Array, base: number) {
    this.memory = memory;
    this.view = viewOf(memory);
    this.#base = base;
    this.next = base;
    this.responseAddress = this.alloc(64);
  }

  abstract write32(offset: number, value: number): void;
  /** Changes the guest's memory, and the device's copy of it. */
  abstract write(address: number, bytes: Uint8Array): void;
  /** Resolves when all posted is applied and all reads are answered; false: the link has ended. */
  abstract settle(): Promise<boolean>;

  /** Allocates memory for buffers; it is never freed. */
  alloc(bytes: number): BusAddress {
    const address = busAddress(this.next);
    this.next += Math.ceil(bytes / 64) * 64;
    return address;
  }

  /** Allocates memory for a ring. */
  allocRing(bytes: number): BusAddress {
    return this.alloc(bytes);
  }

  at(address: number): number {
    return address - this.#base;
  }

  setResponse(): void {
    this.#writeAddress(Register.MMIO_RESP_LO, this.responseAddress);
  }

  #writeAddress(offset: number, value: number): void {
    this.write32(offset, value >>> 0);
    this.write32(offset + 4, Math.floor(value / 2 ** 32));
  }

  askForReset(reason: number): void {
    this.write32(Register.DEV_CTL, devCtlReg.packReset(reason, true));
  }

  /** Sets up all three admin rings, in a valid order. */
  initAdmin(eventDepth = AENQ_DEPTH): void {
    const ring = (base: number, caps: number, depth: number, entryBytes: number): number => {
      const address = this.allocRing(depth * entryBytes);
      this.#writeAddress(base, address);
      this.write32(caps, queueCapsReg.pack(depth, entryBytes));
      return address;
    };
    const { AQ_BASE_LO, AQ_CAPS, ACQ_BASE_LO, ACQ_CAPS, AENQ_BASE_LO, AENQ_CAPS } = Register;
    this.aq = new PhaseCursor(ADMIN_QUEUE_DEPTH);
    this.acq = new PhaseCursor(ADMIN_QUEUE_DEPTH);
    this.aenq = new PhaseCursor(eventDepth);
    this.aqAddress = ring(AQ_BASE_LO, AQ_CAPS, ADMIN_QUEUE_DEPTH, AQ_ENTRY_SIZE);
    this.acqAddress = ring(ACQ_BASE_LO, ACQ_CAPS, ADMIN_QUEUE_DEPTH, ACQ_ENTRY_SIZE);
    this.aenqAddress = ring(AENQ_BASE_LO, AENQ_CAPS, eventDepth, AENQ_ENTRY_SIZE);
  }

  /** Writes a command into the next admin entry, without the doorbell. Returns its id. */
  post(command: Uint8Array, commandId: number = this.aq.slot): number {
    const entry = command.slice(0, AQ_ENTRY_SIZE);
    stampCommand(viewOf(entry), 0, commandId, this.aq.phase);
    this.write(this.aqAddress + this.aq.slot * AQ_ENTRY_SIZE, entry);
    this.aq.next();
    return commandId;
  }

  ringAdmin(): void {
    this.write32(Register.AQ_DB, this.aq.head);
  }

  /** Offsets of the entries that arrived in a completion ring since the last call. */
  #arrived(
    address: number,
    cursor: PhaseCursor,
    entryBytes: number,
    phaseAt: (view: DataView, at: number) => number,
  ): number[] {
    const found: number[] = [];
    for (;;) {
      const at = this.at(address) + cursor.slot * entryBytes;
      if (phaseAt(this.view, at) !== cursor.phase) return found;
      found.push(at);
      cursor.next();
    }
  }

  /** Completions that arrived since the last call; `entry` is the whole 64 bytes. */
  takeCompletions() {
    const phaseAt = (view: DataView, at: number) => acqCommon.parse(view, at).phase;
    return this.#arrived(this.acqAddress, this.acq, ACQ_ENTRY_SIZE, phaseAt).map((at) => {
      const entry = viewOf(Uint8Array.from(this.memory.subarray(at, at + ACQ_ENTRY_SIZE)));
      const { commandId, status } = acqCommon.parse(entry, 0);
      return { commandId, status, entry };
    });
  }

  /** Posts one command, rings the doorbell and waits for its completion. */
  async command(command: Uint8Array): Promise<Completion> {
    this.post(command);
    this.ringAdmin();
    // Each read that the command causes takes one round trip.
    for (let look = 0; look < 10; look++) {
      const [answer, ...more] = this.takeCompletions();
      if (more.length > 0) throw new Error(`${more.length} completions too many`);
      if (answer !== undefined) return answer;
      if (!(await this.settle())) break;
    }
    throw new Error(`no answer to a command of opcode ${command[2]}`);
  }

  getFeature(featureId: number, control: Control = NO_CONTROL): Promise<Completion> {
    return this.command(featureEntry(featureId, undefined, {}, control, Opcode.GET_FEATURE));
  }

  setFeature<T>(
    featureId: number,
    layout?: Struct<T>,
    fields: Partial<T> = {},
    control: Control = NO_CONTROL,
  ): Promise<Completion> {
    return this.command(featureEntry(featureId, layout, fields, control));
  }

  /** Enables low latency queues: 128-byte entries with two descriptors ahead of the header. */
  async enableLlq(): Promise<void> {
    succeeded("SET_FEATURE LLQ", await this.setFeature(FeatureId.LLQ, llqFeature, PLAIN_LLQ));
  }

  async createQueue(
    direction: SqDirection,
    depth = 64,
    vector = 1,
    placement: Placement = Placement.HOST,
  ) {
    const cqBytes = direction === SqDirection.TX ? 8 : 16;
    const cqAddress = this.allocRing(depth * cqBytes);
    const isHost = placement === Placement.HOST;
    const sqAddress = isHost ? this.allocRing(depth * 16) : NO_ADDRESS;
    const cqDone = await this.command(
      build(createCq, {
        opcode: Opcode.CREATE_CQ,
        interruptMode: true,
        entrySizeWords: cqBytes / 4,
        cqDepth: depth,
        msixVector: vector,
        cqBa: cqAddress,
      }),
    );
    const cq = createCqResp.parse(succeeded("CREATE_CQ", cqDone), 0);
    const sqDone = await this.command(
      build(createSq, {
        opcode: Opcode.CREATE_SQ,
        direction,
        placement,
        contiguous: true,
        cqIdx: cq.cqIdx,
        sqDepth: depth,
        sqBa: sqAddress,
      }),
    );
    const sq = createSqResp.parse(succeeded("CREATE_SQ", sqDone), 0);
    return {
      direction,
      cqIdx: cq.cqIdx,
      sqIdx: sq.sqIdx,
      doorbell: sq.sqDoorbellOffset,
      unmask: cq.cqInterruptUnmaskRegisterOffset,
      /** Offset of the entries in BAR 2, when the queue is placed in the device. */
      llqOffset: sq.llqDescriptorsOffset,
      sqAddress,
      cqAddress,
      /** Position of the next descriptor to post; provides its phase bit. */
      sq: new PhaseCursor(depth),
      /** Position of the next completion to expect. */
      cq: new PhaseCursor(depth),
    };
  }

  destroySq(direction: number, index: number): Promise<Completion> {
    const sqIdx = queueId(index);
    return this.command(build(destroySq, { opcode: Opcode.DESTROY_SQ, direction, sqIdx }));
  }

  destroyCq(cqIdx: number): Promise<Completion> {
    return this.command(build(destroyCq, { opcode: Opcode.DESTROY_CQ, cqIdx: queueId(cqIdx) }));
  }

  /** Writes one 16-byte descriptor at the queue's tail and advances the tail. */
  describe(q: EnaQueue, descriptor: Uint8Array): void {
    this.write(q.sqAddress + q.sq.slot * 16, descriptor);
    q.sq.next();
  }

  ring(q: EnaQueue, value: number = q.sq.head): void {
    this.write32(q.doorbell, value & 0xffff);
  }

  /** Posts one transmit descriptor of a packet. `flags` is any of "f" first, "l" last. */
  postTx(
    q: EnaQueue,
    reqId: number,
    address: number,
    length: number,
    flags = "fl",
    offload = 0,
  ): void {
    const first = flags.includes("f") ? 1 : 0;
    const last = flags.includes("l") ? 1 : 0;
    this.describe(q, txDescriptor({ length, reqId, address, first, last, offload }, q));
  }

  /** Posts a meta descriptor, with the bits `clear` of len_ctrl cleared. */
  postMeta(
    q: EnaQueue,
    mss: number,
    l3HdrLen: number,
    l3HdrOffset: number,
    l4Words: number,
    clear = 0,
  ): void {
    const view = new DataView(new ArrayBuffer(16));
    txMeta.write(view, 0, q.sq.phase, mss, l3HdrLen, l3HdrOffset, l4Words);
    view.setUint32(0, view.getUint32(0, true) & ~clear, true);
    this.describe(q, new Uint8Array(view.buffer));
  }

  /** Posts a meta descriptor without valid bit and type, and with junk in its fields. */
  postEmptyMeta(q: EnaQueue, clear = EXT_VALID | ETH_META_TYPE): void {
    this.postMeta(q, 9000, 255, 255, 63, clear);
  }

  postRx(q: EnaQueue, reqId: number, address: number, length: number, phase?: number): void {
    const view = new DataView(new ArrayBuffer(16));
    rxDesc.write(view, 0, length, phase ?? q.sq.phase, reqId, busAddress(address));
    this.describe(q, new Uint8Array(view.buffer));
  }

  /** Request ids of the completions that arrived since the last call. */
  completed(q: EnaQueue): number[] {
    if (q.direction === SqDirection.RX) return this.takeRx(q).map((done) => done.reqId);
    return this.#arrived(q.cqAddress, q.cq, 8, txCdesc.phase).map((at) =>
      txCdesc.reqId(this.view, at),
    );
  }

  takeRx(q: EnaQueue) {
    const { view } = this;
    const phaseAt = (_view: DataView, at: number) => rxCdesc.phaseOf(rxCdesc.status(view, at));
    return this.#arrived(q.cqAddress, q.cq, 16, phaseAt).map((at) => {
      const status = rxCdesc.status(view, at);
      return {
        reqId: rxCdesc.reqId(view, at),
        length: rxCdesc.length(view, at),
        status,
        hash: rxCdesc.hash(view, at),
        first: rxCdesc.firstOf(status),
        last: rxCdesc.lastOf(status),
      };
    });
  }
}

/** 128-byte entries with two descriptors ahead of the header. */
export const PLAIN_LLQ = {
  headerLocationEnabled: LlqHeaderLocation.INLINE,
  entrySizeEnabled: LlqEntrySize.SIZE_128B,
  descsBeforeHeaderEnabled: LlqDescsBeforeHeader.TWO,
  strideEnabled: LlqStride.MULTIPLE_DESCS_PER_ENTRY,
};

/** A transmit descriptor for the tail of `q`: a whole packet unless fields say otherwise. */
export function txDescriptor(fields: TxFields, q: EnaQueue): Uint8Array {
  const { length, reqId, address, first, last, offload, headerLength } = { ...TX, ...fields };
  const { phase = q.sq.phase } = fields;
  const view = new DataView(new ArrayBuffer(16));
  const to = busAddress(address);
  txDesc.write(view, 0, length, reqId, phase, first, last, 1, offload, to, headerLength);
  return new Uint8Array(view.buffer);
}

/** A 64-byte admin command from its fields. */
export const build = <T>(layout: Struct<T>, fields: Partial<T>): Uint8Array =>
  structBytes(layout, fields, AQ_ENTRY_SIZE);

/** A structure from its fields, in `size` bytes. */
export function structBytes<T>(
  layout: Struct<T>,
  fields: Partial<T>,
  size = layout.size,
): Uint8Array {
  const bytes = new Uint8Array(size);
  layout.write(viewOf(bytes), 0, fields);
  return bytes;
}

/** SET_FEATURE when given a body, else GET_FEATURE. */
export function featureEntry<T>(
  featureId: number,
  layout?: Struct<T>,
  fields: Partial<T> = {},
  control: Control = NO_CONTROL,
  opcode: Opcode = Opcode.SET_FEATURE,
): Uint8Array {
  const command = build(featureCommand, {
    opcode,
    featureId,
    controlAddress: busAddress(control.address),
    controlLength: control.length,
    ctrlDataIndirect: control.length > 0,
  });
  layout?.write(viewOf(command), SET_FEATURE_BODY, fields);
  return command;
}

function succeeded(what: string, { status, entry }: Completion): DataView {
  if (status !== AdminStatus.SUCCESS) throw new Error(`${what}: ${status}`);
  return entry;
}
