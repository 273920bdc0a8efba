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

/** True for ports of one region, between which a buffer moves by its index. */
export const shareMemory = (a: AppPort, b: AppPort): boolean => a.place.region === b.place.region;

/** Zero copy: swaps the buffers of the two slots. */
export function swapSlot(rx: NetmapRing, from: number, tx: NetmapRing, to: number): void {
  const spare = tx.bufIdx(to);
  const flags = rx.slotFlags(from);
  tx.setSlot(to, rx.bufIdx(from), rx.len(from), Ns.BUF_CHANGED | (flags & Ns.MOREFRAG));
  rx.setBufIdx(from, spare);
  rx.setSlotFlags(from, flags | Ns.BUF_CHANGED);
}

/** Between regions: copies the bytes. They must fit: see `fits`. */
export function copySlot(
  source: AppPort,
  rx: NetmapRing,
  from: number,
  destination: AppPort,
  tx: NetmapRing,
  to: number,
): void {
  const length = rx.len(from);
  const at = source.bufferAt(rx.bufIdx(from));
  copyBytes(source.bytes, at, destination.bytes, destination.bufferAt(tx.bufIdx(to)), length);
  tx.setLen(to, length);
  tx.setSlotFlags(to, rx.slotFlags(from) & Ns.MOREFRAG);
}
