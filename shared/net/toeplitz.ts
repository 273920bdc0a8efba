/**
 * The Toeplitz hash of receive-side scaling, with the choice of fields that ENA's hash input has.
 *
 * The hash XORs, for every set bit n of the input, bits n..n+31 of the key. A table per input byte
 * holds the XOR for each of its 256 values, so a TCP/IPv4 tuple costs twelve look-ups.
 *
 * Source: Microsoft, "RSS Hashing Functions" (network driver documentation), whose verification
 * vectors are the test; amzn-drivers: kernel/fbsd/ena/ena-com/ena_defs/ena_admin_defs.h
 * (ena_admin_flow_hash_proto, ena_admin_flow_hash_fields).
 */
import { DESTINATION, MAC_BYTES, SOURCE } from "./ethernet.ts";
import { type Headers, L3, L4 } from "./headers.ts";

export const RSS_KEY_BYTES = 40;
/** Bytes that a 40-byte key can hash: two IPv6 addresses and two ports, 36 bytes. */
const INPUT_BYTES = RSS_KEY_BYTES - 4;

/** Which fields go into the hash: ENA's bits. */
export const HashField = {
  L2_DA: 1 << 0,
  L2_SA: 1 << 1,
  L3_DA: 1 << 2,
  L3_SA: 1 << 3,
  L4_DP: 1 << 4,
  L4_SP: 1 << 5,
} as const;

/** Which row of the selection a frame takes: ENA's numbers. */
export const HashProtocol = {
  TCP4: 0,
  UDP4: 1,
  TCP6: 2,
  UDP6: 3,
  IP4: 4,
  IP6: 5,
  IP4_FRAG: 6,
  NOT_IP: 7,
  TCP6_EX: 8,
  IP6_EX: 9,
} as const;
export const HASH_PROTOCOLS = 16;

const ADDRESSES = HashField.L3_SA | HashField.L3_DA;
const TUPLE = ADDRESSES | HashField.L4_SP | HashField.L4_DP;

/** The row for a parsed frame. */
export function hashProtocol(h: Headers): number {
  if (h.l3 === L3.IPV4) {
    if (h.fragment) return HashProtocol.IP4_FRAG;
    if (h.l4HeaderLength === 0) return HashProtocol.IP4;
    if (h.l4 === L4.TCP) return HashProtocol.TCP4;
    return h.l4 === L4.UDP ? HashProtocol.UDP4 : HashProtocol.IP4;
  }
  if (h.l3 === L3.IPV6) {
    const whole = !h.fragment && h.l4HeaderLength !== 0;
    if (whole && h.l4 === L4.TCP) return h.l3Options ? HashProtocol.TCP6_EX : HashProtocol.TCP6;
    if (whole && h.l4 === L4.UDP) return HashProtocol.UDP6;
    return h.l3Options ? HashProtocol.IP6_EX : HashProtocol.IP6;
  }
  return HashProtocol.NOT_IP;
}

/** Value of the tables before the first frame is hashed. */
const NO_TABLES = new Uint32Array(0);

export class ToeplitzHash {
  /** Number of times that the tables were built; tests measure the cost of a reset by it. */
  builds = 0;
  readonly #key = new Uint8Array(RSS_KEY_BYTES);
  /** The tables of `#key`, or of a key before it while `#stale`. */
  #tables = NO_TABLES;
  #stale = true;
  /** HashField bits for each HashProtocol. */
  readonly #fields = new Uint8Array(HASH_PROTOCOLS);

  /** `key` has 40 bytes, the first of them against the first input byte. */
  constructor(key: Uint8Array) {
    this.#fields.fill(TUPLE, HashProtocol.TCP4, HashProtocol.UDP6 + 1);
    this.#fields.fill(ADDRESSES, HashProtocol.IP4, HashProtocol.IP4_FRAG + 1);
    this.#fields[HashProtocol.NOT_IP] = HashField.L2_DA | HashField.L2_SA;
    this.#fields[HashProtocol.TCP6_EX] = TUPLE;
    this.#fields[HashProtocol.IP6_EX] = ADDRESSES;
    this.setKey(key);
  }

