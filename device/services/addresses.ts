/**
 * IP addresses of a segment: IPv4 as an unsigned 32-bit number, IPv6 as 16 bytes. Text is read and
 * written by the package that `dns-packet` uses, too.
 */
import { v4, v6 } from "@leichtgewicht/ip-codec";
import { MAC_BYTES, macHigh } from "../../shared/net/ethernet.ts";

export const IPV4_BYTES = 4;
export const IPV6_BYTES = 16;
export const LIMITED_BROADCAST = 0xffff_ffff;

/** Returns the address at `at`. The bytes must exist. */
export const readIpv4 = (bytes: Uint8Array, at: number): number =>
  ((macHigh(bytes, at) << 16) | macHigh(bytes, at + 2)) >>> 0;

export function writeIpv4(bytes: Uint8Array, at: number, address: number): void {
  bytes[at] = address >>> 24;
  bytes[at + 1] = address >>> 16;
  bytes[at + 2] = address >>> 8;
  bytes[at + 3] = address;
}

/** Returns the number of an address in text, which must be one. */
export const parseIpv4 = (text: string): number => readIpv4(v4.encode(text), 0);

export function ipv4Text(address: number): string {
  const bytes = new Uint8Array(IPV4_BYTES);
  writeIpv4(bytes, 0, address);
  return v4.decode(bytes);
}

/** Returns the bytes of an address in text, which must be one. */
export const parseIpv6 = (text: string): Uint8Array => v6.encode(text);
export const ipv6Text = (address: Uint8Array): string => v6.decode(address);

/** An IPv4 network with the address of one of its hosts. */
export interface Network4 {
  readonly address: number;
  readonly bits: number;
  readonly mask: number;
  /** The first address, which names the network, and the last one, which is its broadcast. */
  readonly first: number;
  readonly last: number;
}

/** Returns the network of a text like 10.0.0.1/24, which must be one. */
export function parseNetwork4(text: string): Network4 {
  const [host = "", length = ""] = text.split("/");
  const address = parseIpv4(host);
  const bits = Number(length);
  const mask = (LIMITED_BROADCAST << (32 - bits)) >>> 0;
  const first = (address & mask) >>> 0;
  return { address, bits, mask, first, last: (first | ~mask) >>> 0 };
}

/** Returns whether a host may have this address: it is neither the first nor the last. */
export const isHostOf = ({ first, last }: Network4, address: number): boolean =>
  address > first && address < last;

export const networkText = ({ first, bits }: Network4): string => `${ipv4Text(first)}/${bits}`;

/** An IPv6 prefix with the address of one of its hosts. */
export interface Network6 {
  readonly address: Uint8Array;
  readonly bits: number;
}

/** Returns the network of a text like fd00::1/64, which must be one. */
export function parseNetwork6(text: string): Network6 {
  const [host = "", length = ""] = text.split("/");
  return { address: parseIpv6(host), bits: Number(length) };
}

/** Returns whether two addresses agree in their first `bits` bits. */
export function samePrefix(a: Uint8Array, b: Uint8Array, bits: number): boolean {
  const whole = bits >>> 3;
  for (let i = 0; i < whole; i++) if (a[i] !== b[i]) return false;
  const rest = bits & 7;
  return rest === 0 || ((a[whole]! ^ b[whole]!) & (0xff00 >>> rest)) === 0;
}

export const sameBytes = (a: Uint8Array, b: Uint8Array): boolean =>
  a.length === b.length && a.every((byte, i) => byte === b[i]);

/** All nodes of the link, the destination of advertisements: RFC 4291, 2.7.1. */
export const ALL_NODES = parseIpv6("ff02::1");
export const isMulticast6 = (address: Uint8Array): boolean => address[0] === 0xff;
export const isUnspecified6 = (address: Uint8Array): boolean => address.every((byte) => byte === 0);

/** Returns the link-local address of a NIC: RFC 4291, 2.5.1 and appendix A. */
export function linkLocal(mac: Uint8Array): Uint8Array {
  const address = new Uint8Array(IPV6_BYTES);
  address.set([0xfe, 0x80]);
  address.set([mac[0]! ^ 2, mac[1]!, mac[2]!, 0xff, 0xfe, mac[3]!, mac[4]!, mac[5]!], 8);
  return address;
}

/** Returns the Ethernet address of an IPv6 group: RFC 2464, 7. */
export function groupMac(group: Uint8Array): Uint8Array {
  const mac = new Uint8Array(MAC_BYTES).fill(0x33, 0, 2);
  mac.set(group.subarray(IPV6_BYTES - 4), 2);
  return mac;
}
