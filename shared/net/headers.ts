/**
 * Where the layers of a frame begin, parsed in place into a reusable struct of numbers.
 *
 *   0        l3Offset            l4Offset        payloadOffset        l3End     frame.length
 *   | Ether, | IP, options or    | TCP, UDP, ... | payload            | padding |
 *   | tags   | extension headers |               |                    |         |
 *
 * The parser never throws for a peer's bytes. It reports errors as bits of `problems`, and every
 * offset up to the first problem is valid. A layer that was not found has offset -1.
 *
 * Source: IEEE 802.1Q; RFC 791; RFC 8200 section 4; RFC 9293 section 3.1; RFC 768.
 */
import {
  ETHER_HEADER_BYTES,
  ETHER_TYPE,
  EtherType,
  isVlanType,
  MAX_VLAN_TAGS,
  VLAN_TAG_BYTES,
} from "./ethernet.ts";
import type { Frame } from "./frame.ts";

export const L3 = { NONE: 0, IPV4: 4, IPV6: 6 } as const;
/** IANA protocol numbers. NONE stands for "no layer 4 found" (0 is IPv6's hop-by-hop header). */
export const L4 = { NONE: 0, ICMP: 1, TCP: 6, UDP: 17, ICMPV6: 58, SCTP: 132 } as const;

/** Errors of a frame, as bits; 0 when there is none. */
export const Problem = {
  /** Shorter than an Ethernet header. */
  RUNT: 1 << 0,
  /** Ends inside a VLAN tag, or has more tags than are walked. */
  VLAN: 1 << 1,
  /** Ends inside the IP header, or its version or header length is impossible. */
  L3_HEADER: 1 << 2,
  /** The length in the IP header is below the header's own size, or beyond the frame. */
  L3_LENGTH: 1 << 3,
  /** IPv6 extension headers run out of the packet, or go on past the bound. */
  EXTENSIONS: 1 << 4,
  /** Ends inside the layer-4 header, or its length field is impossible. */
  L4_HEADER: 1 << 5,
} as const;

export const IPV4_HEADER_BYTES = 20;
export const IPV6_HEADER_BYTES = 40;
export const TCP_HEADER_BYTES = 20;
export const UDP_HEADER_BYTES = 8;
const SCTP_HEADER_BYTES = 12;

// Where a field lies in its header.
export const IPV4_LENGTH = 2;
export const IPV4_ID = 4;
export const IPV4_FRAGMENT = 6;
export const IPV4_CHECKSUM = 10;
export const IPV6_LENGTH = 4;
export const TCP_SEQUENCE = 4;
/** Data offset in words, the high half of the byte; the next byte has the flags. */
export const TCP_OFFSET = 12;
export const TCP_FLAGS = 13;
export const TCP_CHECKSUM = 16;
export const UDP_CHECKSUM = 6;

/** Don't fragment, in the byte at IPV4_FRAGMENT. */
export const IPV4_DF = 0x40;
/** Bits of the byte at TCP_FLAGS. */
export const TcpFlag = {
  FIN: 0x01,
  SYN: 0x02,
  RST: 0x04,
  PSH: 0x08,
  ACK: 0x10,
  CWR: 0x80,
} as const;

/**
 * Headers must end within this number of bytes: Ethernet and three tags (26), IPv6 with all
 * extensions found in practice, TCP with all options (60).
 */
export const HEADER_WINDOW_BYTES = 512;
const MAX_EXTENSIONS = 8;

const NEXT_HOP_BY_HOP = 0;
const NEXT_ROUTING = 43;
const NEXT_FRAGMENT = 44;
const NEXT_AUTH = 51;
const NEXT_NONE = 59;
const NEXT_DESTINATION = 60;
const NEXT_MOBILITY = 135;

export class Headers {
  /**
   * The header window: frame byte n is bytes[at + n] for n < window. If the frame's first span is
   * long enough, the window is that span and stays valid as long as the frame.
   */
  bytes: Uint8Array = EMPTY;
  at = 0;
  window = 0;

  /** Bits of Problem. */
  problems = 0;
  vlanTags = 0;
  /** EtherType behind the tags, 0 in a runt. */
  etherType = 0;
  l3: number = L3.NONE;
  l3Offset = -1;
  /** Bytes of the IP header, with IPv4 options or all IPv6 extension headers walked. */
  l3HeaderLength = 0;
  /** End of the IP packet: l3Offset + total length, or the frame's end when that field is wrong. */
  l3End = 0;
  /** The length that the IP header states for the whole packet, header included; 0 when unstated. */
  l3StatedLength = 0;
  /** An IPv4 header longer than 20 bytes, or any IPv6 extension header. */
  l3Options = false;
  /** Any fragment, the first included. Only a first fragment has a layer 4. */
  fragment = false;
  firstFragment = false;
  /** IPv6: where the fragment header begins; -1 without one. */
  fragmentOffset = -1;
  l4: number = L4.NONE;
  l4Offset = -1;
  l4HeaderLength = 0;
  /** First byte behind the last header found. */
  payloadOffset = 0;

  readonly #gathered = new Uint8Array(HEADER_WINDOW_BYTES);

