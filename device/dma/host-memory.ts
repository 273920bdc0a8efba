/**
 * The frontend's memory as a device model sees it. A device model reads windows and pushed bytes
 * at once, and asks for the rest; it knows nothing of sockets.
 */
import type { RecordType, Space } from "../../shared/wire/records.ts";

/** A span of bytes somewhere in this process: buffer[at .. at + length). */
export interface Span {
  buffer: Uint8Array;
  at: number;
  length: number;
}

/** Coherent memory, this side's copy. `view` and `bytes` cover the whole window. */
export interface Window {
  readonly address: number;
  readonly bytes: Uint8Array;
  readonly view: DataView;
}

/** A read that the frontend refused, or that a reset abandoned. */
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

/**
 * In Space.BUS an address is the frontend's own. In Space.GRANT it is reference * 4096 + offset, and
 * no window is looked for there: writing a window through its grant changes this side's copy too.
 */
export interface HostMemory {
  /** The window that holds the whole range, or undefined. Address in bytes, Space.BUS. */
  window(address: number, length: number): Window | undefined;

  /**
   * Finds pushed bytes that cover the range and fills `out`. False on a miss (counted). The span
   * is valid until the model returns to its caller; a packet that waits copies it or looks again.
   * The entry stays until `releasePushed(space, address)`: once the packet is completed.
   */
  pushed(space: Space, address: number, length: number, out: Span): boolean;
  releasePushed(space: Space, address: number): void;

  /** Asks the frontend. Rejects with DmaError. At most 64 KiB a call. */
  read(space: Space, address: number, length: number): Promise<Uint8Array>;

  /**
   * A posted DMA write of `length` bytes: makes room for it in the outgoing batch and returns
   * where; the caller fills outgoing[at .. at + length) before any other call on this object.
   */
  reserve(space: Space, address: number, type: RecordType, length: number): number;
  /** The batch under construction; valid until the next call of `reserve` or `write`. */
  readonly outgoing: Uint8Array;
  /** A posted DMA write. Where the range is a window, this side's copy changes too. */
  write(
    space: Space,
    address: number,
    type: RecordType,
    src: Uint8Array,
    at: number,
    length: number,
  ): void;

  /** Reset: pushes forgotten, outstanding reads rejected with DMA_ABANDONED. */
  abandon(): void;
}
