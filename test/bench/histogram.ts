/** A distribution of positive values in logarithmic buckets, as text and as plain data. */

/** Buckets in an octave: each is 9 % wide. */
const PER_OCTAVE = 8;
const BARS = " ▁▂▃▄▅▆▇█";

export class Histogram {
  /** Number of values by bucket. Bucket b holds values from 2^(b / PER_OCTAVE) on. */
  readonly counts = new Map<number, number>();
  total = 0;

  static of(values: Iterable<number>): Histogram {
    const histogram = new Histogram();
    for (const value of values) histogram.add(value);
    return histogram;
  }

  /** From what `toJSON` returned. */
  static from(counts: Readonly<Record<string, number>>): Histogram {
    const histogram = new Histogram();
    for (const [bucket, count] of Object.entries(counts)) histogram.#put(Number(bucket), count);
    return histogram;
  }

  /** Values below 1 count as 1. */
  add(value: number): void {
    this.#put(Math.floor(Math.log2(Math.max(1, value)) * PER_OCTAVE), 1);
  }

  merge(other: Histogram): void {
    for (const [bucket, count] of other.counts) this.#put(bucket, count);
  }

  #put(bucket: number, count: number): void {
    this.counts.set(bucket, (this.counts.get(bucket) ?? 0) + count);
    this.total += count;
  }

  toJSON(): Record<string, number> {
    return Object.fromEntries([...this.counts].sort(([a], [b]) => a - b));
  }

  /** Points of the cumulative distribution: upper end of a bucket, share of values below it. */
  cumulative(): (readonly [value: number, share: number])[] {
    let below = 0;
    return [...this.counts]
      .sort(([a], [b]) => a - b)
      .map(([bucket, count]) => {
        below += count;
        return [2 ** ((bucket + 1) / PER_OCTAVE), below / this.total];
      });
  }

  /** A character for each half octave from 2^`from` to 2^`to`; what lies outside is at the ends. */
  bars(from: number, to: number): string {
    const cells = new Array<number>((to - from) * 2).fill(0);
    for (const [bucket, count] of this.counts) {
      const cell = Math.floor((bucket / PER_OCTAVE - from) * 2);
      const at = Math.min(Math.max(cell, 0), cells.length - 1);
      cells[at] = cells[at]! + count;
    }
    const most = Math.max(...cells, 1);
    // Any value at all shows as the lowest bar.
    return cells.map((count) => BARS[Math.ceil((count / most) * (BARS.length - 1))]).join("");
  }
}
