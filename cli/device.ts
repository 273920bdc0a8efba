/** `ringwire device`: runs a device until a signal stops it. */
import { Command, Option } from "commander";
import * as z from "zod";
import type { Device, SegmentOptions, StartCapture } from "../device/index.ts";
import { parseUplink } from "../device/ports/uplinks.ts";
import { deviceSegments } from "../device/segments/options.ts";
import { gatewayCommands } from "../device/services/gateway.ts";
import { commonServices, type ServiceOptions, serviceOptions } from "../device/services/options.ts";
import {
  DEFAULT_STORM_LIMIT,
  MAX_STORM_LIMIT,
  STORM_KINDS,
  type StormLimits,
} from "../device/switch/storm.ts";
import type { Logger } from "../shared/log.ts";
import { TapError } from "../shared/tap/errors.ts";
import { DEFAULT_DEVICE, DEVICE_PORT } from "../shared/transport/address.ts";
import { CaptureFiles, ignoreSignal } from "./capture/file.ts";
import { begin } from "./common/begin.ts";
import { keepCollectionsShort } from "./common/compiler.ts";
import { Failure, wrong } from "./common/failure.ts";
import { mapLargeBuffers, returnFreedMemory } from "./common/freed-memory.ts";
import { bindAddress, listenFailure } from "./common/listen.ts";
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
import { ServiceManager } from "./common/service-manager.ts";
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

export const DeviceShape = {
  ...CommonShape,
  listen: hostPort.default({ host: "127.0.0.1", port: DEVICE_PORT }),
  insecure: z.boolean().default(false),
  cert: z.string().min(1).optional(),
  key: z.string().min(1).optional(),
  ca: z.string().min(1).optional(),
  tokens: z.string().min(1).optional(),
  allowHost: z.array(hostName()).default([]),
  uplink: z.array(uplink()).optional(),
  dhcp: z.string().min(1).optional(),
  gateway: z.string().min(1).optional(),
  segment: z.array(word).optional(),
  segmentId: word.optional(),
  queues: whole(1, MAX_QUEUES).default(8),
  mtu: whole(MIN_MTU, MAX_MTU).default(MAX_MTU),
  whenFull: oneOf("drop", "hold").optional(),
  stormLimit: z.array(stormLimit()).optional(),
  /** The segments of the file of --config. */
  segments: deviceSegments.optional(),
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
};
const Shape = z.object(DeviceShape);
type Options = z.infer<typeof Shape>;

/** Options of segments without `[[segment]]`, with their flags. */
export const SEGMENT_FLAGS = {
  segment: "segment",
  segmentId: "segment-id",
  whenFull: "when-full",
  stormLimit: "storm-limit",
  uplink: "uplink",
  dhcp: "dhcp",
  gateway: "gateway",
} as const;

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
    .option(
      "--dhcp <address/bits>",
      "serve the segment from this address: DHCP for the upper half of its network, DNS for the names of NICs in the domain lab, and pings",
    )
    .option(
      "--gateway <tap>",
      "with --dhcp: connect the segment to this TAP interface and make it the clients' router; prints the commands that give it their traffic",
    )
    .option(
      "--segment <name...>",
      "name of an Ethernet segment; may be repeated; uplinks, services and --segment-id belong to the first (lan0)",
    )
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
  return completed(command, EXAMPLES, Shape, runDevice, { segments: "segment" });
}

/** Returns the segments of the file, or those that the flags describe. Throws Failure for both. */
function segmentsOf(options: Options): readonly SegmentOptions[] {
  const { segments, segment, segmentId, whenFull, stormLimit, uplink } = options;
  if (segments === undefined) {
    return (segment ?? ["lan0"]).map((name, i) => ({
      name,
      whenFull: whenFull ?? "drop",
      storm: Object.assign({}, ...(stormLimit ?? [])),
      ...(i === 0 ? { id: segmentId, uplinks: uplink ?? [], services: servicesOf(options) } : {}),
    }));
  }
  for (const [key, flag] of Object.entries(SEGMENT_FLAGS)) {
    if (options[key as keyof Options] === undefined) continue;
    throw wrong(
      `--${flag} describes segments, and so does the config file: put it into [[segment]]`,
    );
  }
  // zod leaves out what the file leaves out, where its type says undefined.
  return segments as readonly SegmentOptions[];
}

