/** Seeded randomness for cases that are sent to a process and therefore can't be shrunk. */

/** RINGWIRE_SEED repeats a run; otherwise each run has a new seed. */
export function seedOfRun(): number {
  const given = process.env["RINGWIRE_SEED"];
  return given === undefined ? (Date.now() ^ (process.pid << 12)) >>> 0 : Number(given) >>> 0;
}

export class Random {
  readonly seed: number;
  #state: number;

  constructor(seed: number) {
    this.seed = seed;
    // xorshift never leaves 0.
    this.#state = seed | 0 || 1;
    for (let i = 0; i < 8; i++) this.u32();
  }

  /** A random 32-bit number, by xorshift32. */
  u32(): number {
    let x = this.#state;
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    this.#state = x;
    return x >>> 0;
  }

  /** 0 to n - 1. */
  below(n: number): number {
    return Math.floor((this.u32() / 2 ** 32) * n);
  }

  /** True once in `n` times. */
  oneIn(n: number): boolean {
    return this.below(n) === 0;
  }

  pick<T>(from: readonly T[]): T {
    return from[this.below(from.length)]!;
  }

  bytes(length: number): Buffer {
    const words = new Uint32Array(Math.ceil(length / 4));
    for (let i = 0; i < words.length; i++) words[i] = this.u32();
    return Buffer.from(words.buffer, 0, length);
  }

  /** A number below 2^bits; small numbers, powers of two and their neighbours are frequent. */
  edgy(bits: number): number {
    const top = 2 ** bits;
    const kinds = [
      () => this.below(20),
      () => 2 ** this.below(bits + 1) + this.below(3) - 1,
      () => top - 1 - this.below(20),
      () => Math.floor((this.u32() / 2 ** 32 + this.u32() / 2 ** 64) * top),
    ];
    const n = this.pick(kinds)();
    return Math.min(Math.max(n, 0), top - 1);
  }
}
