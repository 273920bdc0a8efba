/**
 * Packets whose IP header states no length. A sender leaves the length at 0 in packets that a NIC
 * is to cut, so a capture at the sender contains such packets. On the wire no receiver accepts
 * them.
 *
 *   IPv4   total length 0                          header checksum, TCP or UDP checksum follow it
 *   IPv6   payload length 0, next header not 59    perhaps with a jumbo option (BIG TCP)
 *
 * Source: RFC 791, RFC 8200; RFC 2675 section 2 (jumbo payload option).
 */
import { put16 } from "../../../shared/net/big-endian.ts";
import {
  finishChecksum,
  finishUdpChecksum,
  sumBytes,
  sumPseudoHeader,
  sumShort,
} from "../../../shared/net/checksum.ts";
import { ETHER_TYPE, EtherType, isVlanType, VLAN_TAG_BYTES } from "../../../shared/net/ethernet.ts";
import {
  type Headers,
  IPV6_HEADER_BYTES,
  L3,
  L4,
  Problem,
  TCP_CHECKSUM,
  UDP_CHECKSUM,
} from "../../../shared/net/headers.ts";

const IPV4_LENGTH = 2;
const IPV4_CHECKSUM = 10;
const IPV6_LENGTH = 4;
const IPV6_NEXT = 6;
const NEXT_HOP_BY_HOP = 0;
const NEXT_NONE = 59;
const UDP_LENGTH = 4;

const PAD1 = 0;
const PADN = 1;
const JUMBO = 0xc2;
const JUMBO_BYTES = 4;

const u16 = (bytes: Uint8Array, at: number): number => (bytes[at]! << 8) | bytes[at + 1]!;

/** True when the frame's IP header states no length, though more bytes follow. */
export function isUnstated(bytes: Uint8Array, length: number): boolean {
  let at = ETHER_TYPE;
  while (at + VLAN_TAG_BYTES + 2 <= length && isVlanType(u16(bytes, at))) at += VLAN_TAG_BYTES;
  const type = u16(bytes, at);
  at += 2;
  if (at + IPV6_HEADER_BYTES > length) return false;
  if (type === EtherType.IPV4) return u16(bytes, at + IPV4_LENGTH) === 0;
  if (type !== EtherType.IPV6) return false;
  return u16(bytes, at + IPV6_LENGTH) === 0 && bytes[at + IPV6_NEXT] !== NEXT_NONE;
}

/** True when the headers of a packet without a stated length have no other fault. */
export function canFill(h: Headers): boolean {
  if (h.problems === Problem.L3_LENGTH) return true;
  // The UDP header has a length of its own, which is also 0 then.
  const both = Problem.L3_LENGTH | Problem.L4_HEADER;
  return h.problems === both && h.l4 === L4.UDP && h.u16(h.l4Offset + UDP_LENGTH) === 0;
}

/** Replaces a jumbo option by padding, because no segment of the packet is that long. */
export function dropJumboOption(frame: Uint8Array, h: Headers): void {
  if (h.l3 !== L3.IPV6 || h.u8(h.l3Offset + IPV6_NEXT) !== NEXT_HOP_BY_HOP) return;
  const from = h.l3Offset + IPV6_HEADER_BYTES;
  const end = from + (frame[from + 1]! + 1) * 8;
  for (let at = from + 2; at + 2 <= end; ) {
    if (frame[at] === JUMBO && frame[at + 1] === JUMBO_BYTES && at + 2 + JUMBO_BYTES <= end) {
      frame[at] = PADN;
      frame.fill(0, at + 2, at + 2 + JUMBO_BYTES);
    }
    at += frame[at] === PAD1 ? 1 : 2 + frame[at + 1]!;
  }
}

/**
 * Writes the lengths of a frame of `length` bytes, and the checksums that cover these lengths. `h`
 * are the headers of the frame before the change.
 */
export function fillIn(frame: Uint8Array, length: number, h: Headers): void {
  const l3 = h.l3Offset;
  if (h.l3 === L3.IPV4) {
    put16(frame, l3 + IPV4_LENGTH, length - l3);
    put16(frame, l3 + IPV4_CHECKSUM, 0);
    put16(frame, l3 + IPV4_CHECKSUM, finishChecksum(sumShort(frame, l3, h.l3HeaderLength)));
  } else {
    put16(frame, l3 + IPV6_LENGTH, length - l3 - IPV6_HEADER_BYTES);
    dropJumboOption(frame, h);
  }
  // The checksum in a fragment covers the whole packet.
  if (h.fragment) return;
  const l4 = h.l4Offset;
  const bytes = length - l4;
  if (h.l4 === L4.TCP) {
    put16(frame, l4 + TCP_CHECKSUM, 0);
    const sum = sumPseudoHeader(h, bytes) + sumBytes(frame, l4, bytes);
    put16(frame, l4 + TCP_CHECKSUM, finishChecksum(sum));
  } else if (h.l4 === L4.UDP) {
    if (u16(frame, l4 + UDP_LENGTH) === 0) put16(frame, l4 + UDP_LENGTH, bytes);
    // In IPv4 a sender may leave out the UDP checksum.
    if (h.l3 === L3.IPV4 && u16(frame, l4 + UDP_CHECKSUM) === 0) return;
    put16(frame, l4 + UDP_CHECKSUM, 0);
    const stated = u16(frame, l4 + UDP_LENGTH);
    const sum = sumPseudoHeader(h, stated) + sumBytes(frame, l4, stated);
    put16(frame, l4 + UDP_CHECKSUM, finishUdpChecksum(sum));
  }
}
