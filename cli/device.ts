/** `ringwire device`: runs a device until a signal stops it. */
import { BlockList, isIP } from "node:net";
import { Command, Option } from "commander";
import * as z from "zod";
import type { Device, StartCapture } from "../device/index.ts";
import { parseUplink } from "../device/ports/uplinks.ts";
import {
  DEFAULT_STORM_LIMIT,
  MAX_STORM_LIMIT,
  STORM_KINDS,
  type StormLimits,
} from "../device/switch/storm.ts";
import type { Logger } from "../shared/log.ts";
import { TapError } from "../shared/tap/errors.ts";
import { bracketed, DEFAULT_DEVICE, DEVICE_PORT } from "../shared/transport/address.ts";
import { addressOf } from "../shared/transport/lookup.ts";
import { CaptureFiles, ignoreSignal } from "./capture/file.ts";
import { begin } from "./common/begin.ts";
import { keepCollectionsShort } from "./common/compiler.ts";
import { ExitCode, Failure, messageOf, systemCode } from "./common/failure.ts";
import { mapLargeBuffers, returnFreedMemory } from "./common/freed-memory.ts";
import { Lock } from "./common/lock.ts";
import {
  amount,
  CommonShape,
  checked,
  completed,
  deadAfter,
  hostPort,
  oneOf,
  whole,
  word,
} from "./common/options.ts";
import { stdinEnd, WITHOUT_HANGUP } from "./common/signals.ts";
import { tapFailure } from "./common/tap.ts";
import { AGENT } from "./common/version.ts";
import { deviceOptions, deviceOptionsHelp } from "./device-options.ts";
import { segmentTable } from "./status/text.ts";
import { traceTap } from "./trace/trace.ts";

const MAX_QUEUES = 32;
const MAX_MTU = 9216;
const MIN_MTU = 576;
const MAX_SNAP = 262_144;
const MIN_MEMORY = 1_000_000;

const Shape = z.object({
  ...CommonShape,
  listen: hostPort.default({ host: "127.0.0.1", port: DEVICE_PORT }),
  insecure: z.boolean().default(false),
  cert: z.string().min(1).optional(),
  key: z.string().min(1).optional(),
  ca: z.string().min(1).optional(),
  tokens: z.string().min(1).optional(),
  allowHost: z.array(hostName()).default([]),
  uplink: z.array(uplink()).default([]),
  segment: word.default("lan0"),
  segmentId: word.optional(),
  queues: whole(1, MAX_QUEUES).default(8),
  mtu: whole(MIN_MTU, MAX_MTU).default(MAX_MTU),
  whenFull: oneOf("drop", "hold").default("drop"),
  stormLimit: z.array(stormLimit()).default([]),
  llq: z.boolean().default(true),
  deviceOption: deviceOptions.prefault([]),
  memoryLimit: amount.pipe(z.number().min(MIN_MEMORY, `takes at least ${MIN_MEMORY}`)).optional(),
  deadAfter: deadAfter().optional(),
  checkWindows: z.boolean().default(false),
  trace: z.boolean().default(false),
  capture: z.string().min(1).optional(),
  captureSnap: whole(0, MAX_SNAP).default(0),
  captureOnly: oneOf("frames", "ring").optional(),
  /** Ends the device when its stdin closes, so that a child never outlives its parent. */
  endWithStdin: z.boolean().default(false),
});
type Options = z.infer<typeof Shape>;

function uplink() {
  return z.string().superRefine((text, context) => {
    const message = parseUplink(text);
    if (typeof message === "string") context.addIssue({ code: "custom", message });
  });
}

/** Limits of storm control: for one kind, or for all. */
function stormLimit() {
  return checked(
    (text): Partial<StormLimits> | undefined => {
      const [, word, value = ""] = /^(?:([a-z]+)=)?(\d{1,8}|off)$/.exec(text) ?? [];
      const kinds = STORM_KINDS.filter((kind) => word === undefined || kind === word);
      const limit = value === "off" ? value : Number(value);
      if (kinds.length === 0 || limit === 0 || Number(limit) > MAX_STORM_LIMIT) return undefined;
      return Object.fromEntries(kinds.map((kind) => [kind, limit]));
    },
    `takes 1 to ${MAX_STORM_LIMIT} or off, for one kind as KIND=N (${STORM_KINDS.join(", ")})`,
  );
}

