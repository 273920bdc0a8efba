/**
 * Reads classic pcap, micro- and nanoseconds, both byte orders, behind the interface of the pcapng
 * reader.
 *
 *   file    | magic | version 2.4 | zone, accuracy | snap length | link type |   24 bytes
 *   record  | seconds | fraction | captured | original | bytes ...               16 + captured
 *
 * Source: draft-ietf-opsawg-pcap.
 */
import { ByteQueue } from "./pcapng/byte-queue.ts";
import { MAX_BLOCK_BYTES } from "./pcapng/layout.ts";
import {
  type CapturedInterface,
  type CapturedPacket,
  CaptureFormatError,
  type PacketReader,
} from "./pcapng/packet.ts";

const MAGIC = 0;
const MAJOR = 4;
const SNAP_LENGTH = 16;
const LINK_TYPE = 20;
const FILE_HEADER_BYTES = 24;

const SECONDS = 0;
const FRACTION = 4;
const CAPTURED = 8;
const ORIGINAL = 12;
const RECORD_HEADER_BYTES = 16;

const MAGIC_MICROSECONDS = 0xa1b2c3d4;
const MAGIC_NANOSECONDS = 0xa1b23c4d;
/** The high bits of the link type may hold the length of a frame check sequence, in 16-bit words. */
const LINK_TYPE_MASK = 0xffff;
const FCS_PRESENT = 1 << 26;
const FCS_SHIFT = 28;

export class PcapReader implements PacketReader {
  /** The one interface, once the file's header is whole. */
  readonly interfaces: CapturedInterface[] = [];
  readonly #input = new ByteQueue();
  #offset = 0;
  #little = true;
  #fractionNs = 1n;

  feed(bytes: Uint8Array): void {
    this.#input.feed(bytes);
  }

  refill(bytes: Uint8Array): void {
    this.#input.refill(bytes);
  }

  get pending(): number {
    return this.#input.length;
  }

  next(): CapturedPacket | undefined {
    const info = this.interfaces[0] ?? this.#header();
    if (info === undefined) return undefined;
    const head = this.#input.peek(RECORD_HEADER_BYTES);
    if (head === undefined) return undefined;
    const view = viewOf(head);
    const captured = view.getUint32(CAPTURED, this.#little);
    if (captured > MAX_BLOCK_BYTES)
      throw this.#fail("PACKET_LENGTH", `a packet of ${captured} bytes`);
    // A whole second and more, as some writers have it, counts as what it is.
    const fraction = BigInt(view.getUint32(FRACTION, this.#little));
    const record = this.#input.peek(RECORD_HEADER_BYTES + captured);
    if (record === undefined) return undefined;
    this.#take(record.length);
    return {
      interface: info,
      linkType: info.linkType,
      tsNs:
        BigInt(view.getUint32(SECONDS, this.#little)) * 1_000_000_000n +
        fraction * this.#fractionNs,
      capturedLength: captured,
      originalLength: view.getUint32(ORIGINAL, this.#little),
      bytes: record.subarray(RECORD_HEADER_BYTES),
      flags: 0,
      queue: undefined,
      id: undefined,
      drops: undefined,
      comments: [],
      options: [],
    };
  }

  #header(): CapturedInterface | undefined {
    const head = this.#input.peek(FILE_HEADER_BYTES);
    if (head === undefined) return undefined;
    const view = viewOf(head);
    this.#little = isPcapMagic(view.getUint32(MAGIC, true));
    const magic = view.getUint32(MAGIC, this.#little);
    if (!isPcapMagic(magic)) throw this.#fail("FORMAT", "no pcap file");
    const major = view.getUint16(MAJOR, this.#little);
    if (major !== 2) throw this.#fail("VERSION", `pcap of version ${major}`);
    this.#fractionNs = magic === MAGIC_NANOSECONDS ? 1n : 1000n;
    const link = view.getUint32(LINK_TYPE, this.#little);
    const info: CapturedInterface = {
      index: 0,
      linkType: link & LINK_TYPE_MASK,
      snapLength: view.getUint32(SNAP_LENGTH, this.#little),
      ...((link & FCS_PRESENT) === 0 ? {} : { fcsBytes: 2 * (link >>> FCS_SHIFT) }),
      options: [],
    };
    this.interfaces.push(info);
    this.#take(FILE_HEADER_BYTES);
    return info;
  }

  #take(bytes: number): void {
    this.#input.skip(bytes);
    this.#offset += bytes;
  }

  #fail(code: "FORMAT" | "VERSION" | "PACKET_LENGTH", text: string): CaptureFormatError {
    return new CaptureFormatError(code, this.#offset, text);
  }
}

/** True for the first word of a file, read in the right order. */
export function isPcapMagic(magic: number): boolean {
  return magic === MAGIC_MICROSECONDS || magic === MAGIC_NANOSECONDS;
}

const viewOf = (bytes: Uint8Array): DataView =>
  new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
