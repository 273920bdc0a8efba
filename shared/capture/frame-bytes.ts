/** The bytes of a captured packet that are the frame on the wire. */
import { flagFcsBytes } from "../pcapng/layout.ts";
import type { CapturedPacket } from "../pcapng/packet.ts";

/**
 * Bytes of the frame on the wire, without its frame check sequence. Some writers leave the original
 * length at zero: then the frame is what was captured. Others capture bytes behind the frame's end:
 * the original length counts. Packets of other link layers are measured alike.
 */
export function frameBytes(packet: CapturedPacket): number {
  const fcs = flagFcsBytes(packet.flags) || (packet.interface.fcsBytes ?? 0);
  return Math.max(0, (packet.originalLength || packet.capturedLength) - fcs);
}

/** How many bytes of the frame are in the file: those that `bytes` begins with. */
export function heldBytes(packet: CapturedPacket): number {
  return Math.min(frameBytes(packet), packet.capturedLength);
}
