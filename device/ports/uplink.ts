/** What every uplink has in common. */
import type { Logger } from "../../shared/log.ts";
import type { Port, SwitchPort } from "../switch/port.ts";

/** What an uplink needs to open its port on a segment. */
export interface UplinkOptions {
  /** The text behind the scheme. */
  readonly name: string;
  readonly log: Logger;
  readonly segment: { attach(port: Port): SwitchPort };
  /** Called when the far end is gone for good. The port has left the segment by then. */
  readonly onGone?: (error: Error) => void;
}

export interface Uplink {
  /** Unplugs the port and closes the far end. */
  close(): Promise<void>;
}
