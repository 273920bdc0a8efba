/**
 * Builds the frames of a service host, with complete checksums.
 *
 *   | Ethernet 14 | IPv4 20 or IPv6 40 | UDP 8 or ICMP | payload | zeros up to 60 bytes |
 *
 * Source: RFC 791, RFC 8200, RFC 768, RFC 792 (echo), RFC 4443 (2.3, 4.2).
 */

import { put16 } from "../../shared/net/big-endian.ts";
import {
  finishChecksum,
  finishUdpChecksum,
  foldSum,
  sumBytes,
  sumFrame,
  sumPseudoHeader,
  verifyL3,
} from "../../shared/net/checksum.ts";
import {
  DESTINATION,
  ETHER_HEADER_BYTES,
  ETHER_TYPE,
  EtherType,
  SOURCE,
} from "../../shared/net/ethernet.ts";
import type { Frame } from "../../shared/net/frame.ts";
import {
  type Headers,
  IPV4_CHECKSUM,
  IPV4_DF,
  IPV4_FRAGMENT,
  IPV4_HEADER_BYTES,
  IPV4_LENGTH,
  IPV6_HEADER_BYTES,
  IPV6_LENGTH,
  L3,
  L4,
  UDP_CHECKSUM,
  UDP_HEADER_BYTES,
} from "../../shared/net/headers.ts";
import { IPV6_BYTES, writeIpv4 } from "./addresses.ts";

/** Shortest frame of IEEE 802.3 without the FCS. */
const MIN_FRAME_BYTES = 60;
const TTL = 64;
const IPV4_TTL = 8;
const IPV4_PROTOCOL = 9;
export const IPV4_SOURCE = 12;
export const IPV4_DESTINATION = 16;
const IPV6_NEXT = 6;
const IPV6_HOP_LIMIT = 7;
export const IPV6_SOURCE = 8;
export const IPV6_DESTINATION = 24;
const ICMP_CHECKSUM = 2;

export function write32(bytes: Uint8Array, at: number, value: number): void {
  put16(bytes, at, value >>> 16);
  put16(bytes, at + 2, value);
}

/** Ethernet addresses of an answer. */
export interface Ends {
  readonly to: Uint8Array;
  readonly from: Uint8Array;
}

/** Returns a frame with room for `length` bytes behind its Ethernet header. */
export function etherFrame({ to, from }: Ends, type: number, length: number): Uint8Array {
  const frame = new Uint8Array(Math.max(MIN_FRAME_BYTES, ETHER_HEADER_BYTES + length));
  frame.set(to, DESTINATION);
  frame.set(from, SOURCE);
  put16(frame, ETHER_TYPE, type);
  return frame;
}

const IP = ETHER_HEADER_BYTES;

/** Addresses of an IPv4 packet, and the byte behind its header. */
export interface Route4 extends Ends {
  readonly source: number;
  readonly destination: number;
}

function ipv4Frame(route: Route4, protocol: number, payload: number): Uint8Array {
  const length = IPV4_HEADER_BYTES + payload;
  const frame = etherFrame(route, EtherType.IPV4, length);
  frame[IP] = 0x45;
  put16(frame, IP + IPV4_LENGTH, length);
  // Identification 0 is for packets that nobody may fragment: RFC 6864, 4.1.
  frame[IP + IPV4_FRAGMENT] = IPV4_DF;
  frame[IP + IPV4_TTL] = TTL;
  frame[IP + IPV4_PROTOCOL] = protocol;
  writeIpv4(frame, IP + IPV4_SOURCE, route.source);
  writeIpv4(frame, IP + IPV4_DESTINATION, route.destination);
  put16(frame, IP + IPV4_CHECKSUM, finishChecksum(sumBytes(frame, IP, IPV4_HEADER_BYTES)));
  return frame;
}

/** Addresses of an IPv6 packet. */
export interface Route6 extends Ends {
  readonly source: Uint8Array;
  readonly destination: Uint8Array;
}

