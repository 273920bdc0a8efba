/** Turns the outcomes into a table and into JSON: absolute figures first, then the ratios. */
import { CAPTURE_SETUPS } from "./capture.ts";
import { WRITER_MODES, WRITER_SIZES, writerName } from "./capture-writer.ts";
import { BATCHES } from "./limit.ts";
import type { Machine } from "./machine.ts";
import type { Samples } from "./stats.ts";
import type { Outcomes } from "./variant.ts";

export const FRAME_SIZES = [60, 1514] as const;

/** pkt-gen to pkt-gen: ring pairs per NIC, and the thread in which the loops run. */
export const NETMAP_SETUPS = [1, 4].flatMap((rings) =>
  [false, true].map((worker) => ({
    name: `netmap-${rings}${worker ? "-worker" : ""}`,
    rings,
    worker,
  })),
);

interface RunOptions {
  readonly reps: number;
  readonly seconds: number;
  readonly ringSize: number;
  readonly zeroMask: boolean;
}

export interface Report {
  readonly text: string;
  readonly json: object;
}

interface Best {
  readonly batch: number;
  readonly framesPerSecond: number;
}

/** The batch size with the best median; undefined when the limit was not measured. */
function bestLimit(outcomes: Outcomes, kind: string, frameBytes: number): Best | undefined {
  let best: Best | undefined;
  for (const batch of BATCHES) {
    const value = outcomes.get(`${kind}/${frameBytes}x${batch}`)?.median("framesPerSecond");
    if (value === undefined || Number.isNaN(value)) continue;
    if (best === undefined || value > best.framesPerSecond) {
      best = { batch, framesPerSecond: value };
    }
  }
  return best;
}

function ratiosOf(outcomes: Outcomes): Record<string, number> {
  const ratios: Record<string, number> = {};
  const put = (name: string, value: number, reference: number) => {
    if (Number.isFinite(value / reference)) ratios[name] = value / reference;
  };
  const median = (variant: string, metric: string) =>
    outcomes.get(variant)?.median(metric) ?? Number.NaN;

  for (const size of FRAME_SIZES) {
    for (const ring of [
      "ring",
      "ring-hold",
      "xen",
      "xen-hold",
      ...NETMAP_SETUPS.map(({ name }) => name),
    ]) {
      for (const kind of ["limit", "limit-copy"]) {
        const best = bestLimit(outcomes, kind, size)?.framesPerSecond ?? Number.NaN;
        put(`${ring}/${kind} ${size} B`, median(`${ring}/${size}`, "framesPerSecond"), best);
      }
    }
  }
  for (const size of FRAME_SIZES) {
    const without = median(`capture-off/${size}`, "framesPerSecond");
    for (const { name, args } of CAPTURE_SETUPS) {
      if (args.length === 0) continue;
      put(`${name}/off ${size} B`, median(`${name}/${size}`, "framesPerSecond"), without);
    }
  }
  for (const [frameBytes, snapBytes] of WRITER_SIZES) {
    const rate = (mode: string) =>
      median(writerName(mode, frameBytes, snapBytes), "framesPerSecond");
    for (const mode of WRITER_MODES.filter((name) => name !== "copy")) {
      put(`capture-${mode}/copy ${frameBytes} B, ${snapBytes} kept`, rate(mode), rate("copy"));
    }
  }
  for (const kernel of ["tap", "xen-tap"]) {
    for (const metric of ["tcpBitsPerSecond", "tcpBackBitsPerSecond"]) {
      for (const peer of ["vde", "veth"]) {
        const reference = median(`${peer}/tcp`, metric);
        put(`${kernel}/${peer} ${metric}`, median(`${kernel}/tcp`, metric), reference);
      }
    }
    for (const metric of ["rttP50Us", "rttP99Us", "rttWarmP50Us", "rttWarmP99Us"]) {
      put(`${kernel}/vde ${metric}`, median(`${kernel}/ping`, metric), median("vde/ping", metric));
    }
  }
  for (const metric of ["tcpBitsPerSecond", "tcpBackBitsPerSecond"]) {
    put(`xen-tap/tap ${metric}`, median("xen-tap/tcp", metric), median("tap/tcp", metric));
  }
  return ratios;
}

/** 1234567 as "1.23 M": three significant digits. */
function short(value: number): string {
  if (!Number.isFinite(value)) return "-";
  for (const [unit, size] of [
    ["G", 1e9],
    ["M", 1e6],
    ["k", 1e3],
  ] as const) {
    if (Math.abs(value) >= size) return `${(value / size).toPrecision(3)} ${unit}`;
  }
  return Number.isInteger(value) ? String(value) : value.toPrecision(3);
}

function row(name: string, metric: string, samples: Samples): string {
  const range = `${short(samples.min)} to ${short(samples.max)}`;
  return `${name.padEnd(27)} ${metric.padEnd(24)} ${short(samples.median).padStart(8)}   ${range}\n`;
}

export function report(machine: Machine, options: RunOptions, outcomes: Outcomes): Report {
  const ratios = ratiosOf(outcomes);
  const gigabytes = Math.round(machine.memoryBytes / 2 ** 30);

  let text = `${machine.cpu}, ${machine.cores} cores, ${gigabytes} GiB, Linux ${machine.kernel}, `;
  text += `Node ${machine.node}, load ${machine.load.toFixed(2)} before\n`;
  text += `${options.reps} repetitions of ${options.seconds} s, round robin; `;
  text += `receive rings of ${options.ringSize}; client mask ${options.zeroMask ? "zero" : "random"}; median, then min to max\n\n`;
  for (const [name, outcome] of outcomes) {
    for (const [metric, samples] of outcome.samples) {
      // Drop reasons with a count of 0 get no row; --json has them.
      if (metric.startsWith("drop_") && samples.max === 0) continue;
      text += row(name, metric, samples);
    }
    if (outcome.failure !== undefined) {
      text += `${name.padEnd(27)} not measured: ${outcome.failure.split("\n")[0]}\n`;
    }
  }
  text += "\n";
  for (const kind of ["limit", "limit-copy"]) {
    for (const size of FRAME_SIZES) {
      const best = bestLimit(outcomes, kind, size);
      if (best === undefined) continue;
      const gbits = (best.framesPerSecond * size * 8) / 1e9;
      text += `${`${kind} ${size} B`.padEnd(45)} ${short(best.framesPerSecond).padStart(8)}`;
      text += ` frames/s = ${gbits.toFixed(2)} Gbit/s, at batches of ${best.batch}\n`;
    }
  }
  for (const [name, value] of Object.entries(ratios)) {
    text += `${name.padEnd(45)} ${value.toPrecision(3).padStart(8)}\n`;
  }

  const variants = Object.fromEntries(
    [...outcomes].map(([name, outcome]) => [
      name,
      {
        ...(outcome.failure === undefined ? {} : { failure: outcome.failure }),
        metrics: Object.fromEntries(
          [...outcome.samples].map(([metric, { median, min, max, values }]) => [
            metric,
            { median, min, max, values },
          ]),
        ),
      },
    ]),
  );
  const limits = Object.fromEntries(
    ["limit", "limit-copy"].flatMap((kind) =>
      FRAME_SIZES.map((size) => [`${kind} ${size} B`, bestLimit(outcomes, kind, size)]),
    ),
  );
  const { reps, seconds, ringSize, zeroMask } = options;
  return { text, json: { machine, reps, seconds, ringSize, zeroMask, limits, ratios, variants } };
}
