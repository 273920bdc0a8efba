/**
 * Reads the frames of a capture file (pcap, both byte orders, micro- or nanoseconds).
 *
 *   file    | magic | version 2.4 | zone, accuracy | snap length | link type |   24 bytes
 *   record  | seconds | fraction | captured | original | bytes ...               16 + captured
 *
 * Source: draft-ietf-opsawg-pcap.
 */
import { readFileSync } from "node:fs";

const FILE_HEADER = 24;
const RECORD_HEADER = 16;
const MAGICS: readonly number[] = [0xa1b2c3d4, 0xa1b23c4d];
const PCAPNG = 0x0a0d0d0a;
const LINK_ETHERNET = 1;
const MAX_FRAMES = 65_536;
const LEAST_FRAME = 14;

/** Throws a TypeError with a sentence when the file holds no Ethernet frames. */
export function readPcap(path: string, maxBytes: number): Uint8Array[] {
  const file = readFileSync(path);
  const view = new DataView(file.buffer, file.byteOffset, file.length);
  const refuse = (why: string): TypeError => new TypeError(`${path} ${why}`);
  if (file.length < FILE_HEADER) throw refuse("is no pcap file: it is too short");
  if (view.getUint32(0) === PCAPNG) throw refuse('is pcapng: "editcap -F pcap" makes it pcap');
  const little = MAGICS.includes(view.getUint32(0, true));
  if (!little && !MAGICS.includes(view.getUint32(0))) throw refuse("is no pcap file");
  // The high bits may hold the length of a frame check sequence.
  if ((view.getUint32(20, little) & 0xffff) !== LINK_ETHERNET) {
    throw refuse("holds no Ethernet frames");
  }
  const frames: Uint8Array[] = [];
  let at = FILE_HEADER;
  while (at + RECORD_HEADER <= file.length && frames.length < MAX_FRAMES) {
    const captured = view.getUint32(at + 8, little);
    const from = at + RECORD_HEADER;
    if (captured > file.length - from) throw refuse(`ends within frame ${frames.length + 1}`);
    if (captured < LEAST_FRAME || captured > maxBytes) {
      throw refuse(`has a frame of ${captured} bytes; ${LEAST_FRAME} to ${maxBytes} can be sent`);
    }
    frames.push(Uint8Array.prototype.slice.call(file, from, from + captured));
    at = from + captured;
  }
  if (frames.length === 0) throw refuse("holds no frames");
  return frames;
}
