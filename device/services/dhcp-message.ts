/**
 * DHCP messages on the wire.
 *
 *   0    1     2    3    4    8      10      12       16       20       24       28       44
 *   | op | htyp|hlen|hops| xid | secs | flags | ciaddr | yiaddr | siaddr | giaddr | chaddr | ...
 *   44 sname 64, 108 file 128, 236 cookie, 240 options: code, length, data; 0 pads, 255 ends
 *
 * The project's own codec. On npm, `dhcp` and `@network-utils/dhcp` are servers on the UDP sockets
 * of their host. Neither exports its codec, and both throw on options that run out of the message.
 *
 * Source: RFC 2131, 2 and 4.1; RFC 2132; RFC 6842 (the client identifier comes back).
 */
import { MAC_BYTES } from "../../shared/net/ethernet.ts";
import { readIpv4, writeIpv4 } from "./addresses.ts";

export const DhcpType = {
  DISCOVER: 1,
  OFFER: 2,
  REQUEST: 3,
  DECLINE: 4,
  ACK: 5,
  NAK: 6,
  RELEASE: 7,
  INFORM: 8,
} as const;

export const DhcpOption = {
  PAD: 0,
  SUBNET_MASK: 1,
  ROUTER: 3,
  NAME_SERVERS: 6,
  HOST_NAME: 12,
  DOMAIN: 15,
  BROADCAST: 28,
  REQUESTED_ADDRESS: 50,
  LEASE_SECONDS: 51,
  TYPE: 53,
  SERVER: 54,
  PARAMETERS: 55,
  RENEWAL_SECONDS: 58,
  REBINDING_SECONDS: 59,
  CLIENT: 61,
  END: 255,
} as const;

const BOOT_REQUEST = 1;
const BOOT_REPLY = 2;
const HARDWARE_ETHERNET = 1;
const XID = 4;
const FLAGS = 10;
const BROADCAST_FLAG = 0x80;
const CIADDR = 12;
const YIADDR = 16;
const GIADDR = 24;
const CHADDR = 28;
const COOKIE = 236;
const OPTIONS = 240;
const MAGIC = 0x6382_5363;
/** Shortest message that every client accepts: RFC 1542, 2.1. */
const MIN_MESSAGE_BYTES = 300;

/** What a server needs of a client's message. Addresses that are absent are 0. */
export interface DhcpRequest {
  readonly type: number;
  /** The client's own header, up to the hardware address. A reply repeats it in part. */
  readonly header: Uint8Array;
  readonly broadcast: boolean;
  readonly clientAddress: number;
  readonly relay: number;
  readonly mac: Uint8Array;
  readonly requested: number;
  readonly server: number;
  readonly client: Uint8Array | undefined;
  readonly wantsHostName: boolean;
}

/** Returns the message in a datagram; undefined if it is none of a DHCP client on Ethernet. */
export function parseDhcp(bytes: Uint8Array): DhcpRequest | undefined {
  if (bytes.length < OPTIONS || bytes[0] !== BOOT_REQUEST) return undefined;
  if (bytes[1] !== HARDWARE_ETHERNET || bytes[2] !== MAC_BYTES) return undefined;
  if (readIpv4(bytes, COOKIE) !== MAGIC) return undefined;
  const options = parseOptions(bytes);
  const type = options?.get(DhcpOption.TYPE);
  if (options === undefined || type?.length !== 1) return undefined;
  const address = (code: number): number | undefined => {
    const value = options.get(code);
    if (value === undefined) return 0;
    return value.length === 4 ? readIpv4(value, 0) : undefined;
  };
  const requested = address(DhcpOption.REQUESTED_ADDRESS);
  const server = address(DhcpOption.SERVER);
  if (requested === undefined || server === undefined) return undefined;
  return {
    type: type[0]!,
    header: bytes.slice(0, CHADDR + MAC_BYTES),
    broadcast: (bytes[FLAGS]! & BROADCAST_FLAG) !== 0,
    clientAddress: readIpv4(bytes, CIADDR),
    relay: readIpv4(bytes, GIADDR),
    mac: bytes.slice(CHADDR, CHADDR + MAC_BYTES),
    requested,
    server,
    client: options.get(DhcpOption.CLIENT),
    wantsHostName: options.get(DhcpOption.PARAMETERS)?.includes(DhcpOption.HOST_NAME) ?? false,
  };
}

/** Returns the options by code, the first of each; undefined if one runs out of the message. */
function parseOptions(bytes: Uint8Array): Map<number, Uint8Array> | undefined {
  const options = new Map<number, Uint8Array>();
  let at = OPTIONS;
  while (at < bytes.length) {
    const code = bytes[at++]!;
    if (code === DhcpOption.PAD) continue;
    if (code === DhcpOption.END) break;
    const end = at + 1 + (bytes[at] ?? bytes.length);
    if (end > bytes.length) return undefined;
    if (!options.has(code)) options.set(code, bytes.slice(at + 1, end));
    at = end;
  }
  return options;
}

export type DhcpOptionBytes = readonly (readonly [code: number, value: Uint8Array])[];

/** Returns a reply. `yours` is the address of the client, 0 for none. */
export function writeDhcp(
  request: DhcpRequest,
  type: number,
  yours: number,
  options: DhcpOptionBytes,
): Uint8Array {
  const all: DhcpOptionBytes = [
    [DhcpOption.TYPE, Uint8Array.of(type)],
    ...options,
    ...(request.client === undefined ? [] : ([[DhcpOption.CLIENT, request.client]] as const)),
  ];
  const length = all.reduce((sum, [, value]) => sum + 2 + value.length, OPTIONS + 1);
  const bytes = new Uint8Array(Math.max(MIN_MESSAGE_BYTES, length));
  bytes[0] = BOOT_REPLY;
  bytes[1] = HARDWARE_ETHERNET;
  bytes[2] = MAC_BYTES;
  bytes.set(request.header.subarray(XID, XID + 4), XID);
  if (request.broadcast) bytes[FLAGS] = BROADCAST_FLAG;
  // RFC 2131, table 3: only an ACK repeats the address that the client has.
  if (type === DhcpType.ACK) writeIpv4(bytes, CIADDR, request.clientAddress);
  writeIpv4(bytes, YIADDR, yours);
  bytes.set(request.mac, CHADDR);
  writeIpv4(bytes, COOKIE, MAGIC);
  let at = OPTIONS;
  for (const [code, value] of all) {
    bytes[at] = code;
    bytes[at + 1] = value.length;
    bytes.set(value, at + 2);
    at += 2 + value.length;
  }
  bytes[at] = DhcpOption.END;
  return bytes;
}

/** Returns the value of an option that consists of addresses. */
export function addressesOption(addresses: readonly number[]): Uint8Array {
  const value = new Uint8Array(4 * addresses.length);
  for (const [i, address] of addresses.entries()) writeIpv4(value, 4 * i, address);
  return value;
}

/** Returns the value of an option that consists of a 32-bit number. */
export const secondsOption = (seconds: number): Uint8Array => addressesOption([seconds]);

export const textOption = (text: string): Uint8Array => new TextEncoder().encode(text);
