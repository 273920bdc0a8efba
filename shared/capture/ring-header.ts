/**
 * The prefix of a packet in a ring capture: the tags of Wireshark's exported PDUs, which name the
 * dissector, then our own pseudo header. A batch follows, or a part of a state record.
 *
 *   0        4                     20       24               40
 *   | tag 12 | "ringwire.batch\0\0" | tag 0  | pseudo header  | batch or state ...
 *
 * Source: wireshark: epan/exported_pdu.h (EXP_PDU_TAG_DISSECTOR_NAME, EXP_PDU_TAG_END_OF_OPT);
 * README.md of this room.
 */
import { viewOf } from "../bytes/words.ts";
import type { BlockBuffer } from "../pcapng/block-buffer.ts";

const TAG_DISSECTOR_NAME = 12;
/** Where the dissector's name stands, padded to a multiple of four. */
const NAME = 4;
const NAME_BYTES = 16;
const PSEUDO_HEADER = 24;

// The pseudo header, little-endian, offsets from its first byte
//   0      2         3           4       8             9       10            16
//   | "RW" | version | direction | epoch | personality | flags | reserved, 0 |
const DIRECTION = 3;
const EPOCH = 4;
const PERSONALITY = 8;
const FLAGS = 9;
const PSEUDO_HEADER_BYTES = 16;
/** Tags and pseudo header. */
export const RING_PREFIX_BYTES = PSEUDO_HEADER + PSEUDO_HEADER_BYTES;

const LE = true;
const VERSION = 1;

/** Tags, magic number and version, which are the same in every packet. Tags are big-endian. */
const FIXED = Buffer.alloc(PSEUDO_HEADER + DIRECTION);
FIXED.writeUInt16BE(TAG_DISSECTOR_NAME, 0);
FIXED.writeUInt16BE(NAME_BYTES, 2);
FIXED.write("ringwire.batch", NAME);
FIXED.write("RW", PSEUDO_HEADER);
FIXED[PSEUDO_HEADER + 2] = VERSION;

/** The packet never crossed the link: it tells what a capture that begins late has missed. */
const SNAPSHOT = 1 << 0;
/** A part of a state record stands in the place of the batch. */
const STATE = 1 << 1;

/** Which way a batch went. */
export const LinkDirection = { TO_DEVICE: 0, TO_FRONTEND: 1 } as const;
export type LinkDirection = (typeof LinkDirection)[keyof typeof LinkDirection];

/** Whose rings the batch is about. */
export const RingPersonality = { ENA: 0, XEN: 1, UNKNOWN: 255 } as const;
export type RingPersonality = (typeof RingPersonality)[keyof typeof RingPersonality];

/** By the name in `hello`. */
export function ringPersonality(name: string): RingPersonality {
  if (name === "ena") return RingPersonality.ENA;
  return name === "xen" ? RingPersonality.XEN : RingPersonality.UNKNOWN;
}

/** Writes all RING_PREFIX_BYTES of a prefix at `at`. `epoch` counts modulo 2^32. */
export function writeRingPrefix(
  { bytes, view }: Pick<BlockBuffer, "bytes" | "view">,
  at: number,
  direction: LinkDirection,
  epoch: number,
  personality: RingPersonality,
  isState: boolean,
): void {
  bytes.fill(0, at, at + RING_PREFIX_BYTES);
  bytes.set(FIXED, at);
  const header = at + PSEUDO_HEADER;
  view.setUint8(header + DIRECTION, direction);
  view.setUint32(header + EPOCH, epoch, LE);
  view.setUint8(header + PERSONALITY, personality);
  view.setUint8(header + FLAGS, isState ? SNAPSHOT | STATE : 0);
}

/**
 * The header of a ring transaction in a capture: its direction, its connection and its personality.
 */
export interface RingPacket {
  readonly direction: LinkDirection;
  readonly epoch: number;
  readonly personality: RingPersonality;
  /** `bytes` are a part of a state record (shared/wire/link-state.ts), else a batch. */
  readonly isState: boolean;
  /** A view; shorter than the original when the capture cut the packet. */
  readonly bytes: Uint8Array;
}

/** Reads a packet of link type 252; undefined when it is none of ours, or cut within the prefix. */
export function parseRingPacket(bytes: Uint8Array): RingPacket | undefined {
  if (bytes.length < RING_PREFIX_BYTES) return undefined;
  if (Buffer.compare(bytes.subarray(0, FIXED.length), FIXED) !== 0) return undefined;
  const header = viewOf(bytes.subarray(PSEUDO_HEADER, RING_PREFIX_BYTES));
  const { TO_DEVICE, TO_FRONTEND } = LinkDirection;
  const { ENA, XEN, UNKNOWN } = RingPersonality;
  const personality = header.getUint8(PERSONALITY);
  return {
    direction: header.getUint8(DIRECTION) === TO_DEVICE ? TO_DEVICE : TO_FRONTEND,
    epoch: header.getUint32(EPOCH, LE),
    personality: personality === ENA || personality === XEN ? personality : UNKNOWN,
    isState: (header.getUint8(FLAGS) & STATE) !== 0,
    bytes: bytes.subarray(RING_PREFIX_BYTES),
  };
}
