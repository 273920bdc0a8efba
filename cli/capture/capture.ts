/** `ringwire capture`: the live traffic of a device, as pcapng or as text. */
import type { Readable } from "node:stream";
import { Command } from "commander";
import * as z from "zod";
import { descriptorOutput } from "../../shared/capture/file-output.ts";
import type { CaptureOutput } from "../../shared/capture/output.ts";
import type { CaptureSummary } from "../../shared/capture/recorder-types.ts";
import { PcapngReader } from "../../shared/pcapng/reader.ts";
import { printable } from "../../shared/pcapng/text.ts";
import { whenThere } from "../common/device-page.ts";
import { Failure, wrong } from "../common/failure.ts";
import { createLog } from "../common/log.ts";
import {
  addConnectFlag,
  addWaitFlag,
  CommonShape,
  ConnectShape,
  completed,
  logOptions,
  WaitShape,
  whole,
} from "../common/options.ts";
import { bytesText, countText, isTerminalGone } from "../common/output.ts";
import { onStop, unlessStopped } from "../common/signals.ts";
import { FifoOutput } from "./fifo-output.ts";
import { checkFile, pathOutput } from "./output.ts";
import { CaptureRelay } from "./relay.ts";
import { copyCapture, openCapture } from "./stream.ts";
import { PacketText } from "./text.ts";

const MAX_SNAP = 262_144;
const STDOUT = 1;
/** Smallest size of a rotated file. Each file begins with a description of every interface. */
const MIN_ROTATE_BYTES = 64 * 1024;
const UNITS: Readonly<Record<string, number>> = { "": 1, k: 2 ** 10, M: 2 ** 20, G: 2 ** 30 };

interface Rotation {
  readonly bytes: number;
  readonly seconds: number;
  readonly files: number;
}

export const CaptureShape = {
  ...CommonShape,
  ...ConnectShape,
  ...WaitShape,
  interface: z.array(z.string().min(1)).default([]),
  ring: z.boolean().default(false),
  frames: z.boolean().default(true),
  filter: z.string().optional(),
  count: whole(0, 999_999_999).default(0),
  snap: whole(0, MAX_SNAP).default(0),
  write: z.string().min(1).optional(),
  rotate: z.array(z.string()).default([]).transform(rotation),
  print: z.boolean().default(false),
  time: z.boolean().default(true),
};
const Shape = z.object(CaptureShape);
type Options = z.infer<typeof Shape>;

/** Parses the rules of --rotate: "size:10M", "seconds:60", "files:5". */
function rotation(rules: readonly string[], context: z.RefinementCtx): Rotation {
  const refuse = (takes: string): never => {
    context.addIssue({ code: "custom", message: `takes ${takes}` });
    return z.NEVER;
  };
  let [bytes, seconds, files] = [0, 0, 0];
  for (const rule of rules) {
    const [, what, digits, unit = ""] = /^(size|seconds|files):(\d{1,9})([kMG]?)$/.exec(rule) ?? [];
    const n = Number(digits);
    if (what === undefined || !(n > 0) || (what !== "size" && unit !== "")) {
      return refuse(`size:N (with k, M or G), seconds:N or files:N, not "${rule}"`);
    }
    if (what === "size") {
      bytes = n * UNITS[unit]!;
      if (bytes < MIN_ROTATE_BYTES) return refuse(`a size of 64k or more, not "${rule}"`);
    } else if (what === "seconds") seconds = n;
    else files = n;
  }
  return { bytes, seconds, files };
}