  /** True when the window is the frame's own memory, not a gathered copy. */
  get inPlace(): boolean {
    return this.bytes !== this.#gathered;
  }

  /**
   * Parses `frame`. Returns true when nothing is wrong with it. `Frame.headers` calls this once for
   * each frame.
   */
  parse(frame: Frame): boolean {
    const want = Math.min(frame.length, HEADER_WINDOW_BYTES);
    const first = frame.count > 0 ? frame.lengths[0]! : 0;
    // Most senders put whole headers in the first span. Otherwise gather the bytes and parse again.
    if (frame.count > 0) {
      this.bytes = frame.buffers[0]!;
      this.at = frame.offsets[0]!;
      this.window = Math.min(first, HEADER_WINDOW_BYTES);
      this.#parse(frame.length);
      if (this.problems === 0 || this.window === want) return this.problems === 0;
    }
    frame.copyTo(this.#gathered, 0, 0, want);
    this.bytes = this.#gathered;
    this.at = 0;
    this.window = want;
    this.#parse(frame.length);
    return this.problems === 0;
  }

  /**
   * Parses the contents of a tunnel from byte `offset` of `outer`: a packet of `etherType`, or for 0
   * a whole Ethernet frame. Offsets count from there. Returns true when there is no problem.
   */
  parseInner(outer: Headers, offset: number, etherType: number): boolean {
    this.bytes = outer.bytes;
    this.at = outer.at + offset;
    this.window = Math.max(0, outer.window - offset);
    this.#reset(Math.max(0, outer.l3End - offset));
    if (etherType === 0) {
      this.#parseFrame(this.l3End);
    } else {
      this.etherType = etherType;
      this.#parseL3(this.l3End, 0);
    }
    return this.problems === 0;
  }

  /** Moves the window to the frame's first span, which has a copy of the same headers. */
  movedTo(frame: Frame): void {
    this.bytes = frame.buffers[0]!;
    this.at = frame.offsets[0]!;
    this.window = Math.min(frame.lengths[0]!, HEADER_WINDOW_BYTES);
  }

  /** Copies the results of `other`, whose headers are also those of `frame`. */
  adopt(other: Headers, frame: Frame): void {
    this.movedTo(frame);
    this.problems = other.problems;
    this.vlanTags = other.vlanTags;
    this.etherType = other.etherType;
    this.l3 = other.l3;
    this.l3Offset = other.l3Offset;
    this.l3HeaderLength = other.l3HeaderLength;
    this.l3End = other.l3End;
    this.l3StatedLength = other.l3StatedLength;
    this.l3Options = other.l3Options;
    this.fragment = other.fragment;
    this.firstFragment = other.firstFragment;
    this.fragmentOffset = other.fragmentOffset;
    this.l4 = other.l4;
    this.l4Offset = other.l4Offset;
    this.l4HeaderLength = other.l4HeaderLength;
    this.payloadOffset = other.payloadOffset;
  }

  /** Notes that the IP packet, by its header, now ends with its frame at byte `length`. */
  endAt(length: number): void {
    this.problems = 0;
    this.l3End = length;
    this.l3StatedLength = length - this.l3Offset;
  }

  u8(offset: number): number {
    return this.bytes[this.at + offset]!;
  }

  u16(offset: number): number {
    const i = this.at + offset;
    return (this.bytes[i]! << 8) | this.bytes[i + 1]!;
  }

  u32(offset: number): number {
    return ((this.u16(offset) << 16) | this.u16(offset + 2)) >>> 0;
  }

  #parse(length: number): void {
    this.#reset(length);
    this.#parseFrame(length);
  }

