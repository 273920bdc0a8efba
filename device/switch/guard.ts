/**
 * Guards of a port against forged ARP and neighbour discovery.
 *
 *   ARP                       the sender's hardware address is the source of the frame
 *   neighbour solicitation    the source link-layer address is the source of the frame
 *   neighbour advertisement   the target link-layer address is the source of the frame
 *   router advertisement, redirect                                      dropped
 *
 * With a list of addresses, an ARP packet or an advertisement names only those. A fragment of a
 * neighbour discovery message is dropped, because hosts ignore it (RFC 6980), and so is a message
 * that is too short for its type.
 *
 * Source: RFC 826 (ARP), RFC 5227 (probes have the sender 0.0.0.0), RFC 4861 section 4 (messages),
 * RFC 6105 (router advertisement guard).
 */
import { isIPv4 } from "node:net";
import { EtherType, macHigh, macLow, SOURCE } from "../../shared/net/ethernet.ts";
import type { Frame } from "../../shared/net/frame.ts";
import { type Headers, L4, Problem } from "../../shared/net/headers.ts";
import { IPV4_BYTES, ipv4Text, ipv6Text, parseIpv6, readIpv4 } from "../services/addresses.ts";
import { DropReason } from "./port.ts";

const ARP_BYTES = 28;
const ARP_SENDER_MAC = 8;
const ARP_SENDER_IP = 14;

/** ICMPv6 types of neighbour discovery (RFC 4861, 4). */
const Type = { ROUTER: 134, SOLICITATION: 135, ADVERTISEMENT: 136, REDIRECT: 137 } as const;
/** Both neighbour messages: type, code, checksum, 4 bytes, target address; then options. */
const TARGET = 8;
const OPTIONS = 24;
/** Option types: source and target link-layer address. Both have the address behind two bytes. */
const SOURCE_ADDRESS = 1;
const TARGET_ADDRESS = 2;
const MAX_OPTIONS = 16;

export class Guard {
  /** Addresses that the port may announce. Undefined: any. */
  readonly #ips: ReadonlySet<string> | undefined;

  constructor(ips: readonly string[] | undefined) {
    this.#ips = ips === undefined ? undefined : new Set(ips.map(plain));
  }

  /** Returns the reason for a drop of a frame that the port sends. */
  refuse(frame: Frame): DropReason | undefined {
    const h = frame.headers();
    if (h.etherType === EtherType.ARP) {
      return this.#arpFits(frame, h) ? undefined : DropReason.GUARD_ARP;
    }
    if (h.etherType !== EtherType.IPV6) return undefined;
    // Behind more extension headers than are walked could be any message (RFC 7113, 3).
    if ((h.problems & Problem.EXTENSIONS) !== 0) return DropReason.GUARD_ND;
    if (h.l4 !== L4.ICMPV6) return undefined;
    return this.#neighbourFits(frame, h) ? undefined : DropReason.GUARD_ND;
  }

  #arpFits(frame: Frame, h: Headers): boolean {
    const at = h.payloadOffset;
    if (frame.length < at + ARP_BYTES) return false;
    const arp = bytesAt(frame, at, ARP_BYTES);
    if (!isSource(frame, arp, ARP_SENDER_MAC)) return false;
    const sender = arp.subarray(ARP_SENDER_IP, ARP_SENDER_IP + 4);
    return sender.every((byte) => byte === 0) || this.#mayAnnounce(sender);
  }

  #neighbourFits(frame: Frame, h: Headers): boolean {
    const at = h.l4Offset;
    // A fragment without the type could be any message, too.
    if (h.l3End <= at) return false;
    const type = frame.byteAt(at);
    const isNeighbour = type === Type.SOLICITATION || type === Type.ADVERTISEMENT;
    if (type === Type.ROUTER || type === Type.REDIRECT) return false;
    if (!isNeighbour) return true;
    if (h.fragment || h.l3End < at + OPTIONS) return false;
    const message = bytesAt(frame, at, h.l3End - at);
    if (type === Type.ADVERTISEMENT && !this.#mayAnnounce(message.subarray(TARGET, OPTIONS))) {
      return false;
    }
    const wanted = type === Type.SOLICITATION ? SOURCE_ADDRESS : TARGET_ADDRESS;
    let option = OPTIONS;
    for (let seen = 0; option + 8 <= message.length; seen++) {
      const length = message[option + 1]! * 8;
      // An option of no length, or of more bytes than there are, makes the message invalid.
      if (length === 0 || option + length > message.length || seen === MAX_OPTIONS) return false;
      if (message[option] === wanted && !isSource(frame, message, option + 2)) return false;
      option += length;
    }
    return true;
  }

  #mayAnnounce(address: Uint8Array): boolean {
    return this.#ips === undefined || this.#ips.has(textOf(address));
  }
}

function bytesAt(frame: Frame, at: number, length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  frame.copyTo(bytes, 0, at, length);
  return bytes;
}

/** True if the six bytes at `at` are the source address of the frame. */
function isSource(frame: Frame, bytes: Uint8Array, at: number): boolean {
  const source = bytesAt(frame, SOURCE, 6);
  return macHigh(source, 0) === macHigh(bytes, at) && macLow(source, 0) === macLow(bytes, at);
}

/** The same text for all spellings of an address. */
const plain = (ip: string): string => (isIPv4(ip) ? ip : ipv6Text(parseIpv6(ip)));

const textOf = (address: Uint8Array): string =>
  address.length === IPV4_BYTES ? ipv4Text(readIpv4(address, 0)) : ipv6Text(address);
