/**
 * A table of MAC addresses and of the ports behind which they were seen.
 *
 * An address is passed as two small integers, `high` and `low` (macHigh, macLow of ethernet.ts).
 * A 48-bit number would be boxed at each call. In a segment with VLANs, `high` also has the number of
 * the VLAN above its 16 bits: the same address in two VLANs is two entries.
 *
 *   bucket = hash(address, seed)      8 ways a bucket, one array per field, high -1 = free
 *   | way 0 | way 1 | ... | way 7 |
 *
 * A look-up reads at most one bucket, so a hostile peer cannot slow it down with chosen addresses.
 * The seed is random, so such a peer cannot fill one bucket either. (A JavaScript Map hashes
 * numbers without a seed, and boxes a 48-bit key. With 1024 addresses a look-up in a Map needs 20
 * to 26 ns, and a look-up here 14 to 24.)
 *
 * The table doubles while there are fewer than four slots per address, up to its bound. Doubling
 * splits each bucket in two and loses no entry. Entries of one port are never evicted for those of
 * another port. An address without a free slot is not learned, and frames for it are flooded. In a
 * table full to its bound that happens to about one address in eight thousand. Static entries
 * always find a slot: the bound does not count them, and in a full bucket they replace a learned
 * entry.
 *
 * An address that several ports claim has a home: the port that held the address before the
 * claims began. At first the address moves with each frame, because a host may really have moved.
 * When the address moves too often, it stays at its home while its frames still come from there.
 *
 * The caller passes the time in, in milliseconds of a monotonic clock.
 *
 * Source: IEEE 802.1D-2004, 7.8 and 7.9 (learning process, ageing, 300 s).
 */
import { formatMacParts } from "../../shared/net/ethernet.ts";

export const Learned = {
  /** The address is in the table already. Its age starts again. */
  KNOWN: 0,
  NEW: 1,
  MOVED: 2,
  /** The address moves too often. It stays with its older owner until the moves end. */
  DAMPED: 3,
  /** A static entry holds the address for another port. */
  STATIC: 4,
  /** The port has reached its maximum number of addresses. */
  PORT_FULL: 5,
  /** The table has no slot for the address, or has reached its maximum number of addresses. */
  TABLE_FULL: 6,
} as const;
export type Learned = (typeof Learned)[keyof typeof Learned];

export interface MacTableOptions {
  readonly ageMs: number;
  /** Maximum number of addresses learned behind one port. */
  readonly perPort: number;
  /** Maximum number of learned addresses in all. Default: 16384. */
  readonly capacity?: number;
  /** Seed of the hash, for tests. Default: random. */
  readonly seed?: number;
}

/** One entry for status. */
export interface MacEntry {
  readonly mac: string;
  /** VLAN of the entry; 0 without VLANs, and for a static entry, which counts in all of them. */
  readonly vlan: number;
  readonly port: number;
  readonly isStatic: boolean;
  readonly ageMs: number;
  readonly moves: number;
  /** Port from which the address moved last; -1 if it never moved. */
  readonly previousPort: number;
}

/**
 * Maximum number of moves within the flap window. After more moves the address is damped. Each
 * damped frame restarts the window, so it ends when the claims end.
 */
export const FLAP_MOVES = 5;
export const FLAP_WINDOW_MS = 10_000;
/** An owner that is silent for this time (ms) loses its claim to the port that has the address. */
export const HOME_QUIET_MS = 5_000;

const WAYS = 8;
const FIRST_SLOTS = 256;
const SLOTS_PER_ENTRY = 4;
const DEFAULT_CAPACITY = 16384;
const NOWHERE = -1;
/** A key is an address and its VLAN as one integer: `high` and `low` as in keyOf, then the VLAN. */
const VLAN_BITS = 12n;
const VLAN_SHIFT = 16;
const ADDRESS_MASK = 0xffff;

/** Returns the key of an address, six bytes as one number, in a VLAN. */
export const tableKey = (address: number, vlan: number): bigint =>
  (BigInt(address) << VLAN_BITS) | BigInt(vlan);

