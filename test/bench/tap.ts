/**
 * TAP to TAP: the product, its base, the floors and the peers between two real kernels. In each round
 * all candidates run at the same time, in fresh processes, and each is measured alone in its turn, so
 * that a minute of a busy machine hits all of them.
 */
import { iperf, ping } from "../support/iperf.ts";
import { sleep } from "../support/process.ts";
import { Histogram } from "./histogram.ts";
import { rssBytes, working } from "./processor.ts";
import type { Candidate, Segment } from "./segment.ts";
import { quantile } from "./stats.ts";
import { type Measured, Outcome, type Outcomes } from "./variant.ts";

export const PARTS = ["ping", "tcp", "udp"] as const;
export type Part = (typeof PARTS)[number];

export interface TapOptions {
  readonly rounds: number;
  /** How often each candidate is measured in a round. */
  readonly slices: number;
  /** Length of one measurement. */
  readonly seconds: number;
  readonly parts: ReadonlySet<string>;
}

/** Interval of the steady pings, and their number before and after the warm-up. */
const EVERY_MS = 4;
const FRESH_PINGS = 100;
const WARMING_PINGS = 3000;
/** Seconds of TCP there and back before it is measured: V8 compiles the data path meanwhile. */
const WARMING_TCP = [4, 2] as const;
const WARMING_UDP = 1;
/** UDP payload that makes a frame of 60 bytes. */
const UDP_BYTES = 18;
/** Frames per second that are offered; 0 is as many as iperf3 can send. */
const UDP_OFFERS = [60_000, 0] as const;

type Measure = (segment: Segment, seconds: number) => Promise<Measured>;
type Step = readonly [what: string, measure: Measure, once?: "once"];

async function pings(segment: Segment, count: number, everyMs: number): Promise<number[]> {
  const { a: from, addressOfB: address } = segment;
  const { times } = await ping({ from, address, count, intervalSeconds: everyMs / 1000 });
  if (times.length === 0) throw new Error(`no answer to ${count} pings`);
  return times.map((ms) => ms * 1000);
}

/** Round trips, and the tunnel's work for one ping. An interval of 0 is a flood. */
async function pingFigures(
  segment: Segment,
  prefix: string,
  count: number,
  everyMs: number,
): Promise<Measured> {
  const [times, work] = await working(segment.processes(), () => pings(segment, count, everyMs));
  return {
    [`${prefix}P10Us`]: quantile(times, 0.1),
    [`${prefix}P50Us`]: quantile(times, 0.5),
    [`${prefix}P99Us`]: quantile(times, 0.99),
    [`${prefix}CpuUs`]: work.cpuNs / 1000 / count,
    [`${prefix}Switches`]: work.switches / count,
    [`${prefix}Us`]: Histogram.of(times),
  };
}

const discard = async (work: Promise<unknown>): Promise<Measured> => {
  await work;
  return {};
};

const tcp = ({ a: from, b: to, addressOfB: address }: Segment, seconds: number, back: boolean) =>
  iperf({ from, to, address, seconds, args: back ? ["-R"] : [] });

async function tcpFigures(segment: Segment, seconds: number, back: boolean): Promise<Measured> {
  const [end, work] = await working(segment.processes(), () => tcp(segment, seconds, back));
  const name = back ? "tcpBack" : "tcp";
  return {
    [`${name}BitsPerSecond`]: end.sum_received.bits_per_second,
    [`${name}CpuSecondsPerGB`]: work.cpuNs / end.sum_received.bytes,
  };
}

/** Frames that reach b's interface, from the kernel's counter; the offer with the most counts. */
async function udpFigures(segment: Segment, seconds: number): Promise<Measured> {
  const { a: from, b: to, addressOfB: address, device } = segment;
  const arrived = () => to.link(device)!.stats64.rx.packets;
  let best = { udpFramesPerSecond: 0, udpCpuSecondsPerMFrames: Number.NaN };
  for (const offered of UDP_OFFERS) {
    const rate = ["-b", String(offered * UDP_BYTES * 8)];
    const args = ["-u", "-l", String(UDP_BYTES), ...rate];
    const before = arrived();
    const [, work] = await working(segment.processes(), () =>
      iperf({ from, to, address, seconds, args }),
    );
    const frames = arrived() - before;
    if (frames / seconds <= best.udpFramesPerSecond) continue;
    best = {
      udpFramesPerSecond: frames / seconds,
      udpCpuSecondsPerMFrames: work.cpuNs / 1000 / frames,
    };
  }
  return best;
}

