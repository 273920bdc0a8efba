/** `ringwire replay`: sends the Ethernet frames of a capture file through a NIC of this process. */

import { Command } from "commander";
import * as z from "zod";
import { Control } from "../../frontend/apps/app.ts";
import type { ReplayResult } from "../../frontend/apps/replay/account.ts";
import { replay } from "../../frontend/apps/replay.ts";
import { totalOf, totalText } from "../../frontend/apps/report.ts";
import type { Nic } from "../../frontend/nic.ts";
import { CaptureFileReader } from "../../shared/capture/read.ts";
import { printable } from "../../shared/pcapng/text.ts";
import { statsOf } from "../capture/output.ts";
import { begin } from "../common/begin.ts";
import { ExitCode, Failure, messageOf } from "../common/failure.ts";
import { addNicFlags, driverName, NicShape, newNic, opened } from "../common/nic.ts";
import { CommonShape, completed, whole } from "../common/options.ts";
import type { Output } from "../common/output.ts";
import { type Stop, unlessStopped } from "../common/signals.ts";
import { newCounts, type Running, STYLE, whileRunning } from "./netmap-run.ts";

const STDIN = "-";
const MAX_COUNT = 999_999_999;
/** Most interfaces of a file that a sentence names. */
const MAX_NAMES = 8;
/** Name of the NIC in this process and, without --name, on the device. */
const IFNAME = "replay0";

const Shape = z.object({
  ...CommonShape,
  ...NicShape,
  driver: driverName.default("ena"),
  loop: whole(0, MAX_COUNT).default(1),
  rate: whole(0, MAX_COUNT).default(0),
  preserveTiming: z.boolean().default(false),
  sendTruncated: z.boolean().default(false),
  interface: z.array(z.string().min(1)).default([]),
  reportMs: whole(10, 1_000_000).default(1000),
  plainUnits: z.boolean().default(false),
});
type Options = z.infer<typeof Shape>;

export function replayCommand(): Command {
  const command = addNicFlags(new Command("replay"), {
    driver: "driver of the NIC (ena)",
    name: `name of the NIC, one of a kind on the device (${IFNAME}, or the next free number)`,
    mac: "MAC address of the NIC (made from name and segment); frames keep theirs",
  })
    .description("Sends the Ethernet frames of a pcap or pcapng file through a NIC.")
    .argument("<file>", "pcap or pcapng, of any size; - for standard input")
    .option(
      "-i, --interface <name...>",
      "send the frames of this interface of the file, by name or number; may be repeated (all, each frame once)",
    )
    .option("--loop <n>", "send the file this many times; 0: without end (1)")
    .option("-R, --rate <pps>", "at most this many packets per second; 0: as fast as possible (0)")
    .option("--preserve-timing", "keep the gaps between the packets of the file")
    .option(
      "--send-truncated",
      "also send packets that the capture cut short, with the bytes that are left",
    )
    .option("-T, --report-ms <ms>", "time between two reports (1000)")
    .option("-N, --plain-units", "print plain numbers instead of K, M, G");
  return completed(command, EXAMPLES, Shape, (options, file = "") => runReplay(file, options));
}

const EXAMPLES = `Examples:
  ringwire replay trace.pcapng --connect HOST:7700
      as fast as it goes
  ringwire replay trace.pcap --connect HOST:7700 --preserve-timing
      as it was captured
  ringwire replay trace.pcap --connect HOST:7700 --loop 0 -R 10000
      10 kpps until stopped
  ringwire replay trace.pcapng --connect HOST:7700 -i ena0
      what that interface of the file has
  ssh HOST cat trace.pcap.gz | ringwire replay - --connect HOST:7700
      what a pipe gives
`;

async function runReplay(path: string, options: Options): Promise<void> {
  const begun = begin(options);
  const { output, log, stop } = begun;
  // The file is opened first, so that an unreadable file takes no name from a running NIC.
  const source = await openFile(path, options.loop, stop);
  const nic = await newNic({ ...options, ifname: IFNAME }, log);
  const gaveUp = new Promise<string>((resolve) => {
    nic.once("failed", (reason) => resolve(`${IFNAME}: ${reason}`));
  });
  try {
    if ((await unlessStopped(stop, opened(nic, options.connect))) === undefined) return;
    await nic.settled();
    sayReady(path, nic, output);
    const counts = newCounts(1);
    const control = new Control();
    const style = { ...STYLE, plain: options.plainUnits };
    const running = { ...options, ...begun, gaveUp, control, counts, style };
    const config = { ...options, loops: options.loop, interfaces: options.interface };
    const warn = (sentence: string) => log.warn({}, `${path}: ${sentence}`);
    const work = replay(source, nic.ifnet, config, counts[0]!, control, { warn });
    tell(path, await whileRunning(work, running), nic, running);
  } finally {
    await nic.close();
    await source[Symbol.asyncDispose]();
  }
}

