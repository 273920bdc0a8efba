/** A variant is one kind of run; each repetition runs in fresh processes. */
import { Histogram } from "./histogram.ts";
import { ratioOf, Samples } from "./stats.ts";

/** Prefix of the rows of the other checkout, which `--base` names. */
export const BASE = "base:";

/** Values and distributions by metric name; the names carry the unit. */
export type Measured = Readonly<Record<string, number | Histogram>>;

export interface Variant {
  /** Unique in a run: `ring/1514`, `tap/tcp`. */
  readonly name: string;
  /** The name by which --only selects variants. */
  readonly group: string;
  run(): Promise<Measured>;
}

/** The repetitions of one variant, or the reason why there are none. */
export class Outcome {
  readonly samples = new Map<string, Samples>();
  readonly distributions = new Map<string, Histogram>();
  failure: string | undefined;

  add(measured: Measured): void {
    for (const [metric, value] of Object.entries(measured)) {
      if (typeof value !== "number") {
        const all = this.distributions.get(metric) ?? new Histogram();
        all.merge(value);
        this.distributions.set(metric, all);
        continue;
      }
      const samples = this.samples.get(metric) ?? new Samples();
      samples.add(value);
      this.samples.set(metric, samples);
    }
  }

  median(metric: string): number {
    return this.samples.get(metric)?.median ?? Number.NaN;
  }

  /** This outcome's values of a metric divided by another's, round by round. */
  over(reference: Outcome, metric: string): Samples {
    return ratioOf(this.samples.get(metric), reference.samples.get(metric));
  }
}

export type Outcomes = ReadonlyMap<string, Outcome>;

/** Median of the ratios of two rows in one metric; NaN when either is missing. */
export function ratio(outcomes: Outcomes, of: string, to: string, metric: string): number {
  const [upper, lower] = [outcomes.get(of), outcomes.get(to)];
  return upper === undefined || lower === undefined ? Number.NaN : upper.over(lower, metric).median;
}

/**
 * Runs all variants `reps` times, round robin, so that a change of the machine's load hits
 * neighbouring variants alike. Every second round runs backwards, so that no variant always follows
 * the same neighbour.
 */
export async function runAll(
  variants: readonly Variant[],
  reps: number,
  progress: (text: string) => void,
): Promise<Outcomes> {
  const outcomes = new Map(variants.map((variant) => [variant.name, new Outcome()]));
  for (let rep = 0; rep < reps; rep++) {
    const order = rep % 2 === 0 ? variants : variants.toReversed();
    for (const variant of order) {
      const outcome = outcomes.get(variant.name)!;
      // A variant that failed once is not tried again; the reason is printed once.
      if (outcome.failure !== undefined) continue;
      progress(`${rep + 1}/${reps} ${variant.name}`);
      try {
        outcome.add(await variant.run());
      } catch (error) {
        outcome.failure = error instanceof Error ? error.message : String(error);
      }
    }
  }
  return outcomes;
}
