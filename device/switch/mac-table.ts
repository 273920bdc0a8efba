/**
 * A table of MAC addresses and the ports behind which they were seen.
 *
 * An address is passed as two small integers, `high` and `low` (macHigh, macLow of ethernet.ts): a
 * 48-bit number would be boxed at each call.
 *
 *   bucket = hash(address, seed)      8 ways a bucket, one array per field, high -1 = free
 *   | way 0 | way 1 | ... | way 7 |
 *
 * A look-up reads at most one bucket, so chosen addresses cannot make it slow; the seed is random,
 * so they cannot fill one bucket either. (A JavaScript Map hashes numbers without a seed, and boxes
 * a 48-bit key; with 1024 addresses it takes 20 to 26 ns a look-up, this 14 to 24.)
 *
 * The table doubles while less than four slots stand by each address, up to its bound; doubling
 * splits each bucket in two, so nothing is lost by it. Entries of one port are never evicted for
 * another's: what finds no room is not learned, and floods. In a table full to its bound that
 * happens to about one address in eight thousand. Static entries always find room: the bound does
 * not count them, and in a full bucket a learned entry makes way.
 *
 * An address that several ports claim has a home: the port that held it before they began. It moves
 * with each frame at first, as a host that has moved wants it. When it moves too often it stays at
 * its home, for as long as frames of that address still come from there.
 *
 * Time is a monotonic clock in milliseconds, passed in. Nothing here reads a clock.
 *
 * Source: IEEE 802.1D-2004, 7.8 and 7.9 (learning process, ageing, 300 s).
 */
import { formatMacParts } from "../../shared/net/ethernet.ts";

export const Learned = {
  /** Already there; its age starts again. */
  KNOWN: 0,
  NEW: 1,
  MOVED: 2,
  /** It moves too often: it stays with its older owner until it calms down. */
  DAMPED: 3,
  /** A static entry says it is somewhere else. */
  STATIC: 4,
  /** The port has as many addresses as it may. */
  PORT_FULL: 5,
  /** The table has as many as it may. */
  TABLE_FULL: 6,
} as const;
export type Learned = (typeof Learned)[keyof typeof Learned];

export interface MacTableOptions {
  readonly ageMs: number;
  /** Most addresses learned behind one port. */
  readonly perPort: number;
  /** Most learned addresses in all; 16384 when not given. */
  readonly capacity?: number;
  /** Fixes the hash, for tests. */
  readonly seed?: number;
}

/** One entry for status. */
export interface MacEntry {
  readonly mac: string;
  readonly port: number;
  readonly isStatic: boolean;
  readonly ageMs: number;
  readonly moves: number;
  /** The port it moved from last; -1 when it never did. */
  readonly previousPort: number;
}

/**
 * More moves than this within the window, and the address is damped. Each frame that is damped
 * prolongs the window: it ends when the claims end.
 */
export const FLAP_MOVES = 5;
export const FLAP_WINDOW_MS = 10_000;
/** An owner that has not sent for so long has lost its claim to the port that holds the address. */
export const HOME_QUIET_MS = 5_000;

const WAYS = 8;
const FIRST_SLOTS = 256;
const SLOTS_PER_ENTRY = 4;
const DEFAULT_CAPACITY = 16384;
const NOWHERE = -1;
/** A key is an address as one whole number. */
const KEY_HIGH = 2 ** 32;
/** No address begins so: any may be asked for, the all-zero address too. */
const FREE = -1;

export class MacTable {
  readonly #ageMs: number;
  readonly #perPort: number;
  readonly #capacity: number;
  readonly #mostSlots: number;
  readonly #seed: number;

  /** The address: its first two bytes, or FREE, and its last four. */
  #highs = new Int32Array(FIRST_SLOTS).fill(FREE);
  #lows = new Int32Array(FIRST_SLOTS);
  #ports = new Int32Array(FIRST_SLOTS);
  #seen = new Float64Array(FIRST_SLOTS);
  #static = new Uint8Array(FIRST_SLOTS);
  #moves = new Uint32Array(FIRST_SLOTS);
  #previous = new Int32Array(FIRST_SLOTS);
  /** The older owner among the ports that claim the address, and when it sent last. */
  #homes = new Int32Array(FIRST_SLOTS);
  #homeSeen = new Float64Array(FIRST_SLOTS);
  /** Moves within the flap window that began at #flapSince. */
  #flaps = new Uint32Array(FIRST_SLOTS);
  #flapSince = new Float64Array(FIRST_SLOTS);
  /** Learned (not static) entries for each port number. */
  readonly #perPortCount: number[] = [];
  #size = 0;
  #statics = 0;

  moves = 0;
  damped = 0;
  aged = 0;
  tableFull = 0;
  portFull = 0;

  constructor(options: MacTableOptions) {
    this.#ageMs = options.ageMs;
    this.#perPort = options.perPort;
    this.#capacity = options.capacity ?? DEFAULT_CAPACITY;
    this.#mostSlots = 2 ** Math.ceil(Math.log2(Math.max(this.#capacity * SLOTS_PER_ENTRY, WAYS)));
    this.#seed = options.seed ?? crypto.getRandomValues(new Int32Array(1))[0]!;
  }

