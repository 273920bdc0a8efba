/**
 * What a port can't take, done in software before it gets the frame: segmentation, checksums.
 *
 *   frame, facts ── takes() ──► as it is
 *                └─ fix() ────► Segmenter ──► one or more complete frames ──► sink
 *
 * The frame itself is never changed: the next port may take it as it is.
 */
import { type Frame, Gso } from "../../shared/net/frame.ts";
import type { Headers } from "../../shared/net/headers.ts";
import { checkGso, Segmenter, type SegmentSink } from "../../shared/net/segment.ts";
import type { PortOffloads } from "./port.ts";

/** True when the facts of a frame hang together. `h` is parsed when the frame is GSO, else unused. */
export function factsHold(frame: Frame, h: Headers): boolean {
  if (frame.gso !== Gso.NONE) return checkGso(frame, h) === undefined;
  return (
    !frame.needsCsum ||
    (frame.csumStart >= 0 &&
      frame.csumOffset >= 0 &&
      frame.csumStart + frame.csumOffset + 2 <= frame.length)
  );
}

/** True when a port takes this frame as it is. `h` is parsed when the frame is GSO, else unused. */
export function takes(offloads: PortOffloads, frame: Frame, h: Headers): boolean {
  if (frame.gso === Gso.NONE) return offloads.csum || !frame.needsCsum;
  // A super-frame that leaves out its own length passes no IP stack: it must be cut.
  if (!offloads.csum || h.problems !== 0) return false;
  return frame.gso === Gso.TCPV4 ? offloads.tso4 : frame.gso === Gso.TCPV6 && offloads.tso6;
}

export class Offload {
  readonly #segmenter = new Segmenter();

  /**
   * Gives `sink` what `frame` becomes for a port that takes no offloads. Returns false, the sink
   * having seen nothing, when that can't be done.
   */
  fix(frame: Frame, h: Headers, sink: SegmentSink): boolean {
    if (frame.gso !== Gso.NONE) return this.#segmenter.segment(frame, h, sink) === undefined;
    const finished = this.#segmenter.finish(frame, h);
    if (typeof finished === "string") return false;
    sink.segment(finished);
    return true;
  }
}
