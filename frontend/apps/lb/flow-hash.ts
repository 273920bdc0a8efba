/**
 * The flow that a frame belongs to, as a hash of addresses and ports. Both directions of a flow
 * have the same hash.
 *
 *   VLAN tags are passed over    IPv6 extension headers too
 *   GRE, IPv4 or IPv6 in IP      the flow inside decides, as in netmap's lb (pkt_hash.c)
 *   a later fragment             has no ports: the first fragment of its datagram decides
 *   no ports, or cut before them addresses alone;  no IP: the two MAC addresses
 *
 * netmap's program reads ports from every fragment, also from the middle of a payload. Fragments of
 * one datagram may go to different pipes there.
 *
 * Source: netmap: apps/lb/pkt_hash.c; RFC 2784 and 2890 (GRE); RFC 791; RFC 8200 section 4.5.
 */
import type { Frame } from "../../../shared/net/frame.ts";
import { Headers, L3, L4 } from "../../../shared/net/headers.ts";

const IPIP = 4;
const IPV6_IN_IP = 41;
const DCCP = 33;
const GRE = 47;
const UDPLITE = 136;

const IPV4 = 0x0800;
const IPV6 = 0x86dd;
/** Transparent Ethernet bridging: a whole frame in GRE. */
const BRIDGED = 0x6558;
/** Flags in the first 16 bits of a GRE header: checksum, key, sequence number. Others must be 0. */
const GRE_CHECKSUM = 0x8000;
const GRE_KEY = 0x2000;
const GRE_SEQUENCE = 0x1000;

/** Number of nested headers that are parsed. */
const MAX_DEPTH = 4;
const FNV_OFFSET = 0x811c9dc5;
const FNV_PRIME = 0x01000193;

export class FlowHash {
  /** The flow of the frame, 32 bits unsigned, unless `isLater`. */
  hash = 0;
  /**
   * True when a layer of the frame is a later fragment, whose ports are unknown. `hash` then covers
   * the addresses alone. The datagram is `ids[depth - 1]`.
   */
  isLater = false;
  /** Datagrams of which the frame is a fragment, outermost first: two 32-bit hashes for each. */
  readonly ids = new Uint32Array(2 * MAX_DEPTH);
  depth = 0;
  readonly #layers = Array.from({ length: MAX_DEPTH }, () => new Headers());

  /** Parses a frame. The fields describe the frame until the next call. */
  look(frame: Frame): void {
    this.depth = 0;
    this.isLater = false;
    this.#layers[0]!.parse(frame);
    this.#layer(0);
  }

  #layer(n: number): void {
    const h = this.#layers[n]!;
    if (h.l3 === L3.NONE) {
      this.hash = this.#ofMacs(h);
      return;
    }
    const size = h.l3 === L3.IPV4 ? 4 : 16;
    const source = h.at + h.l3Offset + (h.l3 === L3.IPV4 ? 12 : 8);
    if (h.fragment) this.#note(h, source, 2 * size);
    if (h.fragment && !h.firstFragment) {
      this.isLater = true;
      this.hash = this.#ofEnds(h, source, size, 0, 0);
      return;
    }
    if (n + 1 < MAX_DEPTH && this.#inner(h, this.#layers[n + 1]!)) {
      this.#layer(n + 1);
      return;
    }
    const ports = hasPorts(h) ? h.at + h.l4Offset : 0;
    this.hash = this.#ofEnds(h, source, size, ports, ports === 0 ? 0 : 2);
  }

  /** Parses the packet in a tunnel into `inner`. Returns false when `h` is not a tunnel. */
  #inner(h: Headers, inner: Headers): boolean {
    const at = h.l4Offset;
    if (at < 0) return false;
    if (h.l4 === IPIP) return hasIp(inner, h, at, IPV4);
    if (h.l4 === IPV6_IN_IP) return hasIp(inner, h, at, IPV6);
    if (h.l4 !== GRE || at + 4 > h.window) return false;
    const flags = h.u16(at);
    if ((flags & ~(GRE_CHECKSUM | GRE_KEY | GRE_SEQUENCE)) !== 0) return false;
    const type = h.u16(at + 2);
    let offset = at + 4;
    for (const flag of [GRE_CHECKSUM, GRE_KEY, GRE_SEQUENCE]) if ((flags & flag) !== 0) offset += 4;
    if (type === BRIDGED) {
      inner.parseInner(h, offset, 0);
      return inner.window >= 14;
    }
    return (type === IPV4 || type === IPV6) && hasIp(inner, h, offset, type);
  }

  /** Adds the datagram of a fragment: addresses, protocol and identification. */
  #note(h: Headers, source: number, bytes: number): void {
    let a = fnv(h.bytes, source, bytes, FNV_OFFSET);
    let b = fnv(h.bytes, source, bytes, ~FNV_OFFSET);
    const protocol = h.l3 === L3.IPV4 ? h.u8(h.l3Offset + 9) : 0;
    // In IPv6 the number is in the fragment header, the last header that all fragments have.
    const id = h.l3 === L3.IPV4 ? h.u16(h.l3Offset + 4) : h.u32(h.fragmentOffset + 4);
    for (let shift = 0; shift < 32; shift += 8) {
      a = Math.imul(a ^ ((id >>> shift) & 0xff), FNV_PRIME);
      b = Math.imul(b ^ ((id >>> shift) & 0xff), FNV_PRIME);
    }
    this.ids[2 * this.depth] = mix(a ^ protocol);
    this.ids[2 * this.depth + 1] = mix(Math.imul(b ^ protocol, FNV_PRIME));
    this.depth++;
  }

  #ofMacs(h: Headers): number {
    if (h.window < 12) return 0;
    return both(fnv(h.bytes, h.at, 6, FNV_OFFSET), fnv(h.bytes, h.at + 6, 6, FNV_OFFSET));
  }

  /** Returns the hash of the two ends (address and port), the same for either order. */
  #ofEnds(h: Headers, source: number, size: number, ports: number, portBytes: number): number {
    const { bytes } = h;
    const one = fnv(bytes, ports, portBytes, fnv(bytes, source, size, FNV_OFFSET));
    const two = fnv(bytes, ports + 2, portBytes, fnv(bytes, source + size, size, FNV_OFFSET));
    return both(one, two);
  }
}

/** True when the inner packet has IP addresses. Damage behind the IP header does not matter. */
function hasIp(inner: Headers, outer: Headers, offset: number, etherType: number): boolean {
  inner.parseInner(outer, offset, etherType);
  return inner.l3 !== L3.NONE;
}

/** True when the first four bytes of the layer-4 header are present, and are ports. */
function hasPorts(h: Headers): boolean {
  const { l4 } = h;
  const isKnown = l4 === L4.TCP || l4 === L4.UDP || l4 === L4.SCTP || l4 === DCCP || l4 === UDPLITE;
  return isKnown && h.l4Offset >= 0 && h.l4Offset + 4 <= Math.min(h.window, h.l3End);
}

function fnv(bytes: Uint8Array, at: number, count: number, seed: number): number {
  let hash = seed;
  for (let i = 0; i < count; i++) hash = Math.imul(hash ^ bytes[at + i]!, FNV_PRIME);
  return hash;
}

/** Murmur3's last step: every bit of the input reaches every bit of the result. */
function mix(hash: number): number {
  let h = hash;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}

/** Combines two hashes. The result is the same for both orders. */
const both = (one: number, two: number): number => {
  const a = mix(one);
  const b = mix(two);
  return mix((a + b) ^ Math.imul(a ^ b, FNV_PRIME));
};
