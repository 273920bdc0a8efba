/**
 * Sends the fragments of a datagram where its first fragment went, which has the ports.
 *
 *   first fragment  ──► remembered: datagram ─► flow          what waited for it is given out
 *   later fragment  ──► known: that flow.  Not yet: a copy waits, at most HOLD_MS
 *
 * The first fragment of a tunnel's datagram may carry a later fragment. Once the flow of the inner
 * fragment is known, it also decides for the other fragments of the tunnel's datagram.
 *
 * Both tables are bounded. A fragment that finds no place, or waits in vain, is sent by its
 * addresses alone.
 */

/** Datagrams remembered by their first fragment. A power of two. */
const DATAGRAMS = 4096;
/**
 * Time (ms) to remember a datagram. Senders reuse identifications, so an older one is another's.
 */
const REMEMBER_MS = 5000;
/** Highest number of waiting copies of later fragments, and their longest wait (ms). */
const MAX_HELD = 256;
const HOLD_MS = 500;

interface Held {
  readonly id0: number;
  readonly id1: number;
  /** Hash of the addresses alone. */
  readonly hash: number;
  readonly bytes: Uint8Array;
  readonly since: number;
  /** Outer datagrams of which this is the first fragment: two words each, as in FlowHash. */
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

  /** Calls `giveOut` once for each fragment that waited. */
  constructor(giveOut: GiveOut) {
    this.#giveOut = giveOut;
  }

  get heldCount(): number {
    return this.#held.length;
  }

  /** Returns the flow of a datagram, or -1 while its first fragment has not been seen. */
  find(id0: number, id1: number, now: number): number {
    const i = id0 & (DATAGRAMS - 1);
    const isKnown = this.#id0[i] === id0 && this.#id1[i] === id1;
    return isKnown && now - this.#seen[i]! <= REMEMBER_MS ? this.#hash[i]! : -1;
  }

  /** Records flow `hash` for a datagram, and gives out the fragments that waited for it. */
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
   * Holds `bytes`, a copy of a later fragment that came before the first. It is also the first
   * fragment of each datagram in `outer` (two words each), which get its flow once that is known.
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

  /** Gives out the fragments that have waited for HOLD_MS, or all with `now` = Infinity. */
  expire(now: number): void {
    while (this.#held.length > 0 && now - this.#held[0]!.since >= HOLD_MS) {
      this.#giveOldest(now);
    }
  }

  /** Gives out the oldest waiting fragment by its addresses alone. */
  #giveOldest(now: number): void {
    const oldest = this.#held.shift()!;
    this.#give(oldest, oldest.hash, now);
  }

  /**
   * Gives out a fragment that has left the table. Each step of the recursion leaves fewer there.
   */
  #give({ bytes, outer }: Held, hash: number, now: number): void {
    this.#giveOut(hash, bytes);
    for (let i = 0; i < outer.length; i += 2) this.remember(outer[i]!, outer[i + 1]!, hash, now);
  }
}
