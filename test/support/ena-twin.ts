/**
 * The driver's half of ENA, as plain as can be: one step a method, nothing checked on the driver's
 * behalf, so that a test can also do it wrong. Rings lie in windows or, with `windows: false`,
 * in memory that the device has to read.
 */

import type { EnaNic } from "../../device/ena/index.ts";
import {
  ACQ_BODY,
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
  mmioReadResp,
  Opcode,
  Placement,
  SqDirection,
  stampCommand,
} from "../../shared/ena/admin.ts";
import { AENQ_DEPTH, AENQ_ENTRY_SIZE } from "../../shared/ena/aenq.ts";
import {
  aenqConfig,
  FeatureId,
  featureCommand,
  SET_FEATURE_BODY,
} from "../../shared/ena/features.ts";
import { intrReg, rxCdesc, rxDesc, txCdesc, txDesc, txMeta } from "../../shared/ena/io.ts";
import { devCtlReg, mmioReadReg, queueCapsReg, Register } from "../../shared/ena/registers.ts";
import { PhaseCursor } from "../../shared/ring/phase.ts";
import { type FakeHost, MEMORY_BASE, settle } from "./fake-host.ts";

export interface Completion {
  readonly commandId: number;
  readonly status: number;
  /** The whole 64-byte entry. */
  readonly entry: DataView;
}

export interface TwinQueue {
  readonly cqIdx: number;
  readonly sqIdx: number;
  readonly doorbell: number;
  readonly unmask: number;
  readonly llqOffset: number;
  readonly sqAddress: number;
  readonly cqAddress: number;
  /** What the driver posts next; it stamps the phase. */
  readonly sq: PhaseCursor;
  /** What the driver expects next. */
  readonly cq: PhaseCursor;
}

export interface TxDone {
  readonly reqId: number;
}

export interface RxDone {
  readonly reqId: number;
  readonly length: number;
  readonly status: number;
  readonly hash: number;
  readonly first: number;
  readonly last: number;
}

export interface TwinOptions {
  readonly windows?: boolean;
}

export class EnaTwin {
  readonly nic: EnaNic;
  readonly host: FakeHost;
  readonly windows: boolean;
  aq = new PhaseCursor(ADMIN_QUEUE_DEPTH);
  acq = new PhaseCursor(ADMIN_QUEUE_DEPTH);
  aenq = new PhaseCursor(AENQ_DEPTH);
  aqAddress = 0;
  acqAddress = 0;
  aenqAddress = 0;
  readonly responseAddress: number;
  #next = MEMORY_BASE;
  #seq = 0;

  constructor(nic: EnaNic, host: FakeHost, options: TwinOptions = {}) {
    this.nic = nic;
    this.host = host;
    this.windows = options.windows ?? true;
    this.responseAddress = this.alloc(64);
  }

  /** Memory for buffers, page after page, never freed. */
  alloc(bytes: number): number {
    const address = this.#next;
    this.#next += Math.ceil(bytes / 64) * 64;
    return address;
  }

  /** Memory for a ring: a window, unless the twin was told otherwise. */
  allocRing(bytes: number): number {
    const address = this.alloc(bytes);
    if (this.windows) {
      this.host.memory.addWindow(address, bytes);
    }
    return address;
  }

  at(address: number): number {
    return this.host.memory.at(address);
  }

  write32(offset: number, value: number): void {
    const bytes = new Uint8Array(4);
    new DataView(bytes.buffer).setUint32(0, value, true);
    this.nic.pci.mmioWrite(0, offset, bytes, 0, 4);
  }

  read32(offset: number): number {
    const bytes = this.nic.pci.mmioRead(0, offset, 4);
    return new DataView(bytes.buffer, bytes.byteOffset, 4).getUint32(0, true);
  }

