/**
 * An Ethernet frame as one line: addresses, protocol, ports and flags. Where the bytes that a
 * capture kept end too early, the line says "cut".
 *
 *   02:00:00:00:00:0a > 02:00:00:00:00:0b IPv4 10.0.0.1 > 10.0.0.2 TCP 40000 > 80 SYN seq 1 len 0
 *
 * Source: RFC 791, 8200, 826, 9293, 768, 792, 4443.
 */
import {
  ETHER_HEADER_BYTES,
  ETHER_TYPE,
  EtherType,
  formatMac,
  isVlanType,
  MAX_VLAN_TAGS,
  SOURCE,
  VLAN_TAG_BYTES,
} from "../../shared/net/ethernet.ts";

const IPV6_BYTES = 40;
const IPPROTO = { ICMP: 1, TCP: 6, UDP: 17, ICMPV6: 58 } as const;
const IP_MORE_AND_OFFSET = 0x3fff;
const TCP_FLAGS = ["FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR"] as const;
const ICMP_NAMES: Readonly<Record<number, string>> = {
  0: "echo reply",
  3: "unreachable",
  8: "echo request",
  11: "time exceeded",
};
const ICMPV6_NAMES: Readonly<Record<number, string>> = {
  1: "unreachable",
  2: "packet too big",
  128: "echo request",
  129: "echo reply",
  133: "router solicitation",
  134: "router advertisement",
  135: "neighbour solicitation",
  136: "neighbour advertisement",
  143: "listener report",
};

/** Returns the line of a frame. Never throws, for any bytes. */
export function frameText(bytes: Uint8Array): string {
  if (bytes.length < ETHER_HEADER_BYTES) return `${bytes.length} bytes, no Ethernet header`;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const words = [`${formatMac(bytes, SOURCE)} > ${formatMac(bytes, 0)}`];
  let at = ETHER_TYPE;
  let type = view.getUint16(at);
  for (let tags = 0; tags < MAX_VLAN_TAGS && isVlanType(type); tags++) {
    if (at + VLAN_TAG_BYTES + 2 > bytes.length) return `${words.join(" ")} cut`;
    words.push(`VLAN ${view.getUint16(at + 2) & 0xfff}`);
    at += VLAN_TAG_BYTES;
    type = view.getUint16(at);
  }
  try {
    words.push(payload(new Bytes(view, at + 2), type));
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    words.push("cut");
  }
  return words.join(" ");
}

/** Bytes from an offset on. A read behind the end throws RangeError, as in DataView. */
class Bytes {
  readonly view: DataView;
  readonly base: number;
  constructor(view: DataView, base: number) {
    this.view = view;
    this.base = base;
  }
  u8(at: number): number {
    return this.view.getUint8(this.base + at);
  }
  u16(at: number): number {
    return this.view.getUint16(this.base + at);
  }
  u32(at: number): number {
    return this.view.getUint32(this.base + at);
  }
  from(at: number): Bytes {
    return new Bytes(this.view, this.base + at);
  }
}

function payload(b: Bytes, type: number): string {
  switch (type) {
    case EtherType.IPV4:
      return ipv4(b);
    case EtherType.IPV6:
      return ipv6(b);
    case EtherType.ARP:
      return arp(b);
    default:
      return type < 0x600 ? `802.3 length ${type}` : `ethertype 0x${type.toString(16)}`;
  }
}

function arp(b: Bytes): string {
  if (b.u16(6) === 1) return `ARP who has ${ipv4Text(b, 24)} tell ${ipv4Text(b, 14)}`;
  if (b.u16(6) !== 2) return `ARP operation ${b.u16(6)}`;
  const mac = formatMac(Uint8Array.from({ length: 6 }, (_, i) => b.u8(8 + i)));
  return `ARP ${ipv4Text(b, 14)} is at ${mac}`;
}

function ipv4(b: Bytes): string {
  const header = (b.u8(0) & 15) * 4;
  const text = `IPv4 ${ipv4Text(b, 12)} > ${ipv4Text(b, 16)}`;
  const offset = b.u16(6) & IP_MORE_AND_OFFSET;
  const protocol = b.u8(9);
  if (offset !== 0) return `${text} fragment of protocol ${protocol} id ${b.u16(4)}`;
  return withinIp(text, b.from(header), protocol, b.u16(2) - header);
}

function ipv6(b: Bytes): string {
  const text = `IPv6 ${ipv6Text(b, 8)} > ${ipv6Text(b, 24)}`;
  // An extension header is printed by its number, and the headers behind it are not read.
  return withinIp(text, b.from(IPV6_BYTES), b.u8(6), b.u16(4));
}

/** Appends the transport header. If that is cut, the addresses before it stay. */
function withinIp(text: string, b: Bytes, protocol: number, length: number): string {
  try {
    return `${text} ${transport(b, protocol, length)}`;
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    return `${text} protocol ${protocol} cut`;
  }
}

function transport(b: Bytes, protocol: number, length: number): string {
  switch (protocol) {
    case IPPROTO.TCP:
      return tcp(b, length);
    case IPPROTO.UDP:
      return `UDP ${b.u16(0)} > ${b.u16(2)} len ${b.u16(4) - 8}`;
    case IPPROTO.ICMP:
      return `ICMP ${icmp(b, ICMP_NAMES, 8, 0)}`;
    case IPPROTO.ICMPV6:
      return `ICMPv6 ${icmp(b, ICMPV6_NAMES, 128, 129)}`;
    default:
      return `protocol ${protocol}`;
  }
}

function tcp(b: Bytes, length: number): string {
  const flags = b.u8(13);
  const names = TCP_FLAGS.filter((_, bit) => (flags & (1 << bit)) !== 0);
  const header = (b.u8(12) >> 4) * 4;
  const ack = (flags & 0x10) === 0 ? "" : ` ack ${b.u32(8)}`;
  const words = `TCP ${b.u16(0)} > ${b.u16(2)} ${names.join("+") || "-"} seq ${b.u32(4)}${ack}`;
  // A frame for segmentation offload may have a length of 0 in its IP header.
  return `${words} win ${b.u16(14)} len ${Math.max(0, length - header)}`;
}

function icmp(
  b: Bytes,
  names: Readonly<Record<number, string>>,
  request: number,
  reply: number,
): string {
  const type = b.u8(0);
  const name = names[type] ?? `type ${type} code ${b.u8(1)}`;
  return type === request || type === reply ? `${name} id ${b.u16(4)} seq ${b.u16(6)}` : name;
}

function ipv4Text(b: Bytes, at: number): string {
  return [b.u8(at), b.u8(at + 1), b.u8(at + 2), b.u8(at + 3)].join(".");
}

/** Formats an address as in RFC 5952: the longest run of at least two zero groups is left out. */
function ipv6Text(b: Bytes, at: number): string {
  const groups = Array.from({ length: 8 }, (_, i) => b.u16(at + 2 * i).toString(16)).join(":");
  const runs = [...groups.matchAll(/\b0(?::0)+\b/g)].map(([run]) => run);
  const longest = runs.reduce((best, run) => (run.length > best.length ? run : best), "");
  if (longest === "") return groups;
  const [before = "", after = ""] = splitAt(groups, longest);
  return `${before.replace(/:$/, "")}::${after.replace(/^:/, "")}`;
}

function splitAt(text: string, part: string): [string, string] {
  // A run consists of whole groups. The "0:0" within "10:0" is not a run.
  const at = text.search(new RegExp(`\\b${part}\\b`));
  return [text.slice(0, at), text.slice(at + part.length)];
}
