/** Frames of a NIC under test: raw ones with a pattern, and what they are compared with. */

import { expect } from "vitest";
import type { NicUnderTest } from "./nic-under-test.ts";

/** The NIC's address, and that of somebody in its segment. */
export const MAC = [2, 0, 0, 0, 0, 1];
export const PEER = [2, 0, 0, 0, 0, 9];

export const payload = (length: number, seed = 0): Uint8Array =>
  Uint8Array.from({ length }, (_, i) => (i * 7 + (i >> 8) + seed) & 0xff);

export function frame(
  length: number,
  seed = 0,
  to: readonly number[] = PEER,
  from: readonly number[] = MAC,
): Uint8Array {
  const bytes = payload(length, seed);
  bytes.set([...to, ...from, 0x88, 0xb5].slice(0, length));
  return bytes;
}

/** As `frame`, of the segment to the NIC. */
export const arriving = (length: number, seed = 0): Uint8Array => frame(length, seed, MAC, PEER);

export const bytesOf = (list: readonly { readonly bytes: Uint8Array }[]): Uint8Array[] =>
  list.map(({ bytes }) => bytes);

/** Frames from the segment, as one burst, all the way up. */
export async function arrive(nic: NicUnderTest, ...frames: Uint8Array[]): Promise<void> {
  for (const bytes of frames) expect(nic.deliver(bytes)).toBeUndefined();
  nic.flush();
  await nic.settle();
}
