/** The device at the other end of the link, for bus_dma(9) and the PCI function. */

import type { BatchWriter } from "../../shared/wire/batch.ts";
import type { FaultSeverity } from "../../shared/wire/protocol.ts";
import type { BusAddress } from "../../shared/wire/records.ts";

export interface DeviceLink {
  /** Announces that coherent memory was allocated, or freed (`endWindow`). */
  window(address: BusAddress, length: number): void;
  endWindow(address: BusAddress): void;
  /**
   * The batch under construction, for everything that repeats per frame: changes of windows
   * (Op.WRITE), streaming bytes ahead of the doorbell that needs them (Op.PUSH), and writes to
   * registers, doorbells and device memory (Op.MMIO_WRITE). It copies the bytes at once.
   */
  readonly writer: Pick<BatchWriter, "column" | "mmioWrite32">;
  /** Reads a register. Rejects when the link is lost. */
  mmioRead(bar: number, offset: number, length: number): Promise<Uint8Array>;
  fault(severity: FaultSeverity, code: string, text: string, space: number, address: number): void;
  /** Sends everything posted, at the end of this turn of the event loop. */
  scheduleFlush(): void;
  /**
   * Marks everything posted so far as complete, though the burst may continue. Sends the batch now
   * if it has `bytes` or more.
   */
  mark(bytes: number): void;
  /** Returns false while unacknowledged bytes exceed the link's limit. `writableAgain` follows. */
  askForRoom(): boolean;
}
