/** The device at the other end of the link, as bus_dma(9) and the PCI function need it. */
import type { Space } from "../../shared/wire/records.ts";
import type { FaultSeverity } from "../../shared/wire/transactions.ts";

export interface DeviceLink {
  /** Coherent memory allocated or freed. */
  window(address: number, length: number): void;
  endWindow(address: number): void;
  /**
   * A change of a window: bytes src[at .. at + length) now stand at `address`. Copied at once, and
   * split where it is longer than one record may be.
   */
  write(address: number, type: number, src: Uint8Array, at: number, length: number): void;
  /**
   * Streaming bytes ahead of the doorbell that needs them. Copied at once. In Space.GRANT the
   * address is reference * 4096 + offset.
   */
  push(
    space: Space,
    address: number,
    type: number,
    src: Uint8Array,
    at: number,
    length: number,
  ): void;
  /** A register, doorbell or device-memory write, posted. */
  mmioWrite(
    bar: number,
    offset: number,
    type: number,
    src: Uint8Array,
    at: number,
    length: number,
  ): void;
  mmioWrite32(bar: number, offset: number, value: number): void;
  /** A register read. Rejects when the link goes away. */
  mmioRead(bar: number, offset: number, length: number): Promise<Uint8Array>;
  fault(severity: FaultSeverity, code: string, text: string, space: number, address: number): void;
  /** Sends what was posted at the end of this turn of the event loop. */
  scheduleFlush(): void;
  /**
   * What was posted so far is complete, though the burst may go on: a batch of `bytes` or more
   * leaves now.
   */
  mark(bytes: number): void;
  /** False while more is sent and not yet acknowledged than the link's limit; `writableAgain` follows. */
  askForRoom(): boolean;
}
