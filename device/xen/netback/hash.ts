/**
 * The receive queue of a frame: by the hash and the table that the frontend set over its control
 * ring, else by netback's own hash.
 *
 *   no algorithm   own hash % queues                          no extra info
 *   Toeplitz       hash by its flags and key -> table, or % queues   HASH extra info
 *
 * Entries of the table are checked when they are set. The number of queues does not change while
 * the interface is connected, so no entry can name a missing queue.
 *
 * Source: xen: xen/include/public/io/netif.h ("Control ring"); linux:
 * drivers/net/xen-netback/hash.c.
 */
import { type Headers, L3 } from "../../../shared/net/headers.ts";
import {
  HashField,
  HashProtocol,
  hashProtocol,
  RSS_KEY_BYTES,
  ToeplitzHash,
} from "../../../shared/net/toeplitz.ts";
import {
  CtrlStatus,
  ctrlMappingEntry,
  HashAlgorithm,
  HashFlag,
  HashType,
} from "../../../shared/xen/control.ts";
import { NO_HASH } from "./rx.ts";

export const MAX_KEY_BYTES = RSS_KEY_BYTES;
export const MAX_MAPPING = 128;
const ALL_FLAGS = HashFlag.IPV4 | HashFlag.IPV4_TCP | HashFlag.IPV6 | HashFlag.IPV6_TCP;
const ADDRESSES = HashField.L3_SA | HashField.L3_DA;
const TUPLE = ADDRESSES | HashField.L4_SP | HashField.L4_DP;
const P = HashProtocol;
const V4_ROWS = [P.UDP4, P.IP4, P.IP4_FRAG];
const V6_ROWS = [P.UDP6, P.IP6, P.IP6_EX];

/** Key of netback's own hash, for frontends that configure none. The guest never sees this hash. */
const OWN = new ToeplitzHash(ownKey());

export class Hashing {
  readonly #queues: number;
  /** Created for the first use, because its tables are expensive and few frontends need them. */
  #asked: ToeplitzHash | undefined;
  /** The frontend's key, and whether `#asked` uses it. */
  readonly #key = new Uint8Array(RSS_KEY_BYTES);
  #hasKey = false;
  #algorithm: number = HashAlgorithm.NONE;
  #flags = 0;
  readonly #mapping = new Uint32Array(MAX_MAPPING);
  #mappingSize = 0;
  /** Hash and HashType (or NO_HASH) of the last frame of `select`, for the guest. */
  hash = 0;
  type: number = NO_HASH;

  constructor(queues: number) {
    this.#queues = queues;
  }

  /** True when the guest wants hashes. Frames are then parsed even for a single queue. */
  get active(): boolean {
    return this.#algorithm !== HashAlgorithm.NONE;
  }

