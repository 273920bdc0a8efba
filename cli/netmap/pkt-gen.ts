/** `ringwire pkt-gen`: netmap's traffic generator on NICs of this process. */
import { Command, Option } from "commander";
import * as z from "zod";
import { Control, type Counts } from "../../frontend/apps/app.ts";
import { endpointsText, parseEndpoints } from "../../frontend/apps/pkt-gen/endpoints.ts";
import { readFrames } from "../../frontend/apps/pkt-gen/pcap-file.ts";
import type { PktGenConfig, PktGenMode, PktGenResult } from "../../frontend/apps/pkt-gen.ts";
import { delayText, type ReportStyle, totalOf, totalText } from "../../frontend/apps/report.ts";
import { runApp, runInWorker } from "../../frontend/apps/run.ts";
import type { NmPort } from "../../frontend/netmap/descriptor.ts";
import { formatMac, macFromName, parseMac } from "../../shared/net/ethernet.ts";
import { type Begun, begin } from "../common/begin.ts";
import { Failure, messageOf, wrong } from "../common/failure.ts";
import { NicShape } from "../common/nic.ts";
import {
  amount,
  CommonShape,
  checked,
  completed,
  oneOf,
  parsed,
  whole,
} from "../common/options.ts";
import type { Output } from "../common/output.ts";
import { newCounts, whileRunning } from "./netmap-run.ts";
import { addPortFlags, PortSet, portName } from "./port-set.ts";

const MODES = ["rx", "tx", "ping", "pong", "txseq", "rxseq"] as const;
const LEAST_FRAME = 60;
const MAX_FRAME = 16_384;
const MAX_FRAGS = 64;
const MAX_THREADS = 64;

const endpoints = parsed("IP[:PORT[-IP[:PORT]]]", parseEndpoints);
const mac = parsed("a MAC", parseMac);
/** -r N of pkt-gen.8, or the -r without a value of newer versions (rubbish), which gives true. */
const countOrRubbish = z.unknown().transform((value, context): number | true => {
  if (value === true) return true;
  const { data, error } = amount.safeParse(value);
  if (data !== undefined) return data;
  context.addIssue({ code: "custom", message: error?.issues[0]?.message ?? "" });
  return z.NEVER;
});
/** tx_slots[,rx_slots[,tx_rings[,rx_rings]]]. A single number sets both kinds of slots. */
const ringConfig = checked((text) => {
  if (!/^\d{1,4}(,\d{1,4}){0,3}$/.test(text)) return undefined;
  const numbers = text.split(",").map(Number);
  const [txSlots = 0, rxSlots = txSlots, txRings = 0, rxRings = txRings] = numbers;
  return { txSlots, rxSlots, txRings, rxRings };
}, "takes TX_SLOTS[,RX_SLOTS[,TX_RINGS[,RX_RINGS]]]");

const Shape = z.object({
  ...CommonShape,
  ...NicShape,
  interface: portName,
  function: oneOf(...MODES).optional(),
  count: amount.optional(),
  transmit: amount.optional(),
  receive: countOrRubbish.optional(),
  length: z
    .array(whole(LEAST_FRAME, MAX_FRAME))
    .max(2, "is given once, or twice: the least and the most")
    .default([LEAST_FRAME]),
  burst: whole(1, 8192).optional(),
  rate: amount.default(0),
  src: endpoints.default(() => parseEndpoints("10.0.0.1")),
  dst: endpoints.default(() => parseEndpoints("10.1.0.1")),
  srcMac: mac.optional(),
  dstMac: mac.optional(),
  waitLink: whole(0, 100).default(0),
  reportMs: whole(10, 1_000_000).default(1000),
  frags: whole(1, MAX_FRAGS).default(1),
  fragSize: whole(1, MAX_FRAME).default(0),
  pcap: z.string().optional(),
  randomSrc: z.boolean().default(false),
  randomDst: z.boolean().default(false),
  rubbish: z.boolean().default(false),
  dump: z.boolean().default(false),
  ringConfig: ringConfig.optional(),
  threads: whole(1, MAX_THREADS).default(1),
  worker: z.boolean().default(false),
  exitIdle: z.boolean().default(false),
  plainUnits: z.boolean().default(false),
  averages: z.boolean().default(false),
  framing: z.boolean().default(false),
});
type Flags = z.infer<typeof Shape>;

/** The flags, with -t, -r, -f and -n combined into a function and a count. */
interface Options extends Omit<Flags, "function" | "count"> {
  readonly function: PktGenMode;
  readonly count: number;
}

