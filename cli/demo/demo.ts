/**
 * `ringwire demo`: a device and two frontends as three processes on this machine, traffic both
 * ways, every frame checked by its receiver. One NIC is ENA, the other Xen.
 *
 *   this process ── stdin, stdout ──┬── ringwire device
 *                                   ├── ringwire exchange ena0
 *                                   └── ringwire exchange xn0
 *
 * The children end when their stdin closes, so no child outlives this process.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { Command } from "commander";
import * as z from "zod";
import type { ExchangeReport } from "../../frontend/apps/exchange.ts";
import type { PortStatus } from "../../shared/status/device-status.ts";
import { begin } from "../common/begin.ts";
import { Failure } from "../common/failure.ts";
import { CommonShape, completed, whole } from "../common/options.ts";
import { bytesText, countText, msText, type Output, table } from "../common/output.ts";
import { childEnvironment, selfCommand } from "../common/self.ts";
import { README } from "../common/version.ts";
import { askStatus } from "../status/ask.ts";
import { dropsOf, sumOf } from "../status/text.ts";
import { DemoCapture, DISSECTOR, type LeftCapture } from "./capture.ts";

const Shape = z.object({
  ...CommonShape,
  seconds: whole(1, 3600).default(3),
  /** Path of the capture; false: no capture; otherwise a file in a temporary folder. */
  capture: z.union([z.string().min(1), z.boolean()]).optional(),
});
type Options = z.infer<typeof Shape>;

const DRIVER_NAMES = { ena: "ENA", xen: "Xen" } as const;
/** The command as the user called it. With npx it may be missing from PATH. */
const COMMAND = process.env["npm_command"] === "exec" ? "npx ringwire" : "ringwire";
const NEXT = [
  [`${COMMAND} device --trace`, "a device that shows all it does"],
  [`${COMMAND} frontend`, "a NIC, in a second terminal"],
  [`${COMMAND} status`, "queues and counters, in a third"],
] as const;
const NEXT_WIDTH = Math.max(...NEXT.map(([what]) => what.length));
/** Time (ms) for a child to start, and to report after the last frame. */
const STEP_MS = 20_000;
/** One NIC of each personality, on one switch. */
const NICS = [
  { name: "ena0", driver: "ena" },
  { name: "xn0", driver: "xen" },
] as const;

export function demoCommand(): Command {
  const command = new Command("demo")
    .description(
      "Runs a device and two NICs on this machine, and checks every frame that they exchange.",
    )
    .option("--seconds <n>", "seconds during which frames flow (3)")
    .option(
      "--capture <file>",
      "file for the capture (ringwire-demo.pcapng in a new temporary folder)",
    )
    .option("--no-capture", "make no capture");
  return completed(command, EXAMPLES, Shape, runDemo);
}

const EXAMPLES = `Examples:
  ringwire demo                  no root needed, takes a few seconds
  ringwire demo --seconds 30     longer
  ringwire demo --json           the result for programs
`;

interface Report extends ExchangeReport {
  readonly event: "report";
  readonly name: string;
  readonly seconds: number;
}

async function runDemo(options: Options): Promise<void> {
  const { output, stop } = begin(options);
  // A file that can't be written fails here, before anything runs.
  const capture = await DemoCapture.at(options.capture);
  const interrupted = stop.asked.then((signal) => {
    throw new Failure(`stopped by ${signal} before the end`);
  });
  interrupted.catch(() => {});
  const children: Helper[] = [];
  let over = false;
  const start = (command: string): Helper => {
    if (over) throw new Failure("the demo is over");
    const child = new Helper(command.split(" "));
    children.push(child);
    return child;
  };
  try {
    await Promise.race([interrupted, exchange(options.seconds, capture, start, output)]);
  } finally {
    over = true;
    await Promise.all(children.map((child) => child.end()));
    await capture?.clear();
    stop.forget();
  }
}

async function exchange(
  seconds: number,
  capture: DemoCapture | undefined,
  start: (command: string) => Helper,
  output: Output,
): Promise<void> {
  const device = start("device --listen 127.0.0.1:0 --json --quiet --end-with-stdin");
  const { url } = await device.event<{ url: string }>("listening");
  output.text(`device     process ${device.pid}, listening on ${url}`);
  await capture?.begin(url);
  const sides = NICS.map(({ name, driver }) =>
    start(`exchange --name ${name} --driver ${driver} --connect ${url} --seconds ${seconds}`),
  );
  await Promise.all(
    sides.map(async (side, i) => {
      await side.event("up");
      const { name, driver } = NICS[i]!;
      output.text(
        `${name.padEnd(10)} process ${side.pid}, its ${DRIVER_NAMES[driver]} driver is up`,
      );
    }),
  );
  for (const side of sides) side.go();
  await Promise.all(sides.map((side) => side.event("ready")));
  output.text(`           frames of 60 to 1514 bytes both ways for ${seconds} s ...`);
  const during = seconds * 1000 + STEP_MS;
  await Promise.all(sides.map((side) => side.event("quiet", during)));
  // Both sides are quiet and no frame is on its way, so the counters can be compared. The device is
  // asked while both NICs are connected, because the counters of a port go with the port.
  const { segments } = await askStatus({ connect: url }, STEP_MS);
  const reports = await Promise.all(sides.map((side) => side.lastWords<Report>("report")));
  await Promise.all(sides.map((side) => side.end()));
  const left = await capture?.end();
  summarise(
    reports,
    segments.flatMap(({ ports }) => ports),
    device,
    sides,
    left,
    output,
  );
}

