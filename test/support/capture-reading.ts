/** Reads a capture that is still being written. */
import { existsSync, readFileSync } from "node:fs";
import type { CapturedPacket } from "../../shared/pcapng/packet.ts";
import { PcapngReader } from "../../shared/pcapng/reader.ts";

export type CaptureSoFar = Readonly<ReturnType<typeof captureSoFar>>;

/** The packets up to the last whole block, and the reader that parsed them. */
export function captureSoFar(bytes: Uint8Array) {
  const reader = new PcapngReader();
  reader.feed(Uint8Array.from(bytes));
  const packets: CapturedPacket[] = [];
  for (let p = reader.next(); p !== undefined; p = reader.next()) packets.push(p);
  return { reader, packets };
}

/** Reads what a file holds by now. A missing file counts as empty. */
export const fileSoFar = (path: string): CaptureSoFar =>
  captureSoFar(existsSync(path) ? readFileSync(path) : new Uint8Array(0));

/** The Ethernet frames that a file holds by now; ring captures have another link type. */
export const framesSoFar = (path: string): readonly CapturedPacket[] =>
  fileSoFar(path).packets.filter((packet) => packet.linkType === 1);