  #parseFrame(length: number): void {
    const end = this.#parseL2();
    if (end < 0) return;
    this.payloadOffset = end;
    this.#parseL3(length, end);
  }

  #parseL3(length: number, at: number): void {
    if (this.etherType === EtherType.IPV4) this.#parseIpv4(length, at);
    else if (this.etherType === EtherType.IPV6) this.#parseIpv6(length, at);
  }

  #reset(length: number): void {
    this.problems = 0;
    this.vlanTags = 0;
    this.etherType = 0;
    this.l3 = L3.NONE;
    this.l3Offset = -1;
    this.l3HeaderLength = 0;
    this.l3End = length;
    this.l3StatedLength = 0;
    this.l3Options = false;
    this.fragment = false;
    this.firstFragment = false;
    this.fragmentOffset = -1;
    this.l4 = L4.NONE;
    this.l4Offset = -1;
    this.l4HeaderLength = 0;
    this.payloadOffset = 0;
  }

  #parseL2(): number {
    if (this.window < ETHER_HEADER_BYTES) {
      this.problems = Problem.RUNT;
      return -1;
    }
    let offset = ETHER_TYPE;
    let type = this.u16(offset);
    while (isVlanType(type)) {
      if (offset + VLAN_TAG_BYTES + 2 > this.window || this.vlanTags === MAX_VLAN_TAGS) {
        this.problems = Problem.VLAN;
        return -1;
      }
      this.vlanTags++;
      offset += VLAN_TAG_BYTES;
      type = this.u16(offset);
    }
    this.etherType = type;
    return offset + 2;
  }

  #parseIpv4(length: number, at: number): void {
    if (at + IPV4_HEADER_BYTES > this.window) {
      this.problems |= Problem.L3_HEADER;
      return;
    }
    const first = this.u8(at);
    const header = (first & 15) * 4;
    if (first >>> 4 !== 4 || header < IPV4_HEADER_BYTES || at + header > this.window) {
      this.problems |= Problem.L3_HEADER;
      return;
    }
    this.l3 = L3.IPV4;
    this.l3Offset = at;
    this.l3HeaderLength = header;
    this.l3Options = header > IPV4_HEADER_BYTES;
    this.payloadOffset = at + header;
    this.#setEnd(length, this.u16(at + 2), header);
    const fragment = this.u16(at + 6);
    this.fragment = (fragment & 0x3fff) !== 0;
    this.firstFragment = this.fragment && (fragment & 0x1fff) === 0;
    if (!this.fragment || this.firstFragment) this.#parseL4(this.u8(at + 9), at + header);
  }

  #parseIpv6(length: number, at: number): void {
    if (at + IPV6_HEADER_BYTES > this.window || this.u8(at) >>> 4 !== 6) {
      this.problems |= Problem.L3_HEADER;
      return;
    }
    this.l3 = L3.IPV6;
    this.l3Offset = at;
    let next = this.u8(at + 6);
    // Length 0 with a next header: a jumbogram, or a length that the segmenting NIC must fill in.
    const payload = this.u16(at + 4);
    const unstated = payload === 0 && next !== NEXT_NONE;
    this.#setEnd(length, unstated ? 0 : payload + IPV6_HEADER_BYTES, IPV6_HEADER_BYTES);

    let offset = at + IPV6_HEADER_BYTES;
    for (let walked = 0; isExtension(next); walked++) {
      if (walked === MAX_EXTENSIONS || offset + 8 > this.window || offset + 8 > this.l3End) {
        this.problems |= Problem.EXTENSIONS;
        return;
      }
      const kind = next;
      next = this.u8(offset);
      let bytes = (this.u8(offset + 1) + 1) * 8;
      if (kind === NEXT_AUTH) bytes = (this.u8(offset + 1) + 2) * 4;
      if (kind === NEXT_FRAGMENT) {
        bytes = 8;
        this.fragmentOffset = offset;
        const field = this.u16(offset + 2);
        // Offset 0 without more fragments is a whole packet: an atomic fragment (RFC 6946).
        if ((field & 0xfff9) !== 0) {
          this.fragment = true;
          this.firstFragment = field >>> 3 === 0;
        }
      }
      offset += bytes;
      if (offset > this.l3End || offset > this.window) {
        this.problems |= Problem.EXTENSIONS;
        return;
      }
      // Behind a later fragment's header comes the middle of some payload.
      if (this.fragment && !this.firstFragment) {
        next = NEXT_NONE;
        break;
      }
    }
    this.l3HeaderLength = offset - at;
    this.l3Options = this.l3HeaderLength > IPV6_HEADER_BYTES;
    this.payloadOffset = offset;
    if (next !== NEXT_NONE) this.#parseL4(next, offset);
  }

  /** Sets the end of the packet. A wrong length is a problem, and the frame's end counts then. */
  #setEnd(length: number, stated: number, header: number): void {
    this.l3StatedLength = stated;
    if (stated < header || this.l3Offset + stated > length) {
      this.problems |= Problem.L3_LENGTH;
      this.l3End = length;
    } else {
      this.l3End = this.l3Offset + stated;
    }
  }

  #parseL4(protocol: number, at: number): void {
    this.l4 = protocol;
    this.l4Offset = at;
    let header = 0;
    if (protocol === L4.TCP) header = TCP_HEADER_BYTES;
    else if (protocol === L4.UDP) header = UDP_HEADER_BYTES;
    else if (protocol === L4.SCTP) header = SCTP_HEADER_BYTES;
    const end = Math.min(this.window, this.l3End);
    if (at + header > end) {
      this.problems |= Problem.L4_HEADER;
      return;
    }
    if (protocol === L4.TCP) {
      header = (this.u8(at + 12) >>> 4) * 4;
      if (header < TCP_HEADER_BYTES || at + header > end) {
        this.problems |= Problem.L4_HEADER;
        return;
      }
    } else if (protocol === L4.UDP && !this.fragment) {
      const stated = this.u16(at + 4);
      if (stated < UDP_HEADER_BYTES || at + stated > this.l3End) {
        this.problems |= Problem.L4_HEADER;
        return;
      }
    }
    this.l4HeaderLength = header;
    this.payloadOffset = at + header;
  }
}

const EMPTY = new Uint8Array(0);

function isExtension(next: number): boolean {
  return (
    next === NEXT_HOP_BY_HOP ||
    next === NEXT_ROUTING ||
    next === NEXT_FRAGMENT ||
    next === NEXT_AUTH ||
    next === NEXT_DESTINATION ||
    next === NEXT_MOBILITY
  );
}
