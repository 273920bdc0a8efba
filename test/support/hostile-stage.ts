/**
 * The stage of every hostile test: a real device process, a live pair of neighbours on it, and the
 * check after each block that nobody but the attacker noticed anything.
 */
import { SERVICES_PORT } from "../../device/services/options.ts";
import { DeviceProcess } from "./device-process.ts";
import type { DriverName } from "./lab.ts";
import { LabFiles } from "./lab-files.ts";
import { Neighbour } from "./neighbour.ts";
import { eventually } from "./process.ts";
import { Random, seedOfRun } from "./random.ts";
import { differences } from "./same.ts";
import { type DeviceStatus, portsOf, unaccounted } from "./status.ts";

/** How far a device's memory may grow under attack: heap that its collector has not freed yet. */
const RSS_SLACK_BYTES = 160 << 20;
/** A small heap for the device: a leak ends the process, and the collector runs often. */
const SMALL_HEAP = "--max-old-space-size=64 --max-semi-space-size=2";

/** The tokens of a locked stage, whose device has the segments red and blue. */
export class Lock {
  readonly files = new LabFiles();
  /** Of the neighbours, which may join red and nothing else. */
  red = "";
  /** Of an attacker who may do everything in blue. */
  blue = "";
  /** Of the stage, which reads the status of all segments. */
  watcher = "";

  async fill(): Promise<void> {
    this.red = await this.files.token("red", "--role", "nic", "--segment", "red");
    this.blue = await this.files.token("blue", "--role", "admin", "--segment", "blue");
    this.watcher = await this.files.token("watcher", "--role", "inspect");
  }

  get flags(): string[] {
    return ["--segment", "red", "blue", "--tokens", this.files.tokens];
  }
}

export class HostileStage {
  readonly device: DeviceProcess;
  readonly neighbour: Neighbour;
  readonly random: Random;
  /** Undefined for a device that everybody may ask. */
  readonly lock: Lock | undefined;
  readonly #rssBytes: number;
  /** Counts of domains, store nodes and backend ports with the neighbours alone. */
  readonly #xen: DeviceStatus["xen"];
  #names = 0;

  private constructor(
    device: DeviceProcess,
    neighbour: Neighbour,
    before: DeviceStatus,
    lock?: Lock,
  ) {
    this.lock = lock;
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

  /** As openMixed, behind tokens: the neighbours are in segment red, and there is a segment blue. */
  static async openLocked(...args: string[]): Promise<HostileStage> {
    const lock = new Lock();
    try {
      await lock.fill();
      return await HostileStage.#around(["xen", "ena"], [...lock.flags, ...args], lock);
    } catch (error) {
      lock.files[Symbol.dispose]();
      throw error;
    }
  }

  static async #around(
    drivers: readonly [DriverName, DriverName],
    args: readonly string[],
    lock?: Lock,
  ): Promise<HostileStage> {
    const options = { env: { NODE_OPTIONS: SMALL_HEAP }, token: lock?.watcher };
    const device = await DeviceProcess.startWith(options, ...args);
    try {
      const neighbour = await Neighbour.start(device, drivers, lock?.red);
      return new HostileStage(device, neighbour, await device.status(), lock);
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
    if (this.lock !== undefined) wrong.push(...(await this.#crossings()));
    if (wrong.length === 0) return;
    throw new Error(`${this.seeded(wrong.join("\n"))}\n${this.device.child.said()}`);
  }

  /** A sentence for each way in which something passed from one segment to the other. */
  async #crossings(): Promise<string[]> {
    const status = await this.status();
    const { foreign } = await this.neighbour.counts();
    const red = status.segments.filter(({ name }) => name === "red");
    // In red no NIC has left, so all its sums come out.
    const sums = unaccounted({ ...status, segments: red });
    return [
      ...(foreign > 0 ? [`the pair received ${foreign} frames of others`] : []),
      ...sums.map((line) => `segment red: ${line}`),
    ];
  }

  async close(): Promise<void> {
    await this.neighbour.stop();
    await this.device.stop();
    this.lock?.files[Symbol.dispose]();
  }
}
