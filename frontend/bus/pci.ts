/**
 * The PCI function for its driver: BARs to read and write, and MSI-X vectors with handlers.
 *
 * Writes are posted: they leave in order with all other posts, and the driver does not wait. A read
 * waits for a round trip over the link. ENA's readless MMIO avoids reads, because it only writes.
 */
import type { RecordType } from "../../shared/wire/records.ts";
import { Limits } from "../../shared/wire/transactions.ts";
import { DmaMisuse } from "./misuse.ts";
import type { DmaSpace } from "./space.ts";

const REGISTER_BYTES = 4;
const LE = true;

export interface PciConfig {
  /** PCI revision id. Bit 0 is set if the device has no readless MMIO. */
  revision: number;
  /** True if BAR 2, the device's memory for LLQ, exists. */
  hasBar2: boolean;
}

/** A register read failed: no device is connected, or the link was lost meanwhile. */
export class RegisterReadFailed extends Error {
  constructor(message: string, cause?: unknown) {
    super(message, { cause });
    this.name = "RegisterReadFailed";
  }
}

export class PciFunction {
  /** Vendor id of Amazon. */
  readonly vendor = 0x1d0f;
  /** Device id of an ENA virtual function. */
  readonly device = 0xec20;
  revision: number;
  hasBar2: boolean;
  /** Number of interrupts without a handler. */
  unclaimedInterrupts = 0;
  readonly #space: DmaSpace;
  readonly #handlers = new Array<(() => void) | undefined>(Limits.VECTORS).fill(undefined);

  constructor(space: DmaSpace, config: PciConfig) {
    this.#space = space;
    this.revision = config.revision;
    this.hasBar2 = config.hasBar2;
  }

  /** Called by the session at each welcome, because another device may be in the same slot. */
  configure(config: PciConfig): void {
    this.revision = config.revision;
    this.hasBar2 = config.hasBar2;
  }

  /** Posts a register write or doorbell. The batch leaves in this turn. */
  write32(bar: number, offset: number, value: number): void {
    this.#check(bar, offset, REGISTER_BYTES);
    const link = this.#space.link;
    if (link === undefined) return;
    link.mmioWrite32(bar, offset, value >>> 0);
    link.scheduleFlush();
  }

  /**
   * Posts src[at .. at + length) to device memory (LLQ entries). The doorbell after it sends them.
   */
  writeMemory(
    bar: number,
    offset: number,
    type: RecordType,
    src: Uint8Array,
    at: number,
    length: number,
  ): void {
    this.#check(bar, offset, length);
    if (!(at >= 0 && at + length <= src.length)) {
      throw new DmaMisuse(
        "REGISTER_PARAMS",
        `${length} bytes at ${at} of a buffer of ${src.length}`,
      );
    }
    this.#space.link?.mmioWrite(bar, offset, type, src, at, length);
  }

  /** Reads a 32-bit register. Rejects with RegisterReadFailed. */
  async read32(bar: number, offset: number): Promise<number> {
    this.#check(bar, offset, REGISTER_BYTES);
    const where = `BAR ${bar} offset 0x${offset.toString(16)}`;
    const link = this.#space.link;
    if (link === undefined) throw new RegisterReadFailed(`${where}: no device is connected`);
    const bytes = await link.mmioRead(bar, offset, REGISTER_BYTES).catch((cause: unknown) => {
      throw new RegisterReadFailed(`${where}: the link went away`, cause);
    });
    if (bytes.length !== REGISTER_BYTES) {
      throw new RegisterReadFailed(`${where}: answered with ${bytes.length} bytes`);
    }
    return new DataView(bytes.buffer, bytes.byteOffset, REGISTER_BYTES).getUint32(0, LE);
  }

  /** bus_setup_intr(9). Undefined removes the handler. Handlers run to their end without await. */
  setVectorHandler(vector: number, handler: (() => void) | undefined): void {
    if (!(Number.isInteger(vector) && vector >= 0 && vector < Limits.VECTORS)) {
      throw new DmaMisuse("REGISTER_PARAMS", `MSI-X vector ${vector}`);
    }
    this.#handlers[vector] = handler;
  }

  /** Called by the session at the interrupt's place in the batch. The peer may send any vector. */
  interrupt(vector: number): void {
    const handler = this.#handlers[vector];
    if (handler === undefined) {
      this.unclaimedInterrupts++;
      return;
    }
    handler();
  }

  #check(bar: number, offset: number, length: number): void {
    const barThere = bar === 0 || (bar === 2 && this.hasBar2);
    if (barThere && offset >= 0 && length > 0 && offset + length <= Limits.BAR_OFFSET) return;
    throw new DmaMisuse(
      "REGISTER_PARAMS",
      `access to BAR ${bar} offset ${offset}, ${length} bytes`,
    );
  }
}
