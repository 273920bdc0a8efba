/** `ringwire frontend`: a NIC, its driver and, with --tap, the kernel on top of it. */
import { Command } from "commander";
import * as z from "zod";
import type { Nic } from "../frontend/nic.ts";
import type { FrontendPages } from "../frontend/pages/server.ts";
import type { Logger } from "../shared/log.ts";
import { bracketed, parseHostPort } from "../shared/transport/address.ts";
import { UNIT_PREFIX } from "../shared/wire/personality.ts";
import { CaptureFiles, ignoreSignal } from "./capture/file.ts";
import { begin } from "./common/begin.ts";
import { ExitCode, Failure } from "./common/failure.ts";
import { returnFreedMemory } from "./common/freed-memory.ts";
import { bindAddress, listenFailure } from "./common/listen.ts";
import { addNicFlags, driverName, NicShape, newNic, opened } from "./common/nic.ts";
import { CommonShape, completed, parsed, word } from "./common/options.ts";
import type { Output } from "./common/output.ts";
import { ServiceManager } from "./common/service-manager.ts";
import { unlessStopped } from "./common/signals.ts";
import { AGENT } from "./common/version.ts";
import { countersLine } from "./status/text.ts";
import { traceTap } from "./trace/trace.ts";

const pagesPlace = parsed("HOST:PORT", (text) => {
  const { host, port } = parseHostPort(text);
  if (port === undefined) throw new Error("the port is missing");
  return { host, port };
});

export const FrontendShape = {
  ...CommonShape,
  ...NicShape,
  driver: driverName.default("ena"),
  netns: word.optional(),
  lro: z.boolean().default(true),
  llq: z.boolean().default(false),
  untrusted: z.boolean().default(false),
  trace: z.boolean().default(false),
  capture: z.string().min(1).optional(),
  listen: pagesPlace.optional(),
  insecure: z.boolean().default(false),
};
const Shape = z.object(FrontendShape);
type Options = z.infer<typeof Shape>;

export function frontendCommand(): Command {
  const command = addNicFlags(new Command("frontend"), {
    driver: "driver of the NIC (ena)",
    name: "name of the NIC, one of a kind on the device (ena0 or xn0, or the next free number)",
    queues:
      "queue pairs, up to what the device offers (1); one thread serves all, so more are not faster",
    tap: "TAP interface through which the kernel uses the NIC",
  })
    .description("A NIC: its driver here, its ENA function or Xen vif on the device.")
    .option("--netns <name>", "network namespace of the TAP, as of ip netns (this one)")
    .option("--no-lro", "do not merge received TCP segments")
    .option("--llq", "ENA: put transmit descriptors into device memory (low-latency queues)")
    .option(
      "--untrusted",
      "Xen: do not trust the device; it can read copies of sent data only, in pages that hold nothing else",
    )
    .option("--trace", "write each transaction as a line on stderr")
    .option(
      "--capture <file>",
      "write the NIC's frames and rings to a pcapng file; SIGUSR2 ends the capture or begins another",
    )
    .option("--listen <host:port>", "serve /status and /metrics of this NIC there (no pages)")
    .option("--insecure", "allow --listen with an address that other hosts can reach");
  return completed(command, EXAMPLES, Shape, runFrontend);
}

const EXAMPLES = `Examples:
  ringwire frontend                                       of the device here
  sudo ringwire frontend --connect HOST:7700 --tap rw0    the kernel's rw0
  ringwire frontend --connect HOST:7700 --name b --queues 4 --mtu 9000
  ringwire frontend --listen 127.0.0.1:7701               with /status, /metrics
  ringwire frontend --connect HOST:7700 --driver xen      a Xen vif, xn0
`;

