/**
 * What pkt-gen, bridge and lb have in common: the NICs behind port names, the ports themselves,
 * the kernel's share through --tap, and the order in which all of it comes and goes.
 *
 *   netmap:ena0-1   base ena0: a NIC of this process, its driver by the prefix ena, one link
 *   netmap:ena0{p   the same NIC; the pipe hangs on it
 *   netmap:p{1      no NIC: a pipe on nothing else      vale0:a   no NIC: a switch in this process
 */
import type { Command } from "commander";
import { z } from "zod";
import type { NmPort, OpenOptions } from "../../frontend/netmap/descriptor.ts";
import type { RequestOptions } from "../../frontend/netmap/netmap.ts";
import type { PortName } from "../../frontend/netmap/port-name.ts";
import type { Nic } from "../../frontend/nic.ts";
import type { Logger } from "../../shared/log.ts";
import type { Tap } from "../../shared/tap/tap.ts";
import { PERSONALITIES, type Personality, UNIT_PREFIX } from "../../shared/wire/personality.ts";
import { sentenceOf } from "../common/advice.ts";
import { ExitCode, Failure, messageOf } from "../common/failure.ts";
import {
  addConnectFlag,
  addWaitFlag,
  ConnectShape,
  nicName,
  oneOf,
  unicastMac,
  WaitShape,
  whole,
} from "../common/options.ts";
import { type Stop, unlessStopped } from "../common/signals.ts";
import { openTap } from "../common/tap.ts";
import { AGENT } from "../common/version.ts";

export const NicShape = {
  ...ConnectShape,
  ...WaitShape,
  driver: oneOf(...PERSONALITIES).optional(),
  name: nicName.optional(),
  mac: unicastMac.optional(),
  queues: whole(1, 128).optional(),
  mtu: whole(128, 9216).optional(),
  tap: z.string().optional(),
  zeroMask: z.boolean().default(false),
  takeOver: z.boolean().default(false),
};
type NicFlags = z.infer<z.ZodObject<typeof NicShape>>;

/**
 * A netmap port name. As netmap's pkt-gen does, a name without a prefix gets "netmap:". Its tap: and
 * pcap: stand for other kinds of devices, which there are none of here.
 */
export const portName = z.string().transform((text, context) => {
  if (/^(tap|pcap):/.test(text)) {
    const message = `takes a netmap port, and ${text} is none: as netmap:ena0, ena0 or vale0:a`;
    context.addIssue({ code: "custom", message });
    return z.NEVER;
  }
  return /^(netmap|vale)/.test(text) ? text : `netmap:${text}`;
});

/** The flags of NicShape. */
export function addNicFlags(command: Command): Command {
  return addWaitFlag(addConnectFlag(command))
    .option("--driver <ena|xen>", "driver of a NIC whose name begins with neither ena nor xn")
    .option(
      "--name <name>",
      "name of the NIC on the device (that of the port, or the next free number)",
    )
    .option("--mac <address>", "MAC address of the NIC (made from name and segment)")
    .option("--queues <n>", "ring pairs of the NIC (as many as the port names and -p need)")
    .option("--mtu <bytes>", "largest packet, its Ethernet header not counted (1500)")
    .option(
      "--tap <interface>",
      "TAP interface through which the kernel uses the rings that are not opened here",
    )
    .option(
      "--zero-mask",
      "do not hide what is sent from proxies on the way (less work): for loopback and TLS only",
    )
    .option("--take-over", TAKE_OVER);
}

/** What --take-over changes, in every command that has it. */
export const TAKE_OVER =
  "take the name even from a NIC that is alive; that NIC waits until the name is free";

const wrong = (message: string): Failure => new Failure(message, ExitCode.USAGE);

/** The NIC that a port name needs, if any. */
function baseOf({ name }: PortName): string | undefined {
  if (name.startsWith("vale")) return undefined;
  const base = name.split(/[{}]/)[0] ?? name;
  return /^(ena|xn)\d/.test(base) || base === name ? base : undefined;
}

export class Nics {
  /** A NIC gave up, or its TAP is gone: a sentence. */
  readonly gaveUp: Promise<string>;
  readonly #giveUp: (reason: string) => void;
  readonly #flags: NicFlags;
  readonly #log: Logger;
  readonly #nics = new Map<string, Nic>();
  readonly #ports: NmPort[] = [];
  #tap: Tap | undefined;

  constructor(flags: NicFlags, log: Logger) {
    this.#flags = flags;
    this.#log = log;
    const { promise, resolve } = Promise.withResolvers<string>();
    this.gaveUp = promise;
    this.#giveUp = resolve;
  }

