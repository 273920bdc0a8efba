/** Better, same or worse: when a difference of two sets of rounds is more than their noise. */
import { quantile, type Samples } from "./stats.ts";

export type Verdict = "better" | "same" | "worse" | "changed" | "few rounds";

/** Metrics of which more is better. */
const MORE = /PerSecond$|^rateRatio$/;
/** Metrics that are neither good nor bad. */
const NEUTRAL =
  /^drop_|^(sentPerSecond|generatorCpuPercent|sinkCpuPercent|floodCpuMs|emptyCpuPercent)$/;
/** True of a metric that says how the measurement went. */
export const isNeutral = (metric: string): boolean => NEUTRAL.test(metric);

/** With fewer values, two sets of the same thing too often do not overlap. */
const ENOUGH = 3;
/** With fewer values, none of them is an outlier. */
const OUTLIERS_FROM = 6;

/** The range of the values; of six and more without the outermost tenths. */
export function spread({ values }: Samples): readonly [low: number, high: number] {
  const outside = values.length < OUTLIERS_FROM ? 0 : 0.1;
  return [quantile(values, outside), quantile(values, 1 - outside)];
}

function judge(metric: string, grown: boolean): Verdict {
  if (isNeutral(metric)) return "changed";
  return MORE.test(metric) === grown ? "better" : "worse";
}

/** `now` against `before`: a verdict other than "same" when their spreads do not overlap. */
export function compareSamples(metric: string, before: Samples, now: Samples): Verdict {
  if (before.count < ENOUGH || now.count < ENOUGH) return "few rounds";
  const [[lowBefore, highBefore], [lowNow, highNow]] = [spread(before), spread(now)];
  if (lowNow <= highBefore && lowBefore <= highNow) return "same";
  return judge(metric, lowNow > highBefore);
}

/** Ratios of now to before, round by round: a verdict when all of their spread is on one side of 1. */
export function judgeRatios(metric: string, ratios: Samples): Verdict {
  if (ratios.count < ENOUGH) return "few rounds";
  const [low, high] = spread(ratios);
  return low <= 1 && high >= 1 ? "same" : judge(metric, low > 1);
}