  /** Entries held, some of them perhaps too old to be found. */
  get size(): number {
    return this.#size;
  }

  /** The port (a small number, 0 or more) of an address, or -1. */
  lookup(high: number, low: number, now: number): number {
    const slot = this.#find(high, low);
    return slot < 0 || this.#expired(slot, now) ? NOWHERE : this.#ports[slot]!;
  }

  /** Notes that a unicast address other than zero was seen behind `port`. */
  learn(high: number, low: number, port: number, now: number): Learned {
    const slot = this.#find(high, low);
    if (slot >= 0) {
      if (this.#ports[slot] === port) {
        this.#seen[slot] = now;
        if (this.#homes[slot] === port) this.#homeSeen[slot] = now;
        return Learned.KNOWN;
      }
      if (this.#static[slot] === 1) return Learned.STATIC;
      if (!this.#expired(slot, now)) return this.#move(slot, port, now);
      this.#remove(slot);
      this.aged++;
    }
    if (this.learnedBy(port) >= this.#perPort) {
      this.portFull++;
      return Learned.PORT_FULL;
    }
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
   * Pins an address to a port: it neither moves nor ages nor counts. In a full bucket a learned
   * address is forgotten for it. False when all of the bucket is static.
   */
  addStatic(high: number, low: number, port: number): boolean {
    const known = this.#find(high, low);
    if (known >= 0) this.#remove(known);
    let slot = this.#claim(high, low);
    if (slot < 0) {
      const first = this.#bucket(high, low);
      slot = this.#static.subarray(first, first + WAYS).indexOf(0);
      if (slot < 0) return false;
      slot += first;
      this.#remove(slot);
    }
    this.#fill(slot, high, low, port, 0, 1);
    return true;
  }

  /** Forgets an address, static or not. */
  forget(high: number, low: number): void {
    const slot = this.#find(high, low);
    if (slot >= 0) this.#remove(slot);
  }

  /** Forgets everything behind a port, static entries too: the number may be used again. */
  forgetPort(port: number): void {
    for (let slot = 0; slot < this.#highs.length; slot++) {
      if (this.#highs[slot] === FREE) continue;
      if (this.#ports[slot] === port) {
        this.#remove(slot);
        continue;
      }
      if (this.#homes[slot] === port) this.#homes[slot] = this.#ports[slot]!;
      if (this.#previous[slot] === port) this.#previous[slot] = NOWHERE;
    }
  }

  /** Removes what is too old. Look-ups don't need it: it makes room and keeps counts honest. */
  sweep(now: number): void {
    for (let slot = 0; slot < this.#highs.length; slot++) {
      if (this.#highs[slot] === FREE || !this.#expired(slot, now)) continue;
      this.#remove(slot);
      this.aged++;
    }
  }

  /** Addresses learned behind a port, static ones not counted. */
  learnedBy(port: number): number {
    return this.#perPortCount[port] ?? 0;
  }

  /** Keys of all addresses that are not too old, in the order of the addresses. */
  keys(now: number): Float64Array {
    const found = new Float64Array(this.#size);
    let count = 0;
    for (let slot = 0; slot < this.#highs.length; slot++) {
      const high = this.#highs[slot]!;
      if (high === FREE || this.#expired(slot, now)) continue;
      found[count++] = high * KEY_HIGH + (this.#lows[slot]! >>> 0);
    }
    return found.subarray(0, count).sort();
  }

  /** All that are not too old, in the order of the addresses. */
  entries(now: number): MacEntry[] {
    return Array.from(this.keys(now), (key) => this.entry(key, now)!);
  }

  /** The entry of a key, as `keys` gives it; undefined when it is gone. */
  entry(key: number, now: number): MacEntry | undefined {
    const high = Math.floor(key / KEY_HIGH);
    const low = (key % KEY_HIGH) | 0;
    const slot = this.#find(high, low);
    if (slot < 0 || this.#expired(slot, now)) return undefined;
    const isStatic = this.#static[slot] === 1;
    return {
      mac: formatMacParts(high, low),
      port: this.#ports[slot]!,
      isStatic,
      ageMs: isStatic ? 0 : now - this.#seen[slot]!,
      moves: this.#moves[slot]!,
      previousPort: this.#previous[slot]!,
    };
  }

  #move(slot: number, port: number, now: number): Learned {
    const calm = now - this.#flapSince[slot]! >= FLAP_WINDOW_MS;
    if (calm) {
      this.#flapSince[slot] = now;
      this.#flaps[slot] = 0;
    }
    if (calm) this.#settle(slot);
    if (port === this.#homes[slot]) this.#homeSeen[slot] = now;
    else {
      if (now - this.#homeSeen[slot]! >= HOME_QUIET_MS) this.#settle(slot);
      if (this.#flaps[slot]! >= FLAP_MOVES && now - this.#homeSeen[slot]! < HOME_QUIET_MS) {
        this.#flapSince[slot] = now;
        this.damped++;
        return Learned.DAMPED;
      }
    }
    if (this.learnedBy(port) >= this.#perPort) {
      this.portFull++;
      return Learned.PORT_FULL;
    }
    const from = this.#ports[slot]!;
    this.#perPortCount[from] = this.learnedBy(from) - 1;
    this.#perPortCount[port] = this.learnedBy(port) + 1;
    this.#ports[slot] = port;
    this.#previous[slot] = from;
    this.#seen[slot] = now;
    this.#flaps[slot]! += 1;
    this.#moves[slot]! += 1;
    this.moves++;
    return Learned.MOVED;
  }

  /** The port that holds the address is its home from here on. */
  #settle(slot: number): void {
    this.#homes[slot] = this.#ports[slot]!;
    this.#homeSeen[slot] = this.#seen[slot]!;
  }

  #expired(slot: number, now: number): boolean {
    return this.#static[slot] === 0 && now - this.#seen[slot]! > this.#ageMs;
  }

  #find(high: number, low: number): number {
    const first = this.#bucket(high, low);
    for (let slot = first; slot < first + WAYS; slot++) {
      if (this.#highs[slot] === high && this.#lows[slot] === low) return slot;
    }
    return -1;
  }

  /** A free slot for a key that is not there, or -1. */
  #claim(high: number, low: number): number {
    if (this.#size * SLOTS_PER_ENTRY >= this.#highs.length) this.#double();
    for (;;) {
      const first = this.#bucket(high, low);
      for (let slot = first; slot < first + WAYS; slot++) {
        if (this.#highs[slot] === FREE) return slot;
      }
      if (!this.#double()) return -1;
    }
  }

  #fill(slot: number, high: number, low: number, port: number, now: number, isStatic: 0 | 1): void {
    this.#highs[slot] = high;
    this.#lows[slot] = low;
    this.#ports[slot] = port;
    this.#seen[slot] = now;
    this.#static[slot] = isStatic;
    this.#moves[slot] = 0;
    this.#previous[slot] = NOWHERE;
    this.#homes[slot] = port;
    this.#homeSeen[slot] = now;
    this.#flaps[slot] = 0;
    this.#flapSince[slot] = now;
    this.#size++;
    this.#statics += isStatic;
  }

  #remove(slot: number): void {
    const port = this.#ports[slot]!;
    if (this.#static[slot] === 0) this.#perPortCount[port] = this.learnedBy(port) - 1;
    else this.#statics--;
    this.#highs[slot] = FREE;
    this.#size--;
  }

  /** First slot of the key's bucket. The finaliser is MurmurHash3's, seeded twice. */
  #bucket(high: number, low: number): number {
    let h = Math.imul(low ^ this.#seed, 0x9e37_79b1);
    h ^= h >>> 15;
    h = Math.imul(h ^ high, 0x85eb_ca6b);
    h ^= h >>> 13;
    h = Math.imul(h ^ (this.#seed >>> 7), 0xc2b2_ae35);
    h ^= h >>> 16;
    return (h & (this.#highs.length / WAYS - 1)) * WAYS;
  }

  /** Twice the slots. Each bucket splits into itself and its twin, keeping the order of ways. */
  #double(): boolean {
    const old = this.#highs.length;
    if (old >= this.#mostSlots) return false;
    const highs = this.#highs;
    const lows = this.#lows;
    const ports = this.#ports;
    const seen = this.#seen;
    const isStatic = this.#static;
    const moves = this.#moves;
    const previous = this.#previous;
    const homes = this.#homes;
    const homeSeen = this.#homeSeen;
    const flaps = this.#flaps;
    const flapSince = this.#flapSince;
    this.#highs = new Int32Array(old * 2).fill(FREE);
    this.#lows = new Int32Array(old * 2);
    this.#ports = new Int32Array(old * 2);
    this.#seen = new Float64Array(old * 2);
    this.#static = new Uint8Array(old * 2);
    this.#moves = new Uint32Array(old * 2);
    this.#previous = new Int32Array(old * 2);
    this.#homes = new Int32Array(old * 2);
    this.#homeSeen = new Float64Array(old * 2);
    this.#flaps = new Uint32Array(old * 2);
    this.#flapSince = new Float64Array(old * 2);
    for (let from = 0; from < old; from++) {
      const high = highs[from]!;
      const low = lows[from]!;
      if (high === FREE) continue;
      let to = this.#bucket(high, low);
      while (this.#highs[to] !== FREE) to++;
      this.#highs[to] = high;
      this.#lows[to] = low;
      this.#ports[to] = ports[from]!;
      this.#seen[to] = seen[from]!;
      this.#static[to] = isStatic[from]!;
      this.#moves[to] = moves[from]!;
      this.#previous[to] = previous[from]!;
      this.#homes[to] = homes[from]!;
      this.#homeSeen[to] = homeSeen[from]!;
      this.#flaps[to] = flaps[from]!;
      this.#flapSince[to] = flapSince[from]!;
    }
    return true;
  }
}