async function runFrontend(options: Options): Promise<void> {
  if (options.untrusted && options.driver !== "xen") {
    throw new Failure("--untrusted goes with --driver xen", ExitCode.USAGE);
  }
  if (options.netns !== undefined && options.tap === undefined) {
    throw new Failure("--netns goes with --tap", ExitCode.USAGE);
  }
  const { output, log, stop } = begin(options);
  const manager = await ServiceManager.from(process.env, log);
  const asked = options.name ?? `${UNIT_PREFIX[options.driver]}0`;
  const trace = options.trace ? (await traceTap())(asked) : undefined;
  const nic = await newNic({ ...options, trusted: !options.untrusted, trace }, log);
  const pages = await openPages(options, nic, output, log);
  const failed = new Promise<string>((resolve) => nic.once("failed", resolve));
  let captures: CaptureFiles | undefined;
  const { capture } = options;
  if (capture === undefined) ignoreSignal(log);
  else {
    nic.once("connecting", () => {
      captures = new CaptureFiles(capture, (to) => nic.capture(to), log);
    });
  }
  let isReady = false;
  try {
    // After a signal while the NIC connects, the result of that attempt is ignored.
    if ((await unlessStopped(stop, opened(nic, options.connect))) === undefined) return;
    isReady = true;
    returnFreedMemory();
    const name = sayReady(nic, options, output, log);
    sayEvents(nic, name, output);
    manager.ready(() => {
      const { state, segment, link } = nic.status();
      return state === "attached" ? `${name} on ${segment}, link ${link}` : `${name}: no device`;
    });
    const gaveUp = failed.then((reason) => Promise.reject(new Failure(reason)));
    const signal = await Promise.race([stop.asked, gaveUp]);
    log.info({}, `${signal}: ${name} stops`);
  } finally {
    manager.stopping("the frontend stops");
    pages?.stopping();
    if (isReady) sayStopped(nic, output);
    await nic.close();
    await captures?.close("the frontend stops");
    await pages?.close();
  }
}

/** Serves the pages of --listen. They answer before the NIC is up, too. */
async function openPages(
  { listen, insecure }: Options,
  nic: Nic,
  output: Output,
  log: Logger,
): Promise<FrontendPages | undefined> {
  if (listen === undefined) return undefined;
  const host = await bindAddress(listen, { insecure, isLocked: false, isTls: false, ...OPEN }, log);
  const { FrontendPages } = await import("../frontend/pages/server.ts");
  const pages = new FrontendPages({ nic, host, port: listen.port, agent: AGENT, log });
  const port = await pages.listen().catch((error: unknown) => {
    throw listenFailure(error, listen);
  });
  const url = `http://${bracketed(host)}:${port}`;
  output.event(`pages at ${url}`, { event: "listening", url, port, pid: process.pid });
  return pages;
}

/** Sentences about a port that asks nobody for anything. */
const OPEN = {
  open: "everybody may read these pages: add --insecure if the network is yours alone",
  warning: "whoever reaches this port can read the counters of this NIC",
};

/** Prints that the NIC is up, and returns its name on the device. */
function sayReady(
  nic: Nic,
  { queues: wanted = 1, llq, tap, netns }: Options,
  output: Output,
  log: Logger,
): string {
  const { name, mac, mtu, queues, segment, epoch, link, deviceMemory } = nic.status();
  if (queues < wanted) log.warn({}, `the device offers ${queues} queue pairs, not ${wanted}`);
  if (llq && !deviceMemory) {
    log.warn({}, "--llq: this NIC has no device memory; its descriptors go the usual way");
  }
  const where = netns === undefined ? "" : ` in ${netns}`;
  const kernel = tap === undefined ? "" : `, interface ${tap}${where}`;
  output.event(
    `${name} is up: ${mac}, mtu ${mtu}, ${queues} ${queues === 1 ? "queue pair" : "queue pairs"}, segment ${segment}${kernel}, link ${link}`,
    { event: "ready", name, mac, mtu, queues, segment, epoch, link, tap, pid: process.pid },
  );
  return name;
}

function sayEvents(nic: Nic, name: string, output: Output): void {
  nic.on("link-gone", (reason) => output.value({ event: "link-lost", name, reason }));
  nic.on("link-back", () => {
    const { segment, epoch } = nic.status();
    output.value({ event: "link-back", name, segment, epoch });
  });
}

/** Prints the counters of a NIC that was ready. */
function sayStopped(nic: Nic, output: Output): void {
  const { name, reconnects, counters } = nic.status();
  output.value({ event: "stopped", name, reconnects, ...counters });
  output.text(countersLine(name, { ...counters.ifnet }));
}
