/** The device at the other end of the link, for bus_dma(9) and the PCI function. */

import type { FaultSeverity } from "../../shared/wire/protocol.ts";
import type { BusAddress, Space } from "../../shared/wire/records.ts";

export interface DeviceLink {
  /** Announces that coherent memory was allocated, or freed (`endWindow`). */
  window(address: BusAddress, length: number): void;
  endWindow(address: BusAddress): void;
  /**
   * Posts a change of a window: bytes src[at .. at + length) are now at `address`. Copies the bytes
   * at once, and splits them if they are longer than one record may be.
   */
  write(address: BusAddress, type: number, src: Uint8Array, at: number, length: number): void;
  /**
   * Posts streaming bytes ahead of the doorbell that needs them. Copies the bytes at once. In
   * Space.GRANT the address is reference * 4096 + offset.
   */
  push(
    space: Space,
    address: BusAddress,
    type: number,
    src: Uint8Array,
    at: number,
    length: number,
  ): void;
  /** Posts a write to a register, a doorbell or device memory. */
  mmioWrite(bar: number, offset: number, type: number, bytes: Uint8Array): void;
  mmioWrite32(bar: number, offset: number, value: number): void;
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
