/** --svg FILE: the figures as a picture. Bars are medians, thin lines go from min to max. */
import type { Figures } from "./figures.ts";
import { short } from "./format.ts";
import type { Histogram } from "./histogram.ts";
import type { Samples } from "./stats.ts";
import { BASE, type Outcomes } from "./variant.ts";

const WIDTH = 760;
const LABEL = 230;
const VALUE = 80;
const ROW = 18;
const TITLE = 34;
const PLOT = WIDTH - LABEL - VALUE;
const CURVES_HEIGHT = 260;
const COLORS = "#0b6 #06c #c60 #a0a #888 #c22 #088 #660 #444 #39f #f39 #9c3".split(" ");

const escaped = (text: string): string => text.replace(/[&<>"]/g, (c) => `&#${c.charCodeAt(0)};`);

function text(x: number, y: number, words: string, more = ""): string {
  return `<text x="${x}" y="${y}" ${more}>${escaped(words)}</text>`;
}

function line(x1: number, y1: number, x2: number, y2: number, color: string): string {
  const at = [x1, y1, x2, y2].map((n) => n.toFixed(1));
  return `<line x1="${at[0]}" y1="${at[1]}" x2="${at[2]}" y2="${at[3]}" stroke="${color}"/>`;
}

/** A panel: its elements, drawn from y = 0, and its height. */
interface Panel {
  readonly elements: string;
  readonly height: number;
}

/** Horizontal bars of one metric. */
function bars(title: string, rows: readonly (readonly [string, Samples])[]): Panel {
  const most = Math.max(...rows.map(([, { max }]) => max), Number.MIN_VALUE);
  const x = (value: number) => LABEL + (Math.max(value, 0) / most) * PLOT;
  const drawn = rows.map(([label, { median, min, max }], i) => {
    const y = TITLE + i * ROW;
    const color = label.startsWith(BASE) ? "#bbb" : "#06c";
    const length = (x(median) - LABEL).toFixed(1);
    return [
      text(LABEL - 6, y + 12, label, 'text-anchor="end"'),
      `<rect x="${LABEL}" y="${y + 3}" width="${length}" height="${ROW - 6}" fill="${color}"/>`,
      line(x(min), y + ROW / 2, x(max), y + ROW / 2, "#000"),
      text(x(max) + 6, y + 12, short(median)),
    ].join("");
  });
  const head = text(0, TITLE - 10, title, 'font-weight="bold"');
  return { elements: head + drawn.join("\n"), height: TITLE + rows.length * ROW + 10 };
}

/** Cumulative distributions over a logarithmic axis. */
function curves(title: string, series: readonly (readonly [string, Histogram])[]): Panel {
  const points = series.map(([, histogram]) => histogram.cumulative());
  const values = points.flat().map(([value]) => value);
  const [low, high] = [Math.log2(Math.min(...values)), Math.log2(Math.max(...values))];
  const x = (value: number) => LABEL + ((Math.log2(value) - low) / (high - low || 1)) * PLOT;
  const y = (share: number) => TITLE + (1 - share) * CURVES_HEIGHT;
  const paths = points.map((of, i) => {
    const at = of.map(([value, share]) => `${x(value).toFixed(1)},${y(share).toFixed(1)}`);
    return `<polyline points="${at.join(" ")}" fill="none" stroke="${COLORS[i % COLORS.length]}" stroke-width="1.5"/>`;
  });
  const names = series.map(([label], i) =>
    text(
      LABEL - 40,
      TITLE + 14 + i * ROW,
      label,
      `text-anchor="end" fill="${COLORS[i % COLORS.length]}"`,
    ),
  );
  const shares = [0, 0.5, 0.9, 1].map(
    (share) =>
      line(LABEL, y(share), LABEL + PLOT, y(share), "#ddd") +
      text(LABEL - 6, y(share) + 4, `${share * 100} %`, 'text-anchor="end"'),
  );
  const ticks = Array.from({ length: Math.floor(high) - Math.ceil(low) + 1 }, (_, i) => {
    const value = 2 ** (Math.ceil(low) + i);
    return text(x(value), y(0) + 14, short(value), 'text-anchor="middle" font-size="10"');
  });
  const head = text(0, TITLE - 10, title, 'font-weight="bold"');
  const elements = [head, ...shares, ...names, ...ticks, ...paths].join("\n");
  return { elements, height: y(0) + 28 };
}

/** Metrics by group that are worth a panel; of other groups the rate. */
const SHOWN: Readonly<Record<string, readonly string[]>> = {
  tap: [
    ...["pingP50Us", "floodP50Us", "pingCpuUs", "pingSwitches", "tcpBitsPerSecond"],
    ...["tcpBackBitsPerSecond", "tcpCpuSecondsPerGB", "udpFramesPerSecond"],
    ...["udpCpuSecondsPerMFrames", "rssBytes"],
  ],
  growth: ["rssBytesPerNic", "idleCpuPercent", "broadcastCpuMs"],
  neighbours: ["rateRatio", "p99Ratio", "longestTurnMs"],
  http: ["rateRatio", "p99Ratio", "longestTurnMs"],
};
const RATE = ["framesPerSecond"];

function panelsOf(outcomes: Outcomes): Panel[] {
  const groups = Map.groupBy(outcomes, ([name]) => name.replace(BASE, "").split("/")[0]!);
  const panels: Panel[] = [];
  for (const [group, members] of groups) {
    for (const metric of SHOWN[group] ?? RATE) {
      const rows = members.flatMap(([name, { samples }]) => {
        const of = samples.get(metric);
        return of === undefined ? [] : [[name, of] as const];
      });
      if (rows.length > 0) panels.push(bars(`${group}: ${metric}`, rows));
    }
    const metrics = new Set(members.flatMap(([, { distributions }]) => [...distributions.keys()]));
    for (const metric of metrics) {
      const series = members.flatMap(([name, { distributions }]) => {
        const of = distributions.get(metric);
        return of === undefined ? [] : [[name, of] as const];
      });
      panels.push(curves(`${group}: ${metric}, share of values below`, series));
    }
  }
  return panels;
}

export function svgText({ machine, options, outcomes }: Figures): string {
  const { cpu, cores, kernel, node } = machine;
  const caption = `${cpu}, ${cores} cores, Linux ${kernel}, Node ${node}; ${options.rounds} rounds`;
  let y = 30;
  let body = text(0, 18, caption);
  for (const { elements, height } of panelsOf(outcomes)) {
    body += `\n<g transform="translate(0 ${y})">\n${elements}\n</g>`;
    y += height;
  }
  const size = `width="${WIDTH + 20}" height="${Math.ceil(y)}" viewBox="-10 0 ${WIDTH + 20} ${Math.ceil(y)}"`;
  return `<svg xmlns="http://www.w3.org/2000/svg" ${size} font-family="sans-serif" font-size="12">\n<rect x="-10" width="100%" height="100%" fill="#fff"/>\n${body}\n</svg>\n`;
}