/** Flags of netmap's pkt-gen that are not supported, with the reason. */
const REFUSED: readonly (readonly [string, string])[] = [
  ["-a <cpu>", "threads can't be bound to processors from here: use taskset"],
  ["-c <cpus>", "threads can't be bound to processors from here: use taskset, and -p for threads"],
  ["-H <bytes>", "no port here carries virtio-net headers to a virtual machine"],
  ["-I", "indirect buffers save nothing here: frames are made in the ring's own buffers"],
  ["-6", "the frames made here are IPv4; -P sends any"],
  ["-o <options>", "its bits have flags of their own: -r, -z, -Z, -X, -A"],
];

/** Makes the option -f. Its words serve help and completion only; the shape checks the value. */
function modeOption(): Option {
  const option = new Option("-f, --function <name>", "what to do (rx)");
  option.argChoices = [...MODES];
  return option;
}

const collect = (value: string, before: string[]): string[] => [...before, value];

export function pktGenCommand(): Command {
  const command = new Command("pkt-gen")
    .description("netmap's packet generator: sends, receives, measures round trips.")
    .option(
      "-i, --interface <port>",
      "netmap port name: netmap:ena0, or ena0 for short, netmap:ena0-1, vale0:a ...",
    )
    .addOption(modeOption())
    .option(
      "-n, --count <n>",
      "end after this many packets or round trips: 1000000, 1e6 or 1M; 0: never (0)",
    )
    .option("-t, --transmit <n>", "send n packets: -f tx -n <n>")
    .option("-r, --receive [n]", "receive n packets: -f rx -n <n>; without a number: --rubbish")
    .addOption(
      new Option(
        "-l, --length <bytes>",
        "length of a frame; given twice: a random length between both",
      )
        .argParser(collect)
        .default([], "60"),
    )
    .option("-b, --burst <n>", "packets in one turn of the loop (512; 1 in ping and pong)")
    .option("-R, --rate <pps>", "packets per second; 0: as fast as possible (0)")
    .option("-s, --src <ip>", "source addresses, IP[:PORT[-IP[:PORT]]] (10.0.0.1:1234)")
    .option("-d, --dst <ip>", "destination addresses, in the same form (10.1.0.1:1234)")
    .option("-S, --src-mac <mac>", "source MAC address (the NIC's)")
    .option("-D, --dst-mac <mac>", "destination MAC address (ff:ff:ff:ff:ff:ff)")
    .option("-w, --wait-link <s>", "seconds to pause between link up and start (0)")
    .option("-T, --report-ms <ms>", "time between two reports (1000)")
    .option("-F, --frags <n>", "number of slots that each packet has (1)")
    .option("-M, --frag-size <bytes>", "bytes in each slot of a packet but the last (equal shares)")
    .option("-P, --pcap <file>", "send the frames of a pcap or pcapng file, in turn")
    .option("-z, --random-src", "random source address and port")
    .option("-Z, --random-dst", "random destination address and port")
    .option("--rubbish", "send the buffers as they are, without writing a frame into them")
    .option("-X, --dump", "print each packet on stderr")
    .option(
      "-C, --ring-config <n>",
      "size of a VALE port or pipe: TX_SLOTS[,RX_SLOTS[,TX_RINGS[,RX_RINGS]]]",
    )
    .option(
      "-p, --threads <n>",
      "number of threads, each with a ring pair of its own (1, with all rings)",
    )
    .option("--worker", "run in a worker thread, even when there is only one thread")
    .option("-W, --exit-idle", "receiver: end when no packet came for a second after the first one")
    .option("-N, --plain-units", "print plain numbers instead of K, M, G")
    .option("-A, --averages", "print mean and deviation in each report")
    .option("-B, --framing", "count preamble, checksum and gap of each frame as bits, too");
  for (const [flag] of REFUSED) command.addOption(new Option(flag).hideHelp());
  command.addOption(new Option("-4", "IPv4, as in any case").hideHelp());
  command.hook("preAction", () => {
    for (const [flag, why] of REFUSED) {
      const key = flag.slice(1, 2);
      if (command.getOptionValue(key) !== undefined) throw wrong(`-${key} is not offered: ${why}`);
    }
  });
  return completed(addPortFlags(command), EXAMPLES, Shape, (flags) => runPktGen(optionsOf(flags)));
}

const EXAMPLES = `Examples:
  ringwire pkt-gen -i netmap:ena0 -f rx --connect HOST:7700
      count what comes
  ringwire pkt-gen -i netmap:ena1 -f tx -n 1000000 --connect HOST:7700
      send a million
  ringwire pkt-gen -i netmap:ena0 -f pong --connect HOST:7700
  ringwire pkt-gen -i netmap:ena1 -f ping -n 1000 --connect HOST:7700
      answer, and measure
  ringwire pkt-gen -i netmap:ena0-1 --queues 2 --tap rw0 --connect HOST:7700
      ring 1; the kernel has ring 0
`;