/** Returns the first integer of an address in a VLAN. */
export const inVlan = (high: number, vlan: number): number => high | (vlan << VLAN_SHIFT);
/** Marks a free slot. No address has this `high`, so a look-up of any address is safe. */
const FREE = -1;

/** Makes free slots: one array per field, in which an entry has the same index. */
const slotsOf = (count: number) => ({
  /** First two bytes of the address, or FREE. `lows` holds the last four. */
  highs: new Int32Array(count).fill(FREE),
  lows: new Int32Array(count),
  ports: new Int32Array(count),
  seen: new Float64Array(count),
  isStatic: new Uint8Array(count),
  moves: new Uint32Array(count),
  previous: new Int32Array(count),
  /** Older owner among the ports that claim the address, and the time (ms) of its last frame. */
  homes: new Int32Array(count),
  homeSeen: new Float64Array(count),
  /** Number of moves within the flap window that began at flapSince. */
  flaps: new Uint32Array(count),
  flapSince: new Float64Array(count),
});

export class MacTable {
  readonly #ageMs: number;
  readonly #perPort: number;
  readonly #capacity: number;
  readonly #mostSlots: number;
  readonly #seed: number;

  #slots = slotsOf(FIRST_SLOTS);
  /** Number of learned (not static) entries for each port number. */
  readonly #perPortCount: number[] = [];
  #size = 0;
  #statics = 0;

  moves = 0;
  damped = 0;
  aged = 0;
  tableFull = 0;

  constructor(options: MacTableOptions) {
    this.#ageMs = options.ageMs;
    this.#perPort = options.perPort;
    this.#capacity = options.capacity ?? DEFAULT_CAPACITY;
    this.#mostSlots = 2 ** Math.ceil(Math.log2(Math.max(this.#capacity * SLOTS_PER_ENTRY, WAYS)));
    this.#seed = options.seed ?? crypto.getRandomValues(new Int32Array(1))[0]!;
  }

  /** Number of entries, including entries too old for a look-up that are not yet removed. */
  get size(): number {
    return this.#size;
  }

  /** Returns the port (a small number, 0 or more) of an address, or -1. */
  lookup(high: number, low: number, now: number): number {
    const slot = this.#find(high, low);
    return slot < 0 || this.#expired(slot, now) ? NOWHERE : this.#slots.ports[slot]!;
  }

