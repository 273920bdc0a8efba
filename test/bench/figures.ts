/** A run as a file: what --json writes, and what --from and --compare read. */
import { readFileSync } from "node:fs";
import { Histogram } from "./histogram.ts";
import type { Machine } from "./machine.ts";
import { ratiosOf } from "./ratios.ts";
import { Samples } from "./stats.ts";
import { Outcome, type Outcomes } from "./variant.ts";

/** How a run was made. */
export interface RunOptions {
  readonly rounds: number;
  readonly slices: number;
  readonly seconds: number;
  readonly ringSize: number;
  readonly zeroMask: boolean;
  readonly nice: number;
}

export interface Figures {
  readonly machine: Machine;
  readonly options: RunOptions;
  readonly outcomes: Outcomes;
}

const summary = ({ median, min, max, values }: Samples): object => ({ median, min, max, values });

export function toJson({ machine, options, outcomes }: Figures): string {
  const variants = [...outcomes].map(([name, { failure, samples, distributions }]) => [
    name,
    {
      ...(failure === undefined ? {} : { failure }),
      metrics: Object.fromEntries([...samples].map(([metric, of]) => [metric, summary(of)])),
      distributions: Object.fromEntries(distributions),
    },
  ]);
  const ratios = ratiosOf(outcomes).map(({ of, to, metric, samples }) => [
    `${of} / ${to} ${metric}`,
    summary(samples),
  ]);
  const all = { variants: Object.fromEntries(variants), ratios: Object.fromEntries(ratios) };
  return `${JSON.stringify({ machine, options, ...all }, null, 2)}\n`;
}

interface Stored extends Omit<Figures, "outcomes"> {
  readonly variants: Readonly<
    Record<
      string,
      {
        readonly failure?: string;
        readonly metrics: Readonly<Record<string, { readonly values: readonly number[] }>>;
        readonly distributions: Readonly<Record<string, Readonly<Record<string, number>>>>;
      }
    >
  >;
}

/** Throws TypeError when the text is not what `toJson` returns. */
export function fromJson(text: string): Figures {
  const { machine, options, variants } = JSON.parse(text) as Partial<Stored>;
  if (machine === undefined || options === undefined || variants === undefined) {
    throw new TypeError("these are no figures of npm run bench");
  }
  const outcomes = new Map<string, Outcome>();
  for (const [name, { failure, metrics, distributions }] of Object.entries(variants)) {
    const outcome = new Outcome();
    outcome.failure = failure;
    for (const [metric, { values }] of Object.entries(metrics)) {
      outcome.samples.set(metric, new Samples(values));
    }
    for (const [metric, counts] of Object.entries(distributions)) {
      outcome.distributions.set(metric, Histogram.from(counts));
    }
    outcomes.set(name, outcome);
  }
  return { machine, options, outcomes };
}

export const readFigures = (file: string): Figures => fromJson(readFileSync(file, "utf8"));
