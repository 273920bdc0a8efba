/**
 * A guest that drives an ENA function by hand: its own flat memory, its own rings, and no opinion
 * on what is allowed. Each step is public, so that a test does all of them right and one wrong.
 *
 *   memory, 1 MiB from BASE          AQ | ACQ | AENQ | MMIO response | queues ... | buffers
 *     windows: AQ to the end of the queues (or none: then the device has to ask for everything)
 *     buffers: not a window; what is sent from there is pushed, or asked for
 *
 * Device writes land in `memory` when they hit it, else in `strays`.
 */
import {
  ACQ_ENTRY_SIZE,
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
import { AENQ_ENTRY_SIZE } from "../../shared/ena/aenq.ts";
import { FeatureId, featureCommand, SET_FEATURE_BODY } from "../../shared/ena/features.ts";
import { rxCdesc, rxDesc, txCdesc, txDesc } from "../../shared/ena/io.ts";
import {
  LlqDescsBeforeHeader,
  LlqEntrySize,
  LlqHeaderLocation,
  LlqStride,
  llqFeature,
} from "../../shared/ena/llq.ts";
import { DevSts, devCtlReg, queueCapsReg, Register } from "../../shared/ena/registers.ts";
import { Op } from "../../shared/wire/catalogue.ts";
import { column, mmio, RawFrontend } from "./raw-frontend.ts";

export const BASE = 0x10_0000;
export const MEMORY_BYTES = 0x10_0000;
const AQ = BASE;
const ACQ = BASE + 0x1000;
const AENQ = BASE + 0x2000;
const RESPONSE = BASE + 0x3000;
/** Rings of IO queues: 0x4000 for each, room for eight. */
const QUEUES = BASE + 0x1_0000;
const QUEUE_BYTES = 0x4000;
export const BUFFERS = BASE + 0x8_0000;
const BUFFER_BYTES = 2048;
export const ADMIN_DEPTH = 32;

export interface RawQueue {
  readonly direction: SqDirection;
  readonly depth: number;
  readonly sqAddress: number;
  readonly cqAddress: number;
  readonly cqIndex: number;
  readonly sqIndex: number;
  readonly doorbell: number;
  /** Where its entries lie in BAR 2, for one placed in the device. */
  readonly llqOffset: number;
  readonly placement: Placement;
  /** Free-running. */
  tail: number;
  head: number;
}

export interface Answer {
  readonly status: AdminStatus;
  /** The whole 64-byte completion. */
  readonly view: DataView;
}

/** Phase bit of the entry that a free-running index names. */
export const phaseOf = (index: number, depth: number): number =>
  Math.floor(index / depth) % 2 === 0 ? 1 : 0;

export class RawEna {
  readonly raw: RawFrontend;
  readonly memory = Buffer.alloc(MEMORY_BYTES);
  readonly view = new DataView(this.memory.buffer, this.memory.byteOffset, this.memory.byteLength);
  /** Device writes that hit no memory of ours. */
  readonly strays: { address: number; length: number }[] = [];
  readonly windows: boolean;
  #aqTail = 0;
  #acqHead = 0;
  #queues = 0;

  constructor(raw: RawFrontend, windows = true) {
    this.raw = raw;
    this.windows = windows;
    raw.onWrite = (address, bytes) => {
      const at = address - BASE;
      if (at < 0 || at + bytes.length > MEMORY_BYTES) {
        this.strays.push({ address, length: bytes.length });
      } else this.memory.set(bytes, at);
    };
    raw.onRead = (address, length) => {
      const at = address - BASE;
      if (at < 0 || at + length > MEMORY_BYTES) return "refuse";
      return this.memory.subarray(at, at + length);
    };
  }

  /** A guest named `name` that has reset its device and can give admin commands. */
  static async start(
    port: number,
    name: string,
    windows = true,
    hello: object = {},
  ): Promise<RawEna> {
    const ena = new RawEna(await RawFrontend.join(port, name, hello), windows);
    if (windows) ena.raw.batch([Op.WINDOW, BASE, BUFFERS - BASE]);
    await ena.reset();
    ena.setUpAdmin();
    return ena;
  }

  /** ... and has one receive and one transmit queue. */
  static async startWithQueues(
    port: number,
    name: string,
    windows = true,
    hello: object = {},
  ): Promise<{ ena: RawEna; tx: RawQueue; rx: RawQueue }> {
    const ena = await RawEna.start(port, name, windows, hello);
    const tx = await ena.createQueue(SqDirection.TX);
    const rx = await ena.createQueue(SqDirection.RX);
    return { ena, tx, rx };
  }

  register(offset: number, value: number): void {
    this.raw.batch(mmio(offset, value));
  }

  /** The handshake of ena_com_dev_reset. */
  async reset(reason = 0): Promise<void> {
    this.register(Register.DEV_CTL, devCtlReg.packReset(reason, true));
    await this.#status(DevSts.RESET_IN_PROGRESS, DevSts.RESET_IN_PROGRESS);
    this.register(Register.DEV_CTL, 0);
    await this.#status(DevSts.RESET_IN_PROGRESS, 0);
    this.#aqTail = 0;
    this.#acqHead = 0;
    this.#queues = 0;
    this.memory.fill(0, 0, BUFFERS - BASE);
    // The device keeps windows over a reset; its copy of what we wrote has to go as ours does.
    if (this.windows) this.write(BASE, this.memory.subarray(0, 0x4000));
  }

  async #status(mask: number, wanted: number): Promise<void> {
    const status = await this.raw.read32(Register.DEV_STS);
    if ((status & mask) !== wanted) throw new Error(`DEV_STS is 0x${status.toString(16)}`);
  }

  /** All three admin rings, in an order that works. */
  setUpAdmin(eventDepth = ADMIN_DEPTH): void {
    const { raw } = this;
    raw.batch(
      mmio(Register.AQ_BASE_LO, AQ),
      mmio(Register.AQ_BASE_HI, 0),
      mmio(Register.AQ_CAPS, queueCapsReg.pack(ADMIN_DEPTH, AQ_ENTRY_SIZE)),
      mmio(Register.ACQ_BASE_LO, ACQ),
      mmio(Register.ACQ_BASE_HI, 0),
      mmio(Register.ACQ_CAPS, queueCapsReg.pack(ADMIN_DEPTH, ACQ_ENTRY_SIZE)),
      mmio(Register.AENQ_BASE_LO, AENQ),
      mmio(Register.AENQ_BASE_HI, 0),
      mmio(Register.AENQ_CAPS, queueCapsReg.pack(eventDepth, AENQ_ENTRY_SIZE)),
      mmio(Register.MMIO_RESP_LO, RESPONSE),
      mmio(Register.MMIO_RESP_HI, 0),
      mmio(Register.AENQ_HEAD_DB, eventDepth),
    );
  }

  /** Changes our memory, and the device's copy of it when there is a window. */
  write(address: number, bytes: Uint8Array): void {
    this.memory.set(bytes, address - BASE);
    if (this.windows && address < BUFFERS) {
      this.raw.batch(column(Op.WRITE, [{ address, bytes }]));
    }
  }

  /** Puts one 64-byte command into the admin queue and rings; id and phase are right. */
  post(command: Uint8Array, commandId = this.#aqTail & 0xfff): void {
    const entry = Buffer.alloc(AQ_ENTRY_SIZE);
    entry.set(command.subarray(0, AQ_ENTRY_SIZE));
    const phase = phaseOf(this.#aqTail, ADMIN_DEPTH);
    stampCommand(new DataView(entry.buffer, entry.byteOffset), 0, commandId, phase);
    this.write(AQ + (this.#aqTail % ADMIN_DEPTH) * AQ_ENTRY_SIZE, entry);
    this.#aqTail++;
    this.register(Register.AQ_DB, this.#aqTail & 0xffff);
  }

  /** Completions that have arrived since the last call. */
  completions(): Answer[] {
    const answers: Answer[] = [];
    for (;;) {
      const at = ACQ - BASE + (this.#acqHead % ADMIN_DEPTH) * ACQ_ENTRY_SIZE;
      const { phase, status } = acqCommon.parse(this.view, at);
      if (phase !== phaseOf(this.#acqHead, ADMIN_DEPTH)) return answers;
      this.#acqHead++;
      const copy = this.memory.subarray(at, at + ACQ_ENTRY_SIZE);
      const view = new DataView(Uint8Array.from(copy).buffer);
      answers.push({ status: status as AdminStatus, view });
    }
  }

  /** One command, and its answer. Undefined when the device ends the connection or never answers. */
  async command(command: Uint8Array): Promise<Answer | undefined> {
    this.post(command);
    // A command that needs reads takes a round trip for each.
    for (let look = 0; look < 8; look++) {
      if (!(await this.raw.survived())) return undefined;
      const [answer] = this.completions();
      if (answer !== undefined) return answer;
    }
    return undefined;
  }

  /** Low latency queues of 128-byte entries with two descriptors ahead of the header. */
  async enableLlq(): Promise<void> {
    const command = build(featureCommand, {
      opcode: Opcode.SET_FEATURE,
      featureId: FeatureId.LLQ,
    });
    llqFeature.write(new DataView(command.buffer), SET_FEATURE_BODY, {
      headerLocationEnabled: LlqHeaderLocation.INLINE,
      entrySizeEnabled: LlqEntrySize.SIZE_128B,
      descsBeforeHeaderEnabled: LlqDescsBeforeHeader.TWO,
      strideEnabled: LlqStride.MULTIPLE_DESCS_PER_ENTRY,
    });
    succeeded("SET_FEATURE LLQ", await this.command(command));
  }

  async createQueue(
    direction: SqDirection,
    depth = 64,
    placement: Placement = Placement.HOST,
  ): Promise<RawQueue> {
    const base = QUEUES + this.#queues++ * QUEUE_BYTES;
    const tx = direction === SqDirection.TX;
    const cq = await this.command(
      build(createCq, {
        opcode: Opcode.CREATE_CQ,
        entrySizeWords: tx ? 2 : 4,
        cqDepth: depth,
        msixVector: 1,
        interruptMode: true,
        cqBa: base + 0x2000,
      }),
    );
    const cqIndex = createCqResp.parse(succeeded("CREATE_CQ", cq), 0).cqIdx;
    const sq = await this.command(
      build(createSq, {
        opcode: Opcode.CREATE_SQ,
        direction,
        placement,
        contiguous: true,
        cqIdx: cqIndex,
        sqDepth: depth,
        sqBa: placement === Placement.HOST ? base : 0,
      }),
    );
    const made = createSqResp.parse(succeeded("CREATE_SQ", sq), 0);
    return {
      direction,
      depth,
      sqAddress: base,
      cqAddress: base + 0x2000,
      cqIndex,
      sqIndex: made.sqIdx,
      doorbell: made.sqDoorbellOffset,
      llqOffset: made.llqDescriptorsOffset,
      placement,
      tail: 0,
      head: 0,
    };
  }

  async destroyQueue(queue: RawQueue): Promise<void> {
    const { direction, sqIndex, cqIndex } = queue;
    const sq = build(destroySq, { opcode: Opcode.DESTROY_SQ, sqIdx: sqIndex, direction });
    succeeded("DESTROY_SQ", await this.command(sq));
    const cq = build(destroyCq, { opcode: Opcode.DESTROY_CQ, cqIdx: cqIndex });
    succeeded("DESTROY_CQ", await this.command(cq));
  }

  /** Writes one 16-byte descriptor at the queue's tail and moves the tail. */
  describe(queue: RawQueue, descriptor: Uint8Array): void {
    this.write(queue.sqAddress + (queue.tail % queue.depth) * 16, descriptor);
    queue.tail++;
  }

  ring(queue: RawQueue, value = queue.tail): void {
    this.register(queue.doorbell, value & 0xffff);
  }

  /** Address of buffer number `i`. */
  buffer(i: number): number {
    return BUFFERS + (i % ((BASE + MEMORY_BYTES - BUFFERS) / BUFFER_BYTES)) * BUFFER_BYTES;
  }

  /** Sends one frame from one buffer, pushed ahead of the doorbell unless told otherwise. */
  transmit(
    queue: RawQueue,
    frame: Uint8Array,
    reqId = queue.tail % queue.depth,
    push = true,
  ): void {
    const address = this.buffer(queue.tail % queue.depth);
    this.memory.set(frame, address - BASE);
    if (push) this.raw.batch(column(Op.PUSH, [{ address, bytes: frame, type: 1 }]));
    this.describe(queue, txDescriptor({ length: frame.length, reqId, address }, queue));
    this.ring(queue);
  }

  /** Offers `count` empty buffers. `idOf` names the request id of a ring slot. */
  refill(queue: RawQueue, count: number, idOf = (slot: number): number => slot): void {
    for (let i = 0; i < count; i++) {
      const slot = queue.tail % queue.depth;
      const descriptor = Buffer.alloc(16);
      const view = new DataView(descriptor.buffer, descriptor.byteOffset);
      const phase = phaseOf(queue.tail, queue.depth);
      rxDesc.write(view, 0, BUFFER_BYTES, phase, idOf(slot), this.buffer(128 + slot));
      this.describe(queue, descriptor);
    }
    this.ring(queue);
  }

  /** Request ids of the completions that have arrived since the last call. */
  completed(queue: RawQueue): number[] {
    const tx = queue.direction === SqDirection.TX;
    const bytes = tx ? 8 : 16;
    const ids: number[] = [];
    for (;;) {
      const at = queue.cqAddress - BASE + (queue.head % queue.depth) * bytes;
      const phase = tx ? txCdesc.phase(this.view, at) : rxCdesc.phase(this.view, at);
      if (phase !== phaseOf(queue.head, queue.depth)) return ids;
      ids.push(tx ? txCdesc.reqId(this.view, at) : rxCdesc.reqId(this.view, at));
      queue.head++;
    }
  }
}

export interface TxFields {
  readonly length: number;
  readonly reqId: number;
  readonly address: number;
  readonly phase?: number;
  readonly first?: number;
  readonly last?: number;
  readonly offload?: number;
  readonly headerLength?: number;
}

/** A transmit descriptor for the tail of `queue`: a whole packet unless fields say otherwise. */
export function txDescriptor(fields: TxFields, queue: RawQueue): Buffer {
  const { length, reqId, address, first = 1, last = 1, offload = 0, headerLength = 0 } = fields;
  const phase = fields.phase ?? phaseOf(queue.tail, queue.depth);
  const bytes = Buffer.alloc(16);
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  txDesc.write(view, 0, length, reqId, phase, first, last, 1, offload, address, headerLength);
  return bytes;
}

interface Layout<T> {
  readonly size: number;
  write(view: DataView, at: number, value: Partial<T>): void;
}

/** A 64-byte admin command from its fields. */
export function build<T>(layout: Layout<T>, fields: Partial<T>): Uint8Array {
  const bytes = new Uint8Array(AQ_ENTRY_SIZE);
  layout.write(new DataView(bytes.buffer), 0, fields);
  return bytes;
}

function succeeded(what: string, answer: Answer | undefined): DataView {
  if (answer?.status !== AdminStatus.SUCCESS) {
    throw new Error(`${what}: ${answer === undefined ? "no answer" : `status ${answer.status}`}`);
  }
  return answer.view;
}

/** A broadcast frame of `length` bytes that no stack and no neighbour has a use for. */
export function broadcast(length = 60, source: readonly number[] = [2, 0, 0, 0, 0xee, 1]): Buffer {
  const frame = Buffer.alloc(length, 0x5a);
  frame.fill(0xff, 0, 6);
  frame.set(source, 6);
  frame.writeUInt16BE(0x88b6, 12);
  return frame;
}
