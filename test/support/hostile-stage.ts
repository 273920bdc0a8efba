/**
 * The stage of every hostile test: a real device process, a live pair of neighbours on it, and the
 * check after each block that nobody but the attacker noticed anything.
 */
import { SERVICES_PORT } from "../../device/services/options.ts";
import { DeviceProcess } from "./device-process.ts";
import type { DriverName } from "./lab.ts";
import { Neighbour } from "./neighbour.ts";
import { eventually } from "./process.ts";
import { Random, seedOfRun } from "./random.ts";
import { differences } from "./same.ts";
import { type DeviceStatus, portsOf, unaccounted } from "./status.ts";

/** How far a device's memory may grow under attack: heap that its collector has not freed yet. */
const RSS_SLACK_BYTES = 160 << 20;
/** A small heap for the device: a leak ends the process, and the collector runs often. */
const SMALL_HEAP = "--max-old-space-size=64 --max-semi-space-size=2";

export class HostileStage {
  readonly device: DeviceProcess;
  readonly neighbour: Neighbour;
  readonly random: Random;
  readonly #rssBytes: number;
  /** Counts of domains, store nodes and backend ports with the neighbours alone. */
  readonly #xen: DeviceStatus["xen"];
  #names = 0;

  private constructor(device: DeviceProcess, neighbour: Neighbour, before: DeviceStatus) {
    this.device = device;
    this.neighbour = neighbour;
    this.random = new Random(seedOfRun());
    this.#rssBytes = device.rssBytes();
    this.#xen = before.xen;
  }

  static open(...args: string[]): Promise<HostileStage> {
    return HostileStage.#around(["ena", "ena"], args);
  }

  /** One neighbour of each personality. */
  static openMixed(...args: string[]): Promise<HostileStage> {
    return HostileStage.#around(["xen", "ena"], args);
  }

  static async #around(
    drivers: readonly [DriverName, DriverName],
    args: readonly string[],
  ): Promise<HostileStage> {
    const device = await DeviceProcess.startWith({ env: { NODE_OPTIONS: SMALL_HEAP } }, ...args);
    try {
      const neighbour = await Neighbour.start(device, drivers);
      return new HostileStage(device, neighbour, await device.status());
    } catch (error) {
      await device.stop();
      throw error;
    }
  }

  get port(): number {
    return this.device.port;
  }

  /** A NIC name that was not used before. */
  name(): string {
    return `hostile${++this.#names}`;
  }

  /** `what`, with the seed that repeats it. */
  seeded(what: string): string {
    return `${what} (RINGWIRE_SEED=${this.random.seed})`;
  }

  async status(): Promise<DeviceStatus> {
    return await this.device.status();
  }

  /** Throws a list of everything that differs from the state before the attack. */
  async unharmed(): Promise<void> {
    const { wrong, compare } = differences();
    if (!(await this.device.lives())) {
      throw new Error(this.seeded(`the device is gone\n${this.device.child.said()}`));
    }
    const gone = await eventually(
      "the hostile NICs to be gone",
      async () => {
        const status = await this.status();
        return status.nics.length === 2 && status.connections === 2 ? status : undefined;
      },
      10_000,
    );
    const ports = portsOf(gone).filter((name) => name !== SERVICES_PORT);
    compare("ports left", ports.join(), "pair-a,pair-b");
    for (const nic of gone.nics) {
      for (const [code, n] of Object.entries(nic.faults)) {
        wrong.push(`${nic.name}, which did nothing wrong, has ${n} faults ${code}`);
      }
    }
    // NICs that left took their frame counts with them, so this one sum does not come out.
    const sums = unaccounted(gone).filter((line) => !line.startsWith("frames sent to ports"));
    wrong.push(...sums.map((line) => `not accounted for: ${line}`));
    for (const what of ["domains", "storeNodes", "backendPorts"] as const) {
      compare(`Xen: ${what}`, gone.xen[what], this.#xen[what]);
    }
    const rss = this.device.rssBytes();
    if (rss > this.#rssBytes + RSS_SLACK_BYTES) {
      wrong.push(`memory grew from ${this.#rssBytes} to ${rss} bytes`);
    }
    if (this.device.child.stderr.includes("an error in the device model")) {
      wrong.push(`the device met an error of its own:\n${this.device.child.stderr.slice(-6000)}`);
    }
    wrong.push(...(await this.neighbour.complaints()));
    if (wrong.length === 0) return;
    throw new Error(`${this.seeded(wrong.join("\n"))}\n${this.device.child.said()}`);
  }

  async close(): Promise<void> {
    await this.neighbour.stop();
    await this.device.stop();
  }
}
