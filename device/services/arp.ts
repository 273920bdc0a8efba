/**
 * ARP for the host's own IPv4 address.
 *
 *   0     2     4    5    6     8           14    18          24    28
 *   | hrd | pro |hln |pln | op  | sender MAC| IP  | target MAC| IP  |
 *
 * Source: RFC 826; RFC 5227, 2.1.1 (a probe has the sender address 0 and is answered, too).
 */
import { put16 } from "../../shared/net/big-endian.ts";
import { ETHER_HEADER_BYTES, EtherType, MAC_BYTES, macKey } from "../../shared/net/ethernet.ts";
import { IPV4_BYTES, readIpv4, writeIpv4 } from "./addresses.ts";
import { etherFrame } from "./packet.ts";
import { type Answer, type Request, Unanswered } from "./request.ts";

const ARP = ETHER_HEADER_BYTES;
const PROTOCOL = ARP + 2;
const LENGTHS = ARP + 4;
const OPERATION = ARP + 6;
const SENDER_MAC = ARP + 8;
const SENDER_IP = ARP + 14;
const TARGET_MAC = ARP + 18;
const TARGET_IP = ARP + 24;
const ARP_BYTES = 28;
const HARDWARE_ETHERNET = 1;
const REQUEST = 1;
const REPLY = 2;

/** Returns whether an ARP frame is about `address`: it asks for it, or it claims it. */
export const isArpAbout = (byteAt: (at: number) => number, address: number): boolean =>
  isAt(byteAt, TARGET_IP, address) || isAt(byteAt, SENDER_IP, address);

function isAt(byteAt: (at: number) => number, at: number, address: number): boolean {
  for (let i = 0; i < IPV4_BYTES; i++) {
    if (byteAt(at + i) !== ((address >>> (24 - 8 * i)) & 0xff)) return false;
  }
  return true;
}

export function answerArp({ bytes, sender }: Request, mac: Uint8Array, address: number): Answer {
  const u16 = (at: number): number => (bytes[at]! << 8) | bytes[at + 1]!;
  if (bytes.length < ARP + ARP_BYTES) return Unanswered.MALFORMED;
  if (u16(ARP) !== HARDWARE_ETHERNET || u16(PROTOCOL) !== EtherType.IPV4) {
    return Unanswered.MALFORMED;
  }
  if (bytes[LENGTHS] !== MAC_BYTES || bytes[LENGTHS + 1] !== IPV4_BYTES) {
    return Unanswered.MALFORMED;
  }
  if (macKey(bytes, SENDER_MAC) !== macKey(sender, 0)) return Unanswered.MALFORMED;
  if (readIpv4(bytes, SENDER_IP) === address) return Unanswered.CONFLICT;
  if (u16(OPERATION) !== REQUEST || readIpv4(bytes, TARGET_IP) !== address) return undefined;
  const reply = etherFrame({ to: sender, from: mac }, EtherType.ARP, ARP_BYTES);
  put16(reply, ARP, HARDWARE_ETHERNET);
  put16(reply, PROTOCOL, EtherType.IPV4);
  reply[LENGTHS] = MAC_BYTES;
  reply[LENGTHS + 1] = IPV4_BYTES;
  put16(reply, OPERATION, REPLY);
  reply.set(mac, SENDER_MAC);
  writeIpv4(reply, SENDER_IP, address);
  reply.set(bytes.subarray(SENDER_MAC, SENDER_MAC + MAC_BYTES + IPV4_BYTES), TARGET_MAC);
  return reply;
}