async function openFile(given: string, loops: number, stop: Stop): Promise<CaptureFileReader> {
  const path = given === STDIN ? "/dev/stdin" : given;
  if (loops !== 1 && statsOf(path)?.isFIFO() === true) {
    throw new Failure(`--loop: ${given} is a pipe, and can be sent once`, ExitCode.USAGE);
  }
  let file: CaptureFileReader | undefined;
  try {
    const opened = await CaptureFileReader.open(path);
    file = opened;
    void stop.asked.then(() => opened.abandon());
    await file.more();
    return file;
  } catch (error) {
    await file?.[Symbol.asyncDispose]();
    throw Failure.from(error, `${given} can't be replayed: ${messageOf(error)}`);
  }
}

function sayReady(path: string, nic: Nic, output: Output): void {
  const { name, driver, mac, mtu } = nic.status();
  output.event(`replay of ${path} on ${name}: ${driver}, ${mac}, mtu ${mtu}`, {
    event: "ready",
    file: path,
    name,
    driver,
    mac,
    mtu,
    pid: process.pid,
  });
}

/** Texts of the reasons to skip a packet. Each is printed behind a number. */
const SKIPPED: Readonly<Record<keyof ReplayResult["skipped"], string>> = {
  copy: "seen before on another interface",
  notChosen: "of other interfaces",
  notEthernet: "not Ethernet",
  truncated: "truncated",
  noHeader: "without an Ethernet header",
  tooLong: "too long for the MTU",
  tooLongToCut: "too long to be segmented",
  superFrame: "to be segmented",
  unfinished: "with an unfinished checksum",
  refused: "refused by the driver",
};

/** Prints the last lines, or the result as a JSON object. Throws Failure for a file not sent. */
function tell(
  path: string,
  result: ReplayResult,
  nic: Nic,
  { counts, output, style, control }: Running,
): void {
  const total = totalOf(counts);
  const { read, padded, lost, inFlight, broken } = result;
  const stopped = control.isStopped;
  output.value({
    event: "result",
    function: "replay",
    file: path,
    ...total,
    ...result,
    stopped,
    nics: [{ name: IFNAME, ...nic.counters() }],
    ports: [],
  });
  for (const line of totalText("Sent", total, style)) output.text(line);
  const reasons = Object.entries(result.skipped).filter(([, packets]) => packets > 0);
  const words = reasons.map(
    ([why, packets]) => `${packets} ${SKIPPED[why as keyof typeof SKIPPED]}`,
  );
  if (words.length > 0) {
    output.text(`Skipped ${read - total.packets} of ${read} packets: ${words.join(", ")}.`);
  }
  const { copy, notEthernet, notChosen } = result.skipped;
  if (copy > 0) {
    const frames = read - notEthernet - notChosen;
    const on = `${frames} frames on ${result.interfaces.length} interfaces`;
    output.text(`${on} (${namesText(result.interfaces)}), ${copy} are copies; -i to choose.`);
  }
  if (padded > 0) output.text(`Padded ${padded} packets to 60 bytes.`);
  if (lost + inFlight > 0) {
    output.text(`Lost ${lost} packets in the driver; ${inFlight} were not yet taken.`);
  }
  if (broken !== undefined) {
    throw new Failure(`${path}: ${broken}; ${total.packets} packets were sent before`);
  }
  if (result.missing.length > 0 && !stopped) {
    const [what, there] = [result.missing, result.interfaces].map(namesText);
    throw new Failure(`-i: ${path} has no interface ${what}; it has frames on ${there}`);
  }
  if (total.packets > 0 || stopped) return;
  throw new Failure(
    read === 0
      ? `${path} holds no packets`
      : `${path} holds no packet that can be sent: ${words.join(", ")}`,
  );
}

/** Formats names from a file, safe for a terminal. */
function namesText(names: readonly string[]): string {
  const more = names.length - MAX_NAMES;
  const shown = names.slice(0, MAX_NAMES).map(printable).join(", ") || "none";
  return more > 0 ? `${shown} and ${more} more` : shown;
}
