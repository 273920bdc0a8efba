/**
 * Reads classic pcap of every kind that Wireshark reads: micro- and nanoseconds, both byte orders,
 * old versions, patched record headers, AIX and Ixia. Behind the interface of the pcapng reader.
 *
 *   file    | magic | version | zone, accuracy | snap length | link type |   24 bytes, Ixia 4 more
 *   record  | seconds | fraction | captured | original | ... | bytes ...     16 bytes and more
 *
 * Source: draft-ietf-opsawg-pcap; Wireshark: wiretap/libpcap.c for what the draft leaves out.
 */

import { viewOf } from "../bytes/words.ts";
import { LinkType, MAX_BLOCK_BYTES } from "../pcapng/layout.ts";
import {
  type CapturedInterface,
  type CapturedPacket,
  CaptureFormatError,
  PacketReader,
  plainPacket,
} from "../pcapng/packet.ts";
import { PATCHED_VARIANTS, Rest, STANDARD_VARIANTS, Variant, variantOf } from "./pcap-variant.ts";

const MAGIC = 0;
const MAJOR = 4;
const MINOR = 6;
const SNAP_LENGTH = 16;
const LINK_TYPE = 20;
const FILE_HEADER_BYTES = 24;
/** Ixia's header ends with the length of all records. */
const IXIA_HEADER_BYTES = 28;

const SECONDS = 0;
const FRACTION = 4;
const CAPTURED = 8;
const ORIGINAL = 12;

const Magic = {
  MICROSECONDS: 0xa1b2c3d4,
  NANOSECONDS: 0xa1b23c4d,
  PATCHED: 0xa1b2cd34,
  IXIA_NANOSECONDS: 0x1c0001ac,
  IXIA_MICROSECONDS: 0x1c0001ab,
} as const;
const MAGICS: ReadonlySet<number> = new Set(Object.values(Magic));

/** The high bits of the link type may hold the length of a frame check sequence, in 16-bit words. */
const LINK_TYPE_MASK = 0xffff;
const LINK_RESERVED = 0x03ff_0000;
const FCS_PRESENT = 1 << 26;
const FCS_SHIFT = 28;

/** The version that DG/UX writes, with the order of lengths of old versions. */
const DG_UX = 543;
/** ifType numbers in AIX's files of version 2.2, which have nanoseconds, and their link types. */
const AIX_LINK_TYPES: ReadonlyMap<number, number> = new Map([
  [6, LinkType.ETHERNET],
  [9, 6],
  [15, 10],
  [24, 0],
]);

/** Enough for the first records, of frames of any usual size. */
const LOOK_BYTES = 256 * 1024;

/** Where the two lengths of a record stand: `captured` first since version 2.3, in theory. */
const Order = { CAPTURED_FIRST: 0, ORIGINAL_FIRST: 1, SMALLER_IS_CAPTURED: 2 } as const;
type Order = (typeof Order)[keyof typeof Order];

export class PcapReader extends PacketReader {
  /** The one interface, once the file's header is whole. */
  readonly interfaces: CapturedInterface[] = [];
  #little = true;
  #fractionNs = 1n;
  #order: Order = Order.CAPTURED_FIRST;
  /** The variants that the records may be of; undefined once the variant is known. */
  #variants: readonly Variant[] | undefined;
  /** Bytes of records that it takes to find out, as far as is known. */
  #decidedBy: number = Variant.STANDARD;
  #headerBytes: Variant = Variant.STANDARD;
  #ended = false;

  /**
   * No more bytes will come. True: records waited for more of them to tell what kind they are, and
   * `next` gives them now.
   */
  end(): boolean {
    const waited = !this.#ended && this.#variants !== undefined;
    this.#ended = true;
    return waited;
  }

