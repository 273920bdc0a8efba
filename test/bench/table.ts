/** --table: the performance table of the project's README, as Markdown. */
import type { Figures } from "./figures.ts";
import { short } from "./format.ts";
import { bestLimit } from "./ratios.ts";
import { type Outcomes, ratio } from "./variant.ts";

const COLUMNS = ["ena", "xen"] as const;
type Column = (typeof COLUMNS)[number];

const gbits = (bitsPerSecond: number): string => `${(bitsPerSecond / 1e9).toFixed(2)} Gbit/s`;
const ms = (us: number): string =>
  us < 1000 ? `${Math.round(us)} µs` : `${(us / 1000).toFixed(1)} ms`;
const times = (value: number): string => (value < 10 ? value.toPrecision(2) : value.toFixed(0));

/** A row: its name, the peer of its ratios, and the cell of a column, undefined when not measured. */
interface Row {
  readonly what: string;
  readonly cell: (column: Column) => string | undefined;
}

/** The rows of a table whose cells were measured, at least one each. */
function markdown(head: readonly string[], rows: readonly Row[]): string {
  const lines = rows
    .map(({ what, cell }) => ({ what, cells: COLUMNS.map((column) => cell(column) ?? "–") }))
    .filter(({ cells }) => cells.some((text) => text !== "–"))
    .map(({ what, cells }) => `| ${what} | ${cells.join(" | ")} |\n`);
  if (lines.length === 0) return "";
  return `| ${head.join(" | ")} |\n| ${head.map(() => "---").join(" | ")} |\n${lines.join("")}\n`;
}

function tapRows(outcomes: Outcomes): Row[] {
  const row = (
    what: string,
    metric: string,
    show: (value: number) => string,
    peer: string,
    name: string,
  ): Row => ({
    what,
    cell: (column) => {
      const value = outcomes.get(`tap/${column}`)?.median(metric);
      if (value === undefined || Number.isNaN(value)) return undefined;
      const of = ratio(outcomes, `tap/${column}`, `tap/${peer}`, metric);
      return Number.isNaN(of) ? show(value) : `${show(value)}, ${times(of)} × ${name}`;
    },
  });
  const floor = "floor";
  const seconds = (value: number) => `${value.toPrecision(2)} s`;
  const rate = (value: number) => `${short(value).replace(" ", "\u00a0")} frames/s`;
  return [
    row("ping each 4 ms, median", "pingP50Us", ms, "vde2", "`vde2`"),
    row("ping each 4 ms, 99 %", "pingP99Us", ms, "vde2", "`vde2`"),
    row("ping, processes just started", "freshP50Us", ms, "vde2", "`vde2`"),
    row("flood of pings, median", "floodP50Us", ms, "vde2", "`vde2`"),
    row("processor time of a ping", "pingCpuUs", ms, "floor-node", floor),
    row("context switches of a ping", "pingSwitches", times, "floor-node", floor),
    row("TCP, one stream, there", "tcpBitsPerSecond", gbits, "vtun", "`vtun`"),
    row("TCP, one stream, back", "tcpBackBitsPerSecond", gbits, "vtun", "`vtun`"),
    row("processor time of a GB of TCP", "tcpCpuSecondsPerGB", seconds, "vtun", "`vtun`"),
    row("small UDP that arrives", "udpFramesPerSecond", rate, "vtun", "`vtun`"),
    row(
      "processor time of a million small frames",
      ...(["udpCpuSecondsPerMFrames", seconds, "vtun", "`vtun`"] as const),
    ),
    row("memory of all processes", "rssBytes", (bytes) => `${Math.round(bytes / 1e6)} MB`, "", ""),
  ];
}

function ringRows(outcomes: Outcomes): Row[] {
  const row = (what: string, variants: Partial<Record<Column, string>>, size: number): Row => ({
    what,
    cell: (column) => {
      const variant = `${variants[column]}/${size}`;
      const value = outcomes.get(variant)?.median("framesPerSecond");
      if (value === undefined || Number.isNaN(value)) return undefined;
      const limits = [
        ["limit", "limit"],
        ["limit-copy", "limit with a copy"],
      ].flatMap(([kind, words]) => {
        const best = bestLimit(outcomes, kind!, size);
        if (best === undefined) return [];
        return [`${times(value / best.framesPerSecond)} × ${words}`];
      });
      const each = outcomes.get(variant)!.median("cpuSecondsPerMFrames");
      return [`${short(value)} frames/s`, `${each.toPrecision(2)} µs each`, ...limits].join(", ");
    },
  });
  return [60, 1514].flatMap((size) => [
    row(`ring to ring, ${size} bytes`, { ena: "ring", xen: "xen" }, size),
    row(`netmap, 1 ring, ${size} bytes`, { ena: "netmap-1" }, size),
    row(`netmap, 4 rings, ${size} bytes`, { ena: "netmap-4" }, size),
  ]);
}

function growthRows(outcomes: Outcomes): Row[] {
  const row = (what: string, of: string, metric: string, show: (value: number) => string): Row => ({
    what,
    cell: (column) => {
      const value = outcomes.get(`growth/${column}-${of}`)?.median(metric);
      return value === undefined || Number.isNaN(value) ? undefined : show(value);
    },
  });
  const kb = (bytes: number) => `${Math.round(bytes / 1e3)} KB`;
  const mb = (bytes: number) => `${Math.round(bytes / 1e6)} MB`;
  const percent = (value: number) => `${value.toPrecision(2)} %`;
  return [
    row("memory of the device for a NIC, of 1000", "1000", "rssBytesPerNic", kb),
    row("idle device with 1000 NICs, of one core", "1000", "idleCpuPercent", percent),
    row("a broadcast to 254 NICs, processor time", "254", "broadcastCpuMs", (v) => ms(v * 1000)),
    row("memory of an idle frontend", "frontend", "rssBytes", mb),
  ];
}

/** The worst floods by the rate that is left to the honest pair. */
function floodLines(outcomes: Outcomes): string {
  const WORST = 5;
  const floods = [...outcomes]
    .filter(([name]) => /^(neighbours|http)\/(?!none$)/.test(name))
    .filter(([, { samples }]) => samples.has("rateRatio"))
    .sort(([, a], [, b]) => a.median("rateRatio") - b.median("rateRatio"));
  if (floods.length === 0) return "";
  const lines = floods.slice(0, WORST).map(([name, of]) => {
    const [rate, p99, turn] = ["rateRatio", "p99Ratio", "longestTurnMs"].map((m) => of.median(m));
    return `| ${name.split("/")[1]} | ${rate!.toFixed(2)} | ${times(p99!)} | ${times(turn!)} ms |\n`;
  });
  return `| the worst ${lines.length} of ${floods.length} floods | rate of the pair / before | its p99 / before | longest turn |\n| --- | --- | --- | --- |\n${lines.join("")}\n`;
}

export function tableText({ machine, options, outcomes }: Figures): string {
  const head = (first: string) => [first, "ENA", "Xen"];
  const { cpu, cores, node } = machine;
  return (
    markdown(head("TAP to TAP"), tapRows(outcomes)) +
    markdown(head("without a kernel"), ringRows(outcomes)) +
    markdown(head("many NICs"), growthRows(outcomes)) +
    floodLines(outcomes) +
    `${cores} cores of ${cpu}, Node ${node}, ${options.rounds} rounds of ${options.seconds} s, medians.\n`
  );
}
