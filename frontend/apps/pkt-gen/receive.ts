/** rx: empties receive rings and counts the packets. rxseq also looks at each slot. */
import { Ns, Poll } from "../../netmap/flags.ts";
import type { NetmapRing } from "../../netmap/ring.ts";
import { type AppPort, type Control, type Counts, LOOK_MS, waitFor } from "../app.ts";
import type { PktGenConfig } from "../pkt-gen.ts";
import { dumpSlot } from "./hexdump.ts";

const IDLE_MS = 1000;

/** Looks at a received slot. `isLast` is true for the last slot of a packet, without NS_MOREFRAG. */
export type LookAtSlot = (ring: NetmapRing, slot: number, length: number, isLast: boolean) => void;

/** Receives until the count is reached, the port is idle, or the command is stopped. */
export async function receive(
  port: AppPort,
  config: PktGenConfig,
  counts: Counts,
  control: Control,
  look?: LookAtSlot,
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
      ring.advance(countSlots(ring, slots, counts, look));
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

/** Counts the packets that end in the first `slots` slots. Returns the slot behind these. */
function countSlots(ring: NetmapRing, slots: number, counts: Counts, look?: LookAtSlot): number {
  let slot = ring.head;
  let packets = 0;
  let bytes = 0;
  for (let n = 0; n < slots; n++) {
    const length = ring.len(slot);
    const isLast = (ring.slotFlags(slot) & Ns.MOREFRAG) === 0;
    look?.(ring, slot, length, isLast);
    bytes += length;
    if (isLast) packets++;
    slot = ring.next(slot);
  }
  counts.add(packets, bytes);
  return slot;
}
