/**
 * Registers in BAR 0. Offsets: shared/ena/registers.ts. After them, at places chosen here:
 *
 *   0x0000 registers       0x2000 interrupt (unmask), 4 bytes for each completion queue
 *   0x1000 doorbells       0x3000 NUMA, 4 bytes for each completion queue
 *   0x4000 MSI-X table and 0x6000 pending bits: a PCI front end answers these, not this file
 *
 * A register without a meaning reads as 0. A write to it is reported and has no effect. No register
 * reads as all ones, because drivers treat that as a failed read.
 */
import { ACQ_ENTRY_SIZE, AQ_ENTRY_SIZE, mmioReadResp } from "../../shared/ena/admin.ts";
import { AENQ_ENTRY_SIZE } from "../../shared/ena/aenq.ts";
import {
  capsReg,
  controllerVersionReg,
  mmioReadReg,
  queueCapsReg,
  Register,
  versionReg,
} from "../../shared/ena/registers.ts";
import { isPowerOfTwo } from "../../shared/ring/phase.ts";
import { type BusAddress, busAddress, RecordType, Space } from "../../shared/wire/records.ts";
import type { PciCalls } from "../nic.ts";
import type { EventQueue } from "./aenq.ts";
import { ADDRESS_END, DOORBELLS, type EnaContext, NUMAS, UNMASKS } from "./context.ts";
import type { AdminQueue } from "./control.ts";
import type { Datapath } from "./datapath.ts";
import type { Lifecycle } from "./lifecycle.ts";
import { NO_VECTOR, type Vectors } from "./notify.ts";
import type { Queues } from "./queues.ts";

const BAR0_BYTES = 0x8000;
const MSIX_TABLE = 0x4000;

const TWO_32 = 0x1_0000_0000;
const VERSION = versionReg.pack(2, 0);
const CONTROLLER_VERSION = controllerVersionReg.pack(0, 1, 0, 0);
/** Contiguous queues, 3.1 s for a reset, 48 address bits; 0: the driver's own admin timeout. */
const CAPS = capsReg.pack(1, 31, 48, 0);

/** The register block, and the memory of low latency queues. */
const BAR0 = 0;
const BAR2 = 2;
/** PCI revision bit 0: drivers read registers directly, not through MMIO_RESP. */
const REVISION_NO_READLESS = 1;
const MAX_ADMIN_DEPTH = 1024;

/** Parts of the function that registers control. */
interface RegisterParts {
  readonly lifecycle: Lifecycle;
  readonly admin: AdminQueue;
  readonly events: EventQueue;
  readonly vectors: Vectors;
  readonly queues: Queues;
  readonly datapath: Datapath;
}

interface RingPlace {
  readonly address: BusAddress;
  readonly depth: number;
}

export class Registers implements PciCalls {
  readonly revision: number;
  readonly deviceMemory: boolean;
  readonly #context: EnaContext;
  readonly #parts: RegisterParts;
  readonly #datapath: Datapath;
  /** Written values, by offset / 4. */
  readonly #words = new Uint32Array(0x200 / 4);
  readonly #response = new Uint8Array(mmioReadResp.size);
  readonly #responseView = new DataView(this.#response.buffer);

  constructor(context: EnaContext, parts: RegisterParts) {
    this.#context = context;
    this.#parts = parts;
    this.#datapath = parts.datapath;
    this.revision = context.readless ? 0 : REVISION_NO_READLESS;
    this.deviceMemory = context.llq;
  }

