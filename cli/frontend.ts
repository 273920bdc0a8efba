/** `ringwire frontend`: a NIC, its driver and, with --tap, the kernel on top of it. */
import { Command } from "commander";
import { z } from "zod";
import type { NicCapture } from "../frontend/capture/nic-capture.ts";
import type { TapHost } from "../frontend/host/tap-host.ts";
import type { Session, SessionState } from "../frontend/session.ts";
import type { CaptureOutput } from "../shared/capture/output.ts";
import type { Logger } from "../shared/log.ts";
import { formatMac } from "../shared/net/ethernet.ts";
import type { Tap } from "../shared/tap/tap.ts";
import { PERSONALITIES, UNIT_PREFIX } from "../shared/wire/personality.ts";
import { CaptureFiles, ignoreSignal } from "./capture/file.ts";
import { sentenceOf } from "./common/advice.ts";
import { ExitCode, Failure } from "./common/failure.ts";
import { createLog } from "./common/log.ts";
import {
  addCommonFlags,
  addConnectFlag,
  addWaitFlag,
  CommonShape,
  ConnectShape,
  logOptions,
  nicName,
  oneOf,
  readOptions,
  unicastMac,
  WaitShape,
  whole,
} from "./common/options.ts";
import { Output } from "./common/output.ts";
import { onStop } from "./common/signals.ts";
import { openTap } from "./common/tap.ts";
import { AGENT } from "./common/version.ts";
import { TAKE_OVER } from "./netmap/nics.ts";
import { countersLines } from "./status/text.ts";
import { traceTap } from "./trace/trace.ts";

const DEFAULT_MTU = 1500;

const Shape = z.object({
  ...CommonShape,
  driver: oneOf(...PERSONALITIES).default("ena"),
  ...ConnectShape,
  ...WaitShape,
  name: nicName.optional(),
  mac: unicastMac.optional(),
  queues: whole(1, 128).optional(),
  mtu: whole(128, 9216).optional(),
  tap: z.string().optional(),
  zeroMask: z.boolean().default(false),
  takeOver: z.boolean().default(false),
  lro: z.boolean().default(true),
  llq: z.boolean().default(false),
  untrusted: z.boolean().default(false),
  trace: z.boolean().default(false),
  capture: z.string().min(1).optional(),
});
type Options = z.infer<typeof Shape>;

export function frontendCommand(): Command {
  const command = addWaitFlag(addConnectFlag(new Command("frontend")))
    .description("A NIC: its driver here, its ENA function or Xen vif on the device.")
    .option("--driver <ena|xen>", "driver of the NIC (ena)")
    .option(
      "--name <name>",
      "name of the NIC, one of a kind on the device (ena0 or xn0, or the next free number)",
    )
    .option("--mac <address>", "MAC address of the NIC (made from name and segment)")
    .option(
      "--queues <n>",
      "queue pairs, up to what the device offers (1); one thread serves all, so more are not faster",
    )
    .option("--mtu <bytes>", "largest packet, its Ethernet header not counted (1500)")
    .option("--tap <interface>", "TAP interface through which the kernel uses the NIC")
    .option(
      "--zero-mask",
      "do not hide what is sent from proxies on the way (less work): for loopback and TLS only",
    )
    .option("--take-over", TAKE_OVER)
    .option("--no-lro", "do not merge received TCP segments")
    .option("--llq", "ENA: put transmit descriptors into device memory (low-latency queues)")
    .option(
      "--untrusted",
      "Xen: do not trust the device: grant it copies of what is sent, in pages that hold nothing else",
    )
    .option("--trace", "write each transaction as a line on stderr")
    .option(
      "--capture <file>",
      "write the NIC's frames and rings to a pcapng file; SIGUSR2 ends the capture or begins another",
    );
  return addCommonFlags(command)
    .addHelpText("before", EXAMPLES)
    .action(async (_flags: unknown, self: Command) => runFrontend(readOptions(self, Shape)));
}

const EXAMPLES = `Examples:
  ringwire frontend                                       of the device here
  sudo ringwire frontend --connect HOST:7700 --tap rw0    the kernel's rw0
  ringwire frontend --connect HOST:7700 --name b --queues 4 --mtu 9000
  ringwire frontend --connect HOST:7700 --driver xen      a Xen vif, xn0
`;

async function runFrontend(options: Options): Promise<void> {
  if (options.untrusted && options.driver !== "xen") {
    throw new Failure("--untrusted goes with --driver xen", ExitCode.USAGE);
  }
  const output = new Output(options.json);
  const log = createLog(logOptions(options));
  const stop = onStop();
  const name = options.name ?? `${UNIT_PREFIX[options.driver]}0`;
  // Before connecting: whoever can't have the TAP must not take the name from a NIC that works.
  const tap =
    options.tap === undefined
      ? undefined
      : await openTap(options.tap, { ...options, offloads: true }, log);
  if (options.capture === undefined) ignoreSignal(log);
  const nic = new RunningNic(name, options, output, log);
  try {
    const session = await createSession(options, name, log, nic.onState);
    nic.session = session;
    if (options.capture !== undefined) {
      const { NicCapture } = await import("../frontend/capture/nic-capture.ts");
      const facts = { name, personality: options.driver, application: AGENT, log };
      const begin = (output: CaptureOutput) => {
        nic.capture = new NicCapture(session, output, facts);
        return nic.capture.recorder;
      };
      nic.captureFiles = new CaptureFiles(options.capture, begin, log);
    }
    const began = begin(session, tap, log, nic, options.connect);
    // Stopped while it connects: what comes of that is of no interest any more.
    began.catch(() => {});
    const early = await Promise.race([began, stop.asked]);
    if (early === undefined) {
      nic.sayReady(tap);
      const end = await Promise.race([stop.asked, nic.gaveUp]);
      if (typeof end !== "string") throw new Failure(end.reason);
      log.info({}, `${end}: ${nic.name} stops`);
    }
  } finally {
    await nic.end(tap);
  }
}

