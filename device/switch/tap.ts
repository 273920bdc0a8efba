/**
 * What a capture sees of the switch. Off, it costs a port one look at a field per frame.
 *
 *   driver ──► port ── entered ──► switch ── delivered ──► port ──► driver
 *                         '── with a reason: dropped here ──'
 *
 * A frame that was held is seen when it has come through at last, not each time it was tried.
 */
import type { Frame } from "../../shared/net/frame.ts";
import type { DropReason, Port } from "./port.ts";

/** Sees the frames of one port. It only looks, except that it may give a frame its id. */
export interface PortTap {
  /**
   * The port handed in this frame, which has its offload facts; `frame.queue` is the queue that it
   * came from. Called before anybody gets it.
   */
  entered(frame: Frame, reason: DropReason | undefined): void;
  /**
   * The port was given this frame, in the form that it takes, and took it or said why not.
   * `frame.queue` is the queue that it went to.
   */
  delivered(frame: Frame, reason: DropReason | undefined): void;
  /** The port left the switch. */
  detached(): void;
}

/** Makes the tap of a port: called for those that are there, and for each that comes. */
export type TapOfPort = (port: Port) => PortTap | undefined;
