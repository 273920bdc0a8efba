/**
 * BAR 0 as registers. Offsets: shared/ena/registers.ts. Behind them, at places of our choice:
 *
 *   0x0000 registers       0x2000 interrupt (unmask), 4 bytes for each completion queue
 *   0x1000 doorbells       0x3000 NUMA, 4 bytes for each completion queue
 *   0x4000 MSI-X table and 0x6000 pending bits: a PCI front end answers these, not this file
 *
 * A register without a meaning reads as 0, and a write to it is named and changes nothing. No
 * register reads as all ones, which drivers take for a failed read.
 */
import { mmioReadResp } from "../../shared/ena/admin.ts";
import {
  capsReg,
  controllerVersionReg,
  mmioReadReg,
  Register,
  versionReg,
} from "../../shared/ena/registers.ts";
import { RecordType } from "../../shared/wire/records.ts";
import { ADDRESS_END, type EnaContext } from "./context.ts";

export const BAR0_BYTES = 0x8000;
export const DOORBELLS = 0x1000;
export const UNMASKS = 0x2000;
export const NUMAS = 0x3000;
const MSIX_TABLE = 0x4000;

const TWO_32 = 0x1_0000_0000;
const VERSION = versionReg.pack(2, 0);
const CONTROLLER_VERSION = controllerVersionReg.pack(0, 1, 0, 0);
/** Contiguous queues; 3.1 s for a reset; 48 address bits; 0: the driver's own admin timeout. */
const CAPS = capsReg.pack(1, 31, 48, 0);

/** What a register write sets off. */
export interface RegisterActions {
  readonly status: number;
  devCtl(value: number): void;
  adminDoorbell(value: number): void;
  eventHead(value: number): void;
  maskManagement(masked: boolean): void;
  doorbell(queue: number, value: number): void;
  unmask(queue: number, value: number): void;
  numa(queue: number, value: number): void;
}

export class Registers {
  readonly #context: EnaContext;
  readonly #actions: RegisterActions;
  /** What was written, by offset / 4. */
  readonly #words = new Uint32Array(0x200 / 4);
  readonly #response = new Uint8Array(mmioReadResp.size);
  readonly #responseView = new DataView(this.#response.buffer);

  constructor(context: EnaContext, actions: RegisterActions) {
    this.#context = context;
    this.#actions = actions;
  }

  /** A configuration register as the driver wrote it. */
  word(offset: Register): number {
    return this.#words[offset >>> 2]!;
  }

  /** The 64-bit address in a pair of registers; Infinity when it has more than 48 bits. */
  address(low: Register): number {
    const address = this.#words[(low >>> 2) + 1]! * TWO_32 + this.#words[low >>> 2]!;
    return address < ADDRESS_END ? address : Number.POSITIVE_INFINITY;
  }

  reset(): void {
    this.#words.fill(0);
  }

  /** Any offset; what is not a register reads as 0. */
  read(offset: number): number {
    switch (offset) {
      case Register.VERSION:
        return VERSION;
      case Register.CONTROLLER_VERSION:
        return CONTROLLER_VERSION;
      case Register.CAPS:
        return CAPS;
      case Register.DEV_STS:
        return this.#actions.status;
      case Register.INTR_MASK:
        return this.#words[offset >>> 2]!;
      default:
        return 0;
    }
  }

  /** `offset` is a multiple of 4. */
  write(offset: number, value: number): void {
    if (offset >= DOORBELLS) {
      this.#writeQueue(offset, value);
      return;
    }
    switch (offset) {
      case Register.AQ_BASE_LO:
      case Register.AQ_BASE_HI:
      case Register.AQ_CAPS:
      case Register.ACQ_BASE_LO:
      case Register.ACQ_BASE_HI:
      case Register.ACQ_CAPS:
      case Register.AENQ_CAPS:
      case Register.AENQ_BASE_LO:
      case Register.AENQ_BASE_HI:
      case Register.MMIO_RESP_LO:
      case Register.MMIO_RESP_HI:
        this.#words[offset >>> 2] = value;
        return;
      case Register.AQ_DB:
        this.#actions.adminDoorbell(value);
        return;
      case Register.AENQ_HEAD_DB:
        this.#actions.eventHead(value);
        return;
      case Register.INTR_MASK:
        this.#words[offset >>> 2] = value & 1;
        this.#actions.maskManagement((value & 1) === 1);
        return;
      case Register.DEV_CTL:
        this.#actions.devCtl(value);
        return;
      case Register.MMIO_REG_READ:
        this.#answer(mmioReadReg.registerOffset(value), mmioReadReg.reqId(value));
        return;
      default:
        this.#context.note(
          "REGISTER_UNDEFINED",
          `write of 0x${value.toString(16)} to BAR 0 offset 0x${offset.toString(16)}: no such register, or it is read-only`,
        );
    }
  }

  #writeQueue(offset: number, value: number): void {
    const queue = (offset & 0xfff) >>> 2;
    if (offset < UNMASKS) this.#actions.doorbell(queue, value);
    else if (offset < NUMAS) this.#actions.unmask(queue, value);
    else if (offset < MSIX_TABLE) this.#actions.numa(queue, value);
    else {
      this.#context.note(
        "REGISTER_UNDEFINED",
        `write to BAR 0 offset 0x${offset.toString(16)}: the MSI-X area belongs to the PCI function`,
      );
    }
  }

  /**
   * A readless read: the answer is DMA'd to MMIO_RESP. Value and offset go out in a write of their
   * own, ahead of the request id, because the driver polls for the id and then believes the rest.
   */
  #answer(offset: number, reqId: number): void {
    const address = this.address(Register.MMIO_RESP_LO);
    if (address === 0 || address + mmioReadResp.size > ADDRESS_END) {
      this.#context.note(
        "MMIO_RESP_UNSET",
        "MMIO_REG_READ written while MMIO_RESP holds no usable address",
      );
      return;
    }
    mmioReadResp.write(this.#responseView, 0, { reqId, regOff: offset, regVal: this.read(offset) });
    const { host } = this.#context;
    host.memory.write(address + 2, RecordType.MMIO_RESPONSE, this.#response, 2, 6);
    host.memory.write(address, RecordType.MMIO_RESPONSE, this.#response, 0, 2);
    host.scheduleFlush();
  }
}
