/** `ringwire lb`: distributes a port's flows to pipes. A thread of this process reads each pipe. */

import { resolve } from "node:path";
import { Worker } from "node:worker_threads";
import { Command } from "commander";
import * as z from "zod";
import { Control, type Counts } from "../../frontend/apps/app.ts";
import { totalOf, totalText } from "../../frontend/apps/report.ts";
import { runApp, runInWorker } from "../../frontend/apps/run.ts";
import type { NmPort } from "../../frontend/netmap/descriptor.ts";
import { statsOf } from "../capture/output.ts";
import { begin } from "../common/begin.ts";
import { ExitCode, Failure, messageOf } from "../common/failure.ts";
import { NicShape } from "../common/nic.ts";
import { CommonShape, completed, whole } from "../common/options.ts";
import type { Output } from "../common/output.ts";
import { newCounts, type Running, STYLE, whileRunning } from "./netmap-run.ts";
import { addPortFlags, PortSet, portName } from "./port-set.ts";

const Shape = z.object({
  ...CommonShape,
  ...NicShape,
  interface: portName,
  pipes: whole(1, 64).default(2),
  burst: whole(1, 8192).default(2048),
  waitLink: whole(0, 100).default(0),
  reportMs: whole(10, 1_000_000).default(1000),
  app: z.string().optional(),
  worker: z.boolean().default(false),
});
type Options = z.infer<typeof Shape>;

export function lbCommand(): Command {
  const command = new Command("lb")
    .description(
      "Distributes a port's frames to pipes by flow. A thread of its own reads each pipe.",
    )
    .option("-i, --interface <port>", "netmap port name: netmap:ena0, or ena0 for short ...")
    .option("-p, --pipes <n>", "number of pipes (2)")
    .option("-b, --burst <n>", "packets moved in one turn of the loop (2048)")
    .option("-w, --wait-link <s>", "seconds to pause between link up and start (0)")
    .option("-T, --report-ms <ms>", "time between two reports (1000)")
    .option(
      "--app <file>",
      "module to run in the thread of each pipe, which gets the pipe's end in workerData (a counter of packets)",
    )
    .option("--worker", "run the distribution in a worker thread, too");
  return completed(addPortFlags(command), EXAMPLES, Shape, runLb);
}

const EXAMPLES = `Examples:
  ringwire lb -i netmap:ena0 -p 4 --connect HOST:7700
      four counters, by flow
  ringwire lb -i netmap:ena0 -p 4 --app ./sensor.js --connect HOST:7700
      four of your own:
      import { workerData } from "node:worker_threads";
      import { nmAttach, Poll } from "ringwire/netmap";
      const port = nmAttach(workerData);
      while ((port.pollSync(Poll.IN, -1) & Poll.ERR) === 0) {
        ... port.rxRing(0) ...
      }
`;

async function runLb(options: Options): Promise<void> {
  const begun = begin(options);
  const { output } = begun;
  const { interface: name, pipes, app } = options;
  if (app !== undefined) checkApp(app);
  await using set = new PortSet(options, begun);
  if (!(await set.connect([name]))) return;
  const base = pipeBase(name);
  const numbers = Array.from({ length: pipes }, (_, k) => k);
  set.reserve([name, ...numbers.map((k) => `${base}{${k}`)]);
  const input = await set.open(name, { pipes });
  const ports = [input];
  const ends: NmPort[] = [];
  for (const k of numbers) {
    ports.push(await set.open(`${base}{${k}`));
    ends.push(await set.open(`${base}}${k}`));
  }
  await set.settled();
  output.event(`${name} to ${pipes} pipes`, {
    event: "ready",
    interface: name,
    pipes,
    pid: process.pid,
  });
  const counts = newCounts(ports.length);
  const running = {
    ...options,
    ...begun,
    gaveUp: set.gaveUp,
    control: new Control(),
    style: STYLE,
  };
  await run(options, ports, ends, counts, { ...running, counts: counts.slice(0, 1) });
  tell(base, counts, set, output);
}

/** Throws Failure when `path` is not a file. */
function checkApp(path: string): void {
  const stats = statsOf(path);
  if (stats === undefined) throw new Failure(`--app: there is no file ${path}`, ExitCode.USAGE);
  if (!stats.isDirectory()) return;
  throw new Failure(`--app: ${path} is a folder: name a file`, ExitCode.USAGE);
}

/** Returns the port that carries the pipes: "netmap:ena0" for "netmap:ena0-1/x". */
function pipeBase(name: string): string {
  if (/[{}]/.test(name)) {
    throw new Failure(`-i ${name}: a pipe has no pipes of its own`, ExitCode.USAGE);
  }
  return /^[^:]*:[^-*^/@]*/.exec(name)![0];
}

async function run(
  options: Options,
  ports: readonly NmPort[],
  ends: readonly NmPort[],
  counts: readonly Counts[],
  running: Running,
): Promise<void> {
  const { control } = running;
  const { burst } = options;
  const start = options.worker ? runInWorker : runApp;
  const readers = ends.map((end, k) => new Reader(end, options.app, k));
  const failed = Promise.race(readers.map((reader) => reader.failed));
  const work = control
    .sleep(options.waitLink * 1000)
    .then(() => start({ app: "lb", burst }, ports, counts, control));
  void failed.catch(() => control.stop());
  try {
    await whileRunning(work, running);
  } finally {
    await Promise.all(readers.map((reader) => reader.end()));
  }
  await Promise.race([failed, Promise.resolve()]);
}

/** The thread at the far end of a pipe: the user's module, or a counter. */
class Reader {
  /** Rejects with Failure when the thread throws. */
  readonly failed: Promise<never>;
  readonly #end: NmPort;
  readonly #worker: Worker;
  readonly #exited: Promise<void>;

  constructor(end: NmPort, app: string | undefined, k: number) {
    this.#end = end;
    const file = app === undefined ? COUNTER : resolve(app);
    this.#worker = new Worker(file, { name: `pipe ${k}`, workerData: end.share() });
    this.failed = new Promise((_resolve, reject) => {
      this.#worker.on("error", (error) => {
        reject(new Failure(`--app ${app ?? "counter"}, pipe ${k}: ${messageOf(error)}`));
      });
    });
    this.#exited = new Promise((done) => this.#worker.on("exit", () => done()));
  }

  /** Closes the port, which ends pollSync with Poll.ERR. Terminates a thread that does not end. */
  async end(): Promise<void> {
    await this.#end.close();
    const timer = setTimeout(() => void this.#worker.terminate(), GRACE_MS);
    await this.#exited;
    clearTimeout(timer);
  }
}

const GRACE_MS = 1000;
const COUNTER = new URL(
  import.meta.url.endsWith(".ts")
    ? "../../frontend/apps/drain-worker.ts"
    : "../../frontend/apps/drain-worker.js",
  import.meta.url,
);

function tell(base: string, counts: readonly Counts[], set: PortSet, output: Output): void {
  const [input, ...pipes] = counts.map((count) => totalOf([count]));
  output.value({
    event: "result",
    input,
    pipes: pipes.map(({ packets, bytes, drops }, k) => ({
      name: `${base}{${k}`,
      packets,
      bytes,
      drops,
    })),
    ...set.counters(),
  });
  for (const line of totalText("Received", input!, STYLE)) output.text(line);
  for (const [k, { packets, bytes, drops }] of pipes.entries()) {
    output.text(`${base}{${k}: ${packets} packets ${bytes} bytes, ${drops} dropped`);
  }
}