  mmioWrite(bar: number, offset: number, src: Uint8Array, at: number, length: number): void {
    if (bar === BAR2) {
      this.#parts.queues.writeLlq(offset, src, at, length);
      return;
    }
    if (bar !== BAR0 || (offset & 3) !== 0 || (length & 3) !== 0 || offset + length > BAR0_BYTES) {
      this.#context.note(
        "MMIO_BAD_ACCESS",
        `write of ${length} bytes to BAR ${bar} offset 0x${offset.toString(16)}: registers are 4 aligned bytes of BAR 0`,
      );
      return;
    }
    for (let i = 0; i < length; i += 4) {
      const register = offset + i;
      const value = word(src, at + i);
      if (register < DOORBELLS || register >= MSIX_TABLE) this.#write(register, value);
      else if (register >= UNMASKS) this.#writeQueue(register, value);
      else if (this.#parts.lifecycle.ready || this.#ready("a doorbell")) {
        const index = (register - DOORBELLS) >>> 2;
        const { tx, rx } = this.#datapath;
        if (tx[index] !== undefined) tx[index].doorbell(value);
        else if (rx[index] !== undefined) {
          rx[index].doorbell(value);
          this.#datapath.turn.roomAgain();
        } else {
          this.#context.note(
            "DOORBELL_NO_QUEUE",
            `doorbell of submission queue ${index}, which does not exist`,
          );
        }
      }
    }
  }

  mmioRead(bar: number, offset: number, length: number): Uint8Array {
    const bytes = new Uint8Array(length);
    if (bar !== BAR0) return bytes;
    let value = 0;
    for (let i = 0; i < length; i++) {
      const at = offset + i;
      if (i === 0 || (at & 3) === 0) value = this.#read(at & ~3);
      bytes[i] = value >>> (8 * (at & 3));
    }
    return bytes;
  }

  reset(): void {
    this.#words.fill(0);
  }

  /** Returns the address in a pair of registers, or Infinity if it has more than 48 bits. */
  #address(low: Register): BusAddress {
    const address = this.#words[(low >>> 2) + 1]! * TWO_32 + this.#words[low >>> 2]!;
    return busAddress(address < ADDRESS_END ? address : Number.POSITIVE_INFINITY);
  }

  /** Reads at any offset. Offsets without a register read as 0. */
  #read(offset: number): number {
    switch (offset) {
      case Register.VERSION:
        return VERSION;
      case Register.CONTROLLER_VERSION:
        return CONTROLLER_VERSION;
      case Register.CAPS:
        return CAPS;
      case Register.DEV_STS:
        return this.#parts.lifecycle.status;
      case Register.INTR_MASK:
        return this.#words[offset >>> 2]!;
      default:
        return 0;
    }
  }

  /** Writes a register. `offset` is a multiple of 4. */
  #write(offset: number, value: number): void {
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
        if (this.#ready("AQ_DB") && this.#startAdmin()) this.#parts.admin.doorbell(value);
        return;
      case Register.AENQ_HEAD_DB:
        if (!this.#ready("AENQ_HEAD_DB")) return;
        if (this.#configureEvents()) this.#parts.events.headDoorbell(value);
        else {
          this.#context.note(
            "AENQ_NOT_CONFIGURED",
            "AENQ_HEAD_DB was written before AENQ_BASE and AENQ_CAPS: there is no event ring",
          );
        }
        return;
      case Register.INTR_MASK:
        this.#words[offset >>> 2] = value & 1;
        this.#parts.vectors.maskManagement((value & 1) === 1);
        return;
      case Register.DEV_CTL:
        this.#parts.lifecycle.devCtl(value);
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

  /** Writes the interrupt or NUMA register of a completion queue. */
  #writeQueue(offset: number, value: number): void {
    const numa = offset >= NUMAS;
    const name = numa ? "NUMA" : "interrupt";
    if (!this.#ready(`the ${name} register of a queue`)) return;
    const index = (offset & 0xfff) >>> 2;
    const cq = this.#datapath.cqs[index];
    if (cq === undefined) {
      this.#context.note(
        numa ? "NUMA_NO_QUEUE" : "UNMASK_NO_QUEUE",
        `${name} register of completion queue ${index}, which does not exist`,
      );
      return;
    }
    // The node is only advice.
    if (numa || cq.vector === NO_VECTOR) return;
    this.#parts.vectors.control(cq.vector, value);
    // Completions may have waited for longer than the new delays allow.
    this.#datapath.flush();
  }

  /** Returns true if the device is neither in reset nor broken. */
  #ready(what: string): boolean {
    const { lifecycle } = this.#parts;
    if (lifecycle.resetting) {
      this.#context.note(
        "REGISTER_IN_RESET",
        `${what} was written during reset: write 0 to DEV_CTL first`,
      );
    }
    return lifecycle.ready;
  }

  /**
   * Handles the first AQ_DB. Both admin rings and the event ring must be configured. If the event
   * ring comes after the first command, hardware stops with a fatal error and gives no reason. This
   * device reports the reason.
   */
  #startAdmin(): boolean {
    const { admin, lifecycle } = this.#parts;
    if (admin.rings !== undefined) return true;
    const commands = this.#ring(Register.AQ_BASE_LO, Register.AQ_CAPS, AQ_ENTRY_SIZE);
    const completions = this.#ring(Register.ACQ_BASE_LO, Register.ACQ_CAPS, ACQ_ENTRY_SIZE);
    if (commands === undefined || completions === undefined) {
      const missing = commands === undefined ? "AQ_BASE and AQ_CAPS" : "ACQ_BASE and ACQ_CAPS";
      lifecycle.fail(
        "AQ_NOT_CONFIGURED",
        `AQ_DB was written before ${missing} named a ring of 64-byte entries, a power of two of them`,
      );
      return false;
    }
    if (completions.depth < commands.depth) {
      lifecycle.fail(
        "ACQ_TOO_SMALL",
        `${commands.depth} commands could not be completed into ${completions.depth} entries`,
      );
      return false;
    }
    if (!this.#configureEvents()) {
      lifecycle.fail(
        "AENQ_NOT_CONFIGURED",
        "the first admin command came before AENQ_BASE and AENQ_CAPS: set up the event ring first",
      );
      return false;
    }
    admin.start(commands.address, commands.depth, completions.address, completions.depth);
    return true;
  }

  #configureEvents(): boolean {
    const { events } = this.#parts;
    if (events.ring !== undefined) return true;
    const ring = this.#ring(Register.AENQ_BASE_LO, Register.AENQ_CAPS, AENQ_ENTRY_SIZE);
    if (ring !== undefined) events.configure(ring.address, ring.depth);
    return ring !== undefined;
  }

  /** Returns the ring that base and caps registers describe, or undefined if they are not valid. */
  #ring(base: Register, caps: Register, entryBytes: number): RingPlace | undefined {
    const address = this.#address(base);
    const value = this.#words[caps >>> 2]!;
    const depth = queueCapsReg.depth(value);
    if (address === 0 || address + depth * entryBytes > ADDRESS_END) return undefined;
    if (!isPowerOfTwo(depth) || depth < 2 || depth > MAX_ADMIN_DEPTH) return undefined;
    return queueCapsReg.entryBytes(value) === entryBytes ? { address, depth } : undefined;
  }

  /**
   * Handles a readless read: writes the answer to MMIO_RESP by DMA. Value and offset go out in a
   * separate write before the request id, because the driver polls for the id and then uses them.
   */
  #answer(offset: number, reqId: number): void {
    const address = this.#address(Register.MMIO_RESP_LO);
    if (address === 0 || address + mmioReadResp.size > ADDRESS_END) {
      this.#context.note(
        "MMIO_RESP_UNSET",
        "MMIO_REG_READ written while MMIO_RESP holds no usable address",
      );
      return;
    }
    mmioReadResp.write(this.#responseView, 0, {
      reqId,
      regOff: offset,
      regVal: this.#read(offset),
    });
    const { host } = this.#context;
    const rest = busAddress(address + 2);
    host.memory.write(Space.BUS, rest, RecordType.MMIO_RESPONSE, this.#response, 2, 6);
    host.memory.write(Space.BUS, address, RecordType.MMIO_RESPONSE, this.#response, 0, 2);
    host.scheduleFlush();
  }
}

const word = (src: Uint8Array, at: number): number =>
  (src[at]! | (src[at + 1]! << 8) | (src[at + 2]! << 16) | (src[at + 3]! << 24)) >>> 0;
