/**
 * An ENA guest over a real link that enforces no rules.
 *
 *   memory, 1 MiB from BASE          MMIO response | AQ | ACQ | AENQ | queues ... | buffers
 *     one window: BASE to BUFFERS (or none: then the device has to read everything)
 *     buffers: their bytes are pushed, or read by the device
 *
 * Device writes inside `memory` change it; others are recorded in `strays`.
 */

import { SqDirection } from "../../shared/ena/admin.ts";
import { AENQ_DEPTH } from "../../shared/ena/aenq.ts";
import { DevSts, Register } from "../../shared/ena/registers.ts";
import { Op } from "../../shared/wire/catalogue.ts";
import { EnaGuest, type EnaQueue } from "./ena-guest.ts";
import { column, mmio, RawFrontend } from "./raw-frontend.ts";

export const BASE = 0x10_0000;
const MEMORY_BYTES = 0x10_0000;
export const BUFFERS = BASE + 0x8_0000;
const BUFFER_BYTES = 2048;

export class RawEna extends EnaGuest {
  readonly raw: RawFrontend;
  /** Device writes outside the guest's memory. */
  readonly strays: { address: number; length: number }[] = [];
  readonly windows: boolean;

  constructor(raw: RawFrontend, windows = true) {
    super(Buffer.alloc(MEMORY_BYTES), BASE);
    this.raw = raw;
    this.windows = windows;
    raw.onWrite = (address, bytes) => {
      if (this.#has(address, bytes.length)) this.memory.set(bytes, this.at(address));
      else this.strays.push({ address, length: bytes.length });
    };
    raw.onRead = (address, length) => {
      const at = this.at(address);
      return this.#has(address, length) ? this.memory.subarray(at, at + length) : "refuse";
    };
    if (windows) raw.batch([Op.WINDOW, BASE, BUFFERS - BASE]);
  }

  #has(address: number, length: number): boolean {
    return address >= BASE && address + length <= BASE + MEMORY_BYTES;
  }

  /** A guest named `name` that has reset its device and set up its admin queue. */
  static async start(
    port: number,
    name: string,
    windows = true,
    hello = {},
    token?: string,
  ): Promise<RawEna> {
    const ena = new RawEna(await RawFrontend.join(port, name, hello, token), windows);
    await ena.renew();
    return ena;
  }

  /** Like `start`, with one receive and one transmit queue. */
  static async startWithQueues(
    port: number,
    name: string,
    windows = true,
    hello = {},
    token?: string,
  ) {
    const ena = await RawEna.start(port, name, windows, hello, token);
    const tx = await ena.createQueue(SqDirection.TX);
    const rx = await ena.createQueue(SqDirection.RX);
    return { ena, tx, rx };
  }

  write32(offset: number, value: number): void {
    this.raw.batch(mmio(offset, value));
  }

  write(address: number, bytes: Uint8Array): void {
    this.memory.set(bytes, this.at(address));
    if (this.windows) this.raw.batch(column(Op.WRITE, [{ address, bytes }]));
  }

  settle(): Promise<boolean> {
    return this.raw.survived();
  }

  /** The handshake of ena_com_dev_reset. */
  async reset(reason = 0): Promise<void> {
    this.askForReset(reason);
    await this.#status(DevSts.RESET_IN_PROGRESS);
    this.write32(Register.DEV_CTL, 0);
    await this.#status(0);
    this.next = this.responseAddress + 64;
    this.memory.fill(0, 0, BUFFERS - BASE);
    // The device keeps windows over a reset, so its copy has to be cleared like the guest's own
    // memory.
    if (this.windows) this.write(BASE, this.memory.subarray(0, 0x4000));
  }

  async #status(wanted: number): Promise<void> {
    const status = await this.raw.read32(Register.DEV_STS);
    if ((status & DevSts.RESET_IN_PROGRESS) !== wanted) throw new Error(`DEV_STS is ${status}`);
  }

  /** Sets up the admin queue and the event queue. */
  setUpAdmin(eventDepth = AENQ_DEPTH): void {
    this.initAdmin(eventDepth);
    this.setResponse();
    this.write32(Register.AENQ_HEAD_DB, eventDepth);
  }

  /** Resets the device and sets up the admin rings again. */
  async renew(reason = 0): Promise<void> {
    await this.reset(reason);
    this.setUpAdmin();
  }

  async destroyQueue({ direction, sqIdx, cqIdx }: EnaQueue): Promise<void> {
    await this.destroySq(direction, sqIdx);
    await this.destroyCq(cqIdx);
  }

  /** Address of buffer number `i`. */
  buffer(i: number): number {
    return BUFFERS + (i % ((BASE + MEMORY_BYTES - BUFFERS) / BUFFER_BYTES)) * BUFFER_BYTES;
  }

  /** Sends one frame from one buffer, whose bytes are pushed first unless `push` is false. */
  transmit(q: EnaQueue, frame: Uint8Array, reqId: number = q.sq.slot, push = true): void {
    const address = this.buffer(q.sq.slot);
    this.memory.set(frame, this.at(address));
    if (push) this.raw.batch(column(Op.PUSH, [{ address, bytes: frame, type: 1 }]));
    this.postTx(q, reqId, address, frame.length);
    this.ring(q);
  }

  /** Posts `count` empty buffers. `idOf` maps a ring slot to a request id. */
  refill(q: EnaQueue, count: number, idOf = (slot: number): number => slot): void {
    for (let i = 0; i < count; i++) {
      const { slot } = q.sq;
      this.postRx(q, idOf(slot), this.buffer(128 + slot), BUFFER_BYTES);
    }
    this.ring(q);
  }
}

/** A broadcast frame of `length` bytes that every stack and every neighbour ignores. */
export function broadcast(length = 60, source: readonly number[] = [2, 0, 0, 0, 0xee, 1]): Buffer {
  const frame = Buffer.alloc(length, 0x5a);
  frame.fill(0xff, 0, 6);
  frame.set(source, 6);
  frame.writeUInt16BE(0x88b6, 12);
  return frame;
}