  /** Returns the queue for a frame with these headers. Sets `hash` and `type`. */
  select(h: Headers): number {
    this.hash = 0;
    this.type = NO_HASH;
    const asked = this.#asked;
    if (this.#algorithm === HashAlgorithm.NONE || asked === undefined) {
      return OWN.hash(h) % this.#queues;
    }
    const fields = asked.fields(hashProtocol(h));
    if (fields !== 0) {
      if (!this.#hasKey) this.#takeKey(asked);
      this.hash = asked.hash(h);
      const v4 = h.l3 === L3.IPV4;
      if (fields === TUPLE) this.type = v4 ? HashType.IPV4_TCP : HashType.IPV6_TCP;
      else this.type = v4 ? HashType.IPV4 : HashType.IPV6;
    }
    if (this.#mappingSize === 0) return this.hash % this.#queues;
    return this.#mapping[this.hash % this.#mappingSize]!;
  }

  // Requests of the control ring. Each returns a CtrlStatus.

  setAlgorithm(algorithm: number): CtrlStatus {
    if (algorithm !== HashAlgorithm.NONE && algorithm !== HashAlgorithm.TOEPLITZ) {
      return CtrlStatus.INVALID_PARAMETER;
    }
    this.#algorithm = algorithm;
    if (this.active && this.#asked === undefined) {
      this.#asked = new ToeplitzHash(this.#key);
      this.#setRows(this.#asked);
    }
    return CtrlStatus.SUCCESS;
  }

  /** The flags that the guest may set; -1 while no algorithm is set. */
  get capableFlags(): number {
    return this.active ? ALL_FLAGS : -1;
  }

  setFlags(flags: number): CtrlStatus {
    const asked = this.#asked;
    if ((flags & ~ALL_FLAGS) !== 0 || !this.active || asked === undefined) {
      return CtrlStatus.INVALID_PARAMETER;
    }
    this.#flags = flags;
    this.#setRows(asked);
    return CtrlStatus.SUCCESS;
  }

  /** Sets the key. `key` has up to MAX_KEY_BYTES; missing bytes are zero. */
  setKey(key: Uint8Array): void {
    this.#key.fill(0);
    this.#key.set(key);
    this.#hasKey = false;
  }

  /** Creates the tables of a key at their first use, so that a ring full of keys costs one creation. */
  #takeKey(asked: ToeplitzHash): void {
    asked.setKey(this.#key);
    this.#hasKey = true;
  }

  setMappingSize(size: number): CtrlStatus {
    if (size > MAX_MAPPING) return CtrlStatus.INVALID_PARAMETER;
    this.#mappingSize = size;
    this.#mapping.fill(0);
    return CtrlStatus.SUCCESS;
  }

  /**
   * Whether [offset, offset + count) lies in the table. Both come from the guest with 32 bits. Their
   * sum may need 33 bits, and a JavaScript number holds it exactly (XSA-270).
   */
  mappingHolds(offset: number, count: number): boolean {
    return offset + count <= this.#mappingSize;
  }

  /** Sets `count` entries (u32) from `offset` on, or none of them. */
  setMapping(entries: DataView, offset: number, count: number): CtrlStatus {
    if (!this.mappingHolds(offset, count)) return CtrlStatus.INVALID_PARAMETER;
    const { parse, size } = ctrlMappingEntry;
    for (let i = 0; i < count; i++) {
      if (parse(entries, i * size).queue >= this.#queues) return CtrlStatus.INVALID_PARAMETER;
    }
    for (let i = 0; i < count; i++) this.#mapping[offset + i] = parse(entries, i * size).queue;
    return CtrlStatus.SUCCESS;
  }

  /** The hashed fields of each kind of packet; none for a kind that the guest did not ask for. */
  #setRows(asked: ToeplitzHash): void {
    const flags = this.#flags;
    const v4 = (flags & HashFlag.IPV4) !== 0 ? ADDRESSES : 0;
    const v6 = (flags & HashFlag.IPV6) !== 0 ? ADDRESSES : 0;
    const tcp4 = (flags & HashFlag.IPV4_TCP) !== 0 ? TUPLE : v4;
    const tcp6 = (flags & HashFlag.IPV6_TCP) !== 0 ? TUPLE : v6;
    for (const row of V4_ROWS) asked.setFields(row, v4);
    for (const row of V6_ROWS) asked.setFields(row, v6);
    asked.setFields(P.TCP4, tcp4);
    asked.setFields(P.TCP6, tcp6);
    asked.setFields(P.TCP6_EX, tcp6);
    asked.setFields(P.NOT_IP, 0);
  }
}

/** Arbitrary bytes without a regular pattern. */
function ownKey(): Uint8Array {
  const key = new Uint8Array(RSS_KEY_BYTES);
  let x = 0x9e3779b9;
  for (let i = 0; i < key.length; i++) {
    x = (Math.imul(x, 0x85ebca6b) ^ (x >>> 13)) >>> 0;
    key[i] = x >>> 24;
  }
  return key;
}