const EXAMPLES = `Examples:
  ringwire device                                     for this machine
  ringwire device --uplink tap:lab0                   with the kernel
  ringwire device --dhcp 10.0.0.1/24                  with addresses and names
  ringwire device --listen 0.0.0.0:7700 --cert c.pem --key k.pem --tokens t.json
      for clients on other hosts that have a token, with TLS
  ringwire device --listen 0.0.0.0:7700 --insecure
      for everybody who reaches this port
  ringwire device --config lab.toml                   the device of a lab
`;

/** Sentences about a port that asks nobody for anything. */
const OPEN = {
  open: "everybody may ask this device: add --tokens or --ca, or --insecure if the network is yours alone",
  warning: "whoever reaches this port can join the segment, and nothing is encrypted",
};

async function runDevice(options: Options): Promise<void> {
  const segments = segmentsOf(options);
  keepCollectionsShort();
  const lock = new Lock(options);
  // With files to read again, SIGHUP asks for that, as of other servers.
  const { output, log, stop } = begin(options, lock.hasFiles ? WITHOUT_HANGUP : undefined);
  const manager = await ServiceManager.from(process.env, log);
  const { insecure } = options;
  const { isLocked, isTls } = lock;
  const host = await bindAddress(options.listen, { insecure, isLocked, isTls, ...OPEN }, log);
  const { openDevice } = await import("../device/index.ts");
  let device: Device | undefined;
  let capture: CaptureFiles | undefined;
  try {
    device = await openDevice({
      listen: { host, port: options.listen.port },
      ...(await lock.read()),
      segments,
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
      throw openFailure(error, options);
    });
    const { url, port } = device;
    lock.follow(device, log);
    for (const event of ["joined", "left", "uplink-lost"] as const) {
      device.on(event, (value: object) => output.value({ event, ...value }));
    }
    output.event(`listening on ${url}`, { event: "listening", url, port, pid: process.pid });
    for (const command of segments.flatMap(({ services }) =>
      services === undefined ? [] : gatewayCommands(services),
    )) {
      output.event(`run as root: ${command}`, { event: "gateway", command });
    }
    const running = device;
    manager.ready(() => `listening on ${url}, ${running.nics} NICs`);
    mapLargeBuffers();
    returnFreedMemory();
    const ends = options.endWithStdin ? [stop.asked, stdinEnd()] : [stop.asked];
    log.info({}, `${await Promise.race(ends)}: the device stops`);
  } finally {
    manager.stopping("the device stops");
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

/** Returns the services of --dhcp and --gateway. Throws Failure (wrong usage) for a wrong address. */
function servicesOf({ dhcp, gateway }: Options): ServiceOptions | undefined {
  if (dhcp === undefined) {
    if (gateway === undefined) return undefined;
    throw wrong("--gateway needs --dhcp with an address of the segment");
  }
  const tap = gateway === undefined ? {} : { gateway: { tap: gateway } };
  const { data, error } = serviceOptions.safeParse({ ...commonServices(dhcp), ...tap });
  if (data !== undefined) return data;
  const { path = [], message } = error.issues[0]!;
  if (path.join(".") === "gateway.tap") {
    throw wrong(`--gateway ${message}, not ${JSON.stringify(gateway)}`);
  }
  if (path[0] === "gateway") {
    throw wrong(`--dhcp takes another address than ${dhcp}, which is that of the --gateway`);
  }
  throw wrong(`--dhcp ${message}, not ${JSON.stringify(dhcp)}`);
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

/** Returns an error that says why the device can't be opened. */
function openFailure(error: unknown, { listen: place, uplink, gateway }: Options): Error {
  if (error instanceof Failure) return error;
  if (error instanceof TapError) {
    const flags = [uplink?.length ? "--uplink" : [], gateway === undefined ? [] : "--gateway"];
    return tapFailure(flags.flat().join(" or ") || "uplink", error);
  }
  return listenFailure(error, place);
}
