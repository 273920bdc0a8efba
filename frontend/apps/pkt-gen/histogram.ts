/**
 * Histogram of delays in nanoseconds. The width of a bucket is a sixteenth of its octave, so any
 * quantile is exact to 6 %. Allocates all memory at the start.
 */
const SUB_BITS = 4;
const SUBS = 1 << SUB_BITS;
const OCTAVES = 64;

export interface DelayReport {
  readonly count: number;
  readonly minNs: number;
  readonly meanNs: number;
  readonly maxNs: number;
  readonly p50Ns: number;
  readonly p90Ns: number;
  readonly p99Ns: number;
  /** Octaves as [lower end in ns, count], without the empty octaves at both ends. */
  readonly octaves: readonly (readonly [number, number])[];
}

export class DelayHistogram {
  count = 0;
  #sum = 0;
  #min = Number.POSITIVE_INFINITY;
  #max = 0;
  readonly #buckets = new Float64Array(OCTAVES * SUBS);

  add(ns: number): void {
    this.count++;
    this.#sum += ns;
    if (ns < this.#min) this.#min = ns;
    if (ns > this.#max) this.#max = ns;
    const octave = ns < 1 ? 0 : Math.floor(Math.log2(ns));
    const sub = Math.floor((ns / 2 ** octave - 1) * SUBS);
    this.#buckets[octave * SUBS + Math.max(0, Math.min(SUBS - 1, sub))]! += 1;
  }

  report(): DelayReport {
    const { count } = this;
    const octaves = Array.from({ length: OCTAVES }, (_, i) => {
      const subs = this.#buckets.subarray(i * SUBS, (i + 1) * SUBS);
      return [2 ** i, subs.reduce((sum, n) => sum + n, 0)] as const;
    });
    const isFilled = ([, n]: readonly [number, number]): boolean => n > 0;
    return {
      count,
      minNs: count === 0 ? 0 : Math.round(this.#min),
      meanNs: count === 0 ? 0 : Math.round(this.#sum / count),
      maxNs: Math.round(this.#max),
      p50Ns: this.#quantile(0.5),
      p90Ns: this.#quantile(0.9),
      p99Ns: this.#quantile(0.99),
      octaves: octaves.slice(octaves.findIndex(isFilled), octaves.findLastIndex(isFilled) + 1),
    };
  }

  /** Returns the middle (ns) of the quantile's bucket, limited to the measured range. */
  #quantile(q: number): number {
    let left = Math.ceil(this.count * q);
    for (let i = 0; i < this.#buckets.length; i++) {
      left -= this.#buckets[i]!;
      if (left > 0 || this.count === 0) continue;
      const middle = 2 ** (i >> SUB_BITS) * (1 + ((i & (SUBS - 1)) + 0.5) / SUBS);
      return Math.round(Math.min(this.#max, Math.max(this.#min, middle)));
    }
    return 0;
  }
}
