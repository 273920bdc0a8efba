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
  /** How long, or until so much was sent, all streams together. */
  readonly seconds?: number;
  readonly bytes?: number;
  /** Data flows from `to` to `from`. */
  readonly reverse?: boolean;
  readonly streams?: number;
  /** UDP at this rate; TCP when absent. */
  readonly udpBitsPerSecond?: number;
}

export interface IperfResult {
  /** As the receiver counts it. */
  readonly bitsPerSecond: number;
  readonly receivedBytes: number;
  /** TCP only. */
  readonly retransmits: number;
  /** UDP only: datagrams the sender counted, and those the receiver missed. */
  readonly datagrams: number;
  readonly lost: number;
}

interface IperfJson {
  error?: string;
  end?: {
    sum_received?: { bits_per_second: number; bytes: number };
    sum_sent?: { retransmits?: number };
    sum?: { bits_per_second: number; packets?: number; lost_packets?: number };
  };
}

/** One run with a server of its own. Rejects with iperf3's own words when it fails. */
export async function iperf(options: IperfOptions): Promise<IperfResult> {
  const port = String(nextPort++);
  await using server = start(["iperf3", "-s", "-1", "--forceflush", "-p", port], {
    namespace: options.to,
  });
  await server.waitFor(/Server listening/);

  const args = ["iperf3", "-J", "-c", options.address, "-p", port];
  const { seconds, bytes, streams = 1 } = options;
  if (bytes === undefined) args.push("-t", String(seconds ?? 1));
  else args.push("-n", String(bytes));
  args.push("-P", String(streams));
  if (options.reverse) args.push("-R");
  if (options.udpBitsPerSecond !== undefined)
    args.push("-u", "-b", String(options.udpBitsPerSecond));
  const client = await run(args, { namespace: options.from }, (seconds ?? 1) * 1000 + 30_000);

  const report = JSON.parse(client.stdout || "{}") as IperfJson;
  if (report.error !== undefined || report.end === undefined) {
    throw new Error(`iperf3: ${report.error ?? "no report"}\n${client.said()}`);
  }
  const { sum, sum_received: received, sum_sent: sent } = report.end;
  return {
    bitsPerSecond: received?.bits_per_second ?? sum?.bits_per_second ?? 0,
    receivedBytes: received?.bytes ?? 0,
    retransmits: sent?.retransmits ?? 0,
    datagrams: sum?.packets ?? 0,
    lost: sum?.lost_packets ?? 0,
  };
}

export interface PingResult {
  readonly sent: number;
  /** Of those sent; a second answer to the same probe is a duplicate and not counted here. */
  readonly received: number;
  /** Round trips in ms, in the order of arrival. */
  readonly times: readonly number[];
  readonly duplicates: number;
}

export interface PingOptions {
  readonly from: Namespace;
  readonly address: string;
  readonly count: number;
  readonly intervalSeconds?: number;
  readonly payloadBytes?: number;
  /** Forbids fragmentation, so that a large payload proves the MTU. */
  readonly whole?: boolean;
}

/** Time for the last answers, on a machine that has other things to do. */
const LATE_SECONDS = 10;

/** Pings and gives every round trip. Lost probes are a result, not an error. */
export async function ping(options: PingOptions): Promise<PingResult> {
  const { count, intervalSeconds: interval = 0.2 } = options;
  const deadline = Math.ceil(count * interval) + LATE_SECONDS;
  // With a deadline ping goes on until it has so many answers, so the last ones may be late. What
  // it sends beyond the count is not looked at. Without one it waits two round trips, then leaves.
  const args = ["ping", "-n", "-c", String(count), "-w", String(deadline), "-i", String(interval)];
  if (options.payloadBytes !== undefined) args.push("-s", String(options.payloadBytes));
  if (options.whole) args.push("-M", "do");
  args.push(options.address);
  const child = await run(args, { namespace: options.from }, deadline * 1000 + 10_000);
  if (!child.stdout.includes("packets transmitted")) throw new Error(`ping\n${child.said()}`);
  return pingResult(child.stdout, count);
}

/** What ping has printed of its first `count` probes. */
export function pingResult(printed: string, count: number): PingResult {
  const seen = new Set<number>();
  const times: number[] = [];
  let duplicates = 0;
  for (const [, probe, time] of printed.matchAll(/ icmp_seq=(\d+) .*time=([\d.]+) ms/g)) {
    const number = Number(probe);
    if (number > count) continue;
    if (seen.has(number)) {
      duplicates++;
      continue;
    }
    seen.add(number);
    times.push(Number(time));
  }
  return { sent: count, received: seen.size, times, duplicates };
}
