/**
 * Fragments of a datagram follow its first one, which has the ports.
 *
 *   first fragment  ──► remembered: datagram ─► flow          what waited for it is given out
 *   later fragment  ──► known: that flow.  Not yet: a copy waits, at most HOLD_MS
 *
 * A fragment of a tunnel may carry a later fragment. Once its flow is decided, it decides for the
 * other fragments of that tunnel, as a first fragment does.
 *
 * Both tables are bounded. What finds no place, or waits in vain, goes by its addresses alone.
 */

/** Datagrams whose first fragment was seen. A power of two. */
const DATAGRAMS = 4096;
/** Identifications are used again: an older first fragment belongs to another datagram. */
const REMEMBER_MS = 5000;
/** Copies of later fragments that wait, and how long. */
const MAX_HELD = 256;
const HOLD_MS = 500;

interface Held {
  readonly id0: number;
  readonly id1: number;
  /** By addresses alone. */
  readonly hash: number;
  readonly bytes: Uint8Array;
  readonly since: number;
  /** Datagrams around it, of which it is the first fragment: two words each, as in FlowHash. */
  readonly outer: Uint32Array;
}

const NONE = new Uint32Array(0);

export type GiveOut = (hash: number, bytes: Uint8Array) => void;

export class Fragments {
  readonly #id0 = new Uint32Array(DATAGRAMS);
  readonly #id1 = new Uint32Array(DATAGRAMS);
  readonly #hash = new Uint32Array(DATAGRAMS);
  readonly #seen = new Float64Array(DATAGRAMS).fill(Number.NEGATIVE_INFINITY);
  #held: Held[] = [];
  readonly #giveOut: GiveOut;

  /** `giveOut` gets each fragment that waited, once. */
  constructor(giveOut: GiveOut) {
    this.#giveOut = giveOut;
  }

  get heldCount(): number {
    return this.#held.length;
  }

  /** The flow of a later fragment's datagram, or -1 while its first one was not seen. */
  find(id0: number, id1: number, now: number): number {
    const i = id0 & (DATAGRAMS - 1);
    const isKnown = this.#id0[i] === id0 && this.#id1[i] === id1;
    return isKnown && now - this.#seen[i]! <= REMEMBER_MS ? this.#hash[i]! : -1;
  }

  /** The first fragment of a datagram is of flow `hash`: gives out what waited for it. */
  remember(id0: number, id1: number, hash: number, now: number): void {
    const i = id0 & (DATAGRAMS - 1);
    this.#id0[i] = id0;
    this.#id1[i] = id1;
    this.#hash[i] = hash;
    this.#seen[i] = now;
    if (this.#held.length === 0) return;
    const isOurs = (held: Held): boolean => held.id0 === id0 && held.id1 === id1;
    const ours = this.#held.filter(isOurs);
    if (ours.length === 0) return;
    this.#held = this.#held.filter((held) => !isOurs(held));
    for (const held of ours) this.#give(held, hash, now);
  }

  /**
   * A later fragment came before the first: `bytes`, a copy, waits. It is the first fragment of
   * each datagram in `outer`, two words each; they get its flow when that is decided.
   */
  hold(
    id0: number,
    id1: number,
    hash: number,
    bytes: Uint8Array,
    now: number,
    outer: Uint32Array = NONE,
  ): void {
    if (this.#held.length === MAX_HELD) this.#giveOldest(now);
    this.#held.push({ id0, id1, hash, bytes, since: now, outer });
  }

  /** Gives out what has waited too long; all of it with `now` = Infinity. */
  expire(now: number): void {
    while (this.#held.length > 0 && now - this.#held[0]!.since >= HOLD_MS) {
      this.#giveOldest(now);
    }
  }

  /** By its addresses alone. */
  #giveOldest(now: number): void {
    const oldest = this.#held.shift()!;
    this.#give(oldest, oldest.hash, now);
  }

  /** `held` is out of the table by now: each step of this recursion has left fewer. */
  #give({ bytes, outer }: Held, hash: number, now: number): void {
    this.#giveOut(hash, bytes);
    for (let i = 0; i < outer.length; i += 2) this.remember(outer[i]!, outer[i + 1]!, hash, now);
  }
}
