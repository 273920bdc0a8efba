/**
 * Neighbour discovery for the host's own IPv6 addresses, and what it tells about other hosts.
 *
 *   0      1      2          4         8        24
 *   | type | code | checksum | flags   | target | options: type, length in units of 8 bytes, data
 *
 * Source: RFC 4861, 4.3, 4.4, 7.1 and 7.2; RFC 4862, 5.4.3 (the address of a host that begins).
 */
import {
  ALL_NODES,
  groupMac,
  IPV6_BYTES,
  ipv6Text,
  isMulticast6,
  isUnspecified6,
  sameBytes,
} from "./addresses.ts";
import { icmp6Frame, write32 } from "./packet.ts";
import { type Answer, type HostPlace, type Request, Unanswered } from "./request.ts";

export const Icmp6 = {
  ROUTER_SOLICITATION: 133,
  ROUTER_ADVERTISEMENT: 134,
  NEIGHBOUR_SOLICITATION: 135,
  NEIGHBOUR_ADVERTISEMENT: 136,
} as const;

/** Packets of neighbour discovery never crossed a router: RFC 4861, 7.1.1. */
export const HOP_LIMIT = 255;
const HOP_LIMIT_AT = 7;
const TARGET = 8;
const OPTIONS = TARGET + IPV6_BYTES;
const OPTION_UNIT_BYTES = 8;
const TARGET_LINK_ADDRESS = 2;
const SOLICITED = 0x4000_0000;
const OVERRIDE = 0x2000_0000;

/** Returns whether a message of discovery is well-formed, with options from byte `at` on. */
export function isDiscovery({ bytes, headers }: Request, at: number): boolean {
  const { l3Offset, l4Offset, l3End } = headers;
  if (headers.u8(l3Offset + HOP_LIMIT_AT) !== HOP_LIMIT || bytes[l4Offset + 1] !== 0) return false;
  let option = l4Offset + at;
  if (option > l3End) return false;
  while (option < l3End) {
    const length = (bytes[option + 1] ?? 0) * OPTION_UNIT_BYTES;
    if (length === 0) return false;
    option += length;
  }
  return option === l3End;
}

/** Returns the target of a solicitation or advertisement; undefined for a malformed one. */
export function targetOf(request: Request): Uint8Array | undefined {
  if (!isDiscovery(request, OPTIONS)) return undefined;
  const { bytes, headers } = request;
  const at = headers.l4Offset + TARGET;
  const target = bytes.subarray(at, at + IPV6_BYTES);
  return isMulticast6(target) ? undefined : target;
}

/**
 * Answers a solicitation for one of the host's addresses `own`. A host that begins asks without an
 * address of its own, so that answer goes to all.
 */
export function answerSolicitation(
  request: Request,
  source: Uint8Array,
  place: HostPlace,
  own: readonly Uint8Array[],
): Answer {
  const target = targetOf(request);
  if (target === undefined) return Unanswered.MALFORMED;
  if (!own.some((address) => sameBytes(address, target))) return undefined;
  const toAll = isUnspecified6(source);
  const message = new Uint8Array(OPTIONS + OPTION_UNIT_BYTES);
  message[0] = Icmp6.NEIGHBOUR_ADVERTISEMENT;
  write32(message, 4, toAll ? OVERRIDE : SOLICITED | OVERRIDE);
  message.set(target, TARGET);
  message[OPTIONS] = TARGET_LINK_ADDRESS;
  message[OPTIONS + 1] = 1;
  message.set(place.mac, OPTIONS + 2);
  const destination = toAll ? ALL_NODES : source;
  const to = toAll ? groupMac(ALL_NODES) : request.sender;
  const route = { to, from: place.mac, source: target, destination };
  return icmp6Frame(route, message, HOP_LIMIT);
}

/** Most addresses that are known of one NIC: those of a host with two temporary addresses. */
const ADDRESSES_OF_NIC = 4;
/** Most NICs with known addresses: as many as a device may have. */
const MAX_NICS = 1024;

/** IPv6 addresses that NICs used, newest first. Names in DNS lead to them. */
export class Neighbours {
  readonly #byMac = new Map<number, Uint8Array[]>();
  /** The NIC that used an address last. */
  readonly #owners = new Map<string, number>();

  learn(mac: number, address: Uint8Array): void {
    const text = ipv6Text(address);
    const known = this.of(mac);
    const isNewest = known[0] !== undefined && sameBytes(known[0], address);
    if (isNewest && this.#owners.get(text) === mac) return;
    const others = known.filter((other) => !sameBytes(other, address));
    const most = ADDRESSES_OF_NIC - 1;
    for (const gone of others.slice(most)) this.#disown(mac, gone);
    this.#byMac.delete(mac);
    this.#byMac.set(mac, [address.slice(), ...others.slice(0, most)]);
    // Another NIC may have an older use of this address, and this NIC of an address of another one.
    this.#owners.set(text, mac);
    const [oldest] = this.#byMac.keys();
    if (this.#byMac.size > MAX_NICS) this.#forget(oldest!);
  }

  of(mac: number): readonly Uint8Array[] {
    return this.#byMac.get(mac) ?? [];
  }

  /** Returns the NIC that uses the address. */
  ownerOf(address: Uint8Array): number | undefined {
    return this.#owners.get(ipv6Text(address));
  }

  #forget(mac: number): void {
    for (const address of this.of(mac)) this.#disown(mac, address);
    this.#byMac.delete(mac);
  }

  #disown(mac: number, address: Uint8Array): void {
    const text = ipv6Text(address);
    if (this.#owners.get(text) === mac) this.#owners.delete(text);
  }
}
