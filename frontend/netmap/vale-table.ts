/**
 * The forwarding table of a VALE switch: 1024 entries, one for each hash value, without ageing. A
 * collision overwrites. The learning switch of the device ages, damps and bounds its entries. VALE
 * does not, and programs written for VALE may depend on that.
 *
 * Source: netmap: sys/dev/netmap/netmap_vale.c, nm_vale_rthash, netmap_vale_learning.
 */

/** Results of a look-up besides a port. */
export const BROADCAST = 254;
export const NO_PORT = 255;

const ENTRIES = 1024;
const GOLDEN = 0x9e37_79b9;

export class ValeTable {
  /** Addresses as two words, so that no number is boxed. */
  readonly #low = new Uint32Array(ENTRIES);
  readonly #high = new Uint16Array(ENTRIES);
  readonly #ports = new Uint8Array(ENTRIES);

  /** Learns that the address at `at` sends from `port`. */
  learn(bytes: Uint8Array, at: number, port: number): void {
    const h = rthash(bytes, at);
    this.#low[h] = low(bytes, at);
    this.#high[h] = high(bytes, at);
    this.#ports[h] = port;
  }

  /** The port of a unicast address; BROADCAST for an unknown address. */
  lookup(bytes: Uint8Array, at: number): number {
    const h = rthash(bytes, at);
    if (this.#low[h] !== low(bytes, at) || this.#high[h] !== high(bytes, at)) return BROADCAST;
    return this.#ports[h]!;
  }
}

const low = (b: Uint8Array, at: number): number =>
  (b[at]! | (b[at + 1]! << 8) | (b[at + 2]! << 16) | (b[at + 3]! << 24)) >>> 0;
const high = (b: Uint8Array, at: number): number => b[at + 4]! | (b[at + 5]! << 8);

/**
 * Bob Jenkins' mix of "Hash Functions" (Dr. Dobb's Journal, September 1997) over the six bytes,
 * its low ten bits.
 */
export function rthash(bytes: Uint8Array, at: number): number {
  let a = GOLDEN | 0;
  let b = (GOLDEN + (bytes[at + 4]! | (bytes[at + 5]! << 8))) | 0;
  let c = 0;
  a = (a + low(bytes, at)) | 0;
  a = (a - b - c) ^ (c >>> 13);
  b = (b - c - a) ^ (a << 8);
  c = (c - a - b) ^ (b >>> 13);
  a = (a - b - c) ^ (c >>> 12);
  b = (b - c - a) ^ (a << 16);
  c = (c - a - b) ^ (b >>> 5);
  a = (a - b - c) ^ (c >>> 3);
  b = (b - c - a) ^ (a << 10);
  c = (c - a - b) ^ (b >>> 15);
  return c & (ENTRIES - 1);
}
