/**
 * An honest pair beside each flood of test/support/floods.ts.
 *
 *   pair ── frames ──► device ──► pair       12,500 frames/s: rate, one-way latency, silence
 *   guests ── hello ──►   ▲ ▲                floods of HTTP: many NICs and a full address table
 *   flood, at nice 15 ────┘ └── /livez, and a NIC that joins
 *
 * README.md in this folder explains the figures.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DeviceProcess } from "../support/device-process.ts";
import { FLOOD_NAMES, FLOODS, type FloodName } from "../support/floods.ts";
import { type Child, NODE, ROOT, sleep, start, startScript } from "../support/process.ts";
import { broadcast, RawEna } from "../support/raw-ena.ts";
import { RawFrontend } from "../support/raw-frontend.ts";
import { Histogram } from "./histogram.ts";
import { longestTurnMs, turnsIn } from "./turns.ts";
import { BASE, type Measured, type Variant } from "./variant.ts";

const WARM_UP_MS = 1500;
/** Time between the begin of a flood and the measurement. */
const SETTLE_MS = 300;
/** How long /livez and a new NIC may take; the figure of one that did not answer. */
const NO_ANSWER_MS = 3000;
/** Guests beside the pair when HTTP is flooded, and those that fill the address table. */
const GUESTS = 64;
const FILLERS = 16;
const ADDRESSES = 1024;

/** What pair-worker.ts prints. */
interface Told {
  readonly received: number;
  readonly seconds: number;
  readonly p50Us: number | null;
  readonly p99Us: number | null;
  readonly histogram: Readonly<Record<string, number>>;
  readonly silenceMs: number;
  readonly reconnects: number;
}

/** What flood-worker.ts prints. */
interface Attack {
  readonly cuts: Readonly<Record<string, number>>;
  readonly cpuMs: number;
}

/** A child that answers each line on stdin with a line of JSON that carries its tag. */
class Asked<T> implements AsyncDisposable {
  readonly child: Child;
  #tag = 0;

  constructor(child: Child) {
    this.child = child;
  }

  async ask(): Promise<T> {
    const tag = ++this.#tag;
    this.child.tell(String(tag));
    return await this.child.waitForJson<T>((value) => value["tag"] === tag, 120_000);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.child.stop();
  }
}

/** Milliseconds until `what` resolves to true; NO_ANSWER_MS when it fails or takes longer. */
async function timed(what: () => Promise<boolean>): Promise<number> {
  const begin = performance.now();
  const late = sleep(NO_ANSWER_MS).then(() => false);
  const done = await Promise.race([what().catch(() => false), late]);
  return done ? performance.now() - begin : NO_ANSWER_MS;
}

async function answers(url: string): Promise<boolean> {
  const response = await fetch(url);
  await response.arrayBuffer();
  return response.ok;
}

let joins = 0;
async function joinsIn(port: number): Promise<boolean> {
  const guest = await RawFrontend.join(port, `late${++joins}`);
  const survived = await guest.survived();
  await guest.end();
  return survived;
}

/** NICs that fill the address table together: 16,384 addresses, 1024 behind each port. */
async function fill(port: number): Promise<RawEna[]> {
  const guests: RawEna[] = [];
  for (let i = 0; i < GUESTS; i++) {
    const { ena, tx } = await RawEna.startWithQueues(port, `guest${i}`);
    guests.push(ena);
    if (i >= FILLERS) continue;
    for (let n = 0; n < ADDRESSES; n++) {
      // A frame to its own source: the switch learns the address and forwards nothing.
      const address = [6, 0, 0, i, n >> 8, n & 0xff];
      const frame = broadcast(60, address);
      frame.set(address, 0);
      ena.transmit(tx, frame);
      if (n % tx.sq.depth === tx.sq.depth - 1) await ena.raw.survived();
    }
  }
  return guests;
}

interface NeighbourOptions {
  readonly flood: FloodName | undefined;
  /** Guests and a full address table make pages large. */
  readonly crowded: boolean;
  readonly seconds: number;
  /** Niceness of the attackers. */
  readonly nice: number;
  readonly tree?: string | undefined;
  readonly talk: (text: string) => void;
}

