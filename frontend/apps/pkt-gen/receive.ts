/** rx: empties receive rings and counts the packets. rxseq has its own reader of slots. */
import { Ns, Poll } from "../../netmap/flags.ts";
import type { NetmapRing } from "../../netmap/ring.ts";
import { type AppPort, type Control, type Counts, LOOK_MS, waitFor } from "../app.ts";
import type { PktGenConfig } from "../pkt-gen.ts";
import { dumpSlot } from "./dump.ts";

const IDLE_MS = 1000;

/**
 * Reads `slots` slots of a receive ring, beginning at slot `from`, and counts the packets. Returns
 * the slot behind the last one read.
 */
export type SlotReader = (
  port: AppPort,
  ring: NetmapRing,
  from: number,
  slots: number,
  counts: Counts,
) => number;

/** Receives until the count is reached, the port is idle, or the command is stopped. */
export async function receive(
  port: AppPort,
  config: PktGenConfig,
  counts: Counts,
  control: Control,
  read: SlotReader,
): Promise<void> {
  const rings = port.rxRings();
  const wanted = config.count === 0 ? Number.POSITIVE_INFINITY : config.count;
  let idleMs = 0;
  while (counts.packets < wanted && !control.isStopped && idleMs < IDLE_MS) {
    if ((await waitFor(port, Poll.IN, counts, control)) === 0) {
      if (config.endWhenIdle && counts.hasBegun) idleMs += LOOK_MS;
      continue;
    }
    idleMs = 0;
    if (!counts.hasBegun) counts.begin();
    for (const ring of rings) {
      const slots = Math.min(ring.space, config.burst);
      if (slots === 0) continue;
      counts.sawSpace(ring.numSlots - 1 - ring.space);
      if (config.dump) dumpSlots(port, ring, slots);
      ring.advance(read(port, ring, ring.head, slots, counts));
    }
  }
  // Return the slots that were read before the port is closed.
  port.rxsync();
  counts.end(idleMs);
}

function dumpSlots(port: AppPort, ring: NetmapRing, slots: number): void {
  let slot = ring.head;
  for (let n = 0; n < slots; n++, slot = ring.next(slot)) {
    dumpSlot(port, ring, slot, port.buffer(ring.bufIdx(slot)), ring.len(slot));
  }
}

/** Counts packets. A packet ends with its first slot without NS_MOREFRAG. */
export function countSlots(
  _port: AppPort,
  ring: NetmapRing,
  from: number,
  slots: number,
  counts: Counts,
): number {
  let slot = from;
  let packets = 0;
  let bytes = 0;
  for (let n = 0; n < slots; n++) {
    bytes += ring.len(slot);
    if ((ring.slotFlags(slot) & Ns.MOREFRAG) === 0) packets++;
    slot = ring.next(slot);
  }
  counts.add(packets, bytes);
  return slot;
}
