/** Options and results of a recorder. */
import type { Logger } from "../log.ts";
import type { Frame } from "../net/frame.ts";
import type { TimeSource } from "./clock.ts";
import type { CaptureFile } from "./pump.ts";

/** Chooses frames; `compileFilter` makes one from the libpcap language. */
export interface FrameFilter {
  /** As the user wrote it. */
  readonly text: string;
  /** Returns whether the frame passes the filter. */
  matches(frame: Frame): boolean;
  /** Returns whether the frame in bytes[at .. at + length) passes the filter. */
  matchesSpan(bytes: Uint8Array, at: number, length: number): boolean;
}

/** Options of a Recorder. */
export interface RecorderOptions {
  /** Most bytes kept of a frame; 0, the default, is MAX_SNAP_BYTES. Batches are kept whole. */
  readonly snapLength?: number;
  /** Most bytes that wait for the output; what has no room is dropped and counted. */
  readonly queueBytes?: number;
  /** Ends the capture after so many packets, state records not counted; 0, the default, never. */
  readonly maxPackets?: number;
  /** Begins a new file before one gets longer than this; 0, the default, never. */
  readonly rotateBytes?: number;
  /** Begins a new file with the first packet after this time; 0, the default, never. */
  readonly rotateMs?: number;
  /**
   * Least time between writes that are not full, 5 when not given: what comes first leaves at the
   * end of its burst, what follows at once waits as long. 0: every burst leaves at its end.
   */
  readonly flushMs?: number;
  /** For frames; batches are not filtered. */
  readonly filter?: FrameFilter;
  /** Program and version. */
  readonly application?: string | undefined;
  readonly log?: Logger;
  readonly time?: TimeSource;
}

/** An interface of a capture, as a recorder writes it to the file. */
export interface CaptureInterface {
  readonly name: string;
  readonly description?: string | undefined;
  /** Six bytes; also gets the name in the file's name block. */
  readonly mac?: Uint8Array | undefined;
  readonly layer: "frame" | "ring";
  /** Bits per second. */
  readonly speed?: number | undefined;
}

/** Counts of one interface of a capture. */
export interface InterfaceStats {
  readonly name: string;
  /** Packets offered ... */
  readonly received: number;
  /** ... that passed the filter ... */
  readonly accepted: number;
  /** ... less those without room ... */
  readonly dropped: number;
  /** ... went to the output. */
  readonly delivered: number;
}

/** The totals of a capture that has ended. */
export interface CaptureSummary {
  /** As given to `stop`; or "count", "reader gone", "failed". */
  readonly reason: string;
  /** The system's word for a failure: ENOSPC ... */
  readonly code?: string | undefined;
  /** Packets and bytes of whole blocks that the output has taken. */
  readonly packets: number;
  readonly bytes: number;
  readonly files: readonly CaptureFile[];
  readonly interfaces: readonly InterfaceStats[];
}
