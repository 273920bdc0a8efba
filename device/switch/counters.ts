/**
 * Counters of a switch port. Each counter is raised where its event happens, and no counter is
 * computed from two others. These sums must therefore hold:
 *
 *   in.frames   = in.forwarded + in.flooded + sum of in.dropped
 *   out.offered = out.frames + sum of out.dropped
 *   over all ports: in.forwarded + in.copies = out.offered - out.segments + out.segmentedFrames
 *
 * The port itself counts the frames that never reached the switch and those that it accepted and
 * then lost (`SwitchPort.drop`). Those counters are separate, under `lost`.
 */
import type { Counts, PortCounts } from "../../shared/status/device-status.ts";
import { DropReason } from "./port.ts";

export type DropCounts = Record<DropReason, number>;

export class InCounters {
  frames = 0;
  bytes = 0;
  /** Frames sent to the one port of a known address, whether that port accepted them or not. */
  forwarded = 0;
  /** Frames sent to all other ports; `copies` is the number of their copies. */
  flooded = 0;
  copies = 0;
  /** Times that a frame was returned to its sender. Such a frame is not counted elsewhere. */
  held = 0;
  readonly dropped = noDrops();
}

export class OutCounters {
  /** Frames for the port. Each segment counts as one. */
  offered = 0;
  /** Frames and bytes that the port accepted. */
  frames = 0;
  bytes = 0;
  /** Number of super-frames cut for this port, and of the resulting segments. */
  segmentedFrames = 0;
  segments = 0;
  /** Frames whose checksum the switch completed for this port. */
  checksummed = 0;
  readonly dropped = noDrops();
}

export class PortCounters {
  readonly in = new InCounters();
  readonly out = new OutCounters();
  readonly lost = { in: noDrops(), out: noDrops() };
  /** Sum of lost.out. */
  lostOutFrames = 0;

  /** Adds the counters of another port, or those of this port before a reconnect. */
  add(other: PortCounters): void {
    addNumbers(this, other);
  }

  snapshot(): PortCounts {
    return {
      in: { ...this.in, dropped: nonZero(this.in.dropped) },
      out: { ...this.out, dropped: nonZero(this.out.dropped) },
      lost: { in: nonZero(this.lost.in), out: nonZero(this.lost.out) },
    };
  }
}

/** Adds each number of `from`, at any depth, to the number of the same name in `to`. */
function addNumbers(to: object, from: object): void {
  const sums = to as Record<string, unknown>;
  for (const [key, value] of Object.entries(from)) {
    if (typeof value === "number") sums[key] = Number(sums[key]) + value;
    else addNumbers(sums[key] as object, value);
  }
}

/** Returns counts of zero for every reason. */
export function noDrops(): DropCounts {
  const counts = {} as DropCounts;
  for (const reason of Object.values(DropReason)) counts[reason] = 0;
  return counts;
}

function nonZero(counts: DropCounts): Counts {
  return Object.fromEntries(Object.entries(counts).filter(([, count]) => count > 0));
}
