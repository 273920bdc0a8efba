/**
 * The PCI function for its driver: BARs to read and write, and MSI-X vectors with handlers.
 *
 * Writes are posted: they leave in order with all other posts, and the driver does not wait. A read
 * waits for a round trip over the link. ENA's readless MMIO avoids reads, because it only writes.
 */

import { Op } from "../../shared/wire/catalogue.ts";
import { Limits } from "../../shared/wire/protocol.ts";
import { RecordType } from "../../shared/wire/records.ts";
import { DmaMisuse } from "./misuse.ts";
import type { DmaSpace } from "./space.ts";

const REGISTER_BYTES = 4;
/**
 * Bytes at which a batch is sent with its doorbell. If payload were pushed in one batch and
 * announced in the next, the device would have to keep it. In the same batch, the device uses it in
 * place.
 */
const SEND_BYTES = 64 * 1024;
const LE = true;

/** A register read failed: no device is connected, or the link was lost meanwhile. */
export class RegisterReadFailed extends Error {
  constructor(message: string, cause?: unknown) {
    super(message, { cause });
    this.name = "RegisterReadFailed";
  }
}

export class PciFunction {
  /** PCI revision id, from the welcome. Bit 0 is set if the device has no readless MMIO. */
  revision = 0;
  /** True if BAR 2, the device's memory for LLQ, exists. Each welcome says so. */
  hasBar2 = false;
  readonly #space: DmaSpace;
  readonly #handlers = new Array<(() => void) | undefined>(Limits.VECTORS).fill(undefined);

  constructor(space: DmaSpace) {
    this.#space = space;
  }

  /** Posts a register write or doorbell. The batch leaves in this turn. */
  write32(bar: number, offset: number, value: number): void {
    this.#check(bar, offset, REGISTER_BYTES);
    const link = this.#space.link;
    if (link === undefined) return;
    link.writer.mmioWrite32(bar, offset, RecordType.REGISTER, value >>> 0);
    link.mark(SEND_BYTES);
    link.scheduleFlush();
  }

  /** Posts bytes to device memory (LLQ entries). The doorbell after it sends them. */
  writeMemory(bar: number, offset: number, type: RecordType, bytes: Uint8Array): void {
    this.#check(bar, offset, bytes.length);
    const writer = this.#space.link?.writer;
    writer?.column(Op.MMIO_WRITE, bar, offset, type, bytes, 0, bytes.length);
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
    this.#handlers[vector]?.();
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