  /**
   * Checks names and flags, then connects a NIC for each base, with at least `rings` ring pairs
   * and those that the names choose. False: stopped before all were there. Throws Failure.
   */
  async connect(names: readonly string[], stop: Stop, rings = 1): Promise<boolean> {
    const { parsePortName } = await import("../../frontend/netmap/port-name.ts");
    const { RegMode } = await import("../../frontend/netmap/flags.ts");
    const { netmap } = await import("../../frontend/netmap/netmap.ts");
    netmap.log = this.#log;
    const { connect, tap, name } = this.#flags;
    const bases = new Set<string>();
    let queues = rings;
    for (const text of names) {
      let parsed: PortName;
      try {
        parsed = parsePortName(text);
      } catch (error) {
        throw wrong(`-i ${messageOf(error)}`);
      }
      const base = baseOf(parsed);
      if (base !== undefined) bases.add(base);
      if (parsed.mode === RegMode.ONE_NIC) queues = Math.max(queues, parsed.ringId + 1);
    }
    for (const base of bases) this.#checkDriver(base);
    const count = bases.size;
    if (count === 0 && tap !== undefined) throw wrong("--tap needs a NIC, and no port names one");
    if (count > 1 && tap !== undefined) throw wrong("--tap goes with one NIC, not with several");
    if (count !== 1 && name !== undefined) throw wrong("--name goes with one NIC");
    if (count === 0) return true;
    const opened = this.#openAll(bases, connect, this.#flags.queues ?? queues);
    return (await unlessStopped(stop, opened)) !== undefined;
  }

  #checkDriver(base: string): void {
    const { driver = driverOf(base) } = this.#flags;
    if (driver === undefined) {
      throw wrong(
        `-i ${base}: begins with neither ena nor xn, so its driver is not known: add --driver ena or --driver xen`,
      );
    }
  }

  async #openAll(bases: ReadonlySet<string>, connect: string, queues: number): Promise<true> {
    const { tap, name, mac, mtu, zeroMask, takeOver, wait } = this.#flags;
    // Before connecting: whoever can't have the TAP must not take the name from a NIC that works.
    if (tap !== undefined) {
      // Host rings take only frames that are finished, as netmap's do.
      this.#tap = await openTap(tap, { mac, mtu, offloads: false }, this.#log);
    }
    const { openNic } = await import("../../frontend/nic.ts");
    for (const ifname of bases) {
      try {
        const nic = await openNic({
          connect,
          ifname,
          personality: this.#flags.driver ?? driverOf(ifname) ?? "ena",
          agent: AGENT,
          log: this.#log,
          zeroMask,
          takeOver,
          waitForDevice: wait,
          onState: (state, reason) => {
            if (state === "closed") this.#giveUp(`${ifname}: ${reason}`);
          },
          ...(name === undefined ? {} : { name }),
          ...(mac === undefined ? {} : { mac }),
          queues,
          ...(mtu === undefined ? {} : { mtu }),
          ...(this.#tap === undefined ? {} : { tap: this.#tap }),
        });
        this.#nics.set(ifname, nic);
      } catch (error) {
        throw Failure.from(error, sentenceOf(error, connect));
      }
    }
    return true;
  }

  /** The NIC of the only base, or of the one asked for. */
  nic(name: string): Nic | undefined {
    return this.#nics.get(name);
  }

  /**
   * Makes room for ports that are to be open at the same time. Throws Failure when that can't be;
   * then nothing has been opened.
   */
  async reserve(names: readonly string[], options: RequestOptions = {}): Promise<void> {
    const { netmap } = await import("../../frontend/netmap/netmap.ts");
    try {
      netmap.reserve(names, options);
    } catch (error) {
      throw new Failure(messageOf(error));
    }
  }

  async openPort(name: string, options: OpenOptions = {}): Promise<NmPort> {
    const { nmOpen } = await import("../../frontend/netmap/descriptor.ts");
    try {
      const port = await nmOpen(name, options);
      this.#ports.push(port);
      return port;
    } catch (error) {
      throw new Failure(messageOf(error));
    }
  }

  /** Resolves once every device has the receive buffers of the ports opened so far. */
  async settled(): Promise<void> {
    for (const nic of this.#nics.values()) {
      await nic.settled().catch((error: unknown) => {
        throw new Failure(messageOf(error));
      });
    }
  }

  /** What interfaces and ports counted, for --json. */
  counters(): object {
    const nics = [...this.#nics].map(([name, { ifnet, driver, host }]) => ({
      name,
      ifnet: { ...ifnet.counters },
      driver: driver.counters(),
      ...(host === undefined
        ? {}
        : { tap: { ...this.#tap?.counters, host: { ...host.counters } } }),
    }));
    const ports = this.#ports.map((port) => ({ name: port.name, ...port.adapter.counters }));
    return { nics, ports };
  }

  /** Ports, then NICs, then the TAP. */
  async close(): Promise<void> {
    for (const port of this.#ports.toReversed()) await port.close();
    for (const nic of this.#nics.values()) await nic.close();
    await this.#tap?.close();
  }
}

function driverOf(base: string): Personality | undefined {
  return PERSONALITIES.find((personality) => base.startsWith(UNIT_PREFIX[personality]));
}
