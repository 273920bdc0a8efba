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
    words.push(payload(from(view, at + 2), type));
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    words.push("cut");
  }
  return words.join(" ");
}

/** Returns the bytes from an offset on. As every read of a DataView, it throws RangeError behind the end. */
const from = (b: DataView, at: number): DataView =>
  new DataView(b.buffer, b.byteOffset + at, b.byteLength - at);

function payload(b: DataView, type: number): string {
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

function arp(b: DataView): string {
  if (b.getUint16(6) === 1) return `ARP who has ${ipv4Text(b, 24)} tell ${ipv4Text(b, 14)}`;
  if (b.getUint16(6) !== 2) return `ARP operation ${b.getUint16(6)}`;
  const mac = formatMac(Uint8Array.from({ length: 6 }, (_, i) => b.getUint8(8 + i)));
  return `ARP ${ipv4Text(b, 14)} is at ${mac}`;
}

function ipv4(b: DataView): string {
  const header = (b.getUint8(0) & 15) * 4;
  const text = `IPv4 ${ipv4Text(b, 12)} > ${ipv4Text(b, 16)}`;
  const offset = b.getUint16(6) & IP_MORE_AND_OFFSET;
  const protocol = b.getUint8(9);
  if (offset !== 0) return `${text} fragment of protocol ${protocol} id ${b.getUint16(4)}`;
  return withinIp(text, b, header, protocol, b.getUint16(2) - header);
}

function ipv6(b: DataView): string {
  const text = `IPv6 ${ipv6Text(b, 8)} > ${ipv6Text(b, 24)}`;
  // An extension header is printed by its number, and the headers behind it are not read.
  return withinIp(text, b, IPV6_BYTES, b.getUint8(6), b.getUint16(4));
}

/** Appends the transport header. If that is cut, the addresses before it stay. */
function withinIp(
  text: string,
  b: DataView,
  header: number,
  protocol: number,
  length: number,
): string {
  try {
    return `${text} ${transport(from(b, header), protocol, length)}`;
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    return `${text} protocol ${protocol} cut`;
  }
}

function transport(b: DataView, protocol: number, length: number): string {
  switch (protocol) {
    case IPPROTO.TCP:
      return tcp(b, length);
    case IPPROTO.UDP:
      return `UDP ${b.getUint16(0)} > ${b.getUint16(2)} len ${b.getUint16(4) - 8}`;
    case IPPROTO.ICMP:
      return `ICMP ${icmp(b, ICMP_NAMES, 8, 0)}`;
    case IPPROTO.ICMPV6:
      return `ICMPv6 ${icmp(b, ICMPV6_NAMES, 128, 129)}`;
    default:
      return `protocol ${protocol}`;
  }
}

function tcp(b: DataView, length: number): string {
  const flags = b.getUint8(13);
  const names = TCP_FLAGS.filter((_, bit) => (flags & (1 << bit)) !== 0);
  const header = (b.getUint8(12) >> 4) * 4;
  const ack = (flags & 0x10) === 0 ? "" : ` ack ${b.getUint32(8)}`;
  const words = `TCP ${b.getUint16(0)} > ${b.getUint16(2)} ${names.join("+") || "-"} seq ${b.getUint32(4)}${ack}`;
  // A frame for segmentation offload may have a length of 0 in its IP header.
  return `${words} win ${b.getUint16(14)} len ${Math.max(0, length - header)}`;
}

function icmp(
  b: DataView,
  names: Readonly<Record<number, string>>,
  request: number,
  reply: number,
): string {
  const type = b.getUint8(0);
  const name = names[type] ?? `type ${type} code ${b.getUint8(1)}`;
  return type === request || type === reply
    ? `${name} id ${b.getUint16(4)} seq ${b.getUint16(6)}`
    : name;
}

function ipv4Text(b: DataView, at: number): string {
  return [b.getUint8(at), b.getUint8(at + 1), b.getUint8(at + 2), b.getUint8(at + 3)].join(".");
}

/** Formats an address as in RFC 5952, which is the form of a URL's host. */
function ipv6Text(b: DataView, at: number): string {
  const groups = Array.from({ length: 8 }, (_, i) => b.getUint16(at + 2 * i).toString(16));
  return new URL(`http://[${groups.join(":")}]`).hostname.slice(1, -1);
}
