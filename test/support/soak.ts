/**
 * A device under everything at once, for as long as wanted: three pairs of frontends that send at
 * full speed, floods beside them, pauses, kills and broken lines. The order of the trouble is random
 * and follows from the seed.
 *
 *   round:  frames ─► trouble ─► all receivers get frames again ─► sums, link ends, log, memory
 *
 *   ENA pair, Xen pair   ring-worker.ts, the drivers' own interfaces
 *   netmap pair          two `ringwire pkt-gen`
 */
import { join } from "node:path";
import { DeviceProcess } from "./device-process.ts";
import { FLOOD_NAMES } from "./floods.ts";
import { type Child, eventually, NODE, ROOT, sleep, start, startRingwire } from "./process.ts";
import type { Random } from "./random.ts";
import { type DeviceStatus, type PortStatus, portsAndLeft, unaccounted } from "./status.ts";

const WORKER = join(ROOT, "test/bench/ring-worker.ts");
const FLOOD_WORKER = join(ROOT, "test/support/flood-worker.ts");
/** Attackers run behind all others, as far as the scheduler goes. */
const LOW = ["nice", "-n", "15"];
const PLAIN = [NODE, "--no-warnings"];
/** A small heap for the device, so that the collector runs often and a leak ends the process. */
const SMALL_HEAP = "--max-old-space-size=128 --max-semi-space-size=4";
/** A pause of this length (ms) ends the link: a peer counts as dead after 4 to 5 s. */
const DEAD_MS = 5000;
/** Time (ms) in which a line of the log may follow its flood. */
const AFTER_MS = 15_000;

/** Frames that ring-worker.ts sends at once. */
const BURST = 64;

/** The frontends by the name of their NIC: the generator of each pair before its sink. */
const PAIRS = [
  ["ena-tx", "ena-rx"],
  ["xen-tx", "xen-rx"],
  ["ena10", "ena11"],
] as const;
type NicName = (typeof PAIRS)[number][number];
const SINKS: readonly NicName[] = PAIRS.map(([, sink]) => sink);
const ALL: readonly NicName[] = PAIRS.flat();
const isNetmap = (name: NicName): boolean => name === "ena10" || name === "ena11";

export const TROUBLES = ["flood", "pause", "kill", "cut"] as const;
export type Trouble = (typeof TROUBLES)[number];

export interface SoakTimes {
  /** Frames a second of each generator, about; undefined for full speed. */
  readonly rate?: number;
  /** Time (ms) for a flood's memory to be given back before it is measured. */
  readonly calmMs: number;
  /** Length (ms) of a flood, at least and at most. */
  readonly floodMs: readonly [number, number];
  /** Lengths (ms) of pauses to choose from. */
  readonly pausesMs: readonly number[];
}

/** Memory of the device (MiB) at the end of a calm round, and the frames until then. */
export interface Sample {
  readonly frames: number;
  readonly rssMiB: number;
}

export class Soak implements AsyncDisposable {
  readonly device: DeviceProcess;
  readonly samples: Sample[] = [];
  /** Number of troubles of each kind so far. */
  readonly done: Record<Trouble, number> = { flood: 0, pause: 0, kill: 0, cut: 0 };
  /** Link ends of the pairs so far, by reason. */
  readonly ends: Record<string, number> = {};
  /** Lines of the device's log above info, by text, with numbers left out. */
  readonly logged: Record<string, number> = {};
  readonly #random: Random;
  readonly #times: SoakTimes;
  readonly #children = new Map<NicName, Child>();
  readonly #macs = new Map<NicName, string>();
  /** Link ends that have a cause and were not seen yet. */
  readonly #due = new Map<NicName, number>();
  /** Times (performance.now) of the last flood, and of the last end of each link. */
  #lastFlood = Number.NEGATIVE_INFINITY;
  readonly #lastEnd = new Map<NicName, number>();
  #wrong: string[] = [];

  private constructor(device: DeviceProcess, random: Random, times: SoakTimes) {
    this.device = device;
    this.#random = random;
    this.#times = times;
  }

