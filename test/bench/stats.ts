/** Repetitions of one measurement. All raw values are kept and printed. */
export class Samples {
  readonly values: number[] = [];

  constructor(values: Iterable<number> = []) {
    this.values.push(...values);
  }

  add(value: number): void {
    this.values.push(value);
  }

  get count(): number {
    return this.values.length;
  }

  /** NaN without values. */
  get median(): number {
    return quantile(this.values, 0.5);
  }

  get min(): number {
    return Math.min(...this.values);
  }

  get max(): number {
    return Math.max(...this.values);
  }
}

/**
 * The values of one divided by the values of the other, round by round. Empty when either has not
 * run in all rounds of the other, so that only values of one round are compared.
 */
export function ratioOf(of: Samples | undefined, to: Samples | undefined): Samples {
  const ratios = new Samples();
  if (of === undefined || to === undefined || of.count !== to.count) return ratios;
  for (const [i, value] of of.values.entries()) ratios.add(value / to.values[i]!);
  return ratios;
}

/** Linear interpolation between neighbours; NaN without values. */
export function quantile(values: readonly number[], q: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  const at = (sorted.length - 1) * q;
  const low = sorted[Math.floor(at)];
  const high = sorted[Math.ceil(at)];
  if (low === undefined || high === undefined) return Number.NaN;
  return low + (high - low) * (at - Math.floor(at));
}