async function measure(options: NeighbourOptions): Promise<Measured> {
  const { flood: name, crowded, seconds, nice, tree, talk } = options;
  const turns = mkdtempSync(join(tmpdir(), "ringwire-turns-"));
  const probe = new URL("./turn-probe.ts", import.meta.url).href;
  const env = { NODE_OPTIONS: `--no-warnings --import ${probe}`, RINGWIRE_TURNS: turns };
  await using stack = new AsyncDisposableStack();
  stack.defer(() => rmSync(turns, { recursive: true, force: true }));
  const device = stack.use(await DeviceProcess.startWith({ env, tree }));
  // The pair is always this checkout's, so that only the device differs.
  const worker = startScript("test/bench/pair-worker.ts", ["--connect", device.url]);
  const pair = stack.use(new Asked<Told>(worker));
  await worker.waitForJson((value) => value["ready"] === true);
  if (crowded) {
    for (const guest of await fill(device.port)) stack.defer(() => guest.raw.ws.terminate());
  }
  await answers(`${device.url}/status`);
  await answers(`${device.url}/metrics`);
  await sleep(WARM_UP_MS);
  await pair.ask();
  await sleep(seconds * 1000);
  const before = await pair.ask();
  const rssBefore = device.rssBytes();

  let peak = rssBefore;
  const watch = setInterval(() => {
    // A device that has ended has no memory any more.
    if (device.child.exit === undefined) peak = Math.max(peak, device.rssBytes());
  }, 50);
  stack.defer(() => clearInterval(watch));
  let flood: Asked<Attack> | undefined;
  if (name !== undefined) {
    const script = join(ROOT, "test/support/flood-worker.ts");
    const niced = ["nice", "-n", String(nice), NODE, "--no-warnings", script];
    flood = stack.use(new Asked<Attack>(start([...niced, String(device.port), name])));
    await flood.child.waitForJson((value) => value["flooding"] === true);
  }
  const from = Date.now();
  await sleep(SETTLE_MS);
  const [begun, attack] = await Promise.all([pair.ask(), flood?.ask()]);
  const [livezMs, joinMs] = await Promise.all([
    timed(() => answers(`${device.url}/livez`)),
    timed(() => joinsIn(device.port)),
    sleep(seconds * 2000),
  ]);
  const during = await pair.ask();
  const attacked = await flood?.ask();
  for (const [words, count] of Object.entries(attacked?.cuts ?? {})) {
    talk(`  ended ${count} times: ${words}`);
  }
  const rate = (told: Told) => told.received / told.seconds;
  // A pair that received nothing has no latency: that of its silence.
  const p50Us = during.p50Us ?? during.silenceMs * 1000;
  const p99Us = during.p99Us ?? during.silenceMs * 1000;
  return {
    rateRatio: rate(during) / rate(before),
    framesPerSecond: rate(during),
    p50Us,
    p99Us,
    p50Ratio: p50Us / (before.p50Us ?? Number.NaN),
    p99Ratio: p99Us / (before.p99Us ?? Number.NaN),
    latencyUs: Histogram.from(during.histogram),
    silenceMs: Math.max(begun.silenceMs, during.silenceMs),
    longestTurnMs: longestTurnMs(turnsIn(turns), from, Date.now()),
    growthBytes: peak - rssBefore,
    livezMs,
    joinMs,
    linksLost: during.reconnects,
    deviceEnded: device.child.exit === undefined ? 0 : 1,
    // A flood without processor time proves nothing.
    floodCpuMs: (attacked?.cpuMs ?? 0) - (attack?.cpuMs ?? 0),
  };
}

/** A row for each flood, and for each group one without a flood, which shows the noise. */
export function neighbourVariants(
  options: Pick<NeighbourOptions, "seconds" | "nice" | "tree" | "talk">,
): Variant[] {
  const of = (flood: FloodName) => (FLOODS[flood].kind === "http" ? "http" : "neighbours");
  const row = (group: string, flood: FloodName | undefined): Variant => ({
    name: `${options.tree === undefined ? "" : BASE}${group}/${flood ?? "none"}`,
    group,
    run: () => measure({ ...options, flood, crowded: group === "http" }),
  });
  const rows = ["http", "neighbours"].map((group) => row(group, undefined));
  return [...rows, ...FLOOD_NAMES.map((flood) => row(of(flood), flood))];
}