  static async start(random: Random, times: SoakTimes): Promise<Soak> {
    const device = await DeviceProcess.startWith({ env: { NODE_OPTIONS: SMALL_HEAP } });
    const soak = new Soak(device, random, times);
    try {
      await Promise.all(SINKS.map((name) => soak.#launch(name)));
      await Promise.all(ALL.filter((name) => !SINKS.includes(name)).map((n) => soak.#launch(n)));
      await soak.#flows();
      return soak;
    } catch (error) {
      await soak[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** One trouble, then all checks. Throws a list of everything that is wrong. */
  async round(trouble: Trouble): Promise<void> {
    this.done[trouble]++;
    if (trouble === "flood") await this.#flood();
    else if (trouble === "pause") await this.#pause();
    else if (trouble === "kill") await this.#kill();
    else await this.#cut();
    await this.#flows();
    await sleep(this.#times.calmMs);
    this.#readLog();
    const status = await this.device.status();
    this.#wrong.push(...unaccounted(status).map((line) => `not accounted for: ${line}`));
    this.samples.push({
      frames: framesOf(status),
      rssMiB: Math.round(this.device.rssBytes() / 2 ** 20),
    });
    if (this.#wrong.length > 0) {
      throw new Error(`${trouble}\n${this.#wrong.join("\n")}\n${this.device.child.said()}`);
    }
  }

  /** Frames of the pairs that have reached the device. */
  get frames(): number {
    return this.samples.at(-1)?.frames ?? 0;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([...this.#children.values()].map((child) => end(child)));
    await this.device.stop();
  }

  async #launch(name: NicName): Promise<void> {
    const isSink = SINKS.includes(name);
    const to = isSink ? "" : this.#macs.get(PAIRS.find(([source]) => source === name)![1])!;
    const args = isNetmap(name) ? this.#pktGen(name, to) : this.#ringWorker(name, to);
    const full = [...args, "--connect", this.device.url];
    const child = isNetmap(name) ? startRingwire(full) : start(full);
    this.#children.set(name, child);
    const nic = await eventually(
      () => `${name}\n${child.said()}`,
      async () => (await this.device.status()).nics.find((one) => one.name === name),
    );
    this.#macs.set(name, nic.mac);
  }

  #pktGen(name: NicName, to: string): string[] {
    const { rate } = this.#times;
    const mode = to === "" ? ["-f", "rx"] : ["-f", "tx", "-D", to];
    return ["pkt-gen", "-i", `netmap:${name}`, ...mode, ...(rate ? ["-R", String(rate)] : [])];
  }

  #ringWorker(name: NicName, to: string): string[] {
    const { rate } = this.#times;
    const driver = name.startsWith("xen") ? "xen" : "ena";
    const mode = to === "" ? ["--role", "sink"] : ["--role", "generator", "--to", to];
    const every = rate === undefined ? [] : ["--every-ms", String((1000 * BURST) / rate)];
    return [...PLAIN, WORKER, ...mode, "--name", name, "--driver", driver, ...every];
  }

  /** Waits until each sink has received frames since now. */
  async #flows(): Promise<void> {
    const received = async (): Promise<number[]> => {
      const status = await this.device.status();
      return SINKS.map((name) => total(status, name, (port) => port.out.frames));
    };
    const before = await received();
    await eventually(
      () => `frames for ${SINKS.join(", ")}\n${ALL.map((n) => this.#children.get(n)!.said())}`,
      async () => {
        const now = await received();
        return now.every((frames, i) => frames > before[i]!) || undefined;
      },
    );
  }

  async #flood(): Promise<void> {
    const name = this.#random.pick(FLOOD_NAMES);
    const [least, most] = this.#times.floodMs;
    const flood = start([...LOW, ...PLAIN, FLOOD_WORKER, String(this.device.port), name]);
    try {
      await flood.waitForJson((line) => line["flooding"] === true);
      await sleep(least + this.#random.below(most - least + 1));
    } finally {
      await flood.stop();
    }
    this.#lastFlood = performance.now();
    await eventually(
      () => `the NICs of the flood of ${name} to leave`,
      async () => (await this.device.status()).nics.length <= ALL.length || undefined,
    );
  }

  async #pause(): Promise<void> {
    const name = this.#random.pick(ALL);
    const ms = this.#random.pick(this.#times.pausesMs);
    const child = this.#children.get(name)!;
    child.signal("SIGSTOP");
    try {
      await sleep(ms);
      if (ms >= DEAD_MS) await this.#leaves(name);
    } finally {
      child.signal("SIGCONT");
    }
  }

  async #kill(): Promise<void> {
    const name = this.#random.pick(ALL);
    const child = this.#children.get(name)!;
    child.signal("SIGKILL");
    await child.exited;
    await this.#leaves(name);
    await this.#launch(name);
  }

  async #cut(): Promise<void> {
    const name = this.#random.pick(ALL.filter((nic) => !isNetmap(nic)));
    this.#children.get(name)!.tell("cut");
    await this.#leaves(name);
  }

  /** Waits for the end of a link that has a cause. */
  async #leaves(name: NicName): Promise<void> {
    this.#due.set(name, (this.#due.get(name) ?? 0) + 1);
    const end = new RegExp(`"event":"left","name":"${name}"`);
    await this.device.child.waitFor(end);
  }

  /** Reads what the device has said since the last call. */
  #readLog(): void {
    const { child } = this.device;
    const lines = (stream: "stdout" | "stderr"): string[] => {
      const whole = child[stream].lastIndexOf("\n") + 1;
      const text = child[stream].slice(0, whole);
      child[stream] = child[stream].slice(whole);
      return text.split("\n").filter((line) => line !== "");
    };
    for (const line of lines("stdout")) {
      const said = JSON.parse(line) as { event: string; name: NicName; reason: string };
      if (said.event === "left" && ALL.includes(said.name)) this.#left(said.name, said.reason);
    }
    for (const line of lines("stderr")) this.#line(line);
  }

  #left(name: NicName, reason: string): void {
    this.ends[reason] = (this.ends[reason] ?? 0) + 1;
    this.#lastEnd.set(name, performance.now());
    const due = this.#due.get(name) ?? 0;
    if (due === 0) this.#wrong.push(`${name} left without a cause: ${reason}`);
    else this.#due.set(name, due - 1);
  }

