/**
 * What a switch port counts. Every number is counted where it happens; none is the difference of
 * two others, so that these hold or something is wrong:
 *
 *   in.frames   = in.forwarded + in.flooded + sum of in.dropped
 *   out.offered = out.frames + sum of out.dropped
 *   over all ports: in.forwarded + in.copies = out.offered - out.segments + out.segmentedFrames
 *
 * The port itself counts what never reached the switch and what it lost after taking it
 * (`SwitchPort.drop`): that stands apart, under `lost`.
 */
import type { Counts, PortCounts } from "../../shared/status/device-status.ts";
import { DropReason } from "./port.ts";

export type DropCounts = Record<DropReason, number>;

export class InCounters {
  frames = 0;
  bytes = 0;
  /** Sent towards the one port of a known address, whatever that port said. */
  forwarded = 0;
  /** Sent towards all other ports, `copies` of it in all. */
  flooded = 0;
  copies = 0;
  /** Times that a frame was given back to the sender; such a frame is not counted elsewhere. */
  held = 0;
  readonly dropped = noDrops();
}

export class OutCounters {
  /** Frames meant for the port, each segment being one. */
  offered = 0;
  /** Frames and bytes that it took. */
  frames = 0;
  bytes = 0;
  /** Super-frames cut for this port, and the segments that came of them. */
  segmentedFrames = 0;
  segments = 0;
  /** Frames whose checksum was finished for this port. */
  checksummed = 0;
  readonly dropped = noDrops();
}

export class PortCounters {
  readonly in = new InCounters();
  readonly out = new OutCounters();
  readonly lostIn = noDrops();
  readonly lostOut = noDrops();
  /** Sum of lostOut. */
  lostOutFrames = 0;

  /** Adds what another port, or this one in an earlier life, has counted. */
  add(other: PortCounters): void {
    addNumbers(this.in, other.in);
    addNumbers(this.out, other.out);
    addNumbers(this.in.dropped, other.in.dropped);
    addNumbers(this.out.dropped, other.out.dropped);
    addNumbers(this.lostIn, other.lostIn);
    addNumbers(this.lostOut, other.lostOut);
    this.lostOutFrames += other.lostOutFrames;
  }

  snapshot(): PortCounts {
    return {
      in: { ...this.in, dropped: nonZero(this.in.dropped) },
      out: { ...this.out, dropped: nonZero(this.out.dropped) },
      lost: { in: nonZero(this.lostIn), out: nonZero(this.lostOut) },
    };
  }
}

/** Adds each number of `from` to the one of the same name. */
function addNumbers(to: object, from: object): void {
  const sums = to as Record<string, unknown>;
  for (const [key, value] of Object.entries(from)) {
    if (typeof value === "number") sums[key] = Number(sums[key]) + value;
  }
}

function noDrops(): DropCounts {
  const counts = {} as DropCounts;
  for (const reason of Object.values(DropReason)) counts[reason] = 0;
  return counts;
}

function nonZero(counts: DropCounts): Counts {
  return Object.fromEntries(Object.entries(counts).filter(([, count]) => count > 0));
}
