/** Interfaces that all uplinks share. */
import type { Logger } from "../../shared/log.ts";
import type { Port, SwitchPort } from "../switch/port.ts";

/** Options with which an uplink opens its port on a segment. */
export interface UplinkOptions {
  /** The text behind the scheme and its colon. */
  readonly name: string;
  readonly log: Logger;
  readonly segment: { attach(port: Port): SwitchPort };
  /** Called when the far end is gone for good, after the port has left the segment. */
  readonly onGone?: (error: Error) => void;
}

export interface Uplink {
  /** Detaches the port from the segment and closes the far end. */
  close(): Promise<void>;
}