export function captureCommand(): Command {
  const command = addWaitFlag(addConnectFlag(new Command("capture")))
    .description(
      "Captures frames and ring transactions of a device: to a file, a pipe, or in words.",
    )
    .option(
      "-i, --interface <name...>",
      "capture at this NIC or uplink; at switch: each frame once; at any: each frame at every port that it passes; SEGMENT/NAME at a device of several segments; may be repeated (switch)",
    )
    .option(
      "--ring",
      "also capture the ring transactions of the NICs named with -i, else of all NICs; Wireshark reads such a file, tcpdump does not",
    )
    .option("--no-frames", "capture no Ethernet frames")
    .option(
      "--filter <expr>",
      "capture only frames that match a filter as for tcpdump, with addresses in place of host names",
    )
    .option(
      "-c, --count <n>",
      "end after this many packets; the state of the rings at the start does not count",
    )
    .option("-s, --snap <bytes>", "keep at most this many bytes of each frame (all)")
    .option("-w, --write <file>", "write pcapng to a file; - for standard output")
    .option(
      "-b, --rotate <rule...>",
      "begin a new file by size:N (64k or more) or seconds:N; keep the last files:N",
    )
    .option("--print", "print a line for each frame or transaction (the default without -w)")
    .option(
      "--no-time",
      "print no times, heartbeats or acknowledgements, so that diff can compare two runs",
    );
  return completed(command, EXAMPLES, Shape, runCapture);
}

const EXAMPLES = `Examples:
  ringwire capture --connect HOST:7700 -w - | wireshark -k -i -    live
  ringwire capture --connect HOST:7700 --ring -w trace.pcapng      to a file
  ringwire capture --connect HOST:7700 -i ena0 --filter icmp -c 9  nine lines
`;

function check({ write, print, json, rotate, frames, ring, filter }: Options): void {
  if (write === "-") {
    if (print || json) throw wrong("-w - takes standard output: no room there for --print, --json");
    if (process.stdout.isTTY === true) {
      throw wrong("-w - writes bytes, and standard output is a terminal: pipe it, or use -w FILE");
    }
  }
  const rotates = rotate.bytes > 0 || rotate.seconds > 0;
  if (rotates && (write === undefined || write === "-")) throw wrong("-b needs -w FILE");
  if (rotate.files > 0 && !rotates) throw wrong("-b files:N goes with size:N or seconds:N");
  if (!frames && !ring) throw wrong("--no-frames without --ring captures nothing");
  if (!frames && filter !== undefined) throw wrong("--filter is for frames");
  // A file that can't be written fails here, before any request to the device.
  if (write !== undefined && write !== "-") checkFile("-w", write);
}

async function runCapture(options: Options): Promise<void> {
  check(options);
  const { write, print, json, connect } = options;
  const log = createLog(logOptions(options));
  const stop = onStop();
  const { interface: sources, frames, ring, filter, count, snap } = options;
  const open = () => openCapture(options, { sources, frames, ring, filter, snap, count });
  let asked: ReturnType<typeof open> | undefined;
  const ask = () => {
    asked = open();
    return asked;
  };
  const stream = await (options.wait ? whenThere(ask, stop, log) : unlessStopped(stop, ask()));
  // The device may still be compiling the filter. Its answer is cut as soon as it arrives.
  if (stream === undefined) return void asked?.then(cut, () => {});
  const output = outputOf(write, options.rotate);
  const { bytes: rotateBytes, seconds, files } = options.rotate;
  const relay = output && new CaptureRelay(output, { rotateBytes, rotateMs: seconds * 1000 });
  const lines = new Lines();
  const told = print || write === undefined ? new Printer(lines, json, options.time) : undefined;
  const what = sources.length === 0 ? (frames ? "the switch" : "all rings") : sources.join(", ");
  log.info({}, `capture of ${what} at ${connect} has begun`);
  if (json && told === undefined) lines.value({ event: "ready", write, pid: process.pid });

  const ends: Promise<string>[] = [stop.asked];
  if (relay !== undefined) ends.push(relay.done.then(() => "the output takes no more"));
  if (told !== undefined) ends.push(lines.gone.then(() => "nobody reads any more"));
  if (output instanceof FifoOutput) void stop.asked.then(() => output.waitNoLonger());
  const feed = async (chunk: Buffer): Promise<void> => {
    told?.feed(chunk);
    await relay?.feed(chunk);
  };
  const { left, broken } = await copyCapture(stream, feed, ends);
  const packets = told?.packets ?? relay?.packets ?? 0;
  const counted = count > 0 && packets >= count;
  const reason = left ?? (counted ? "count" : "the device ended it");
  const summary = await relay?.end(broken ?? reason);
  // From here on nothing is left that a signal could stop.
  stop.forget();
  if (json && (told !== undefined || summary !== undefined)) {
    lines.value({ event: "result", reason, packets, ...summary });
  }
  if (summary !== undefined) {
    for (const line of summaryLines(summary, files)) log.info({}, line);
  }
  if (summary?.code !== undefined && summary.reason !== "reader gone") {
    throw new Failure(`the capture ${summary.reason}`);
  }
  if (lines.failure !== undefined) throw new Failure(`standard output: ${lines.failure}`);
  if (broken !== undefined) throw new Failure(`the connection to ${connect} broke: ${broken}`);
}

