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

export const DISSECTOR_NAME = "ringwire.batch";

const TAG_DISSECTOR_NAME = 12;
/** Tags are big-endian, and their values padded to a multiple of four. */
const TAG_NAME = 0;
const TAG_NAME_LENGTH = 2;
const NAME = 4;
const NAME_BYTES = 16;
const PSEUDO_HEADER = 24;

// The pseudo header, little-endian, offsets from its first byte
//   0      2         3           4       8             9       10            16
//   | "RW" | version | direction | epoch | personality | flags | reserved, 0 |
const MAGIC = 0;
const VERSION = 2;
const DIRECTION = 3;
const EPOCH = 4;
const PERSONALITY = 8;
const FLAGS = 9;
export const PSEUDO_HEADER_BYTES = 16;
/** Tags and pseudo header. */
export const RING_PREFIX_BYTES = PSEUDO_HEADER + PSEUDO_HEADER_BYTES;

const LE = true;
const MAGIC_RW = 0x5752;
const VERSION_1 = 1;

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

/** Writes all of `prefix`, which has RING_PREFIX_BYTES. `epoch` counts modulo 2^32. */
export function writeRingPrefix(
  prefix: DataView,
  direction: LinkDirection,
  epoch: number,
  personality: RingPersonality,
  isState = false,
): void {
  for (let at = 0; at < RING_PREFIX_BYTES; at++) prefix.setUint8(at, 0);
  prefix.setUint16(TAG_NAME, TAG_DISSECTOR_NAME);
  prefix.setUint16(TAG_NAME_LENGTH, NAME_BYTES);
  for (let i = 0; i < DISSECTOR_NAME.length; i++) {
    prefix.setUint8(NAME + i, DISSECTOR_NAME.charCodeAt(i));
  }
  prefix.setUint16(PSEUDO_HEADER + MAGIC, MAGIC_RW, LE);
  prefix.setUint8(PSEUDO_HEADER + VERSION, VERSION_1);
  setPseudoHeader(prefix, direction, epoch, personality, isState);
}

/** Changes the fields that differ between packets. */
export function setPseudoHeader(
  prefix: DataView,
  direction: LinkDirection,
  epoch: number,
  personality: RingPersonality,
  isState: boolean,
): void {
  prefix.setUint8(PSEUDO_HEADER + DIRECTION, direction);
  prefix.setUint32(PSEUDO_HEADER + EPOCH, epoch, LE);
  prefix.setUint8(PSEUDO_HEADER + PERSONALITY, personality);
  prefix.setUint8(PSEUDO_HEADER + FLAGS, isState ? SNAPSHOT | STATE : 0);
}

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
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  for (let i = 0; i < DISSECTOR_NAME.length; i++) {
    if (view.getUint8(NAME + i) !== DISSECTOR_NAME.charCodeAt(i)) return undefined;
  }
  if (
    view.getUint16(TAG_NAME) !== TAG_DISSECTOR_NAME ||
    view.getUint16(TAG_NAME_LENGTH) !== NAME_BYTES ||
    view.getUint16(PSEUDO_HEADER + MAGIC, LE) !== MAGIC_RW ||
    view.getUint8(PSEUDO_HEADER + VERSION) !== VERSION_1
  ) {
    return undefined;
  }
  const personality = view.getUint8(PSEUDO_HEADER + PERSONALITY);
  return {
    direction:
      view.getUint8(PSEUDO_HEADER + DIRECTION) === LinkDirection.TO_DEVICE
        ? LinkDirection.TO_DEVICE
        : LinkDirection.TO_FRONTEND,
    epoch: view.getUint32(PSEUDO_HEADER + EPOCH, LE),
    personality:
      personality === RingPersonality.ENA || personality === RingPersonality.XEN
        ? personality
        : RingPersonality.UNKNOWN,
    isState: (view.getUint8(PSEUDO_HEADER + FLAGS) & STATE) !== 0,
    bytes: bytes.subarray(RING_PREFIX_BYTES),
  };
}
