/** The figures as text: a table for each group, then latencies, then ratios. */
import type { Figures } from "./figures.ts";
import { short, withSpread } from "./format.ts";
import { bestLimit, type Ratio, ratiosOf } from "./ratios.ts";
import { FRAME_SIZES } from "./setups.ts";
import type { Samples } from "./stats.ts";
import { BASE, type Outcome, type Outcomes } from "./variant.ts";
import { judgeRatios } from "./verdict.ts";

/** Groups with the same metrics in each row: a table with a row for each metric or for each row. */
const TABLES: Readonly<Record<string, "metrics down" | "metrics across">> = {
  tap: "metrics down",
  growth: "metrics across",
  neighbours: "metrics across",
  http: "metrics across",
};
/** The latencies' axis: powers of two of a microsecond. */
const AXIS = [4, 17] as const;

/** Name of the first part: "tap" of "base:tap/ena". */
const groupOf = (name: string): string => name.replace(BASE, "").split("/")[0]!;

function aligned(rows: readonly (readonly string[])[]): string {
  const widths = rows[0]!.map((_, i) => Math.max(...rows.map((cells) => cells[i]!.length)));
  const line = (cells: readonly string[]) =>
    cells.map((cell, i) => (i === 0 ? cell.padEnd(widths[0]!) : cell.padStart(widths[i]! + 2)));
  return `${rows.map((cells) => line(cells).join("")).join("\n")}\n\n`;
}

function tableOf(group: string, outcomes: readonly (readonly [string, Outcome])[]): string {
  const measured = outcomes.filter(([, { samples }]) => samples.size > 0);
  if (measured.length === 0) return "";
  const metrics = [...new Set(measured.flatMap(([, { samples }]) => [...samples.keys()]))];
  const cell = (outcome: Outcome, metric: string) => {
    const samples = outcome.samples.get(metric);
    return samples === undefined ? "" : withSpread(samples);
  };
  const label = (name: string) => name.replace(`${group}/`, "");
  if (TABLES[group] === "metrics down") {
    const head = [group, ...measured.map(([name]) => label(name))];
    const line = (metric: string) => [metric, ...measured.map(([, of]) => cell(of, metric))];
    return aligned([head, ...metrics.map(line)]);
  }
  const rows = measured.map(([name, of]) => [label(name), ...metrics.map((m) => cell(of, m))]);
  return aligned([[group, ...metrics], ...rows]);
}

function listed(name: string, metric: string, samples: Samples): string {
  const range = `${short(samples.min)} to ${short(samples.max)}`;
  return `${name.padEnd(27)} ${metric.padEnd(24)} ${short(samples.median).padStart(8)}   ${range}\n`;
}

function figuresText(outcomes: Outcomes): string {
  let text = "";
  for (const [name, { samples, failure }] of outcomes) {
    if (TABLES[groupOf(name)] === undefined) {
      for (const [metric, of] of samples) {
        // Drop reasons with a count of 0 get no line; --json has them.
        if (metric.startsWith("drop_") && of.max === 0) continue;
        text += listed(name, metric, of);
      }
    }
    if (failure !== undefined) {
      text += `${name.padEnd(27)} not measured: ${failure.split("\n")[0]}\n`;
    }
  }
  if (text !== "") text += "\n";
  for (const group of Object.keys(TABLES)) {
    text += tableOf(
      group,
      [...outcomes].filter(([name]) => groupOf(name) === group),
    );
  }
  return text;
}

const tick = (us: number): string => (us < 1024 ? String(us) : `${us / 1024}k`);

function latenciesText(outcomes: Outcomes): string {
  const [from, to] = AXIS;
  let text = "";
  for (const [name, { distributions }] of outcomes) {
    for (const [metric, histogram] of distributions) {
      text += `${`${name} ${metric}`.padEnd(48)} |${histogram.bars(from, to)}|\n`;
    }
  }
  if (text === "") return "";
  const ticks = Array.from({ length: (to - from) / 2 }, (_, i) => tick(2 ** (from + 2 * i)));
  const axis = ticks.map((label) => label.padEnd(4)).join("");
  return `${"latency in us, the highest bar is full".padEnd(48)}  ${axis}\n${text}\n`;
}

function ratioText({ of, to, metric, samples }: Ratio): string {
  const toBase = to === BASE + of;
  const name = `${of} / ${toBase ? "base" : to}`;
  const range = `${samples.min.toPrecision(3)} to ${samples.max.toPrecision(3)}`;
  const figures = `${samples.median.toPrecision(3).padStart(8)}   ${range.padEnd(18)}`;
  const verdict = toBase ? judgeRatios(metric, samples) : "";
  return `${name.padEnd(30)} ${metric.padEnd(24)}${figures} ${verdict}`.trimEnd();
}

export function reportText({ machine, options, outcomes }: Figures): string {
  const { rounds, slices, seconds, ringSize, zeroMask } = options;
  const gigabytes = Math.round(machine.memoryBytes / 2 ** 30);
  let text = `${machine.cpu}, ${machine.cores} cores, ${gigabytes} GiB, Linux ${machine.kernel}, `;
  text += `Node ${machine.node}, load ${machine.load.toFixed(2)} before\n`;
  text += `${rounds} rounds in turns, tap ${slices} times a round; ${seconds} s each; `;
  text += `receive rings of ${ringSize}; client mask ${zeroMask ? "zero" : "random"}\n`;
  text += "a median, then min to max, or ± the largest deviation in percent\n\n";
  text += figuresText(outcomes);
  for (const kind of ["limit", "limit-copy"]) {
    for (const size of FRAME_SIZES) {
      const best = bestLimit(outcomes, kind, size);
      if (best === undefined) continue;
      const gbits = (best.framesPerSecond * size * 8) / 1e9;
      text += `${`${kind} ${size} B`.padEnd(45)} ${short(best.framesPerSecond).padStart(8)}`;
      text += ` frames/s = ${gbits.toFixed(2)} Gbit/s, at batches of ${best.batch}\n`;
    }
  }
  text += latenciesText(outcomes);
  for (const ratio of ratiosOf(outcomes)) text += `${ratioText(ratio)}\n`;
  return text;
}
