/**
 * Ethernet II headers, VLAN tags and MAC addresses.
 *
 *   0             6             12     14          big-endian
 *   | destination | source      | type | payload
 *   | destination | source      | tpid | tci | type | payload      one tag more: 4 bytes more
 *
 * Source: IEEE 802.3, 802.1Q (tpid 0x8100) and 802.1ad (tpid 0x88a8). Frames have no FCS.
 * On the data path an address is two integers, high and low, because the engine never boxes them.
 * A MAC key is the address as one 48-bit number, for maps and comparisons off the data path.
 */
export const MAC_BYTES = 6;
export const DESTINATION = 0;
export const SOURCE = 6;
export const ETHER_TYPE = 12;
export const ETHER_HEADER_BYTES = 14;
export const VLAN_TAG_BYTES = 4;
/** Bytes of a frame that the MTU does not include: an Ethernet header with one VLAN tag. */
export const L2_BYTES = ETHER_HEADER_BYTES + VLAN_TAG_BYTES;

export const EtherType = {
  IPV4: 0x0800,
  ARP: 0x0806,
  VLAN: 0x8100,
  IPV6: 0x86dd,
  SERVICE_VLAN: 0x88a8,
} as const;

/** Maximum number of VLAN tags that are parsed: outer, inner, and one more for unusual stacks. */
export const MAX_VLAN_TAGS = 3;

const TWO_32 = 0x1_0000_0000;
/** 01-80-C2-00-00-00 to -0F. A bridge never forwards these (IEEE 802.1Q, table 8-1). */
const RESERVED_HIGH = 0x0180;
const RESERVED_LOW = 0xc200_0000 | 0;

/** Returns the first two bytes of the address at `at`, 0 to 0xffff. */
export const macHigh = (bytes: Uint8Array, at: number): number =>
  (bytes[at]! << 8) | bytes[at + 1]!;

/** Returns the last four bytes of the address at `at`, as a signed 32-bit number. */
export const macLow = (bytes: Uint8Array, at: number): number =>
  (bytes[at + 2]! << 24) | (bytes[at + 3]! << 16) | (bytes[at + 4]! << 8) | bytes[at + 5]!;

/** Returns the six bytes at `at` as a 48-bit number, first byte highest. The bytes must exist. */
export const macKey = (bytes: Uint8Array, at: number): number =>
  macHigh(bytes, at) * TWO_32 + (macLow(bytes, at) >>> 0);

/** Returns true for a multicast or broadcast address: the lowest bit of the first byte is set. */
export const isGroup = (high: number): boolean => (high & 0x100) !== 0;
export const isZero = (high: number, low: number): boolean => (high | low) === 0;
export const isReserved = (high: number, low: number): boolean =>
  high === RESERVED_HIGH && (low & ~15) === RESERVED_LOW;

export const isVlanType = (type: number): boolean =>
  type === EtherType.VLAN || type === EtherType.SERVICE_VLAN;

/** Bytes of the header of a frame that do not count against the MTU. */
export const headerBytes = (frame: Uint8Array): number =>
  ETHER_HEADER_BYTES + (isVlanType(macHigh(frame, ETHER_TYPE)) ? VLAN_TAG_BYTES : 0);

/** Returns the address at `at` as text, for example `02:00:00:ab:cd:ef`. */
export function formatMac(bytes: Uint8Array, at = 0): string {
  const byte = (_: unknown, i: number) => (bytes[at + i] ?? 0).toString(16).padStart(2, "0");
  return Array.from({ length: MAC_BYTES }, byte).join(":");
}

export function formatMacParts(high: number, low: number): string {
  return formatMac(Uint8Array.of(high >>> 8, high, low >>> 24, low >>> 16, low >>> 8, low));
}

/** Returns the address of a MAC key as text. */
export const formatMacKey = (key: number): string =>
  formatMacParts(Math.floor(key / TWO_32), key % TWO_32);

/** Parses text with colons or hyphens into six bytes. Throws an error written for the user. */
export function parseMac(text: string): Uint8Array {
  const parts = text.trim().split(/[:-]/);
  if (parts.length !== MAC_BYTES || !parts.every((part) => /^[0-9a-f]{1,2}$/i.test(part))) {
    throw new TypeError(`"${text}" is not a MAC address: write six bytes as 02:00:00:ab:cd:ef`);
  }
  return Uint8Array.from(parts, (part) => Number.parseInt(part, 16));
}

/** Parses the address of a NIC, as parseMac. Also throws for group and all-zero addresses. */
export function parseUnicastMac(text: string): Uint8Array {
  const mac = parseMac(text);
  if ((mac[0]! & 1) !== 0) {
    throw new TypeError(`${text} is a group address: the first byte of a NIC's MAC must be even`);
  }
  if (mac.every((byte) => byte === 0)) throw new TypeError("the all-zero MAC names no NIC");
  return mac;
}

const FNV_OFFSET = 0xcbf2_9ce4_8422_2325n;
const FNV_PRIME = 0x100_0000_01b3n;
const MASK_64 = (1n << 64n) - 1n;

/**
 * Returns the MAC of a NIC without a configured one. The address is the same for the same name and
 * segment, on every host and after every restart. It is locally administered (bit 1 set) and
 * unicast (bit 0 clear). The other 46 bits are an FNV-1a hash.
 */
export function macFromName(name: string, segment: string): Uint8Array {
  const text = new TextEncoder().encode(`${segment}\0${name}`);
  let hash = FNV_OFFSET;
  for (const byte of text) hash = ((hash ^ BigInt(byte)) * FNV_PRIME) & MASK_64;
  // On short text the high bits of FNV are mixed worst. Fold them over the low bits.
  hash ^= hash >> 29n;
  hash = (hash * FNV_PRIME) & MASK_64;
  hash ^= hash >> 32n;
  const mac = new Uint8Array(MAC_BYTES);
  for (let i = 0; i < MAC_BYTES; i++) mac[i] = Number((hash >> BigInt(8 * i)) & 0xffn);
  mac[0] = (mac[0]! & 0xfc) | 0x02;
  return mac;
}
