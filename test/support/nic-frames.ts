/** Frames for a NIC under test: raw frames with a pattern, and the expected frames. */

import { expect } from "vitest";
import { Csum, type Mbuf } from "../../frontend/net/mbuf.ts";
import type { Built } from "./packets.ts";
import type { AnyPair } from "./pair.ts";

/** The NIC's address, and the address of another station in its segment. */
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

/** Like `frame`, but from the segment to the NIC. */
export const arriving = (length: number, seed = 0): Uint8Array => frame(length, seed, MAC, PEER);

export const bytesOf = (list: readonly { readonly bytes: Uint8Array }[]): Uint8Array[] =>
  list.map(({ bytes }) => bytes);

/** Sends frames from the segment in one burst, and waits until the stack has them. */
export async function arrive(nic: AnyPair, ...frames: Uint8Array[]): Promise<void> {
  for (const bytes of frames) expect(nic.inject(bytes)).toBeUndefined();
  nic.flushPort();
  await nic.settle();
}

/** Offset of the checksum in a TCP header and in a UDP header. */
export const CHECKSUM_AT = { 6: 16, 17: 6 } as const;

/** Asks the device to fill the checksum of `built`, and to segment it when `segment` is not 0. */
export function withOffload(
  m: Mbuf,
  built: Built,
  v6: boolean,
  protocol: 6 | 17,
  segment = 0,
): Mbuf {
  const ip = v6 ? "IP6" : "IP";
  m.csumFlags = Csum[`${ip}_${protocol === 6 ? "TCP" : "UDP"}`];
  if (segment > 0) {
    m.csumFlags |= Csum[`${ip}_TSO`];
    m.tsoSegsz = segment;
    m.headerLength = built.payload;
  }
  m.csumStart = built.l4;
  m.csumOffset = CHECKSUM_AT[protocol];
  m.isIp6 = v6;
  return m;
}
