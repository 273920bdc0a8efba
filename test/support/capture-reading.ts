/** What a capture holds by now, for tests of what writes captures. */
import { existsSync, readFileSync } from "node:fs";
import type { CapturedPacket } from "../../shared/pcapng/packet.ts";
import { PcapngReader } from "../../shared/pcapng/reader.ts";

/** The packets up to the last whole block, and a reader that knows all but them. */
export interface CaptureSoFar {
  readonly reader: PcapngReader;
  readonly packets: readonly CapturedPacket[];
}

export function captureSoFar(bytes: Uint8Array): CaptureSoFar {
  const reader = new PcapngReader();
  reader.feed(Uint8Array.from(bytes));
  const packets: CapturedPacket[] = [];
  for (let p = reader.next(); p !== undefined; p = reader.next()) packets.push(p);
  return { reader, packets };
}

/** The same of a file, which may not be there yet. */
export const fileSoFar = (path: string): CaptureSoFar =>
  captureSoFar(existsSync(path) ? readFileSync(path) : new Uint8Array(0));

/** The Ethernet frames of a file so far; rings have another link type. */
export const framesSoFar = (path: string): readonly CapturedPacket[] =>
  fileSoFar(path).packets.filter((packet) => packet.linkType === 1);