  /** Records that a unicast address other than zero was seen behind `port`. */
  learn(high: number, low: number, port: number, now: number): Learned {
    const slot = this.#find(high, low);
    if (slot >= 0) {
      if (this.#slots.ports[slot] === port) {
        this.#slots.seen[slot] = now;
        if (this.#slots.homes[slot] === port) this.#slots.homeSeen[slot] = now;
        return Learned.KNOWN;
      }
      if (this.#slots.isStatic[slot] === 1) return Learned.STATIC;
      if (!this.#expired(slot, now)) return this.#move(slot, port, now);
      this.#remove(slot);
      this.aged++;
    }
    if (this.learnedBy(port) >= this.#perPort) return Learned.PORT_FULL;
    const free = this.#size - this.#statics < this.#capacity ? this.#claim(high, low) : -1;
    if (free < 0) {
      this.tableFull++;
      return Learned.TABLE_FULL;
    }
    this.#fill(free, high, low, port, now, 0);
    this.#perPortCount[port] = this.learnedBy(port) + 1;
    return Learned.NEW;
  }

  /**
   * Pins an address to a port. The entry does not move, does not age and is not counted. In a full
   * bucket it replaces a learned entry. Returns false if all entries of the bucket are static.
   */
  addStatic(high: number, low: number, port: number): boolean {
    const known = this.#find(high, low);
    if (known >= 0) this.#remove(known);
    let slot = this.#claim(high, low);
    if (slot < 0) {
      const first = this.#bucket(high, low);
      slot = this.#slots.isStatic.subarray(first, first + WAYS).indexOf(0);
      if (slot < 0) return false;
      slot += first;
      this.#remove(slot);
    }
    this.#fill(slot, high, low, port, 0, 1);
    return true;
  }

  /** Removes an address, static or not. */
  forget(high: number, low: number): void {
    const slot = this.#find(high, low);
    if (slot >= 0) this.#remove(slot);
  }

  /** Removes all entries of a port, static ones too. Its number may be used again afterwards. */
  forgetPort(port: number): void {
    for (let slot = 0; slot < this.#slots.highs.length; slot++) {
      if (this.#slots.highs[slot] === FREE) continue;
      if (this.#slots.ports[slot] === port) {
        this.#remove(slot);
        continue;
      }
      if (this.#slots.homes[slot] === port) this.#slots.homes[slot] = this.#slots.ports[slot]!;
      if (this.#slots.previous[slot] === port) this.#slots.previous[slot] = NOWHERE;
    }
  }

  /** Removes entries that are too old. Look-ups ignore them. Frees slots for new entries. */
  sweep(now: number): void {
    for (let slot = 0; slot < this.#slots.highs.length; slot++) {
      if (this.#slots.highs[slot] === FREE || !this.#expired(slot, now)) continue;
      this.#remove(slot);
      this.aged++;
    }
  }

  /** Returns the number of addresses learned behind a port, without static ones. */
  learnedBy(port: number): number {
    return this.#perPortCount[port] ?? 0;
  }

  /** Returns the keys of all addresses that are not too old, in the order of the addresses. */
  keys(now: number): BigUint64Array {
    const found = new BigUint64Array(this.#size);
    let count = 0;
    for (let slot = 0; slot < this.#slots.highs.length; slot++) {
      const high = this.#slots.highs[slot]!;
      if (high === FREE || this.#expired(slot, now)) continue;
      const address = (high & ADDRESS_MASK) * 2 ** 32 + (this.#slots.lows[slot]! >>> 0);
      found[count++] = tableKey(address, high >>> VLAN_SHIFT);
    }
    return found.subarray(0, count).sort();
  }

  /** Returns all entries that are not too old, in the order of the addresses. */
  entries(now: number): MacEntry[] {
    return Array.from(this.keys(now), (key) => this.entry(key, now)!);
  }

  /** Returns the entry of a key from `keys`, or undefined if the entry is gone. */
  entry(key: bigint, now: number): MacEntry | undefined {
    const vlan = Number(BigInt.asUintN(Number(VLAN_BITS), key));
    const address = Number(key >> VLAN_BITS);
    const part = Math.floor(address / 2 ** 32);
    const high = inVlan(part, vlan);
    const low = (address % 2 ** 32) | 0;
    const slot = this.#find(high, low);
    if (slot < 0 || this.#expired(slot, now)) return undefined;
    const isStatic = this.#slots.isStatic[slot] === 1;
    return {
      mac: formatMacParts(part, low),
      vlan,
      port: this.#slots.ports[slot]!,
      isStatic,
      ageMs: isStatic ? 0 : now - this.#slots.seen[slot]!,
      moves: this.#slots.moves[slot]!,
      previousPort: this.#slots.previous[slot]!,
    };
  }

  #move(slot: number, port: number, now: number): Learned {
    const calm = now - this.#slots.flapSince[slot]! >= FLAP_WINDOW_MS;
    if (calm) {
      this.#slots.flapSince[slot] = now;
      this.#slots.flaps[slot] = 0;
    }
    if (calm) this.#settle(slot);
    if (port === this.#slots.homes[slot]) this.#slots.homeSeen[slot] = now;
    else {
      if (now - this.#slots.homeSeen[slot]! >= HOME_QUIET_MS) this.#settle(slot);
      if (
        this.#slots.flaps[slot]! >= FLAP_MOVES &&
        now - this.#slots.homeSeen[slot]! < HOME_QUIET_MS
      ) {
        this.#slots.flapSince[slot] = now;
        this.damped++;
        return Learned.DAMPED;
      }
    }
    if (this.learnedBy(port) >= this.#perPort) return Learned.PORT_FULL;
    const from = this.#slots.ports[slot]!;
    this.#perPortCount[from] = this.learnedBy(from) - 1;
    this.#perPortCount[port] = this.learnedBy(port) + 1;
    this.#slots.ports[slot] = port;
    this.#slots.previous[slot] = from;
    this.#slots.seen[slot] = now;
    this.#slots.flaps[slot]! += 1;
    this.#slots.moves[slot]! += 1;
    this.moves++;
    return Learned.MOVED;
  }

  /** Makes the port that holds the address its home. */
  #settle(slot: number): void {
    this.#slots.homes[slot] = this.#slots.ports[slot]!;
    this.#slots.homeSeen[slot] = this.#slots.seen[slot]!;
  }

  #expired(slot: number, now: number): boolean {
    return this.#slots.isStatic[slot] === 0 && now - this.#slots.seen[slot]! > this.#ageMs;
  }

  #find(high: number, low: number): number {
    const { highs, lows } = this.#slots;
    const first = this.#bucket(high, low);
    for (let slot = first; slot < first + WAYS; slot++) {
      if (highs[slot] === high && lows[slot] === low) return slot;
    }
    return -1;
  }

  /** Returns a free slot for a key that is not in the table, or -1. */
  #claim(high: number, low: number): number {
    if (this.#size * SLOTS_PER_ENTRY >= this.#slots.highs.length) this.#double();
    for (;;) {
      const first = this.#bucket(high, low);
      for (let slot = first; slot < first + WAYS; slot++) {
        if (this.#slots.highs[slot] === FREE) return slot;
      }
      if (!this.#double()) return -1;
    }
  }

  #fill(slot: number, high: number, low: number, port: number, now: number, isStatic: 0 | 1): void {
    this.#slots.highs[slot] = high;
    this.#slots.lows[slot] = low;
    this.#slots.ports[slot] = port;
    this.#slots.seen[slot] = now;
    this.#slots.isStatic[slot] = isStatic;
    this.#slots.moves[slot] = 0;
    this.#slots.previous[slot] = NOWHERE;
    this.#slots.homes[slot] = port;
    this.#slots.homeSeen[slot] = now;
    this.#slots.flaps[slot] = 0;
    this.#slots.flapSince[slot] = now;
    this.#size++;
    this.#statics += isStatic;
  }

  #remove(slot: number): void {
    const port = this.#slots.ports[slot]!;
    if (this.#slots.isStatic[slot] === 0) this.#perPortCount[port] = this.learnedBy(port) - 1;
    else this.#statics--;
    this.#slots.highs[slot] = FREE;
    this.#size--;
  }

  /** Returns the first slot of the key's bucket. The finaliser is MurmurHash3's, seeded twice. */
  #bucket(high: number, low: number): number {
    let h = Math.imul(low ^ this.#seed, 0x9e37_79b1);
    h ^= h >>> 15;
    h = Math.imul(h ^ high, 0x85eb_ca6b);
    h ^= h >>> 13;
    h = Math.imul(h ^ (this.#seed >>> 7), 0xc2b2_ae35);
    h ^= h >>> 16;
    return (h & (this.#slots.highs.length / WAYS - 1)) * WAYS;
  }

  /** Doubles the slots. Each bucket splits in two and keeps the order of its ways. */
  #double(): boolean {
    const { highs, lows } = this.#slots;
    if (highs.length >= this.#mostSlots) return false;
    const old = Object.values(this.#slots);
    this.#slots = slotsOf(highs.length * 2);
    const columns = Object.values(this.#slots);
    for (const [from, high] of highs.entries()) {
      if (high === FREE) continue;
      let to = this.#bucket(high, lows[from]!);
      while (this.#slots.highs[to] !== FREE) to++;
      for (let i = 0; i < columns.length; i++) columns[i]![to] = old[i]![from]!;
    }
    return true;
  }
}
