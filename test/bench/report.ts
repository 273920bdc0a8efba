/** Turns the outcomes into a table and into JSON: absolute figures first, then the ratios. */
import { CAPTURE_SETUPS } from "./capture.ts";
import { WRITER_MODES, WRITER_SIZES, writerName } from "./capture-writer.ts";
import { BATCHES } from "./limit.ts";
import type { Machine } from "./machine.ts";
import type { Samples } from "./stats.ts";
import { BASE, type Outcomes } from "./variant.ts";

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

/** Ratios inside one round of TAP to TAP: of a metric to the same of a peer. */
const TAP_RATIOS: readonly (readonly [peer: string, ...metrics: string[]])[] = [
  ["floor-node", "pingCpuUs", "floodCpuUs", "tcpCpuSecondsPerGB"],
  ["vde2", "freshP50Us", "pingP50Us", "pingP99Us", "floodP50Us", "tcpBitsPerSecond"],
  [
    "vtun",
    ...["tcpBitsPerSecond", "tcpBackBitsPerSecond", "tcpCpuSecondsPerGB", "tcpBackCpuSecondsPerGB"],
    ...["udpFramesPerSecond", "udpCpuSecondsPerMFrames"],
  ],
];

/** Samples by name, such as "tap/ena / tap/vde2 pingP50Us". */
function ratiosOf(outcomes: Outcomes): Map<string, Samples> {
  const ratios = new Map<string, Samples>();
  const put = (of: string, to: string, metric: string, name = `${of} / ${to} ${metric}`) => {
    const [upper, lower] = [outcomes.get(of), outcomes.get(to)];
    if (upper === undefined || lower === undefined) return;
    const samples = upper.over(lower, metric);
    if (Number.isFinite(samples.median)) ratios.set(name, samples);
  };

  for (const size of FRAME_SIZES) {
    for (const ring of [
      "ring",
      "ring-hold",
      "xen",
      "xen-hold",
      ...NETMAP_SETUPS.map(({ name }) => name),
    ]) {
      for (const kind of ["limit", "limit-copy"]) {
        const best = bestLimit(outcomes, kind, size);
        if (best === undefined) continue;
        const name = `${ring} / ${kind} ${size} B`;
        put(`${ring}/${size}`, `${kind}/${size}x${best.batch}`, "framesPerSecond", name);
      }
    }
    for (const { name, args } of CAPTURE_SETUPS) {
      if (args.length === 0) continue;
      put(`${name}/${size}`, `capture-off/${size}`, "framesPerSecond", `${name} / off ${size} B`);
    }
  }
  for (const [frameBytes, snapBytes] of WRITER_SIZES) {
    for (const mode of WRITER_MODES.filter((name) => name !== "copy")) {
      const of = (which: string) => writerName(which, frameBytes, snapBytes);
      const name = `capture-${mode} / copy ${frameBytes} B, ${snapBytes} kept`;
      put(of(mode), of("copy"), "framesPerSecond", name);
    }
  }
  for (const candidate of ["ena", "xen", "floor-node", "floor-c"]) {
    for (const [peer, ...metrics] of TAP_RATIOS) {
      if (peer === candidate) continue;
      for (const metric of metrics) put(`tap/${candidate}`, `tap/${peer}`, metric);
    }
  }
  for (const [name, { samples }] of outcomes) {
    for (const metric of samples.keys()) put(name, BASE + name, metric);
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

const plain = (all: ReadonlyMap<string, Samples>): object =>
  Object.fromEntries(
    [...all].map(([name, { median, min, max, values }]) => [name, { median, min, max, values }]),
  );

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
  for (const [name, samples] of ratios) {
    const range = `${samples.min.toPrecision(3)} to ${samples.max.toPrecision(3)}`;
    text += `${name.padEnd(52)} ${samples.median.toPrecision(3).padStart(8)}   ${range}\n`;
  }

  const variants = Object.fromEntries(
    [...outcomes].map(([name, outcome]) => [
      name,
      {
        ...(outcome.failure === undefined ? {} : { failure: outcome.failure }),
        metrics: plain(outcome.samples),
      },
    ]),
  );
  const limits = Object.fromEntries(
    ["limit", "limit-copy"].flatMap((kind) =>
      FRAME_SIZES.map((size) => [`${kind} ${size} B`, bestLimit(outcomes, kind, size)]),
    ),
  );
  const { reps, seconds, ringSize, zeroMask } = options;
  return {
    text,
    json: {
      ...{ machine, reps, seconds, ringSize, zeroMask, limits },
      ...{ ratios: plain(ratios), variants },
    },
  };
}