  #line(line: string): void {
    const [, level, text = ""] = /^\S+ +(\w+) +(.*)$/.exec(line) ?? [];
    if (level === "info" || level === "debug") return;
    const kind = `${level} ${text.replace(/\d+/g, "N")}`;
    this.logged[kind] = (this.logged[kind] ?? 0) + 1;
    if (level !== "warn" || !this.#isExplained(text)) this.#wrong.push(`the device's log: ${line}`);
  }

  #isExplained(text: string): boolean {
    const isSince = (time = Number.NEGATIVE_INFINITY) => performance.now() - time < AFTER_MS;
    // The switch floods a generator's frames while its sink is away.
    const of = PAIRS.find((pair) => pair.some((name) => text.includes(name)));
    if (of !== undefined) return text.includes("STORM_LIMIT") && isSince(this.#lastEnd.get(of[1]));
    return isSince(this.#lastFlood);
  }
}

/** Ends a frontend that may be stopped. */
async function end(child: Child): Promise<void> {
  child.signal("SIGCONT");
  await child.stop();
}

/** Sum over the live port of a name and its ports that left. */
function total(status: DeviceStatus, name: string, of: (port: PortStatus) => number): number {
  return portsAndLeft(status)
    .filter((port) => port.name === name)
    .reduce((all, port) => all + of(port as PortStatus), 0);
}

const framesOf = (status: DeviceStatus): number =>
  ALL.reduce((all, name) => all + total(status, name, (port) => port.in.frames), 0);

/** Drops of the pairs by reason. */
export function dropsOf(status: DeviceStatus): Record<string, number> {
  const drops: Record<string, number> = {};
  for (const port of portsAndLeft(status)) {
    if (!ALL.some((name) => name === port.name)) continue;
    for (const counts of [port.in.dropped, port.out.dropped, port.lost.in, port.lost.out]) {
      for (const [reason, frames] of Object.entries(counts)) {
        drops[reason] = (drops[reason] ?? 0) + frames;
      }
    }
  }
  return drops;
}
