/**
 * The common parts of pkt-gen, bridge and lb: the NICs behind port names, the ports themselves, the
 * kernel's share through --tap, and the order in which all of them are opened and closed.
 *
 *   netmap:ena0-1   base ena0: a NIC of this process, its driver by the prefix ena, one link
 *   netmap:ena0{p   the same NIC; the pipe belongs to it
 *   netmap:p{1      no NIC: a pipe on nothing else      vale0:a   no NIC: a switch in this process
 */
import type { Command } from "commander";
import * as z from "zod";
import type { NmPort } from "../../frontend/netmap/descriptor.ts";
import type { Netmap, RequestOptions } from "../../frontend/netmap/netmap.ts";
import type { PortName } from "../../frontend/netmap/port-name.ts";
import type { Nic } from "../../frontend/nic.ts";
import { PERSONALITIES, type Personality, UNIT_PREFIX } from "../../shared/wire/personality.ts";
import type { Begun } from "../common/begin.ts";
import { Failure, messageOf, wrong } from "../common/failure.ts";
import { addNicFlags, type NicShape, newNic, opened } from "../common/nic.ts";
import { unlessStopped } from "../common/signals.ts";

type NicFlags = z.infer<z.ZodObject<typeof NicShape>>;

/**
 * A netmap port name. As in netmap's pkt-gen, a name without a prefix gets "netmap:". The prefixes
 * tap: and pcap: of the original name other kinds of devices, which do not exist here.
 */
export const portName = z.string().transform((text, context) => {
  if (/^(tap|pcap):/.test(text)) {
    const message = `takes a netmap port, and ${text} is none: as netmap:ena0, ena0 or vale0:a`;
    context.addIssue({ code: "custom", message });
    return z.NEVER;
  }
  return /^(netmap|vale)/.test(text) ? text : `netmap:${text}`;
});

/** Adds the flags of NicShape. */
export const addPortFlags = (command: Command): Command =>
  addNicFlags(command, {
    driver: "driver of a NIC whose name begins with neither ena nor xn",
    name: "name of the NIC on the device (that of the port, or the next free number)",
    queues: "ring pairs of the NIC (as many as the port names and -p need)",
    tap: "TAP interface through which the kernel uses the rings that are not opened here",
  });

const fail = (error: unknown): never => {
  throw new Failure(messageOf(error));
};

/** Returns the NIC that a port name needs, if any. */
function baseOf({ name }: PortName): string | undefined {
  if (name.startsWith("vale")) return undefined;
  const base = name.split(/[{}]/)[0] ?? name;
  return /^(ena|xn)\d/.test(base) || base === name ? base : undefined;
}

/** Open ports, and the NICs behind them. */
export class PortSet {
  /** Resolves with a sentence when a NIC gives up, or its TAP is gone. */
  readonly gaveUp: Promise<string>;
  readonly #giveUp: (reason: string) => void;
  readonly #flags: NicFlags;
  readonly #begun: Begun;
  readonly #nics = new Map<string, Nic>();
  readonly #ports: NmPort[] = [];
  #netmap: Netmap | undefined;

  constructor(flags: NicFlags, begun: Begun) {
    this.#flags = flags;
    this.#begun = begun;
    const { promise, resolve } = Promise.withResolvers<string>();
    this.gaveUp = promise;
    this.#giveUp = resolve;
  }

  /**
   * Checks names and flags, then connects a NIC for each base, with at least `rings` ring pairs
   * and those that the names choose. Returns false when stopped before all NICs are connected.
   * Rejects with Failure.
   */
  async connect(names: readonly string[], rings = 1): Promise<boolean> {
    const { parsePortName } = await import("../../frontend/netmap/port-name.ts");
    const { RegMode } = await import("../../frontend/netmap/flags.ts");
    const { Netmap } = await import("../../frontend/netmap/netmap.ts");
    this.#netmap = new Netmap({ log: this.#begun.log });
    const { tap, name } = this.#flags;
    const drivers = new Map<string, Personality>();
    let queues = rings;
    for (const text of names) {
      let parsed: PortName;
      try {
        parsed = parsePortName(text);
      } catch (error) {
        throw wrong(`-i ${messageOf(error)}`);
      }
      const base = baseOf(parsed);
      if (base !== undefined) drivers.set(base, this.#driverOf(base));
      if (parsed.mode === RegMode.ONE_NIC) queues = Math.max(queues, parsed.ringId + 1);
    }
    const count = drivers.size;
    if (count === 0 && tap !== undefined) throw wrong("--tap needs a NIC, and no port names one");
    if (count > 1 && tap !== undefined) throw wrong("--tap goes with one NIC, not with several");
    if (count !== 1 && name !== undefined) throw wrong("--name goes with one NIC");
    const opened = this.#openAll(drivers, this.#flags.queues ?? queues);
    return (await unlessStopped(this.#begun.stop, opened)) !== undefined;
  }

  #driverOf(base: string): Personality {
    const byName = PERSONALITIES.find((name) => base.startsWith(UNIT_PREFIX[name]));
    const driver = this.#flags.driver ?? byName;
    if (driver !== undefined) return driver;
    throw wrong(
      `-i ${base}: begins with neither ena nor xn, so its driver is not known: add --driver ena or --driver xen`,
    );
  }

  async #openAll(drivers: ReadonlyMap<string, Personality>, queues: number): Promise<true> {
    const flags = this.#flags;
    for (const [ifname, driver] of drivers) {
      const wishes = { ...flags, ifname, driver, queues, netmap: this.#netmap };
      const nic = await newNic(wishes, this.#begun.log);
      nic.once("failed", (reason) => this.#giveUp(`${ifname}: ${reason}`));
      this.#nics.set(ifname, nic);
      await opened(nic, flags.connect);
    }
    return true;
  }

  nic(ifname: string): Nic {
    return this.#nics.get(ifname)!;
  }

  /**
   * Reserves room for ports that will be open at the same time. Throws Failure when there is not
   * enough; then no port has been opened.
   */
  reserve(names: readonly string[], options: RequestOptions = {}): void {
    try {
      this.#netmap!.reserve(names, options);
    } catch (error) {
      fail(error);
    }
  }

  async open(name: string, options: RequestOptions = {}): Promise<NmPort> {
    const { nmOpen } = await import("../../frontend/netmap/descriptor.ts");
    const port = await nmOpen(name, { ...options, netmap: this.#netmap! }).catch(fail);
    this.#ports.push(port);
    return port;
  }

  /** Resolves when every device has the receive buffers of the ports opened so far. */
  async settled(): Promise<void> {
    for (const nic of this.#nics.values()) await nic.settled().catch(fail);
  }

  /** Returns the counters of interfaces and ports, for --json. */
  counters(): object {
    const nics = [...this.#nics].map(([name, nic]) => ({ name, ...nic.counters() }));
    const ports = this.#ports.map((port) => ({ name: port.name, ...port.counters }));
    return { nics, ports };
  }

  /** Closes the ports, then the NICs. */
  async [Symbol.asyncDispose](): Promise<void> {
    for (const port of this.#ports.toReversed()) await port.close();
    for (const nic of this.#nics.values()) await nic.close();
  }
}
