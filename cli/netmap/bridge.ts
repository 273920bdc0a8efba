/** `ringwire bridge`: netmap's bridge between two ports, or between a NIC and its host rings. */
import { Command, Option } from "commander";
import * as z from "zod";
import { Control, Counts } from "../../frontend/apps/app.ts";
import { bridge } from "../../frontend/apps/bridge.ts";
import { totalOf, totalText } from "../../frontend/apps/report.ts";
import { shareMemory } from "../../frontend/apps/slots.ts";
import { begin } from "../common/begin.ts";
import { ExitCode, Failure } from "../common/failure.ts";
import { NicShape } from "../common/nic.ts";
import { CommonShape, completed, whole } from "../common/options.ts";
import type { Output } from "../common/output.ts";
import { STYLE, whileRunning } from "./netmap-run.ts";
import { addPortFlags, PortSet, portName } from "./port-set.ts";

const Shape = z.object({
  ...CommonShape,
  ...NicShape,
  interface: z.array(portName).default([]),
  burst: whole(1, 8192).default(1024),
  copy: z.boolean().default(false),
  waitLink: whole(0, 100).default(0),
  loopback: z.boolean().default(false),
  reportMs: whole(10, 1_000_000).default(1000),
});
type Options = z.infer<typeof Shape>;

const collect = (value: string, before: string[]): string[] => [...before, value];

export function bridgeCommand(): Command {
  const command = new Command("bridge")
    .description("netmap's bridge: each port sends what the other receives, without a copy.")
    .addOption(
      new Option(
        "-i, --interface <port>",
        "port to bridge with its host rings; given twice: two ports to bridge",
      )
        .argParser(collect)
        .default([], "none"),
    )
    .option("-b, --burst <n>", "packets moved in one turn of the loop (1024)")
    .option("-c, --copy", "copy packets even where both ports could exchange buffers")
    .option("-w, --wait-link <s>", "seconds to pause between link up and start (0)")
    .option("-L, --loopback", "with one port: send back what it receives")
    .option("-T, --report-ms <ms>", "time between two reports (1000)");
  return completed(addPortFlags(command), EXAMPLES, Shape, runBridge);
}

const EXAMPLES = `Examples:
  sudo ringwire bridge -i netmap:ena0 --tap rw0 --connect HOST:7700
      the kernel, through the NIC's host rings
  ringwire bridge -i netmap:ena0 -i netmap:ena1 --connect HOST:7700
      two NICs of this process
  ringwire bridge -i netmap:ena0 --loopback --connect HOST:7700
      a mirror
`;

/** Returns two ports. One port, or the same twice, is bridged to its host rings, as in netmap. */
function portsOf({ interface: names, loopback, tap }: Options): [string, string] {
  const [a, b = a] = names;
  if (a === undefined || b === undefined || names.length > 2) {
    throw new Failure("-i is needed once or twice: a netmap port name", ExitCode.USAGE);
  }
  if (a !== b) {
    if (loopback) throw new Failure("--loopback goes with one port", ExitCode.USAGE);
    return [a, b];
  }
  if (loopback) return [a, a];
  if (tap === undefined) {
    throw new Failure(
      names.length === 2
        ? `-i ${a} is given twice: as in netmap that bridges it to its host rings, and nobody is behind them without --tap. Name two different ports, or add --tap`
        : `-i ${a} alone is bridged to its host rings, and nobody is behind them without --tap`,
      ExitCode.USAGE,
    );
  }
  return [`${a}^`, a];
}

async function runBridge(options: Options): Promise<void> {
  const names = portsOf(options);
  const begun = begin(options);
  await using set = new PortSet(options, begun);
  if (!(await set.connect(names))) return;
  set.reserve(names);
  const a = await set.open(names[0]);
  const b = names[0] === names[1] ? a : await set.open(names[1]);
  await set.settled();
  const zeroCopy = !options.copy && shareMemory(a, b);
  begun.output.event(`${names[0]} <-> ${names[1]}, ${zeroCopy ? "zero copy" : "by copies"}`, {
    event: "ready",
    ports: names,
    zeroCopy,
    pid: process.pid,
  });
  const counts = [new Counts(), new Counts()] as const;
  const control = new Control();
  const work = control
    .sleep(options.waitLink * 1000)
    .then(() => bridge(a, b, options, counts, control));
  const { gaveUp } = set;
  await whileRunning(work, { ...options, ...begun, gaveUp, control, counts, style: STYLE });
  tell(names, counts, set, begun.output);
}

function tell(
  [a, b]: readonly [string, string],
  counts: readonly [Counts, Counts],
  set: PortSet,
  output: Output,
): void {
  const ways = [
    { from: a, to: b, ...totalOf([counts[0]]) },
    { from: b, to: a, ...totalOf([counts[1]]) },
  ];
  output.value({ event: "result", ways, ...set.counters() });
  for (const way of ways) {
    output.text(`${way.from} -> ${way.to}${way.drops > 0 ? `, ${way.drops} dropped` : ""}`);
    for (const line of totalText("Moved", way, STYLE)) output.text(`  ${line}`);
  }
}
