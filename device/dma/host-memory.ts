/**
 * The interface through which a device model accesses the frontend's memory. A device model reads
 * windows and pushed bytes at once, and requests other bytes. It does not depend on sockets.
 */
import type { BatchWriter } from "../../shared/wire/batch.ts";
import { type BusAddress, beyond, type RecordType, type Space } from "../../shared/wire/records.ts";
import type { PushQueue } from "./push-queue.ts";

/** A span of bytes somewhere in this process: buffer[at .. at + length). */
export interface Span {
  buffer: Uint8Array;
  at: number;
  length: number;
}

/** The device's copy of coherent memory. `view` and `bytes` cover the whole window. */
export interface Window {
  readonly address: BusAddress;
  readonly bytes: Uint8Array;
  readonly view: DataView;
}

/** The frontend refused a read, a reset abandoned it, or it was too long. */
export class DmaError extends Error {
  readonly code: "DMA_REFUSED" | "DMA_ABANDONED" | "DMA_TOO_LONG";
  /** Negated GNTST status of a refused access by grant; else 1. */
  readonly status: number;
  constructor(code: "DMA_REFUSED" | "DMA_ABANDONED" | "DMA_TOO_LONG", message: string, status = 1) {
    super(message);
    this.status = status;
    this.name = "DmaError";
    this.code = code;
  }
}

/** Returns the place of an address of Space.GRANT in the push queue: above all bus addresses. */
export const grantPush = (address: BusAddress): BusAddress => beyond(address, 2 ** 48);

/**
 * In Space.BUS an address is the frontend's own. In Space.GRANT it is reference * 4096 + offset.
 * Accesses in Space.GRANT do not use windows. So a caller that writes a window through its grant
 * changes the device's copy itself.
 */
export interface HostMemory {
  /** Returns the window that holds the whole range, or undefined. Address in bytes, Space.BUS. */
  window(address: BusAddress, length: number): Window | undefined;

  /**
   * The pushed bytes of both spaces. Those of Space.GRANT are at `grantPush(address)`. A span that
   * `find` fills is valid until the model returns to its caller. For a packet that waits, the model
   * copies the span or calls `find` again. The model calls `release` when the packet is completed.
   */
  readonly pushes: Pick<PushQueue, "find" | "release" | "bytes">;

  /** Reads up to 64 KiB from the frontend. Rejects with DmaError. */
  read(space: Space, address: BusAddress, length: number): Promise<Uint8Array>;

  /**
   * The batch under construction. A frame is copied straight into it, as a posted DMA write
   * (Op.WRITE). The device's copies of windows do not change.
   */
  readonly writer: Pick<BatchWriter, "reserve" | "outgoing">;
  /** Posts a DMA write. If the range lies in a window, the device's copy changes too. */
  write(
    space: Space,
    address: BusAddress,
    type: RecordType,
    src: Uint8Array,
    at: number,
    length: number,
  ): void;

  /** Resets: drops all pushes and rejects outstanding reads with DMA_ABANDONED. */
  abandon(): void;
}