function summarise(
  reports: readonly Report[],
  ports: readonly PortStatus[],
  device: Helper,
  sides: readonly Helper[],
  capture: LeftCapture | undefined,
  output: Output,
): void {
  const [a, b] = reports as [Report, Report];
  const ways = [
    { from: a, to: b },
    { from: b, to: a },
  ].map(({ from, to }) => ({
    from: from.name,
    to: to.name,
    frames: from.sent,
    bytes: from.sentBytes,
    verified: to.verified,
    corrupt: to.corrupt,
    duplicate: to.duplicate,
    lost: from.sent - to.verified - to.corrupt,
    framesPerSecond: Math.round(from.sent / from.seconds),
    bitsPerSecond: Math.round((from.sentBytes * 8) / from.seconds),
  }));
  const drops = sumOf(ports.map(dropsOf));
  const roundTrips = [...a.roundTripUs, ...b.roundTripUs].sort((x, y) => x - y);
  const roundTripUs = roundTrips[roundTrips.length >> 1] ?? 0;
  const good = ways.every(
    (way) => way.frames > 0 && way.lost === 0 && way.corrupt === 0 && way.duplicate === 0,
  );
  const processes = {
    device: device.pid,
    ...Object.fromEntries(sides.map((side, i) => [NICS[i]!.name, side.pid])),
  };
  // Without a capture JSON has no such key.
  output.value({ event: "result", ok: good, ways, roundTripUs, drops, processes, capture });
  const rows = ways.map((way) => [
    `${way.from} -> ${way.to}`,
    countText(way.frames),
    countText(way.verified),
    countText(way.lost),
    countText(way.corrupt + way.duplicate),
    `${countText(way.framesPerSecond)}/s`,
    `${(way.bitsPerSecond / 1e6).toFixed(0)} Mbit/s`,
    bytesText(way.bytes),
  ]);
  const reasons = Object.entries(drops).map(([reason, n]) => `${reason} ${countText(n)}`);
  const lines = [
    "",
    ...table(["way", "frames", "verified", "lost", "wrong", "rate", "", "bytes"], rows),
    "",
    `round trip ${msText(roundTripUs / 1000)} (median of ${roundTrips.length}, through both drivers and the device, twice)`,
    `drops      ${reasons.length === 0 ? "none" : reasons.join(", ")}`,
    ...(capture === undefined
      ? []
      : [
          `capture    ${capture.file}: the first ${countText(capture.packets)} frames and batches`,
          `           wireshark -X lua_script:${DISSECTOR} ${capture.file}`,
        ]),
    "",
    good
      ? "Every frame crossed an ENA driver, a Xen driver, one device and two WebSockets, and arrived as it was sent."
      : "Not every frame arrived as it was sent.",
    "",
    "Next:",
    ...NEXT.map(([what, why]) => `  ${what.padEnd(NEXT_WIDTH)}  ${why}`),
    `  two hosts on one segment: ${README}`,
  ];
  for (const line of lines) output.text(line);
  if (!good) throw new Failure("frames were lost or wrong");
}

/** A child process that reports in JSON lines, and ends when its stdin closes. */
class Helper {
  readonly pid: number | undefined;
  readonly #name: string;
  readonly #child: ChildProcess;
  /** Resolves when the child is gone, with the reason. */
  readonly #ended: Promise<string>;
  /** The first event of each name, once it was heard. */
  readonly #events = new Map<string, PromiseWithResolvers<unknown>>();
  #rest = "";

  constructor(args: readonly string[]) {
    this.#name = args[0] === "exchange" ? (args[2] ?? "") : (args[0] ?? "");
    const [program, ...first] = selfCommand();
    const child = spawn(program, [...first, ...args], {
      stdio: ["pipe", "pipe", "inherit"],
      env: childEnvironment(),
    });
    this.pid = child.pid;
    this.#child = child;
    child.stdin?.on("error", () => {});
    child.stdout?.setEncoding("utf8").on("data", (text: string) => this.#hear(text));
    this.#ended = new Promise((resolve) => {
      child.on("error", (error) => resolve(`could not be started: ${error.message}`));
      child.on("close", (code, signal) => resolve(`ended with ${signal ?? code}`));
    });
  }

  /** Waits for the first event `name`. Rejects with Failure when the child ends first or hangs. */
  async event<T>(name: string, timeoutMs = STEP_MS): Promise<T> {
    const late = Promise.withResolvers<never>();
    const timer = setTimeout(
      () => late.reject(this.#failure(`did not say "${name}" within ${timeoutMs / 1000} s`)),
      timeoutMs,
    );
    const ended = this.#ended.then((why) => Promise.reject(this.#failure(why)));
    try {
      return (await Promise.race([this.#event(name).promise, ended, late.promise])) as T;
    } finally {
      clearTimeout(timer);
    }
  }

  /** Lets the child begin its traffic. */
  go(): void {
    this.#child.stdin?.write("go\n");
  }

  /** Closes the child's stdin and waits for its event `name`. */
  lastWords<T>(name: string): Promise<T> {
    this.#child.stdin?.end();
    return this.event<T>(name);
  }

  /** Ends the child, in an orderly way if possible, and waits for its end. */
  async end(): Promise<void> {
    this.#child.stdin?.end();
    const timer = setTimeout(() => this.#child.kill("SIGKILL"), 3000);
    await this.#ended;
    clearTimeout(timer);
  }

  #failure(what: string): Failure {
    return new Failure(`the demo's process ${this.#name} ${what}`);
  }

  #hear(text: string): void {
    const lines = (this.#rest + text).split("\n");
    this.#rest = lines.pop() ?? "";
    for (const line of lines.filter((text) => text.startsWith("{"))) {
      const value: { readonly event?: string } = JSON.parse(line);
      this.#event(value.event ?? "").resolve(value);
    }
  }

  #event(name: string): PromiseWithResolvers<unknown> {
    const event = this.#events.get(name) ?? Promise.withResolvers();
    this.#events.set(name, event);
    return event;
  }
}
