/** iperf3 and ping between two namespaces, as numbers. */
import type { Namespace } from "./netns.ts";
import { run, start } from "./process.ts";

/** Each run has a port of its own, so that runs may overlap. */
let nextPort = 5201;

export interface IperfOptions {
  readonly from: Namespace;
  readonly to: Namespace;
  /** Address of `to`, IPv4 or IPv6, without prefix length. */
  readonly address: string;
  /** Length of the run, unless `args` ends it, as "-n" does. */
  readonly seconds?: number;
  /** More options for iperf3's client: "-R" for data from `to` to `from`, "-u" for UDP. */
  readonly args?: readonly string[];
}

/** The end of iperf3's report: `sum` is UDP's, `sum_sent` has retransmits for TCP. */
export interface IperfEnd {
  readonly sum_received: { readonly bits_per_second: number; readonly bytes: number };
  readonly sum_sent: { readonly retransmits: number };
  readonly sum: { readonly packets: number; readonly lost_packets: number };
}

/** One run with a server of its own. Rejects with iperf3's error text when it fails. */
export async function iperf(options: IperfOptions): Promise<IperfEnd> {
  const { from, to, address, seconds = 1, args = [] } = options;
  const port = String(nextPort++);
  await using server = start(["iperf3", "-s", "-1", "--forceflush", "-p", port], { namespace: to });
  await server.waitFor(/Server listening/);

  const time = args.includes("-n") ? [] : ["-t", String(seconds)];
  const argv = ["iperf3", "-J", "-c", address, "-p", port, ...time, ...args];
  const client = await run(argv, { namespace: from }, seconds * 1000 + 30_000);
  const report = JSON.parse(client.stdout || "{}") as { error?: string; end?: IperfEnd };
  if (report.error !== undefined || report.end === undefined) {
    throw new Error(`iperf3: ${report.error ?? "no report"}\n${client.said()}`);
  }
  return report.end;
}

export interface PingOptions {
  readonly from: Namespace;
  readonly address: string;
  readonly count: number;
  readonly intervalSeconds?: number;
  /** Payload bytes, sent without fragmentation, so that a large payload proves the MTU. */
  readonly wholeBytes?: number;
}

/** Time for the last answers on a busy machine. */
const LATE_SECONDS = 10;

/** Pings and returns every round trip. Lost probes are a result, not an error. */
export async function ping(options: PingOptions): Promise<ReturnType<typeof pingResult>> {
  const { count, intervalSeconds: interval = 0.2 } = options;
  const deadline = Math.ceil(count * interval) + LATE_SECONDS;
  // With a deadline ping waits for `count` answers, so late ones count too; its probes beyond
  // `count` are ignored. Without a deadline ping leaves after two round trips.
  const args = ["ping", "-n", "-c", String(count), "-w", String(deadline), "-i", String(interval)];
  const { wholeBytes } = options;
  if (wholeBytes !== undefined) args.push("-s", String(wholeBytes), "-M", "do");
  args.push(options.address);
  const child = await run(args, { namespace: options.from }, deadline * 1000 + 10_000);
  if (!child.stdout.includes("packets transmitted")) throw new Error(`ping\n${child.said()}`);
  return pingResult(child.stdout, count);
}

/**
 * Parses ping's output for its first `count` probes. `times` are round trips in ms, in the order of
 * arrival. A second answer to the same probe is a duplicate, not counted in `received`.
 */
export function pingResult(printed: string, count: number) {
  const seen = new Set<number>();
  const times: number[] = [];
  let duplicates = 0;
  for (const [, probe, time] of printed.matchAll(/ icmp_seq=(\d+) .*time=([\d.]+) ms/g)) {
    const number = Number(probe);
    if (number > count) continue;
    if (seen.has(number)) duplicates++;
    else times.push(Number(time));
    seen.add(number);
  }
  return { sent: count, received: seen.size, times, duplicates };
}
