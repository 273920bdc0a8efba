/**
 * Hooks of the switch for captures. Without a capture they cost a port one field read per frame.
 *
 *   driver ──► port ── entered ──► switch ── delivered ──► port ──► driver
 *                         '── with a reason: dropped here ──'
 *
 * A held frame is reported once, when the switch accepts it, and not at each attempt.
 */
import type { Frame } from "../../shared/net/frame.ts";
import type { DropReason, Port } from "./port.ts";

/** Receives the frames of one port. A tap changes nothing in a frame except its id. */
export interface PortTap {
  /**
   * Called for a frame that the port sends, with its offload facts, before any port receives the
   * frame. `frame.queue` is the queue of its origin.
   */
  entered(frame: Frame, reason: DropReason | undefined): void;
  /**
   * Called for a frame that was offered to the port, in the form that the port accepts. `reason`
   * is undefined if the port accepted the frame. `frame.queue` is the queue of its destination.
   */
  delivered(frame: Frame, reason: DropReason | undefined): void;
  /** The port left the switch. */
  detached(): void;
}

/** Creates the tap of a port. Called for each attached port and for each port attached later. */
export type TapOfPort = (port: Port) => PortTap | undefined;
