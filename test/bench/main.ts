/**
 * npm run bench: measures the limit, the product and its peers in one run. Prints figures and
 * asserts nothing. README.md in this folder explains what is measured.
 */
import process from "node:process";
import { parseArgs } from "node:util";
import { whyNoNamespaces } from "../support/netns.ts";
import { captureVariants } from "./capture.ts";
import { writerVariants } from "./capture-writer.ts";
import { httpAttacks } from "./http-attack.ts";
import { BATCHES, measureLimit } from "./limit.ts";
import { describeMachine } from "./machine.ts";
import { FRAME_SIZES, NETMAP_SETUPS, report } from "./report.ts";
import { measureRing } from "./ring.ts";
import {
  measurePing,
  measureTcp,
  type Segment,
  tapSegment,
  vdeSegment,
  vethSegment,
} from "./segment.ts";
import { runAll, type Variant } from "./variant.ts";

const GROUPS = [
  ...["limit", "ring", "netmap", "capture", "capture-writer", "tap", "ping"],
  ...["xen", "xen-tap", "xen-ping", "vde", "veth"],
] as const;

const HELP = `npm run bench
npm run bench -- http    what a stranger at the HTTP side costs the NICs
npm run bench -- --only limit,ring --reps 5
npm run bench -- --json > figures.json

  --only GROUPS   ${GROUPS.join(",")}: some of them, with commas
  --reps N        repetitions of everything, round robin (3)
  --seconds N     length of one measurement (2)
  --ring-size N   entries of each receive ring in ring to ring and netmap (4096, the driver's)
  --zero-mask     mask with the zero key, in the limit and in the product
  --json          all figures on stdout; without it a table
`;

function positive(text: string, option: string): number {
  const value = Number(text);
  if (!(value > 0)) throw new TypeError(`${option} wants a positive number, not "${text}"`);
  return value;
}

interface Options {
  readonly groups: ReadonlySet<string>;
  readonly reps: number;
  readonly seconds: number;
  readonly ringSize: number;
  readonly zeroMask: boolean;
  readonly json: boolean;
}

function readOptions(): Options {
  const { values } = parseArgs({
    options: {
      only: { type: "string", default: GROUPS.join(",") },
      reps: { type: "string", default: "3" },
      seconds: { type: "string", default: "2" },
      "ring-size": { type: "string", default: "4096" },
      "zero-mask": { type: "boolean", default: false },
      json: { type: "boolean", default: false },
      help: { type: "boolean", short: "h", default: false },
    },
  });
  if (values.help) {
    process.stdout.write(HELP);
    process.exit(0);
  }
  const groups = new Set(values.only.split(","));
  for (const group of groups) {
    if (!(GROUPS as readonly string[]).includes(group)) {
      throw new TypeError(`--only knows ${GROUPS.join(", ")}, not "${group}"`);
    }
  }
  return {
    groups,
    reps: Math.ceil(positive(values.reps, "--reps")),
    seconds: positive(values.seconds, "--seconds"),
    ringSize: positive(values["ring-size"], "--ring-size"),
    zeroMask: values["zero-mask"],
    json: values.json,
  };
}

function allVariants({ seconds, zeroMask, ringSize }: Options): Variant[] {
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
    for (const whenFull of ["drop", "hold"] as const) {
      variants.push({
        name: `${whenFull === "drop" ? "ring" : "ring-hold"}/${frameBytes}`,
        group: "ring",
        run: () => measureRing({ frameBytes, seconds, zeroMask, ringSize, whenFull }),
      });
      const frontend = { script: "test/bench/ring-worker.ts", args: ["--driver", "xen"] };
      variants.push({
        name: `${whenFull === "drop" ? "xen" : "xen-hold"}/${frameBytes}`,
        group: "xen",
        run: () => measureRing({ frameBytes, seconds, zeroMask, ringSize, whenFull, frontend }),
      });
    }
    for (const { name, rings, worker } of NETMAP_SETUPS) {
      const args = ["--rings", String(rings), ...(worker ? ["--worker"] : [])];
      const frontend = { script: "test/bench/netmap-worker.ts", args };
      variants.push({
        name: `${name}/${frameBytes}`,
        group: "netmap",
        run: () =>
          measureRing({ frameBytes, seconds, zeroMask, ringSize, whenFull: "hold", frontend }),
      });
    }
  }

  variants.push(...captureVariants(FRAME_SIZES, { seconds, zeroMask, ringSize }));
  variants.push(...writerVariants(seconds));

  const segments: [string, () => Promise<Segment>][] = [
    ["tap", () => tapSegment(zeroMask, "ena")],
    ["xen-tap", () => tapSegment(zeroMask, "xen")],
    ["vde", vdeSegment],
    ["veth", vethSegment],
  ];
  for (const [name, create] of segments) {
    const tcp = async () => {
      await using segment = await create();
      return await measureTcp(segment, Math.ceil(seconds));
    };
    const roundTrips = async () => {
      await using segment = await create();
      return await measurePing(segment);
    };
    variants.push({ name: `${name}/tcp`, group: name, run: tcp });
    // The product's round trips are a group of their own; those of another program belong to its
    // group.
    const pings = { tap: "ping", "xen-tap": "xen-ping" }[name] ?? name;
    variants.push({ name: `${name}/ping`, group: pings, run: roundTrips });
  }
  return variants;
}

async function main(): Promise<void> {
  const options = readOptions();
  const machine = describeMachine();
  const talk = (text: string) => process.stderr.write(`${text}\n`);

  let variants = allVariants(options).filter((variant) => options.groups.has(variant.group));
  const reason = whyNoNamespaces();
  if (reason !== undefined) {
    const inside = ["limit", "ring", "netmap", "capture", "capture-writer", "xen"];
    talk(`without ${GROUPS.filter((group) => !inside.includes(group)).join(", ")}: ${reason}`);
    variants = variants.filter(({ group }) => inside.includes(group));
  }

  const outcomes = await runAll(variants, options.reps, talk);
  const result = report(machine, options, outcomes);
  process.stdout.write(options.json ? `${JSON.stringify(result.json, null, 2)}\n` : result.text);
}

try {
  const [group, ...args] = process.argv.slice(2);
  if (group === "http") await httpAttacks(args);
  else await main();
} catch (error) {
  if (!(error instanceof TypeError)) throw error;
  process.stderr.write(`${error.message}\n${HELP}`);
  process.exitCode = 2;
}
