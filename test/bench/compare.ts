/** --compare FILE: this run beside an earlier one, figure by figure. */
import { short } from "./format.ts";
import { ratiosOf } from "./ratios.ts";
import type { Samples } from "./stats.ts";
import type { Outcomes } from "./variant.ts";
import { compareSamples, spread, type Verdict } from "./verdict.ts";

export interface Difference {
  /** Row and metric: "tap/ena pingP50Us"; for a ratio both rows. */
  readonly name: string;
  readonly verdict: Verdict;
  readonly before: Samples;
  readonly now: Samples;
}

/** All figures and ratios of a run by name. */
function figuresOf(outcomes: Outcomes): Map<string, readonly [metric: string, Samples]> {
  const all = new Map<string, readonly [string, Samples]>();
  for (const [name, { samples }] of outcomes) {
    for (const [metric, of] of samples) all.set(`${name} ${metric}`, [metric, of]);
  }
  for (const { of, to, metric, samples } of ratiosOf(outcomes)) {
    all.set(`${of} / ${to} ${metric}`, [metric, samples]);
  }
  return all;
}

/** Every figure that both runs have, in the order of this run. */
export function differences(before: Outcomes, now: Outcomes): Difference[] {
  const earlier = figuresOf(before);
  const found: Difference[] = [];
  for (const [name, [metric, samples]] of figuresOf(now)) {
    const [, other] = earlier.get(name) ?? [];
    if (other === undefined) continue;
    const verdict = compareSamples(metric, other, samples);
    found.push({ name, verdict, before: other, now: samples });
  }
  return found;
}

/** All differences but "same", and how many were the same. */
export function compareText(before: Outcomes, now: Outcomes): string {
  const all = differences(before, now);
  let text = "";
  for (const { name, verdict, ...samples } of all) {
    if (verdict === "same") continue;
    const range = (of: Samples) => spread(of).map(short).join(" to ");
    text += `${verdict.padEnd(9)} ${name.padEnd(52)} ${(samples.now.median / samples.before.median).toFixed(2).padStart(6)}`;
    text += `   ${short(samples.before.median)} (${range(samples.before)}) before,`;
    text += ` ${short(samples.now.median)} (${range(samples.now)}) now\n`;
  }
  const count = all.filter(({ verdict }) => verdict === "same").length;
  return `${text}${count} of ${all.length} figures are the same, within the spread of the rounds\n`;
}
