/** Packets, interfaces, readers and errors of capture files, whatever the format. */
import { ByteQueue } from "./byte-queue.ts";

/** An option as it stood in the file. */
export interface CaptureOption {
  readonly code: number;
  readonly bytes: Uint8Array;
}

/** An interface as a capture file describes it. */
export interface CapturedInterface {
  /** Counts all interfaces of a file, over its sections, from 0. */
  readonly index: number;
  readonly linkType: number;
  /** Most bytes kept of a packet; 0 when there is no limit. */
  readonly snapLength: number;
  readonly name?: string | undefined;
  readonly description?: string | undefined;
  readonly mac?: Uint8Array | undefined;
  /** Bytes of frame check sequence at the end of each packet, where the file says so. */
  readonly fcsBytes?: number | undefined;
  /** The filter's text. */
  readonly filter?: string | undefined;
  readonly options: readonly CaptureOption[];
}

/** A packet as it stands in a capture file. */
export interface CapturedPacket {
  readonly interface: CapturedInterface;
  readonly linkType: number;
  /** Nanoseconds since 1970; undefined in a block that has no time. */
  readonly tsNs: bigint | undefined;
  readonly capturedLength: number;
  readonly originalLength: number;
  /** The captured bytes: a view of what the reader was given, good for as long as that is. */
  readonly bytes: Uint8Array;
  /** epb_flags; `Direction` is in its low two bits. */
  readonly flags: number;
  readonly queue: number | undefined;
  /** The same for all sightings of one packet. */
  readonly id: bigint | undefined;
  /** Packets lost before this one. */
  readonly drops: bigint | undefined;
  readonly comments: readonly string[];
  /** All options in order, those above included. */
  readonly options: readonly CaptureOption[];
}

/** A packet of which the file tells no more than its place, time, lengths and bytes. */
export const plainPacket = (
  info: CapturedInterface,
  tsNs: bigint | undefined,
  originalLength: number,
  bytes: Uint8Array,
): CapturedPacket => ({
  interface: info,
  linkType: info.linkType,
  tsNs,
  capturedLength: bytes.length,
  originalLength,
  bytes,
  flags: 0,
  queue: undefined,
  id: undefined,
  drops: undefined,
  comments: [],
  options: [],
});

/** A reader that is fed bytes as they come: from a file, a pipe, a socket. */
export abstract class PacketReader {
  protected readonly input = new ByteQueue();

  /** More bytes. They are kept, not copied: the caller leaves them alone from now on. */
  feed(bytes: Uint8Array): void {
    this.input.feed(bytes);
  }

  /**
   * In place of `feed`, for callers that read into one buffer again and again. `bytes` are the
   * `pending` bytes that waited, moved, and more behind them. Bytes that earlier packets view may be
   * overwritten now.
   */
  refill(bytes: Uint8Array): void {
    this.input.refill(bytes);
  }

  /** Bytes of a block or record that has begun and is not whole: what is lost if nothing follows. */
  get pending(): number {
    return this.input.length;
  }

  /** The next whole packet; undefined when more bytes are needed. Throws CaptureFormatError. */
  abstract next(): CapturedPacket | undefined;
}

/** The reason why a file is not a capture that can be read. */
export type CaptureFormatCode =
  | "FORMAT"
  | "VERSION"
  | "BLOCK_LENGTH"
  | "PACKET_LENGTH"
  | "INTERFACE"
  | "OPTION";

/** The bytes are no capture file, or stop being one at `offset`. */
export class CaptureFormatError extends Error {
  readonly code: CaptureFormatCode;
  /** Bytes from the start of the file to the block or record that is wrong. */
  readonly offset: number;

  constructor(code: CaptureFormatCode, offset: number, text: string) {
    super(`${text} (at byte ${offset})`);
    this.name = "CaptureFormatError";
    this.code = code;
    this.offset = offset;
  }
}