function ipv6Frame(route: Route6, next: number, payload: number, hopLimit: number): Uint8Array {
  const frame = etherFrame(route, EtherType.IPV6, IPV6_HEADER_BYTES + payload);
  frame[IP] = 0x60;
  put16(frame, IP + IPV6_LENGTH, payload);
  frame[IP + IPV6_NEXT] = next;
  frame[IP + IPV6_HOP_LIMIT] = hopLimit;
  frame.set(route.source, IP + IPV6_SOURCE);
  frame.set(route.destination, IP + IPV6_DESTINATION);
  return frame;
}

/** Ports of a datagram. */
export interface Ports {
  readonly sourcePort: number;
  readonly destinationPort: number;
}

/** Returns a frame with a UDP datagram over the protocol of `route`. */
export function udpFrame(
  route: Route4 | Route6,
  { sourcePort, destinationPort }: Ports,
  payload: Uint8Array,
): Uint8Array {
  const length = UDP_HEADER_BYTES + payload.length;
  const isIpv4 = typeof route.source === "number";
  const frame = isIpv4
    ? ipv4Frame(route as Route4, L4.UDP, length)
    : ipv6Frame(route as Route6, L4.UDP, length, TTL);
  const at = IP + (isIpv4 ? IPV4_HEADER_BYTES : IPV6_HEADER_BYTES);
  put16(frame, at, sourcePort);
  put16(frame, at + 2, destinationPort);
  put16(frame, at + 4, length);
  frame.set(payload, at + UDP_HEADER_BYTES);
  const addresses = isIpv4
    ? sumBytes(frame, IP + IPV4_SOURCE, 8)
    : sumBytes(frame, IP + IPV6_SOURCE, 2 * IPV6_BYTES);
  const sum = addresses + L4.UDP + length + sumBytes(frame, at, length);
  put16(frame, at + UDP_CHECKSUM, finishUdpChecksum(sum));
  return frame;
}

/** Returns a frame with an ICMP message. Its checksum field must be zero. */
export function icmpFrame(route: Route4, message: Uint8Array): Uint8Array {
  const frame = ipv4Frame(route, L4.ICMP, message.length);
  const at = IP + IPV4_HEADER_BYTES;
  frame.set(message, at);
  put16(frame, at + ICMP_CHECKSUM, finishChecksum(sumBytes(frame, at, message.length)));
  return frame;
}

/** Returns a frame with an ICMPv6 message. Its checksum field must be zero. */
export function icmp6Frame(route: Route6, message: Uint8Array, hopLimit = TTL): Uint8Array {
  const frame = ipv6Frame(route, L4.ICMPV6, message.length, hopLimit);
  const at = IP + IPV6_HEADER_BYTES;
  frame.set(message, at);
  const sum =
    sumBytes(frame, IP + IPV6_SOURCE, 2 * IPV6_BYTES) +
    message.length +
    L4.ICMPV6 +
    sumBytes(frame, at, message.length);
  put16(frame, at + ICMP_CHECKSUM, finishChecksum(sum));
  return frame;
}

/** Returns whether the checksums of a packet are right, whose headers have no problem. */
export function verifyPacket(frame: Frame, headers: Headers): boolean {
  const { l3, l4, l4Offset, l3End } = headers;
  if (!verifyL3(headers)) return false;
  // RFC 768: the sender may leave out the checksum. Over IPv6 it may not (RFC 8200, 8.1).
  if (l4 === L4.UDP && l3 === L3.IPV4 && headers.u16(l4Offset + UDP_CHECKSUM) === 0) return true;
  // The end of a UDP datagram is that of its own length field.
  const length = l4 === L4.UDP ? headers.u16(l4Offset + 4) : l3End - l4Offset;
  const pseudo = l4 === L4.ICMP ? 0 : sumPseudoHeader(headers, length);
  return foldSum(pseudo + sumFrame(frame, l4Offset, length)) === 0xffff;
}
