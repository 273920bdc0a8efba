/** Frames of a capture file, for pkt-gen -P. All of them are in memory, each frame once. */

import { heldBytes } from "../../../shared/capture/frame-bytes.ts";
import { CaptureFileReader } from "../../../shared/capture/read.ts";
import { ETHER_HEADER_BYTES } from "../../../shared/net/ethernet.ts";
import { CaptureFormatError } from "../../../shared/pcapng/packet.ts";
import { LINK_ETHERNET } from "../replay/outgoing.ts";
import { Selection } from "../replay/selection.ts";

const MAX_FRAMES = 65_536;

/**
 * Reads at most 65,536 frames. Rejects with errors of the file system. Rejects with a TypeError, a
 * sentence for the user, if the file has no Ethernet frames or a frame that can't be sent.
 */
export async function readFrames(path: string, maxBytes: number): Promise<Uint8Array[]> {
  const file = await CaptureFileReader.open(path);
  try {
    return await framesOf(file, maxBytes, (why) => new TypeError(`${path} ${why}`));
  } finally {
    await file[Symbol.asyncDispose]();
  }
}

async function framesOf(
  file: CaptureFileReader,
  maxBytes: number,
  refuse: (why: string) => TypeError,
): Promise<Uint8Array[]> {
  const frames: Uint8Array[] = [];
  const selection = new Selection([]);
  let packets = 0;
  try {
    while (frames.length < MAX_FRAMES && (await file.more())) {
      for (let p = file.next(); p !== undefined && frames.length < MAX_FRAMES; p = file.next()) {
        packets++;
        if (p.linkType !== LINK_ETHERNET || selection.skips(p) !== undefined) continue;
        const bytes = heldBytes(p);
        if (bytes < ETHER_HEADER_BYTES || bytes > maxBytes) {
          throw refuse(
            `has a frame of ${bytes} bytes; ${ETHER_HEADER_BYTES} to ${maxBytes} can be sent`,
          );
        }
        frames.push(p.bytes.slice(0, bytes));
      }
    }
  } catch (error) {
    if (!(error instanceof CaptureFormatError)) throw error;
    throw refuse(`can't be read: ${error.message}`);
  }
  if (frames.length < MAX_FRAMES && file.cutAt !== undefined) {
    throw refuse(`ends within frame ${frames.length + 1}`);
  }
  if (frames.length > 0) return frames;
  throw refuse(packets > 0 ? "holds no Ethernet frames" : "holds no frames");
}