  next(): CapturedPacket | undefined {
    const info = this.interfaces[0] ?? this.#header();
    if (info === undefined) return undefined;
    if (this.#variants !== undefined && !this.#decide(this.#variants)) return undefined;
    const headerBytes = this.#headerBytes;
    const head = this.input.peek(headerBytes);
    if (head === undefined) return undefined;
    const view = viewOf(head);
    const [captured, original] = this.#lengths(view);
    if (captured > MAX_BLOCK_BYTES)
      throw this.#fail("PACKET_LENGTH", `a packet of ${captured} bytes`);
    // A whole second and more, as some writers have it, counts as what it is.
    const fraction = BigInt(view.getUint32(FRACTION, this.#little));
    const record = this.input.peek(headerBytes + captured);
    if (record === undefined) return undefined;
    this.input.skip(record.length);
    const seconds = BigInt(view.getUint32(SECONDS, this.#little));
    const tsNs = seconds * 1_000_000_000n + fraction * this.#fractionNs;
    return plainPacket(info, tsNs, original, record.subarray(headerBytes));
  }

  #header(): CapturedInterface | undefined {
    const head = this.input.peek(FILE_HEADER_BYTES);
    if (head === undefined) return undefined;
    const view = viewOf(head);
    this.#little = isPcapMagic(view.getUint32(MAGIC, true));
    const magic = view.getUint32(MAGIC, this.#little);
    if (!isPcapMagic(magic)) throw this.#fail("FORMAT", "no pcap file");
    const isIxia = magic === Magic.IXIA_NANOSECONDS || magic === Magic.IXIA_MICROSECONDS;
    const headBytes = isIxia ? IXIA_HEADER_BYTES : FILE_HEADER_BYTES;
    if (this.input.length < headBytes) return undefined;
    const major = view.getUint16(MAJOR, this.#little);
    const minor = view.getUint16(MINOR, this.#little);
    if (major < 2) throw this.#fail("VERSION", `pcap of version ${major}.${minor}`);
    const link = view.getUint32(LINK_TYPE, this.#little);
    if ((link & LINK_RESERVED) !== 0) {
      throw this.#fail("FORMAT", `a link type of 0x${link.toString(16)}`);
    }
    const isNanoseconds = magic === Magic.NANOSECONDS || magic === Magic.IXIA_NANOSECONDS;
    const isOld = magic === Magic.MICROSECONDS && major === 2 && minor === 2;
    const aix = isOld ? AIX_LINK_TYPES.get(link) : undefined;
    this.#fractionNs = isNanoseconds || aix !== undefined ? 1n : 1000n;
    this.#order = orderOf(major, minor);
    // Files of old versions and of the other magic numbers have one kind of record.
    if (magic === Magic.PATCHED) this.#variants = PATCHED_VARIANTS;
    else if (magic === Magic.MICROSECONDS && this.#order === Order.CAPTURED_FIRST) {
      this.#variants = STANDARD_VARIANTS;
    }
    const info: CapturedInterface = {
      index: 0,
      linkType: aix ?? link & LINK_TYPE_MASK,
      snapLength: view.getUint32(SNAP_LENGTH, this.#little),
      fcsBytes: (link & FCS_PRESENT) === 0 ? undefined : 2 * (link >>> FCS_SHIFT),
      options: [],
    };
    this.interfaces.push(info);
    this.input.skip(headBytes);
    return info;
  }

  /** Which kind of record the file has. False: that takes more of them. */
  #decide(variants: readonly Variant[]): boolean {
    const { length } = this.input;
    const ending = this.#ended ? Rest.NOTHING : Rest.COMES;
    const rest = length >= LOOK_BYTES ? Rest.UNSEEN : ending;
    if (length < Variant.STANDARD) return false;
    if (length < this.#decidedBy && rest === Rest.COMES) return false;
    const records = this.input.peek(Math.min(length, LOOK_BYTES))!;
    const { snapLength } = this.interfaces[0]!;
    const verdict = variantOf(viewOf(records), this.#little, snapLength, variants, rest);
    if ("needs" in verdict) {
      this.#decidedBy = verdict.needs;
      return false;
    }
    this.#headerBytes = verdict.variant;
    this.#variants = undefined;
    return true;
  }

  /** Of a record: bytes captured, and bytes that the packet had. */
  #lengths(record: DataView): readonly [captured: number, original: number] {
    const first = record.getUint32(CAPTURED, this.#little);
    const second = record.getUint32(ORIGINAL, this.#little);
    const isSwapped =
      this.#order === Order.ORIGINAL_FIRST ||
      (this.#order === Order.SMALLER_IS_CAPTURED && first > second);
    return isSwapped ? [second, first] : [first, second];
  }

  #fail(code: "FORMAT" | "VERSION" | "PACKET_LENGTH", text: string): CaptureFormatError {
    return new CaptureFormatError(code, this.input.offset, text);
  }
}

/** True for the first word of a file, read in the right order. */
export const isPcapMagic = (magic: number): boolean => MAGICS.has(magic);

/** Version 2.3 changed the order of the lengths, but some of its files have the old one. */
function orderOf(major: number, minor: number): Order {
  if (major === DG_UX || (major === 2 && minor < 3)) return Order.ORIGINAL_FIRST;
  return major === 2 && minor === 3 ? Order.SMALLER_IS_CAPTURED : Order.CAPTURED_FIRST;
}
