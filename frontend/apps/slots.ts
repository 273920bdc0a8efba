/** Packets of one or more slots, moved from a receive ring to a transmit ring. */
import { copyBytes } from "../../shared/bytes/copy.ts";
import { Ns } from "../netmap/flags.ts";
import type { NetmapRing } from "../netmap/ring.ts";
import type { AppPort } from "./app.ts";

/** Slots of the packet that begins at `slot`; 0 when its end is not among the `available`. */
export function packetSlots(ring: NetmapRing, first: number, available: number): number {
  let slot = first;
  for (let n = 1; n <= available; n++) {
    if ((ring.slotFlags(slot) & Ns.MOREFRAG) === 0) return n;
    slot = ring.next(slot);
  }
  return 0;
}

/** Returns the slot `count` slots behind `first`. */
export function slotBehind(ring: NetmapRing, first: number, count: number): number {
  let slot = first;
  for (let n = 0; n < count; n++) slot = ring.next(slot);
  return slot;
}

/** True for ports of one region, between which a buffer moves by its index. */
export const shareMemory = (a: AppPort, b: AppPort): boolean => a.place.region === b.place.region;

/** Moves the contents of slot `from` of a receive ring to slot `to` of a transmit ring. */
export type SlotMover = (rx: NetmapRing, from: number, tx: NetmapRing, to: number) => void;

/** Zero copy: swaps the buffers of the two slots. */
export const swapSlot: SlotMover = (rx, from, tx, to) => {
  const spare = tx.bufIdx(to);
  const flags = rx.slotFlags(from);
  tx.setSlot(to, rx.bufIdx(from), rx.len(from), Ns.BUF_CHANGED | (flags & Ns.MOREFRAG));
  rx.setBufIdx(from, spare);
  rx.setSlotFlags(from, flags | Ns.BUF_CHANGED);
};

/** Returns the mover between two ports: a swap within a region; a copy, which must fit, with `copy` and between regions. */
export function slotMover(source: AppPort, destination: AppPort, copy = false): SlotMover {
  if (!copy && shareMemory(source, destination)) return swapSlot;
  return (rx, from, tx, to) => {
    const length = rx.len(from);
    const at = source.bufferAt(rx.bufIdx(from));
    copyBytes(source.bytes, at, destination.bytes, destination.bufferAt(tx.bufIdx(to)), length);
    tx.setLen(to, length);
    tx.setSlotFlags(to, rx.slotFlags(from) & Ns.MOREFRAG);
  };
}
