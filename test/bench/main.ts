/**
 * npm run bench: measures the limit, the product and its peers in one run. Prints figures and
 * asserts nothing. README.md in this folder explains what is measured.
 */
import { writeFileSync } from "node:fs";
import { resolve } from "node:path";
import process from "node:process";
import { parseArgs } from "node:util";
import { whyNoNamespaces } from "../support/netns.ts";
import { captureVariants } from "./capture.ts";
import { writerVariants } from "./capture-writer.ts";
import { compareText } from "./compare.ts";
import { type Figures, type RunOptions, readFigures, toJson } from "./figures.ts";
import { growthVariants } from "./growth.ts";
import { BATCHES, measureLimit } from "./limit.ts";
import { describeMachine } from "./machine.ts";
import { neighbourVariants } from "./neighbours.ts";
import { reportText } from "./report.ts";
import { measureRing, type RingOptions } from "./ring.ts";
import { candidates } from "./segment.ts";
import { FRAME_SIZES, NETMAP_SETUPS } from "./setups.ts";
import { svgText } from "./svg.ts";
import { tableText } from "./table.ts";
import { PARTS, runTap } from "./tap.ts";
import { BASE, runAll, type Variant } from "./variant.ts";

/** Groups that run when none is named. */
const USUAL = ["limit", "ring", "netmap", "capture", "capture-writer", "xen", "tap"] as const;
const GROUPS = [...USUAL, "tls", "growth", "neighbours", "http"] as const;

const HELP = `npm run bench                           ${USUAL.join(" ")}
npm run bench -- tap                    one group
npm run bench -- tap/ena ring/60        single rows
npm run bench -- tap --base ../before   the same with another built checkout in turns
npm run bench -- tls ring xen           ring to ring with TLS, and without
npm run bench -- growth                 1 to 1000 idle NICs
npm run bench -- neighbours http        an honest pair beside each flood

  --base DIR      root folder of another built checkout of this project
  --rounds N      repetitions of everything, in turns (3)
  --seconds N     length of one measurement (2)
  --slices N      measurements of each row of group tap in one round, in turns (2)
  --parts PARTS   of group tap, with commas: ${PARTS.join(",")}
  --nice N        niceness of the attackers in groups neighbours and http (15)
  --ring-size N   entries of each receive ring in ring to ring and netmap (4096, the driver's)
  --zero-mask     mask with the zero key, in the limit and in the product

  --json FILE     also writes all figures to FILE
  --svg FILE      also draws them
  --compare FILE  says what is better, the same or worse than in FILE, which --json wrote
  --table         prints the tables of the project's README instead of the report
  --from FILE     measures nothing and takes the figures from FILE, which --json wrote
`;

function positive(text: string, option: string): number {
  const value = Number(text);
  if (!(value > 0)) throw new TypeError(`${option} wants a positive number, not "${text}"`);
  return value;
}

const talk = (text: string) => process.stderr.write(`${text}\n`);

interface Options extends RunOptions {
  /** Names of groups and of single rows. */
  readonly wanted: readonly string[];
  readonly base: string | undefined;
  readonly parts: ReadonlySet<string>;
  readonly json: string | undefined;
  readonly svg: string | undefined;
  readonly compare: string | undefined;
  readonly from: string | undefined;
  readonly table: boolean;
}

/** The names in a list with commas. Throws on a name that is not among `known`. */
function namesOf(list: string, option: string, known: readonly string[]): Set<string> {
  const names = new Set(list.split(","));
  for (const name of names) {
    if (!known.includes(name)) {
      throw new TypeError(`${option} knows ${known.join(", ")}, not "${name}"`);
    }
  }
  return names;
}

function readOptions(): Options {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      base: { type: "string" },
      rounds: { type: "string", default: "3" },
      seconds: { type: "string", default: "2" },
      slices: { type: "string", default: "2" },
      nice: { type: "string", default: "15" },
      parts: { type: "string", default: PARTS.join(",") },
      "ring-size": { type: "string", default: "4096" },
      "zero-mask": { type: "boolean", default: false },
      json: { type: "string" },
      svg: { type: "string" },
      compare: { type: "string" },
      from: { type: "string" },
      table: { type: "boolean", default: false },
      help: { type: "boolean", short: "h", default: false },
    },
  });
  if (values.help) {
    process.stdout.write(HELP);
    process.exit(0);
  }
  const { json, svg, compare, from, table, "zero-mask": zeroMask } = values;
  return {
    wanted: positionals.length === 0 ? USUAL : positionals,
    base: values.base === undefined ? undefined : resolve(values.base),
    rounds: Math.ceil(positive(values.rounds, "--rounds")),
    seconds: positive(values.seconds, "--seconds"),
    slices: Math.ceil(positive(values.slices, "--slices")),
    nice: Number(values.nice),
    parts: namesOf(values.parts, "--parts", PARTS),
    ringSize: positive(values["ring-size"], "--ring-size"),
    ...{ zeroMask, json, svg, compare, from, table },
  };
}

