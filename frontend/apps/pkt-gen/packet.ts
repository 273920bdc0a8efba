/**
 * The frames that pkt-gen sends: its own UDP packet, or those of a capture file.
 *
 *   0     6     12     14        34     42    46    50     54
 *   | dst | src | 0800 | IPv4    | UDP  | seq | sec | nsec | text, again and again ...
 *
 * As in netmap's pkt-gen, frames have TTL 64, don't fragment, low delay, and both checksums right.
 * seq, sec and nsec are 0 unless the mode uses them. The constant parts of the checksums are
 * computed once. For each frame, only its few changing words are added.
 */
import { type EndpointRange, EndpointWalk } from "./endpoints.ts";

export const SEQ = 42;
export const SECONDS = 46;
export const NANOSECONDS = 50;
export const TEXT = 54;
/** Least bytes of an Ethernet frame, without the checksum that a NIC adds. */
export const LEAST_FRAME = 60;
/** The first four letters of the text, by which pkt-gen recognizes its frames. */
export const MARK = 0x7269_6e67;

const WORDS = "ringwire pkt-gen payload, bytes to fill a frame with ";
const IP = 14;
const UDP = 34;
const IP_HEADER_BYTES = 20;
const UDP_PROTOCOL = 17;
/** Words of the IPv4 header: version 4, five words, low delay; don't fragment; TTL 64, UDP. */
const VERSION_TOS = 0x4510;
const DONT_FRAGMENT = 0x4000;
const TTL_UDP = 0x4011;

export interface FrameOptions {
  /** Bytes of a frame. If the two differ, each frame has a random length between them. */
  readonly lengthMin: number;
  readonly lengthMax: number;
  readonly src: EndpointRange;
  readonly dst: EndpointRange;
  readonly srcMac: Uint8Array;
  readonly dstMac: Uint8Array;
  readonly randomSrc: boolean;
  readonly randomDst: boolean;
}

export interface FrameSource {
  /** The frame that `next` made. It begins at the first byte. */
  readonly bytes: Uint8Array;
  /**
   * True when all frames are the same. A buffer that contains the frame is then not written again.
   */
  readonly isSame: boolean;
  /** Makes the next frame. Returns its length in bytes. */
  next(): number;
}

export class UdpFrames implements FrameSource {
  readonly bytes: Uint8Array;
  readonly isSame: boolean;
  /** Number and time in the next frame. */
  seq = 0;
  seconds = 0;
  nanoseconds = 0;
  readonly #view: DataView;
  readonly #options: FrameOptions;
  readonly #src: EndpointWalk;
  readonly #dst: EndpointWalk;
  /** Checksum sums of the first k words of text, by k. */
  readonly #textSums: Float64Array;
  #isFirst = true;

  readonly #isNumbered: boolean;

  /** With `isNumbered`, seq grows by 1 with each frame. */
  constructor(options: FrameOptions, isNumbered: boolean) {
    const { lengthMin, lengthMax, randomSrc, randomDst } = options;
    this.#options = options;
    this.#isNumbered = isNumbered;
    this.bytes = new Uint8Array(lengthMax + 1);
    this.#view = new DataView(this.bytes.buffer);
    this.#src = new EndpointWalk(options.src);
    this.#dst = new EndpointWalk(options.dst);
    this.isSame =
      !isNumbered &&
      lengthMin === lengthMax &&
      !randomSrc &&
      !randomDst &&
      this.#src.isSingle &&
      this.#dst.isSingle;
    this.#textSums = this.#writeConstants();
  }

  #writeConstants(): Float64Array {
    const view = this.#view;
    this.bytes.set(this.#options.dstMac, 0);
    this.bytes.set(this.#options.srcMac, 6);
    view.setUint16(12, 0x0800);
    view.setUint16(IP, VERSION_TOS);
    view.setUint16(IP + 6, DONT_FRAGMENT);
    view.setUint16(IP + 8, TTL_UDP);
    const { length } = this.bytes;
    for (let at = TEXT; at < length; at++) {
      this.bytes[at] = WORDS.charCodeAt((at - TEXT) % WORDS.length);
    }
    const sums = new Float64Array(((length - TEXT) >> 1) + 1);
    for (let k = 1; k < sums.length; k++) {
      sums[k] = sums[k - 1]! + view.getUint16(TEXT + 2 * (k - 1));
    }
    return sums;
  }

  next(): number {
    const { lengthMin, lengthMax } = this.#options;
    if (this.isSame && !this.#isFirst) return lengthMin;
    const { randomSrc, randomDst } = this.#options;
    if (!this.#isFirst || randomSrc || randomDst) this.#walk();
    this.#isFirst = false;
    const length =
      lengthMin === lengthMax
        ? lengthMin
        : lengthMin + Math.floor(Math.random() * (lengthMax - lengthMin + 1));
    this.#seal(length);
    if (this.#isNumbered) this.seq = (this.seq + 1) >>> 0;
    return length;
  }

  /** Steps to the next source, and at the end of its range to the next destination. */
  #walk(): void {
    const { randomSrc, randomDst } = this.#options;
    if (randomSrc) this.#src.random();
    if (randomDst) this.#dst.random();
    const isThrough = randomSrc || this.#src.step();
    if (isThrough && !randomDst) this.#dst.step();
  }

  /** Writes the changing fields and both checksums. */
  #seal(length: number): void {
    const view = this.#view;
    const src = this.#src;
    const dst = this.#dst;
    const ipLength = length - IP;
    const udpLength = ipLength - IP_HEADER_BYTES;
    view.setUint16(IP + 2, ipLength);
    view.setUint32(IP + 12, src.ip);
    view.setUint32(IP + 16, dst.ip);
    view.setUint16(UDP, src.port);
    view.setUint16(UDP + 2, dst.port);
    view.setUint16(UDP + 4, udpLength);
    view.setUint32(SEQ, this.seq);
    view.setUint32(SECONDS, this.seconds);
    view.setUint32(NANOSECONDS, this.nanoseconds);
    const addresses = words(src.ip) + words(dst.ip);
    const header = VERSION_TOS + DONT_FRAGMENT + TTL_UDP + ipLength + addresses;
    view.setUint16(IP + 10, ~fold(header) & 0xffff);
    const text = length - TEXT;
    const last = (text & 1) === 1 ? this.bytes[length - 1]! << 8 : 0;
    const body =
      this.#textSums[text >> 1]! +
      last +
      words(this.seq) +
      words(this.seconds) +
      words(this.nanoseconds);
    const udp = UDP_PROTOCOL + 2 * udpLength + src.port + dst.port + addresses + body;
    view.setUint16(UDP + 6, ~fold(udp) & 0xffff || 0xffff);
  }
}

const words = (n: number): number => (n >>> 16) + (n & 0xffff);

function fold(sum: number): number {
  let s = sum;
  while (s > 0xffff) s = Math.floor(s / 0x1_0000) + (s % 0x1_0000);
  return s;
}

/** Frames of a capture file in order, again and again. */
export class CapturedFrames implements FrameSource {
  bytes: Uint8Array;
  readonly isSame: boolean;
  readonly #frames: readonly Uint8Array[];
  #at = 0;

  constructor(frames: readonly Uint8Array[]) {
    this.#frames = frames;
    this.bytes = frames[0]!;
    this.isSame = frames.length === 1;
  }

  next(): number {
    this.bytes = this.#frames[this.#at]!;
    this.#at = this.#at + 1 === this.#frames.length ? 0 : this.#at + 1;
    return this.bytes.length;
  }
}
