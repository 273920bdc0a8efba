/** The kinds of classic pcap that Wireshark reads, and packets to write in each of them. */
import type { PcapKind, WrittenPacket } from "./capture-files.ts";

/** A broadcast frame with a local experimental EtherType, filled with `fill`. */
export function frame(length: number, fill = 0): Buffer {
  const bytes = Buffer.from(Array.from({ length }, (_, i) => (i * 7 + fill) & 0xff));
  bytes.write("ffffffffffff02000000090188b6", "hex");
  return bytes;
}

const NS = 1_400_000_000_123_456_000n;
/** The capture cut the second packet. */
export const PACKETS: readonly WrittenPacket[] = [
  { bytes: frame(60), ns: NS },
  { bytes: frame(64, 1), original: 100, ns: NS + 1_000_000n },
  { bytes: frame(1514, 2), ns: NS + 2_000_000_000n },
];

/** interface, protocol (IPv4), type, and 1 or 5 uninitialized bytes. */
const patched = (padding: string) => Buffer.from(`02000000000800${padding}`, "hex");
const MICRO = { magic: 0xa1b2c3d4, unitNs: 1000n };
const PATCHED = { magic: 0xa1b2cd34, unitNs: 1000n, recordTail: patched("7f") };

export const KINDS: readonly (readonly [what: string, kind: PcapKind, link: number])[] = (
  [
    ["microseconds", MICRO],
    ["nanoseconds", {}],
    ["the other byte order", { ...MICRO, big: true }],
    ["version 2.2, lengths swapped", { ...MICRO, version: [2, 2], swapped: true }],
    [
      "version 2.0, lengths swapped, other byte order",
      { ...MICRO, version: [2, 0], swapped: true, big: true },
    ],
    ["version 2.3", { ...MICRO, version: [2, 3] }],
    ["version 2.3, lengths swapped", { ...MICRO, version: [2, 3], swapped: true }],
    ["DG/UX", { ...MICRO, version: [543, 0], swapped: true }],
    ["AIX", { magic: 0xa1b2c3d4, version: [2, 2], swapped: true, big: true }, 6],
    ["modified", PATCHED],
    [
      "modified, other byte order",
      { ...PATCHED, big: true, recordTail: Buffer.from("0000000208000000", "hex") },
    ],
    ["modified, with processors", { ...PATCHED, recordTail: patched("0100a5a5a5") }],
    ["modified, with the usual magic", { ...PATCHED, magic: 0xa1b2c3d4 }],
    ["Nokia", { ...MICRO, recordTail: Buffer.from("01b6bf9f", "hex").reverse().swap32() }],
    ["Ixia, hardware", { magic: 0x1c0001ac, fileTail: Buffer.alloc(4) }],
    ["Ixia, software", { ...MICRO, magic: 0x1c0001ab, fileTail: Buffer.alloc(4) }],
  ] as readonly (readonly [string, PcapKind, number?])[]
).map(([what, kind, link = 1]) => [what, kind, link]);
