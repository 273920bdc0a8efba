/** `ringwire frontend`: a NIC, its driver and, with --tap, the kernel on top of it. */
import { Command } from "commander";
import { z } from "zod";
import type { Session, SessionState } from "../frontend/session.ts";
import type { Logger } from "../shared/log.ts";
import { formatMac } from "../shared/net/ethernet.ts";
import { Failure, messageOf } from "./failure.ts";
import { createLog } from "./log.ts";
import {
  addCommonFlags,
  CommonShape,
  logOptions,
  nicName,
  oneOf,
  readOptions,
  target,
  unicastMac,
  whole,
} from "./options.ts";
import { Output } from "./output.ts";
import { onStop } from "./signals.ts";
import { countersLines } from "./status-text.ts";
import { traceTap } from "./trace.ts";
import { AGENT } from "./version.ts";

const Shape = z.object({
  ...CommonShape,
  driver: oneOf("ena", "xen").default("ena"),
  connect: target,
  name: nicName.optional(),
  mac: unicastMac.optional(),
  queues: whole(1, 128).optional(),
  mtu: whole(68, 9216).default(1500),
  tap: z.string().optional(),
  zeroMask: z.boolean().default(false),
  lro: z.boolean().default(true),
  llq: z.boolean().default(true),
  trace: z.boolean().default(false),
});
type Options = z.infer<typeof Shape>;

export function frontendCommand(): Command {
  const command = new Command("frontend")
    .description("A NIC: the driver's side of one ENA function.")
    .option("--connect <url>", "the device: ws://HOST:PORT, wss, http, https or HOST:PORT")
    .option("--driver <name>", "ena (ena)")
    .option("--name <name>", "name of the NIC, one of a kind on the device (ena0)")
    .option("--mac <address>", "its address (made from name and segment)")
    .option("--queues <n>", "queue pairs (as many as the device offers)")
    .option("--mtu <bytes>", "largest packet without the Ethernet header (1500)")
    .option("--tap <interface>", "the kernel uses the NIC through this TAP interface")
    .option("--zero-mask", "mask with zeros: for loopback and TLS only")
    .option("--no-lro", "do not merge received TCP segments")
    .option("--no-llq", "keep descriptors in host memory")
    .option("--trace", "every transaction in a line on stderr");
  return addCommonFlags(command)
    .addHelpText("before", EXAMPLES)
    .action(async (_flags: unknown, self: Command) => runFrontend(readOptions(self, Shape)));
}

const EXAMPLES = `Examples:
  ringwire frontend --connect ws://127.0.0.1:7700                     a NIC with nobody on top
  sudo ringwire frontend --connect ws://HOST:7700 --tap rw0           the kernel's interface rw0
  ringwire frontend --connect HOST:7700 --name b --queues 4 --mtu 9000
`;

async function runFrontend(options: Options): Promise<void> {
  const output = new Output(options.json);
  const log = createLog(logOptions(options));
  if (options.driver === "xen") {
    throw new Failure("--driver xen is not there yet: use --driver ena");
  }
  const stop = onStop();
  const gaveUp = Promise.withResolvers<string>();
  const name = options.name ?? `${options.driver}0`;

  let attached = false;
  const onState = (state: SessionState, reason: string) => {
    if (!attached) return;
    if (state === "waiting") output.value({ event: "link-lost", name, reason });
    if (state === "attached") output.value({ event: "link-back", name });
    if (state === "closed") gaveUp.resolve(reason);
  };
  const session = await openSession(options, name, log, onState);
  const { driver } = session;
  const { ifnet } = driver;
  try {
    const tap =
      options.tap === undefined
        ? undefined
        : await openTap(session, options.tap, log, gaveUp.resolve);
    try {
      await driver.up();
      attached = true;
      const { segment, epoch } = session.agreed;
      const mac = formatMac(ifnet.mac);
      output.event(
        `${name} is up: ${mac}, mtu ${ifnet.mtu}, segment ${segment}${options.tap === undefined ? "" : `, interface ${options.tap}`}`,
        {
          event: "ready",
          name,
          mac,
          mtu: ifnet.mtu,
          segment,
          epoch,
          tap: options.tap,
          pid: process.pid,
        },
      );
      const how = await Promise.race([stop.asked, gaveUp.promise.then((reason) => ({ reason }))]);
      attached = false;
      if (typeof how !== "string") throw new Failure(how.reason);
      log.info({}, `${how}: ${name} stops`);
    } finally {
      attached = false;
      output.value({
        event: "stopped",
        name,
        reconnects: session.reconnects,
        ifnet: { ...ifnet.counters },
        driver: driver.counters(),
        dma: { ...session.space.faults },
        ...(tap === undefined ? {} : { tap: tap.counters() }),
      });
      for (const line of countersLines(name, ifnet.counters)) output.text(line);
      tap?.leave();
      await session.close();
      await tap?.close();
    }
  } finally {
    await session.close();
  }
}

async function openSession(
  options: Options,
  name: string,
  log: Logger,
  onState: (state: SessionState, reason: string) => void,
): Promise<Session> {
  const { Session } = await import("../frontend/session.ts");
  const { createEnaDriver } = await import("../frontend/ena/index.ts");
  const { connect, mac, queues, mtu, zeroMask, lro, llq } = options;
  const session = new Session({
    connect,
    name,
    personality: "ena",
    driver: (context, welcome) =>
      createEnaDriver(context, { lro, llq, pushBytes: welcome.pushBytes }),
    mtu,
    zeroMask,
    agent: AGENT,
    log,
    onState,
    ...(mac === undefined ? {} : { mac }),
    ...(queues === undefined ? {} : { queues }),
    ...(options.trace ? { tap: (await traceTap())(name) } : {}),
  });
  try {
    await session.start();
  } catch (error) {
    throw new Failure(messageOf(error));
  }
  return session;
}

interface TapUser {
  counters(): object;
  /** The driver is on its own again. */
  leave(): void;
  close(): Promise<void>;
}

/** Opens the TAP with the NIC's address and puts the kernel on top of the driver. */
async function openTap(
  session: Session,
  name: string,
  log: Logger,
  gone: (reason: string) => void,
): Promise<TapUser> {
  // Only here: where there is no TAP, nothing of it is loaded.
  const { Tap } = await import("../shared/tap/tap.ts");
  const { joinTap } = await import("../frontend/host/tap-host.ts");
  const { driver } = session;
  const { ifnet } = driver;
  try {
    const tap = await Tap.open({ name, mac: ifnet.mac, mtu: ifnet.mtu, offloads: true, log });
    const host = joinTap(tap, ifnet, {
      log,
      up: () => driver.up(),
      down: () => driver.down(),
      gone: (error) => gone(error.message),
    });
    return {
      counters: () => ({ ...tap.counters, host: { ...host.counters } }),
      leave: () => host.leave(),
      close: () => tap.close(),
    };
  } catch (error) {
    throw new Failure(`--tap ${name}: ${messageOf(error)}`);
  }
}