function allVariants({ base, seconds, nice, zeroMask, ringSize }: Options): Variant[] {
  const variants: Variant[] = [];
  for (const frameBytes of FRAME_SIZES) {
    for (const copy of [false, true]) {
      for (const batch of BATCHES) {
        variants.push({
          name: `${copy ? "limit-copy" : "limit"}/${frameBytes}x${batch}`,
          group: "limit",
          run: async () => ({
            framesPerSecond: await measureLimit({ frameBytes, batch, seconds, copy, zeroMask }),
          }),
        });
      }
    }
    const shared = { frameBytes, seconds, zeroMask, ringSize };
    const both = (
      name: string,
      group: string,
      rest: Pick<RingOptions, "whenFull" | "frontend">,
    ) => {
      for (const tree of base === undefined ? [undefined] : [undefined, base]) {
        variants.push({
          name: `${tree === undefined ? "" : BASE}${name}/${frameBytes}`,
          group,
          run: () => measureRing({ ...shared, ...rest, tree }),
        });
      }
    };
    const frontend = { script: "test/bench/ring-worker.ts", args: ["--driver", "xen"] };
    for (const [name, rest] of [
      ["tls-ena", {}],
      ["tls-xen", { frontend }],
    ] as const) {
      variants.push({
        name: `${name}/${frameBytes}`,
        group: "tls",
        run: () => measureRing({ ...shared, ...rest, whenFull: "hold", tls: true }),
      });
    }
    for (const whenFull of ["drop", "hold"] as const) {
      both(whenFull === "drop" ? "ring" : "ring-hold", "ring", { whenFull });
      both(whenFull === "drop" ? "xen" : "xen-hold", "xen", { whenFull, frontend });
    }
    for (const { name, rings, worker } of NETMAP_SETUPS) {
      const args = ["--rings", String(rings), ...(worker ? ["--worker"] : [])];
      const frontend = { script: "test/bench/netmap-worker.ts", args };
      both(name, "netmap", { whenFull: "hold", frontend });
    }
  }

  variants.push(...captureVariants(FRAME_SIZES, { seconds, zeroMask, ringSize }));
  variants.push(...writerVariants(seconds));
  for (const tree of base === undefined ? [undefined] : [undefined, base]) {
    variants.push(...growthVariants({ tree }));
    variants.push(...neighbourVariants({ seconds, nice, tree, talk }));
  }
  return variants;
}

/** A row is wanted by the name of its group or by its own, which also selects its base. */
function wants({ wanted }: Options, group: string, name: string): boolean {
  const own = name.replace(BASE, "");
  return [group, name, own].some((word) => wanted.includes(word));
}

async function measured(options: Options): Promise<Figures> {
  const machine = describeMachine();
  const all = allVariants(options);
  const taps = candidates(options);
  const known = [...GROUPS, ...all.map(({ name }) => name), ...taps.map(({ name }) => name)];
  const unknown = options.wanted.find((name) => !known.includes(name));
  if (unknown !== undefined) throw new TypeError(`no group or row is called "${unknown}"`);

  const variants = all.filter(({ group, name }) => wants(options, group, name));
  const outcomes = new Map(await runAll(variants, options.rounds, talk));
  const chosen = taps.filter(({ name }) => wants(options, "tap", name));
  const reason = whyNoNamespaces();
  if (reason !== undefined && chosen.length > 0) talk(`without tap: ${reason}`);
  else {
    for (const [name, outcome] of await runTap(chosen, options, talk)) outcomes.set(name, outcome);
  }
  const { rounds, slices, seconds, ringSize, zeroMask, nice } = options;
  return { machine, options: { rounds, slices, seconds, ringSize, zeroMask, nice }, outcomes };
}

async function main(): Promise<void> {
  const options = readOptions();
  const { from, table, json, svg, compare } = options;
  // Read first, so that a wrong name does not cost a run.
  const before = compare === undefined ? undefined : readFigures(compare);
  const figures = from === undefined ? await measured(options) : readFigures(from);
  process.stdout.write(table ? tableText(figures) : reportText(figures));
  if (before !== undefined) {
    process.stdout.write(`\n${compareText(before.outcomes, figures.outcomes)}`);
  }
  if (json !== undefined) writeFileSync(json, toJson(figures));
  if (svg !== undefined) writeFileSync(svg, svgText(figures));
}

try {
  await main();
} catch (error) {
  if (!(error instanceof TypeError)) throw error;
  process.stderr.write(`${error.message}\n${HELP}`);
  process.exitCode = 2;
}