  /** A readless read; undefined when no answer for it arrived. */
  readless(offset: number): number | undefined {
    this.#seq = (this.#seq + 1) & 0xffff;
    const { view } = this.host.memory;
    const at = this.at(this.responseAddress);
    mmioReadResp.write(view, at, { reqId: (this.#seq + 0xdead) & 0xffff });
    this.write32(Register.MMIO_REG_READ, mmioReadReg.pack(offset, this.#seq));
    const answer = mmioReadResp.parse(view, at);
    if (answer.reqId !== this.#seq || answer.regOff !== offset) return undefined;
    return answer.regVal;
  }

  reset(reason = 0): void {
    this.write32(Register.DEV_CTL, devCtlReg.packReset(reason, true));
    this.setResponse();
    this.write32(Register.DEV_CTL, 0);
  }

  setResponse(): void {
    this.write64(Register.MMIO_RESP_LO, this.responseAddress);
  }

  write64(offset: number, value: number): void {
    this.write32(offset, value >>> 0);
    this.write32(offset + 4, Math.floor(value / 2 ** 32));
  }

  initAdmin(depth = ADMIN_QUEUE_DEPTH): void {
    this.aq = new PhaseCursor(depth);
    this.acq = new PhaseCursor(depth);
    this.aqAddress = this.allocRing(depth * AQ_ENTRY_SIZE);
    this.acqAddress = this.allocRing(depth * ACQ_ENTRY_SIZE);
    this.write64(Register.AQ_BASE_LO, this.aqAddress);
    this.write64(Register.ACQ_BASE_LO, this.acqAddress);
    this.write32(Register.AQ_CAPS, queueCapsReg.pack(depth, AQ_ENTRY_SIZE));
    this.write32(Register.ACQ_CAPS, queueCapsReg.pack(depth, ACQ_ENTRY_SIZE));
    this.initEvents();
  }

  initEvents(): void {
    this.aenq = new PhaseCursor(AENQ_DEPTH);
    this.aenqAddress = this.allocRing(AENQ_DEPTH * AENQ_ENTRY_SIZE);
    this.write64(Register.AENQ_BASE_LO, this.aenqAddress);
    this.write32(Register.AENQ_CAPS, queueCapsReg.pack(AENQ_DEPTH, AENQ_ENTRY_SIZE));
  }

  /** Reset, admin queue, events: where every driver is before it makes queues. */
  async attach(groups = 0xff): Promise<void> {
    this.setResponse();
    this.reset();
    this.initAdmin();
    const supported = aenqConfig.parse(
      (await this.getFeature(FeatureId.AENQ_CONFIG)).entry,
      ACQ_BODY,
    );
    await this.setFeature(FeatureId.AENQ_CONFIG, (view, at) =>
      aenqConfig.write(view, at, { enabledGroups: groups & supported.supportedGroups }),
    );
    this.write32(Register.AENQ_HEAD_DB, AENQ_DEPTH);
  }

  /** Puts a command into the next admin entry; the doorbell is another step. */
  postCommand(opcode: number, fill: (view: DataView, at: number) => void, id?: number): number {
    const { view, bytes } = this.host.memory;
    const at = this.at(this.aqAddress) + this.aq.slot * AQ_ENTRY_SIZE;
    bytes.fill(0, at, at + AQ_ENTRY_SIZE);
    fill(view, at);
    view.setUint8(at + 2, opcode);
    const commandId = id ?? this.aq.slot;
    stampCommand(view, at, commandId, this.aq.phase);
    this.aq.next();
    return commandId;
  }

  ringAdmin(): void {
    this.write32(Register.AQ_DB, this.aq.head);
  }

  /** Completions that arrived since the last call. */
  takeCompletions(): Completion[] {
    const { view, bytes } = this.host.memory;
    const found: Completion[] = [];
    for (;;) {
      const at = this.at(this.acqAddress) + this.acq.slot * ACQ_ENTRY_SIZE;
      const { commandId, status, phase } = acqCommon.parse(view, at);
      if (phase !== this.acq.phase) return found;
      const entry = new DataView(bytes.slice(at, at + ACQ_ENTRY_SIZE).buffer);
      found.push({ commandId, status, entry });
      this.acq.next();
    }
  }

  /** One command from post to completion, reads answered on the way. */
  async command(opcode: number, fill: (view: DataView, at: number) => void): Promise<Completion> {
    this.postCommand(opcode, fill);
    this.ringAdmin();
    await this.host.memory.answerReads();
    const found = this.takeCompletions();
    if (found.length !== 1) throw new Error(`${found.length} completions for one command`);
    return found[0]!;
  }

  getFeature(
    featureId: number,
    control: { address: number; length: number } = NO_CONTROL,
  ): Promise<Completion> {
    return this.command(Opcode.GET_FEATURE, (view, at) =>
      featureCommand.write(view, at, {
        featureId,
        controlAddress: control.address,
        controlLength: control.length,
        ctrlDataIndirect: control.length > 0,
      }),
    );
  }

  setFeature(
    featureId: number,
    body: (view: DataView, at: number) => void,
    control: { address: number; length: number } = NO_CONTROL,
  ): Promise<Completion> {
    return this.command(Opcode.SET_FEATURE, (view, at) => {
      featureCommand.write(view, at, {
        featureId,
        controlAddress: control.address,
        controlLength: control.length,
        ctrlDataIndirect: control.length > 0,
      });
      body(view, at + SET_FEATURE_BODY);
    });
  }

  async createQueue(
    direction: number,
    depth: number,
    vector: number,
    placement: number = Placement.HOST,
  ): Promise<TwinQueue> {
    const tx = direction === SqDirection.TX;
    const cqBytes = tx ? 8 : 16;
    const cqAddress = this.allocRing(depth * cqBytes);
    const sqAddress = placement === Placement.HOST ? this.allocRing(depth * 16) : 0;
    const cqDone = await this.command(Opcode.CREATE_CQ, (view, at) =>
      createCq.write(view, at, {
        interruptMode: true,
        entrySizeWords: cqBytes / 4,
        cqDepth: depth,
        msixVector: vector,
        cqBa: cqAddress,
      }),
    );
    if (cqDone.status !== AdminStatus.SUCCESS) throw new Error(`CREATE_CQ: ${cqDone.status}`);
    const cq = createCqResp.parse(cqDone.entry, 0);
    const sqDone = await this.command(Opcode.CREATE_SQ, (view, at) =>
      createSq.write(view, at, {
        direction,
        placement,
        contiguous: true,
        cqIdx: cq.cqIdx,
        sqDepth: depth,
        sqBa: sqAddress,
      }),
    );
    if (sqDone.status !== AdminStatus.SUCCESS) throw new Error(`CREATE_SQ: ${sqDone.status}`);
    const sq = createSqResp.parse(sqDone.entry, 0);
    return {
      cqIdx: cq.cqIdx,
      sqIdx: sq.sqIdx,
      doorbell: sq.sqDoorbellOffset,
      unmask: cq.cqInterruptUnmaskRegisterOffset,
      llqOffset: sq.llqDescriptorsOffset,
      sqAddress,
      cqAddress,
      sq: new PhaseCursor(depth),
      cq: new PhaseCursor(depth),
    };
  }

  destroySq(direction: number, sqIdx: number): Promise<Completion> {
    return this.command(Opcode.DESTROY_SQ, (view, at) =>
      destroySq.write(view, at, { direction, sqIdx }),
    );
  }

  destroyCq(cqIdx: number): Promise<Completion> {
    return this.command(Opcode.DESTROY_CQ, (view, at) => destroyCq.write(view, at, { cqIdx }));
  }

  unmask(q: TwinQueue, rxDelay = 0, txDelay = 0): void {
    this.write32(q.unmask, intrReg.pack(rxDelay, txDelay, 1));
  }

  ring(q: TwinQueue): void {
    this.write32(q.doorbell, q.sq.head);
    this.nic.batchEnd();
  }

  /** Bytes at a fresh address, pushed unless told otherwise. */
  buffer(bytes: Uint8Array, pushed = true): number {
    const address = this.alloc(bytes.length);
    this.host.memory.bytes.set(bytes, this.at(address));
    if (pushed) this.host.memory.push(address, bytes.length);
    return address;
  }

  /** One transmit descriptor of a packet. `flags` is any of "f" first, "l" last. */
  postTx(
    q: TwinQueue,
    reqId: number,
    address: number,
    length: number,
    flags = "fl",
    offload = 0,
  ): void {
    const at = this.at(q.sqAddress) + q.sq.slot * 16;
    const first = flags.includes("f") ? 1 : 0;
    const last = flags.includes("l") ? 1 : 0;
    txDesc.write(
      this.host.memory.view,
      at,
      length,
      reqId,
      q.sq.phase,
      first,
      last,
      1,
      offload,
      address,
      0,
    );
    q.sq.next();
  }

  postMeta(
    q: TwinQueue,
    mss: number,
    l3HdrLen: number,
    l3HdrOffset: number,
    l4Words: number,
  ): void {
    const at = this.at(q.sqAddress) + q.sq.slot * 16;
    txMeta.write(this.host.memory.view, at, q.sq.phase, mss, l3HdrLen, l3HdrOffset, l4Words);
    q.sq.next();
  }

  /** A meta descriptor that says nothing: neither valid nor of a type, with junk in its fields. */
  postEmptyMeta(q: TwinQueue, clear = EXT_VALID | ETH_META_TYPE): void {
    const at = this.at(q.sqAddress) + q.sq.slot * 16;
    const { view } = this.host.memory;
    this.postMeta(q, 9000, 255, 255, 63);
    view.setUint32(at, view.getUint32(at, true) & ~clear, true);
  }

  takeTx(q: TwinQueue): TxDone[] {
    const { view } = this.host.memory;
    const done: TxDone[] = [];
    for (;;) {
      const at = this.at(q.cqAddress) + q.cq.slot * 8;
      if (txCdesc.phase(view, at) !== q.cq.phase) return done;
      done.push({ reqId: txCdesc.reqId(view, at) });
      q.cq.next();
    }
  }

  postRx(q: TwinQueue, reqId: number, address: number, length: number): void {
    const at = this.at(q.sqAddress) + q.sq.slot * 16;
    rxDesc.write(this.host.memory.view, at, length, q.sq.phase, reqId, address);
    q.sq.next();
  }

  takeRx(q: TwinQueue): RxDone[] {
    const { view } = this.host.memory;
    const done: RxDone[] = [];
    for (;;) {
      const at = this.at(q.cqAddress) + q.cq.slot * 16;
      const status = rxCdesc.status(view, at);
      if (rxCdesc.phaseOf(status) !== q.cq.phase) return done;
      done.push({
        reqId: rxCdesc.reqId(view, at),
        length: rxCdesc.length(view, at),
        status,
        hash: rxCdesc.hash(view, at),
        first: rxCdesc.firstOf(status),
        last: rxCdesc.lastOf(status),
      });
      q.cq.next();
    }
  }

  /** Lets reads and deferred work come to an end. */
  async idle(): Promise<void> {
    await this.host.memory.answerReads();
    await settle();
  }
}

/** Bits of a meta descriptor's len_ctrl that make its fields count. */
export const EXT_VALID = 1 << 14;
export const ETH_META_TYPE = 1 << 20;
const NO_CONTROL = { address: 0, length: 0 } as const;
