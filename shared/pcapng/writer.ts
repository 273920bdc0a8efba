/**
 * Writes pcapng. Packets go through `packet`, which allocates nothing and leaves the copying of
 * the bytes to the caller; the other blocks are rare and read better than they run.
 *
 * Source: draft-ietf-opsawg-pcapng.
 */
import { BlockBuffer } from "./block-buffer.ts";
import {
  BLOCK_LENGTH,
  BLOCK_TYPE,
  BlockType,
  BYTE_ORDER_MAGIC,
  EPB_CAPTURED,
  EPB_DATA,
  EPB_INTERFACE,
  EPB_ORIGINAL,
  EPB_TIME_HIGH,
  EPB_TIME_LOW,
  EpbOption,
  FILTER_TEXT,
  IdbOption,
  IsbOption,
  LE,
  NrbRecord,
  OPT_COMMENT,
  OPT_END,
  OPTION_HEADER_BYTES,
  padded,
  ShbOption,
  TS_NANOSECONDS,
  VERDICT_HARDWARE,
} from "./layout.ts";
import { commentBytes, nameBytes } from "./text.ts";

/** The contents of a Section Header Block. */
export interface SectionInfo {
  readonly hardware?: string | undefined;
  readonly os?: string | undefined;
  /** The program that writes, with its version. */
  readonly application?: string | undefined;
  readonly comment?: string | undefined;
}

/** The contents of an Interface Description Block. */
export interface InterfaceInfo {
  readonly linkType: number;
  /** Most bytes kept of a packet; 0 when there is no limit. */
  readonly snapLength: number;
  readonly name?: string | undefined;
  readonly description?: string | undefined;
  /** Six bytes. */
  readonly mac?: Uint8Array | undefined;
  /** Bits per second. */
  readonly speed?: number | undefined;
  /** The filter's text, in the libpcap language. */
  readonly filter?: string | undefined;
  readonly os?: string | undefined;
}

/** One packet's facts. Mutable, so that one object serves a whole capture. */
export interface PacketFacts {
  /** Number of the interface: the place of its description in the section, from 0. */
  interface: number;
  /** Nanoseconds since 1970, as two words. */
  timeHigh: number;
  timeLow: number;
  /** Bytes kept, and bytes that the packet had. */
  captured: number;
  original: number;
  /** `Direction` and the other bits of epb_flags. */
  flags: number;
  /** Queue of the interface, or -1. */
  queue: number;
  /** Id that all sightings of one packet share, below 2^53; 0 when there is none. */
  id: number;
  /** Packets lost on this interface since the last one written; 0 is not written. */
  drops: number;
  /** More options, as `packetNote` makes them. */
  note: Uint8Array | undefined;
}

/** Counts since the start of the capture; each is below 2^53. */
export interface InterfaceCounts {
  /** Packets that the interface had. */
  readonly received: number;
  /** Those that passed the filter ... */
  readonly accepted: number;
  /** ... less those for which the capture had no room ... */
  readonly dropped: number;
  /** ... are those in the files. */
  readonly delivered: number;
}

/** The fate of a packet at the interface: the byte behind the hardware mark of epb_verdict. */
export const Verdict = { PASSED: 0, DROPPED: 1 } as const;
export type Verdict = (typeof Verdict)[keyof typeof Verdict];

/** A verdict and its reason as options for `PacketFacts.note`: made once, used for many packets. */
export function packetNote(verdict: Verdict, reason: string): Uint8Array {
  const out = new BlockBuffer(256);
  out.option(EpbOption.VERDICT, Uint8Array.of(VERDICT_HARDWARE, verdict));
  out.option(OPT_COMMENT, commentBytes(reason));
  return out.written().slice();
}

/** A comment as an option for `PacketFacts.note`. */
export function commentNote(text: string): Uint8Array {
  const out = new BlockBuffer(256);
  out.option(OPT_COMMENT, commentBytes(text));
  return out.written().slice();
}

/** Bytes of an option with a u32 and one with a u64. */
const OPTION_U32 = OPTION_HEADER_BYTES + 4;
const OPTION_U64 = OPTION_HEADER_BYTES + 8;
/** An Enhanced Packet Block without data, drops, id, queue and note: overhead, words, flags, end. */
const PACKET_FIXED = EPB_DATA + OPTION_U32 + OPTION_HEADER_BYTES + 4;
/** More than any packet block has besides its data and its note. */
export const PACKET_OVERHEAD_BYTES = PACKET_FIXED + 3 + OPTION_U32 + 2 * OPTION_U64;

/** Writes the blocks of a pcapng file into a buffer. */
export class PcapngWriter {
  /** Where blocks go. The owner may put another buffer here between two calls. */
  out: BlockBuffer;

  constructor(out: BlockBuffer) {
    this.out = out;
  }

  /** Section Header Block: first in a file. Interfaces are numbered anew behind it. */
  section(info: SectionInfo): void {
    const { out } = this;
    const at = out.beginBlock(BlockType.SECTION);
    out.u32(BYTE_ORDER_MAGIC);
    out.u16(1);
    out.u16(0);
    // Section length: not known, because we never go back.
    out.u32(0xffffffff);
    out.u32(0xffffffff);
    if (info.hardware !== undefined) out.option(ShbOption.HARDWARE, nameBytes(info.hardware));
    if (info.os !== undefined) out.option(ShbOption.OS, nameBytes(info.os));
    if (info.application !== undefined) {
      out.option(ShbOption.APPLICATION, nameBytes(info.application));
    }
    if (info.comment !== undefined) out.option(OPT_COMMENT, commentBytes(info.comment));
    out.option(OPT_END);
    out.endBlock(at);
  }

