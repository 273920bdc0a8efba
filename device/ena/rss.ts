/**
 * Receive side scaling: the choice of the receive queue for a frame. The hash is shared/net's
 * Toeplitz. This file holds the driver's settings and the indirection table.
 *
 * The table's entries name receive submission queues, although the field's name differs. A frame
 * is not hashed if there is one queue or no table yet, and its completion contains 0 then. Drivers
 * ask for the input sort without a check for support. It is not implemented.
 */
import { HASH_PROTO_NUM, HashFunction, RSS_KEY_SIZE } from "../../shared/ena/rss.ts";
import { HashField, HashProtocol, ToeplitzHash } from "../../shared/net/toeplitz.ts";

export const RSS_MIN_SIZE_LOG2 = 1;
export const RSS_MAX_SIZE_LOG2 = 7;
export const RSS_FUNCTIONS = 1 << HashFunction.TOEPLITZ;

const L2 = HashField.L2_SA | HashField.L2_DA;
const L3 = HashField.L3_SA | HashField.L3_DA;
const L4 = HashField.L4_SP | HashField.L4_DP;

/** HashField bits that can be hashed, by HashProtocol: those that the drivers' defaults need. */
export const RSS_FIELDS: readonly number[] = supportedFields();

function supportedFields(): number[] {
  const fields = new Array<number>(HASH_PROTO_NUM).fill(0);
  const { TCP4, UDP4, TCP6, UDP6, TCP6_EX, IP4, IP6, IP4_FRAG, IP6_EX, NOT_IP } = HashProtocol;
  for (const p of [TCP4, UDP4, TCP6, UDP6, TCP6_EX]) fields[p] = L3 | L4;
  for (const p of [IP4, IP6, IP4_FRAG, IP6_EX]) fields[p] = L3;
  fields[NOT_IP] = L2;
  return fields;
}

export class Rss {
  /** Bitmap of HashFunction. */
  selectedFunction = RSS_FUNCTIONS;
  /** Initial value, kept only for GET: Toeplitz has none. */
  initVal = 0;
  /** Current key, in the driver's order. Drivers read it and set the same key. */
  readonly key = new Uint8Array(RSS_KEY_SIZE);
  /** Receive queue of each hash value. The length is a power of two, or 0 before the first SET. */
  table: Uint16Array = new Uint16Array(0);
  readonly toeplitz = new ToeplitzHash(DEFAULT_KEY);
  readonly #keyReversed: boolean;

  constructor(keyReversed: boolean) {
    this.#keyReversed = keyReversed;
    this.reset();
  }

  reset(): void {
    this.selectedFunction = RSS_FUNCTIONS;
    this.initVal = 0;
    this.table = new Uint16Array(0);
    this.setFields(RSS_FIELDS);
    this.setKey(this.#inOrder(DEFAULT_KEY));
  }

  /** Sets the key: 40 bytes in the driver's order. */
  setKey(key: Uint8Array): void {
    this.key.set(key);
    this.toeplitz.setKey(this.#inOrder(key));
  }

  /** Converts a key from the driver's order to that of the hash, and back. */
  #inOrder(key: Uint8Array): Uint8Array {
    return this.#keyReversed ? Uint8Array.from(key).reverse() : key;
  }

  /** Sets the fields to hash, by protocol. */
  setFields(fields: readonly number[]): void {
    for (const [protocol, bits] of fields.entries()) this.toeplitz.setFields(protocol, bits);
  }

  /** Returns the receive queue that `hash` selects. The table must not be empty. */
  queueOf(hash: number): number {
    return this.table[hash & (this.table.length - 1)]!;
  }
}

/** Microsoft's example key, used until a driver sets its own. */
const DEFAULT_KEY = Uint8Array.from([
  0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0,
  0xd0, 0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30, 0xf2, 0x0c,
  0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
]);