const cut = (stream: Readable): void => {
  stream.destroy();
};

function outputOf(
  write: string | undefined,
  { bytes, seconds, files }: Rotation,
): CaptureOutput | undefined {
  if (write === undefined) return undefined;
  if (write === "-") return descriptorOutput(STDOUT, "standard output");
  const rotating = bytes > 0 || seconds > 0;
  return pathOutput(write, { rotating, ...(files === 0 ? {} : { keep: files }) });
}

/** Returns the last lines of the log. `keep` is the number of rotated files that stay; 0: all. */
function summaryLines(summary: CaptureSummary, keep: number): string[] {
  const { reason, code, packets, bytes, files, interfaces } = summary;
  const dropped = interfaces.reduce((sum, { dropped: n }) => sum + n, 0);
  const kept = keep > 0 && files.length > keep ? `, of which the last ${keep} are kept` : "";
  const where = files.length === 1 ? files[0]!.name : `${files.length} files${kept}`;
  return [
    `${countText(packets)} packets, ${bytesText(bytes)}, in ${where}; ${countText(dropped)} dropped; ended: ${reason}`,
    // After a failure of the output the counts of each interface are not known.
    ...(code === undefined ? interfaces : []).map(
      (i) =>
        `${printable(i.name)}: ${countText(i.received)} seen, ${countText(i.delivered)} written`,
    ),
  ];
}

/** Standard output, until its reader leaves or a write fails. */
class Lines {
  /** Resolves when standard output accepts no more. */
  readonly gone: Promise<void>;
  isGone = false;
  /** Error of the failed write; undefined when the reader has left. */
  failure: string | undefined;

  constructor() {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.gone = promise;
    process.stdout.on("error", (error: NodeJS.ErrnoException) => {
      const isFailure = error.code !== "EPIPE" && !isTerminalGone(error);
      if (!this.isGone && isFailure) this.failure = error.message;
      this.isGone = true;
      resolve();
    });
  }

  line(line: string): void {
    if (!this.isGone) process.stdout.write(`${line}\n`);
  }

  value(value: object): void {
    this.line(JSON.stringify(value));
  }
}

/** Prints packets as text. */
class Printer {
  packets = 0;
  readonly #lines: Lines;
  readonly #reader = new PcapngReader();
  readonly #text: PacketText;
  readonly #json: boolean;

  constructor(lines: Lines, json: boolean, times: boolean) {
    this.#lines = lines;
    this.#json = json;
    this.#text = new PacketText(times);
  }

  feed(bytes: Uint8Array): void {
    const lines = this.#lines;
    this.#reader.feed(bytes);
    for (let p = this.#reader.next(); p !== undefined && !lines.isGone; p = this.#reader.next()) {
      this.packets++;
      if (this.#json) lines.value(this.#text.value(p));
      else for (const line of this.#text.lines(p)) lines.line(line);
    }
    // The printer needs neither names nor statistics, and a capture may run for weeks.
    this.#reader.names.length = 0;
    this.#reader.statistics.length = 0;
  }
}