/** The steps of a round, in order. A step that returns nothing warms up, and is done once. */
const STEPS: Readonly<Record<Part, readonly Step[]>> = {
  ping: [
    [
      "pings, fresh",
      async (segment) => {
        // Twenty probes also wait for ARP.
        await pings(segment, 20, 10);
        return { freshP50Us: quantile(await pings(segment, FRESH_PINGS, EVERY_MS), 0.5) };
      },
      "once",
    ],
    ["warm-up", (segment) => discard(pings(segment, WARMING_PINGS, 0)), "once"],
    [
      "pings",
      (segment, seconds) =>
        pingFigures(segment, "ping", Math.ceil((seconds * 1000) / EVERY_MS), EVERY_MS),
    ],
    ["flood", (segment) => pingFigures(segment, "flood", WARMING_PINGS, 0)],
  ],
  tcp: [
    [
      "TCP, warm-up",
      async (segment) => {
        await tcp(segment, WARMING_TCP[0], false);
        return await discard(tcp(segment, WARMING_TCP[1], true));
      },
      "once",
    ],
    ["TCP there", (segment, seconds) => tcpFigures(segment, seconds, false)],
    ["TCP back", (segment, seconds) => tcpFigures(segment, seconds, true)],
  ],
  udp: [
    ["UDP, warm-up", (segment) => discard(udpFigures(segment, WARMING_UDP)), "once"],
    ["UDP", udpFigures],
  ],
};

interface Running {
  readonly name: string;
  readonly segment: Segment;
  readonly outcome: Outcome;
}

/** Time in which processes that have just started come to rest. */
const SETTLE_MS = 500;

export async function runTap(
  list: readonly Candidate[],
  options: TapOptions,
  progress: (text: string) => void,
): Promise<Outcomes> {
  const outcomes = new Map(list.map(({ name }) => [name, new Outcome()]));
  for (const { name, missing } of list) {
    if (missing !== undefined) outcomes.get(name)!.failure = `not installed ${missing}`;
  }
  for (let round = 0; list.length > 0 && round < options.rounds; round++) {
    await oneRound(list, outcomes, options, round, progress);
  }
  return outcomes;
}

async function oneRound(
  list: readonly Candidate[],
  outcomes: Outcomes,
  options: TapOptions,
  round: number,
  progress: (text: string) => void,
): Promise<void> {
  await using stack = new AsyncDisposableStack();
  const attempt = async (outcome: Outcome, what: string, act: () => Promise<void>) => {
    if (outcome.failure !== undefined) return;
    try {
      await act();
    } catch (error) {
      outcome.failure = `${what}: ${error instanceof Error ? error.message : String(error)}`;
    }
  };
  const running: Running[] = [];
  for (const { name, open } of list) {
    const outcome = outcomes.get(name)!;
    await attempt(outcome, "start", async () => {
      running.push({ name, segment: stack.use(await open()), outcome });
    });
  }
  await sleep(SETTLE_MS);
  let turn = round;
  for (const part of PARTS.filter((name) => options.parts.has(name))) {
    for (const [what, measure, once] of STEPS[part]) {
      progress(`${round + 1}/${options.rounds} ${what}`);
      for (let slice = 0; slice < (once ? 1 : options.slices); slice++) {
        // The order rotates, so that no candidate always follows the same one.
        turn++;
        for (let i = 0; i < running.length; i++) {
          const { segment, outcome } = running[(i + turn) % running.length]!;
          await attempt(outcome, what, async () =>
            outcome.add(await measure(segment, options.seconds)),
          );
        }
      }
    }
  }
  for (const { segment, outcome } of running) {
    const pids = segment.processes();
    if (pids.length > 0 && outcome.failure === undefined) outcome.add({ rssBytes: rssBytes(pids) });
  }
}
