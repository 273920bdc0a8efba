/** Frames in and out of netmap rings, as an application handles them. */
import { Ns } from "../../frontend/netmap/flags.ts";
import type { PortRings } from "../../frontend/netmap/port.ts";
import type { NetmapRing } from "../../frontend/netmap/ring.ts";

/** An Ethernet frame of `length` bytes, filled with `fill`. */
export function ethernet(dst: number, src: number, length = 60, fill = 0x61): Uint8Array {
  const frame = new Uint8Array(length).fill(fill);
  frame.set([2, 0, 0, 0, 0, dst, 2, 0, 0, 0, 0, src, 0x08, 0x00]);
  if (dst === 0xff) frame.fill(0xff, 0, 6);
  return frame;
}

/** Fills slots with a frame, cut into pieces of at most `piece` bytes. False: too few slots. */
export function putFrame(
  port: PortRings,
  ring: NetmapRing,
  frame: Uint8Array,
  piece = port.bufSize,
): boolean {
  const slots = Math.max(1, Math.ceil(frame.length / piece));
  if (ring.space < slots) return false;
  let slot = ring.head;
  for (let i = 0; i < slots; i++) {
    const part = frame.subarray(i * piece, (i + 1) * piece);
    port.buffer(ring.bufIdx(slot)).set(part);
    ring.setLen(slot, part.length);
    ring.setSlotFlags(slot, i + 1 < slots ? Ns.MOREFRAG : 0);
    slot = ring.next(slot);
  }
  ring.advance(slot);
  return true;
}

/** Returns the next whole frame and releases its slots; undefined when no frame waits. */
export function takeFrame(port: PortRings, ring: NetmapRing): Uint8Array | undefined {
  if (ring.isEmpty) return undefined;
  const pieces: Uint8Array[] = [];
  let slot = ring.head;
  for (;;) {
    const flags = ring.slotFlags(slot);
    pieces.push(port.buffer(ring.bufIdx(slot)).slice(0, ring.len(slot)));
    slot = ring.next(slot);
    if ((flags & Ns.MOREFRAG) === 0 || slot === ring.tail) break;
  }
  ring.advance(slot);
  return Buffer.concat(pieces);
}

export function takeAll(port: PortRings, ring: NetmapRing): Uint8Array[] {
  const frames: Uint8Array[] = [];
  for (let f = takeFrame(port, ring); f !== undefined; f = takeFrame(port, ring)) frames.push(f);
  return frames;
}