/** A host name in the form of a Host header, without a port. */
function hostName() {
  return checked((text) => {
    const name = text.toLowerCase().replace(/\.$/, "");
    const label = /^[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?$/;
    const fits = name.length <= 253 && name.split(".").every((part) => label.test(part));
    return fits ? name : undefined;
  }, "takes a host name without scheme and port");
}

export function deviceCommand(): Command {
  const command = new Command("device")
    .description("A device: one switch, and on it an ENA function or a Xen vif for each frontend.")
    .option("--listen <host:port>", `address and port where frontends connect (${DEFAULT_DEVICE})`)
    .option("--cert <file>", "speak TLS, with the certificate in this PEM file")
    .option("--key <file>", "PEM file of the key of --cert")
    .option("--ca <file>", "let in clients with a certificate of this issuer, a PEM file")
    .option("--tokens <file>", "let in the clients of this file, which ringwire token writes")
    .option(
      "--insecure",
      "allow --listen with an address that other hosts can reach, without tokens or certificates",
    )
    .option(
      "--allow-host <name...>",
      "also serve the HTTP pages to browsers that use this host name; may be repeated",
    )
    .option("--uplink <tap:name...>", "connect the segment to this TAP interface; may be repeated")
    .option("--segment <name>", "name of the Ethernet segment (lan0)")
    .option(
      "--segment-id <id>",
      "id of the segment, the same for all devices that uplinks join to one segment (random)",
    )
    .option("--queues <n>", "queue pairs that each NIC may have (8)")
    .option("--mtu <bytes>", `largest MTU that a NIC may have (${MAX_MTU})`)
    .option("--when-full <drop|hold>", "what happens to a frame whose receiver has no room (drop)")
    .option(
      "--storm-limit <[kind=]n|off...>",
      `frames a second that a NIC may flood, of each kind (${STORM_KINDS.join(", ")}) or, with KIND=N, of one kind; an uplink may flood ten times as many; may be repeated (${DEFAULT_STORM_LIMIT})`,
    )
    .option("--no-llq", "offer no device memory for ENA's low-latency queues")
    .option(
      "--device-option <key=value...>",
      "change the behaviour of the device models, by the keys below; may be repeated",
    )
    .option(
      "--memory-limit <bytes>",
      "memory for rings and waiting data of all NICs together; a NIC that needs more is refused (a quarter of the machine's)",
    )
    .option(
      "--dead-after <seconds|off>",
      "silence after which a NIC counts as dead, and this device for the NIC; for paused processes and breakpoints (4)",
    )
    .option(
      "--check-windows",
      "for debugging: compare both copies of shared memory all the time; a NIC whose copies differ reconnects",
    )
    .option("--trace", "write each transaction as a line on stderr")
    .option(
      "--capture <file>",
      "write frames and rings of all NICs to a pcapng file; SIGUSR2 ends the capture or begins another",
    )
    .option("--capture-snap <bytes>", "keep at most this many bytes of each frame (all)")
    .option("--capture-only <frames|ring>", "capture frames only, or rings only (both)")
    .addOption(new Option("--end-with-stdin").hideHelp())
    .addHelpText("after", deviceOptionsHelp);
  return completed(command, EXAMPLES, Shape, runDevice);
}

const EXAMPLES = `Examples:
  ringwire device                                     for this machine
  ringwire device --uplink tap:lab0                   with the kernel
  ringwire device --listen 0.0.0.0:7700 --cert c.pem --key k.pem --tokens t.json
      for clients on other hosts that have a token, with TLS
  ringwire device --listen 0.0.0.0:7700 --insecure
      for everybody who reaches this port
`;

async function runDevice(options: Options): Promise<void> {
  keepCollectionsShort();
  const lock = new Lock(options);
  // With files to read again, SIGHUP asks for that, as of other servers.
  const { output, log, stop } = begin(options, lock.hasFiles ? WITHOUT_HANGUP : undefined);
  const host = await bindAddress(options, lock, log);
  const { openDevice } = await import("../device/index.ts");
  let device: Device | undefined;
  let capture: CaptureFiles | undefined;
  try {
    device = await openDevice({
      listen: { host, port: options.listen.port },
      ...(await lock.read()),
      segments: {
        name: options.segment,
        id: options.segmentId,
        whenFull: options.whenFull,
        storm: Object.assign({}, ...options.stormLimit),
        uplinks: options.uplink,
      },
      capture: (start) => {
        capture = captureOf(options, start, log);
      },
      log,
      agent: AGENT,
      maxQueues: options.queues,
      maxMtu: options.mtu,
      memoryBytes: options.memoryLimit,
      deadAfter: options.deadAfter,
      checkWindows: options.checkWindows,
      allowHosts: options.allowHost,
      ena: { ...options.deviceOption.ena, llq: options.llq },
      xen: options.deviceOption.xen,
      ...(options.trace ? { tap: await traceTap() } : {}),
    }).catch((error: unknown) => {
      throw openFailure(error, options.listen);
    });
    const { url, port } = device;
    lock.follow(device, log);
    for (const event of ["joined", "left", "uplink-lost"] as const) {
      device.on(event, (value: object) => output.value({ event, ...value }));
    }
    output.event(`listening on ${url}`, { event: "listening", url, port, pid: process.pid });
    mapLargeBuffers();
    returnFreedMemory();
    const ends = options.endWithStdin ? [stop.asked, stdinEnd()] : [stop.asked];
    log.info({}, `${await Promise.race(ends)}: the device stops`);
  } finally {
    lock.close();
    const last = device?.status();
    // The capture ends when the last NIC has left. A pipe that nobody reads does not delay the end.
    const closed = device?.close();
    await capture?.close("the device stops");
    await closed;
    if (options.endWithStdin) process.stdin.destroy();
    if (last !== undefined) {
      output.value({ event: "stopped", ...last });
      for (const line of segmentTable(last)) output.text(line);
    }
  }
}

function captureOf(options: Options, start: StartCapture, log: Logger): CaptureFiles | undefined {
  const { capture, captureSnap: snapLength, captureOnly } = options;
  if (capture === undefined) {
    ignoreSignal(log);
    return undefined;
  }
  const frames = captureOnly !== "ring";
  const ring = captureOnly !== "frames";
  // The same content as in `ringwire capture --ring`: each frame once, and the rings of every NIC.
  const request = { sources: ["switch"], frames, ring, snapLength };
  return new CaptureFiles(capture, (output) => start(output, request), log);
}

type Place = Options["listen"];

/** Formats a place as on the command line. */
const placeOf = ({ host, port }: Place): string => `${bracketed(host)}:${port}`;

/** Returns the address to bind. Resolves names first, so that the check sees the bound address. */
async function bindAddress(
  { listen, insecure }: Options,
  lock: Lock,
  log: Logger,
): Promise<string> {
  let address: string;
  try {
    address = await addressOf(listen.host);
  } catch (error) {
    throw new Failure(
      `the host in --listen is not known: ${listen.host} (${systemCode(error) ?? messageOf(error)})`,
    );
  }
  if (isLoopback(address)) return address;
  if (lock.isLocked) {
    if (!lock.isTls) {
      log.warn(
        { address },
        "without --cert and --key, tokens and frames cross the network in clear",
      );
    }
    return address;
  }
  if (!insecure) {
    throw new Failure(
      `--listen ${placeOf(listen)} can be reached from other hosts, and everybody may ask this device: add --tokens or --ca, or --insecure if the network is yours alone`,
      ExitCode.USAGE,
    );
  }
  log.warn(
    { address },
    "--insecure: whoever reaches this port can join the segment, and nothing is encrypted",
  );
  return address;
}

function isLoopback(address: string): boolean {
  const loopback = new BlockList();
  loopback.addSubnet("127.0.0.0", 8, "ipv4");
  loopback.addAddress("::1", "ipv6");
  return loopback.check(address, isIP(address) === 6 ? "ipv6" : "ipv4");
}

/** Returns an error that says why the device can't be opened. */
function openFailure(error: unknown, place: Place): Error {
  if (error instanceof Failure) return error;
  if (error instanceof TapError) return tapFailure("--uplink", error);
  const where = placeOf(place);
  const reasons: Readonly<Record<string, string>> = {
    EADDRINUSE: `${where} is in use, perhaps by another device: choose another port with --listen`,
    EACCES: `this user may not listen on ${where}: choose a port from 1024 up with --listen`,
    EADDRNOTAVAIL: `${place.host} is no address of this machine: choose another with --listen`,
  };
  const known = reasons[systemCode(error) ?? ""];
  return new Failure(known ?? `can't listen on ${where}: ${messageOf(error)}`);
}
