/**
 * Which frames a port accepts as they are. For a port that does not, Segmenter does the work first;
 * the frame itself is never changed, so the next port may accept it as it is.
 */
import { type Frame, Gso } from "../../shared/net/frame.ts";
import { checkGso } from "../../shared/net/segment.ts";
import type { PortOffloads } from "./port.ts";

/** Returns whether the offload facts of a frame are consistent. */
export function factsHold(frame: Frame): boolean {
  if (frame.gso !== Gso.NONE) return checkGso(frame) === undefined;
  return (
    !frame.needsCsum ||
    (frame.csumStart >= 0 &&
      frame.csumOffset >= 0 &&
      frame.csumStart + frame.csumOffset + 2 <= frame.length)
  );
}

/** Returns whether a port accepts this frame as it is. */
export function takes(offloads: PortOffloads, frame: Frame): boolean {
  if (frame.gso === Gso.NONE) return offloads.csum || !frame.needsCsum;
  // No IP stack accepts a super-frame whose headers omit its length, so it must be cut.
  if (!offloads.csum || frame.headers().problems !== 0) return false;
  return frame.gso === Gso.TCPV4 ? offloads.tso4 : frame.gso === Gso.TCPV6 && offloads.tso6;
}