  /**
   * Sets the key. Throws RangeError when it has not 40 bytes; the caller checks a peer's key before.
   * The next hash builds the tables, so a peer that changes its key again and again costs little.
   */
  setKey(key: Uint8Array): void {
    if (key.length !== RSS_KEY_BYTES) throw new RangeError(`an RSS key has ${RSS_KEY_BYTES} bytes`);
    if (this.#key.every((byte, i) => byte === key[i])) return;
    this.#key.set(key);
    this.#stale = true;
  }

  #build(): void {
    const key = this.#key;
    if (this.#tables === NO_TABLES) this.#tables = new Uint32Array(INPUT_BYTES * 256);
    const tables = this.#tables;
    for (let at = 0; at < INPUT_BYTES; at++) {
      const table = at * 256;
      const high =
        ((key[at]! << 24) | (key[at + 1]! << 16) | (key[at + 2]! << 8) | key[at + 3]!) >>> 0;
      const low = key[at + 4]!;
      for (let value = 1; value < 256; value++) {
        // The 32 key bits from the value's lowest bit on; its other bits are in the table already.
        const bit = Math.clz32(value & -value) - 24;
        const word = ((high << bit) | (low >>> (8 - bit))) >>> 0;
        tables[table + value] = tables[table + (value & (value - 1))]! ^ word;
      }
    }
    this.#stale = false;
    this.builds++;
  }

  /** Selects the fields (HashField bits) for a HashProtocol. */
  setFields(protocol: number, fields: number): void {
    if (protocol < 0 || protocol >= HASH_PROTOCOLS) throw new RangeError("no such hash protocol");
    this.#fields[protocol] = fields;
  }

  fields(protocol: number): number {
    return this.#fields[protocol] ?? 0;
  }

  /**
   * Returns the unsigned 32-bit hash of a frame, 0 without any selected field. Order of the input:
   * L2 destination, L2 source, L3 source, L3 destination, L4 source, L4 destination.
   */
  hash(h: Headers): number {
    if (this.#stale) this.#build();
    const protocol = hashProtocol(h);
    const fields = this.#fields[protocol]!;
    const bytes = h.bytes;
    let hash = 0;
    let used = 0;
    if (protocol === HashProtocol.NOT_IP) {
      if (h.window < SOURCE + MAC_BYTES) return 0;
      if (fields & HashField.L2_DA) {
        hash ^= this.#mix(used, bytes, h.at + DESTINATION, MAC_BYTES);
        used += MAC_BYTES;
      }
      if (fields & HashField.L2_SA) hash ^= this.#mix(used, bytes, h.at + SOURCE, MAC_BYTES);
      return hash >>> 0;
    }
    const size = h.l3 === L3.IPV4 ? 4 : 16;
    const source = h.at + h.l3Offset + (h.l3 === L3.IPV4 ? 12 : 8);
    if (fields & HashField.L3_SA) {
      hash ^= this.#mix(used, bytes, source, size);
      used += size;
    }
    if (fields & HashField.L3_DA) {
      hash ^= this.#mix(used, bytes, source + size, size);
      used += size;
    }
    // Rows without layer 4 have no ports, whatever was selected for them.
    if (h.fragment || h.l4HeaderLength === 0) return hash >>> 0;
    if (h.l4 !== L4.TCP && h.l4 !== L4.UDP) return hash >>> 0;
    const ports = h.at + h.l4Offset;
    if (fields & HashField.L4_SP) {
      hash ^= this.#mix(used, bytes, ports, 2);
      used += 2;
    }
    if (fields & HashField.L4_DP) hash ^= this.#mix(used, bytes, ports + 2, 2);
    return hash >>> 0;
  }

  #mix(inputAt: number, bytes: Uint8Array, at: number, length: number): number {
    const tables = this.#tables;
    let hash = 0;
    let table = inputAt * 256;
    for (let i = 0; i < length; i++, table += 256) hash ^= tables[table + bytes[at + i]!]!;
    return hash;
  }
}