/** Combines the flags of pkt-gen.8: -t and -r give count and direction, -n a count alone. */
function optionsOf(flags: Flags): Options {
  const { transmit, receive, count } = flags;
  const received = receive === true ? undefined : receive;
  if (transmit !== undefined && received !== undefined) {
    throw wrong(`-t ${transmit} sends and -r ${received} receives: give one of them`);
  }
  const direct = transmit ?? received;
  const letter = transmit === undefined ? "-r" : "-t";
  if (direct !== undefined && count !== undefined) {
    throw wrong(`the number of packets is given twice, by -n ${count} and ${letter} ${direct}`);
  }
  const mode = flags.function ?? (transmit === undefined ? "rx" : "tx");
  const fits = transmit !== undefined ? isSender(mode) : mode === "rx" || mode === "rxseq";
  if (direct !== undefined && !fits) {
    const does = transmit === undefined ? "receives" : "sends";
    throw wrong(`${letter} ${direct} ${does}, and -f ${mode} is something else`);
  }
  const rubbish = flags.rubbish || receive === true;
  return { ...flags, function: mode, count: direct ?? count ?? 0, rubbish };
}

async function runPktGen(options: Options): Promise<void> {
  const begun = begin(options);
  const { output } = begun;
  const threads = options.threads;
  const isNumbered = options.function.endsWith("seq") || options.function === "ping";
  if (threads > 1 && isNumbered) throw wrong(`-p ${threads}: ${options.function} has one thread`);
  const captured = options.pcap === undefined ? [] : await pcapOf(options.pcap);
  await using set = new PortSet(options, begun);
  if (!(await set.connect([options.interface], threads))) return;
  const ports = await openPorts(set, options, threads);
  checkRings(options, ports);
  await set.settled();
  const configs = ports.map((port, i) => configOf(options, port, captured, i, threads));
  announce(options, ports, configs, output);
  const results = await run(options, ports, configs, { ...begun, gaveUp: set.gaveUp });
  tell(options, results, set, output);
}

/** Logs the settings before the start: rings, threads, addresses, burst, rate and wait. */
function announce(
  options: Options,
  ports: readonly NmPort[],
  configs: readonly PktGenConfig[],
  output: Output,
): void {
  const { function: mode, interface: name, waitLink: wait, rate } = options;
  const [config] = configs;
  if (config === undefined) throw new Error("pkt-gen without a port");
  const txRings = ports.reduce((sum, port) => sum + port.txRings().length, 0);
  const rxRings = ports.reduce((sum, port) => sum + port.rxRings().length, 0);
  const isFramed = mode !== "rx" && mode !== "rxseq" && mode !== "pong";
  const isMade = isFramed && config.captured.length === 0 && !options.rubbish;
  const addresses = `${endpointsText(config.src)} -> ${endpointsText(config.dst)}`;
  const macs = `${formatMac(config.srcMac)} -> ${formatMac(config.dstMac)}`;
  const lines = [
    `${VERB_OF[mode]} on ${name}: ${txRings} tx and ${rxRings} rx rings, ${ports.length === 1 ? "1 thread" : `${ports.length} threads`}`,
    ...(isMade ? [`${addresses} (${macs})`] : []),
    `bursts of ${config.burst}${rate === 0 ? "" : `, ${rate} packets a second`}, wait ${wait} s`,
  ];
  output.event(lines.join("\n"), {
    event: "ready",
    function: mode,
    interface: name,
    rings: ports.map((port) => port.rxRings().length),
    threads: ports.length,
    burst: config.burst,
    rate,
    wait,
    ...(isMade
      ? {
          src: endpointsText(config.src),
          dst: endpointsText(config.dst),
          srcMac: formatMac(config.srcMac),
          dstMac: formatMac(config.dstMac),
        }
      : {}),
    pid: process.pid,
  });
}

const VERB_OF: Readonly<Record<PktGenMode, string>> = {
  tx: "Sending",
  txseq: "Sending numbered packets",
  rx: "Receiving",
  rxseq: "Receiving numbered packets",
  ping: "Pinging",
  pong: "Answering",
};

async function pcapOf(path: string): Promise<Uint8Array[]> {
  try {
    return await readFrames(path, MAX_FRAME);
  } catch (error) {
    throw new Failure(`-P ${messageOf(error)}`);
  }
}

/** Opens one port with all its rings, or one port with a ring pair for each thread. */
async function openPorts(set: PortSet, options: Options, threads: number): Promise<NmPort[]> {
  const { interface: name, ringConfig = {} } = options;
  if (threads > 1 && !/^[^-^*/@]*$/.test(name)) {
    throw wrong(`-p ${threads}: ${name} must not name rings itself`);
  }
  const names = threads === 1 ? [name] : Array.from({ length: threads }, (_, i) => `${name}-${i}`);
  set.reserve(names, ringConfig);
  const ports: NmPort[] = [];
  for (const one of names) ports.push(await set.open(one, ringConfig));
  return ports;
}