  /** Interface Description Block, with nanosecond times. */
  interface(info: InterfaceInfo): void {
    const { out } = this;
    const at = out.beginBlock(BlockType.INTERFACE);
    out.u16(info.linkType);
    out.u16(0);
    out.u32(info.snapLength);
    if (info.name !== undefined) out.option(IdbOption.NAME, nameBytes(info.name));
    if (info.description !== undefined) {
      out.option(IdbOption.DESCRIPTION, nameBytes(info.description));
    }
    if (info.mac !== undefined) {
      if (info.mac.length !== 6) throw new RangeError(`a MAC of ${info.mac.length} bytes`);
      out.option(IdbOption.MAC, info.mac);
    }
    if (info.speed !== undefined) out.optionU64(IdbOption.SPEED, info.speed);
    out.option(IdbOption.TS_RESOLUTION, Uint8Array.of(TS_NANOSECONDS));
    if (info.filter !== undefined) {
      // One byte of the option says what the filter is written in.
      out.option(IdbOption.FILTER, Uint8Array.of(FILTER_TEXT), nameBytes(info.filter, 65_534));
    }
    if (info.os !== undefined) out.option(IdbOption.OS, nameBytes(info.os));
    out.option(OPT_END);
    out.endBlock(at);
  }

  /** Name Resolution Block: a name for each six-byte MAC address. */
  names(entries: readonly { readonly mac: Uint8Array; readonly name: string }[]): void {
    const { out } = this;
    const at = out.beginBlock(BlockType.NAMES);
    for (const { mac, name } of entries) {
      if (mac.length !== 6) throw new RangeError(`a MAC of ${mac.length} bytes`);
      out.option(NrbRecord.EUI48, mac, nameBytes(name, 1024), Uint8Array.of(0));
    }
    out.option(NrbRecord.END);
    out.endBlock(at);
  }

  /**
   * Enhanced Packet Block, without its bytes: returns where in `out.bytes` the caller copies
   * `captured` bytes to. Allocates nothing when `out` has room for `captured`, the note and
   * `PACKET_OVERHEAD_BYTES`.
   */
  packet(facts: PacketFacts): number {
    const { out } = this;
    const { captured, note } = facts;
    const dataBytes = padded(captured);
    out.reserve(PACKET_OVERHEAD_BYTES + captured + (note === undefined ? 0 : note.length));
    const { view } = out;
    const block = out.used;
    view.setUint32(block + BLOCK_TYPE, BlockType.ENHANCED_PACKET, LE);
    view.setUint32(block + EPB_INTERFACE, facts.interface, LE);
    view.setUint32(block + EPB_TIME_HIGH, facts.timeHigh, LE);
    view.setUint32(block + EPB_TIME_LOW, facts.timeLow, LE);
    view.setUint32(block + EPB_CAPTURED, captured, LE);
    view.setUint32(block + EPB_ORIGINAL, facts.original, LE);
    let at = block + EPB_DATA + dataBytes;
    // The last word of the data holds the padding; the caller's copy comes on top of it.
    if (dataBytes !== captured) view.setUint32(at - 4, 0, LE);

    at = optionU32(view, at, EpbOption.FLAGS, facts.flags);
    if (facts.queue >= 0) at = optionU32(view, at, EpbOption.QUEUE, facts.queue);
    if (facts.id > 0) at = optionU64(view, at, EpbOption.PACKET_ID, facts.id);
    if (facts.drops > 0) at = optionU64(view, at, EpbOption.DROP_COUNT, facts.drops);
    if (note !== undefined) {
      out.bytes.set(note, at);
      at += note.length;
    }
    view.setUint32(at, OPT_END, LE);
    at += OPTION_HEADER_BYTES;

    const length = at + 4 - block;
    view.setUint32(block + BLOCK_LENGTH, length, LE);
    view.setUint32(at, length, LE);
    out.used = at + 4;
    return block + EPB_DATA;
  }

  /** Interface Statistics Block. Times are nanoseconds since 1970, as two words each. */
  statistics(
    number: number,
    startHigh: number,
    startLow: number,
    endHigh: number,
    endLow: number,
    counts: InterfaceCounts,
  ): void {
    const { out } = this;
    const at = out.beginBlock(BlockType.STATISTICS);
    out.u32(number);
    out.u32(endHigh);
    out.u32(endLow);
    out.optionWords(IsbOption.START_TIME, startHigh, startLow);
    out.optionWords(IsbOption.END_TIME, endHigh, endLow);
    out.optionU64(IsbOption.RECEIVED, counts.received);
    out.optionU64(IsbOption.DROPPED, counts.dropped);
    out.optionU64(IsbOption.FILTER_ACCEPTED, counts.accepted);
    // The interface is ours and the capture's queue is its only loss: the system loses nothing.
    out.optionU64(IsbOption.OS_DROPPED, 0);
    out.optionU64(IsbOption.DELIVERED, counts.delivered);
    out.option(OPT_END);
    out.endBlock(at);
  }
}

function optionU32(view: DataView, at: number, code: number, value: number): number {
  view.setUint32(at, code | (4 << 16), LE);
  view.setUint32(at + 4, value, LE);
  return at + OPTION_U32;
}

function optionU64(view: DataView, at: number, code: number, value: number): number {
  view.setUint32(at, code | (8 << 16), LE);
  view.setUint32(at + 4, value, LE);
  view.setUint32(at + 8, Math.floor(value / 2 ** 32), LE);
  return at + OPTION_U64;
}