/** One NIC from its first word to its last. */
class RunningNic {
  readonly gaveUp: Promise<{ reason: string }>;
  readonly giveUp: (reason: string) => void;
  session: Session | undefined;
  host: TapHost | undefined;
  capture: NicCapture | undefined;
  captureFiles: CaptureFiles | undefined;
  readonly #asked: string;
  readonly #output: Output;
  readonly #queues: number;
  readonly #llq: boolean;
  readonly #log: Logger;
  #ready = false;

  constructor(name: string, { queues = 1, llq }: Options, output: Output, log: Logger) {
    this.#asked = name;
    this.#queues = queues;
    this.#llq = llq;
    this.#output = output;
    this.#log = log;
    const { promise, resolve } = Promise.withResolvers<{ reason: string }>();
    this.gaveUp = promise;
    this.giveUp = (reason) => resolve({ reason });
  }

  /** What the device calls it, once there was a welcome. */
  get name(): string {
    return this.session?.isStarted === true ? this.session.agreed.name : this.#asked;
  }

  readonly onState = (state: SessionState, reason: string): void => {
    if (!this.#ready) return;
    const { name } = this;
    if (state === "waiting") this.#output.value({ event: "link-lost", name, reason });
    if (state === "attached") {
      const { segment, epoch } = this.session!.agreed;
      this.#output.value({ event: "link-back", name, segment, epoch });
    }
    if (state === "closed") this.giveUp(reason);
  };

  sayReady(tap: Tap | undefined): void {
    const { driver, agreed } = this.session!;
    const { ifnet } = driver;
    const queues = Math.min(this.#queues, agreed.queues);
    if (queues < this.#queues) {
      this.#log.warn({}, `the device offers ${queues} queue pairs, not ${this.#queues}`);
    }
    if (this.#llq && !agreed.deviceMemory) {
      this.#log.warn({}, "--llq: this NIC has no device memory; its descriptors go the usual way");
    }
    const mac = formatMac(ifnet.mac);
    const kernel = tap === undefined ? "" : `, interface ${tap.name}`;
    this.#ready = true;
    this.#output.event(
      `${this.name} is up: ${mac}, mtu ${ifnet.mtu}, ${queues} ${queues === 1 ? "queue pair" : "queue pairs"}, segment ${agreed.segment}${kernel}, link ${ifnet.linkState}`,
      {
        event: "ready",
        name: this.name,
        mac,
        mtu: ifnet.mtu,
        queues,
        segment: agreed.segment,
        epoch: agreed.epoch,
        link: ifnet.linkState,
        ...(tap === undefined ? {} : { tap: tap.name }),
        pid: process.pid,
      },
    );
  }

  /** Tells the counters of a NIC that was ready, and lets go of everything. */
  async end(tap: Tap | undefined): Promise<void> {
    const { session, host } = this;
    if (this.#ready && session !== undefined) {
      const { driver } = session;
      this.#ready = false;
      this.#output.value({
        event: "stopped",
        name: this.name,
        reconnects: session.reconnects,
        ifnet: { ...driver.ifnet.counters },
        driver: driver.counters(),
        ...(tap === undefined ? {} : { tap: { ...tap.counters, host: { ...host?.counters } } }),
      });
      for (const line of countersLines(this.name, driver.ifnet.counters)) this.#output.text(line);
    }
    host?.leave();
    await session?.close();
    await this.captureFiles?.close("the frontend stops");
    await tap?.close();
  }
}

async function createSession(
  options: Options,
  name: string,
  log: Logger,
  onState: (state: SessionState, reason: string) => void,
): Promise<Session> {
  const { Session } = await import("../frontend/session.ts");
  const { createDriver } = await import("../frontend/drivers.ts");
  const { connect, driver, mac, queues, zeroMask, lro, llq, takeOver, wait } = options;
  const trusted = !options.untrusted;
  return new Session({
    connect,
    name,
    personality: driver,
    driver: (context) => createDriver(driver, context, { lro, llq, trusted }),
    mtu: options.mtu ?? DEFAULT_MTU,
    zeroMask,
    numbered: options.name === undefined,
    takeOver,
    waitForDevice: wait,
    agent: AGENT,
    log,
    onState,
    ...(mac === undefined ? {} : { mac }),
    ...(queues === undefined ? {} : { queues }),
    ...(options.trace ? { tap: (await traceTap())(name) } : {}),
  });
}

/** Connects, attaches, puts the kernel on top, brings the interface up. Throws Failure. */
async function begin(
  session: Session,
  tap: Tap | undefined,
  log: Logger,
  nic: RunningNic,
  connect: string,
): Promise<undefined> {
  const { bringUp } = await import("../frontend/host/bring-up.ts");
  try {
    await session.start();
    nic.capture?.see(session.driver.ifnet);
    await bringUp(session.driver, tap, {
      log,
      joined: (host) => {
        nic.host = host;
      },
      gone: nic.giveUp,
    });
  } catch (error) {
    throw Failure.from(error, sentenceOf(error, connect));
  }
  return undefined;
}