/** Throws Failure when a port was opened without the rings that the function works on. */
function checkRings({ function: mode, interface: name }: Options, ports: readonly NmPort[]): void {
  const sends = mode !== "rx" && mode !== "rxseq";
  const receives = !isSender(mode);
  for (const port of ports) {
    if (sends && port.txRings().length === 0) {
      throw wrong(`-f ${mode} sends, and ${name} opens no ring to send from`);
    }
    if (receives && port.rxRings().length === 0) {
      throw wrong(`-f ${mode} receives, and ${name} opens no ring to receive on`);
    }
  }
}

function configOf(
  options: Options,
  port: NmPort,
  captured: readonly Uint8Array[],
  thread: number,
  threads: number,
): PktGenConfig {
  const { function: mode, frags, fragSize, length, count, rate } = options;
  const lengthMax = Math.max(...length);
  const longest = Math.max(lengthMax, ...captured.map((frame) => frame.length));
  if (isSender(mode)) checkFits(longest, frags, fragSize, port);
  const isPing = mode === "ping" || mode === "pong";
  return {
    mode,
    // The first threads send the remainder.
    count: shareOf(count, thread, threads),
    burst: options.burst ?? (isPing ? 1 : 512),
    rate: rate === 0 ? 0 : Math.max(1, shareOf(rate, thread, threads)),
    frags,
    fragBytes: fragSize,
    captured,
    rubbish: options.rubbish,
    dump: options.dump,
    endWhenIdle: options.exitIdle,
    lengthMin: Math.min(...length),
    lengthMax,
    src: options.src,
    dst: options.dst,
    srcMac: options.srcMac ?? port.mac ?? macFromName(port.name, ""),
    dstMac: options.dstMac ?? BROADCAST,
    randomSrc: options.randomSrc,
    randomDst: options.randomDst,
  };
}

const BROADCAST = new Uint8Array(6).fill(0xff);

const shareOf = (n: number, i: number, of: number): number =>
  Math.floor(n / of) + (i < n % of ? 1 : 0);

const isSender = (mode: PktGenMode): boolean => mode === "tx" || mode === "txseq";

/** Throws Failure when a frame does not fit into `frags` slots. */
function checkFits(longest: number, frags: number, fragSize: number, port: NmPort): void {
  const { bufSize } = port;
  const first = fragSize > 0 ? fragSize : Math.ceil(longest / frags);
  const last = longest - first * (frags - 1);
  if (first <= bufSize && last <= bufSize && last > 0) return;
  const needed = Math.ceil(longest / bufSize);
  throw wrong(
    last <= 0
      ? `-F ${frags}: ${longest} bytes do not fill so many slots`
      : `-l ${longest}: a buffer holds ${bufSize} bytes, so -F ${needed} is needed`,
  );
}

async function run(
  options: Options,
  ports: readonly NmPort[],
  configs: readonly PktGenConfig[],
  parts: Begun & { readonly gaveUp: Promise<string> },
): Promise<{ counts: Counts[]; results: PktGenResult[] }> {
  const counts = newCounts(ports.length);
  const control = new Control();
  const inWorker = options.worker || ports.length > 1;
  const start = async (): Promise<PktGenResult[]> => {
    await control.sleep(options.waitLink * 1000);
    return await Promise.all(
      ports.map((port, i) => {
        const work = { app: "pkt-gen", config: configs[i]! } as const;
        const part = [[port], [counts[i]!], control] as const;
        return inWorker ? runInWorker(work, ...part) : runApp(work, ...part);
      }),
    );
  };
  const running = { ...options, ...parts, control, counts, style: styleOf(options) };
  return { counts, results: await whileRunning(start(), running) };
}

const styleOf = (options: Options): ReportStyle => ({
  plain: options.plainUnits,
  averages: options.averages,
  framing: options.framing,
});

/** Prints the last lines, or the whole result as one JSON object. */
function tell(
  options: Options,
  { counts, results }: { counts: Counts[]; results: PktGenResult[] },
  set: PortSet,
  output: Output,
): void {
  const total = totalOf(counts);
  const mode = options.function;
  const [result] = results;
  output.value({ event: "result", function: mode, ...total, ...result, ...set.counters() });
  const verb = isSender(mode) || mode === "ping" ? "Sent" : "Received";
  for (const line of totalText(mode === "pong" ? "Answered" : verb, total, styleOf(options))) {
    output.text(line);
  }
  if (result?.delays !== undefined) for (const line of delayText(result.delays)) output.text(line);
  if (result?.sequence !== undefined) {
    output.text(
      `Sequence: ${JSON.stringify(result.sequence).replaceAll(/[{}"]/g, "").replaceAll(",", ", ")}`,
    );
  }
  if (result?.unanswered !== undefined) output.text(`Unanswered: ${result.unanswered}`);
}
