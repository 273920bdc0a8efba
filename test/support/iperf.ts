/** iperf3 and ping between two namespaces, as numbers. */
import type { Namespace } from "./netns.ts";
import { run, start } from "./process.ts";

const PORT = 5999;

export interface IperfOptions {
  readonly from: Namespace;
  readonly to: Namespace;
  /** Address of `to`, IPv4 or IPv6, without prefix length. */
  readonly address: string;
  readonly seconds: number;
  /** Data flows from `to` to `from`. */
  readonly reverse?: boolean;
  readonly streams?: number;
  /** UDP at this rate; TCP when absent. */
  readonly udpBitsPerSecond?: number;
}

export interface IperfResult {
  /** As the receiver counts it. */
  readonly bitsPerSecond: number;
  /** TCP only. */
  readonly retransmits: number;
  /** UDP only: datagrams the sender counted, and those the receiver missed. */
  readonly datagrams: number;
  readonly lost: number;
}

interface IperfJson {
  error?: string;
  end?: {
    sum_received?: { bits_per_second: number };
    sum_sent?: { retransmits?: number };
    sum?: { bits_per_second: number; packets?: number; lost_packets?: number };
  };
}

/** One run with a server of its own. Rejects with iperf3's own words when it fails. */
export async function iperf(options: IperfOptions): Promise<IperfResult> {
  await using server = start(["iperf3", "-s", "-1", "--forceflush", "-p", String(PORT)], {
    namespace: options.to,
  });
  await server.waitFor(/Server listening/);

  const args = ["iperf3", "-J", "-c", options.address, "-p", String(PORT)];
  args.push("-t", String(options.seconds), "-P", String(options.streams ?? 1));
  if (options.reverse) args.push("-R");
  if (options.udpBitsPerSecond !== undefined)
    args.push("-u", "-b", String(options.udpBitsPerSecond));
  const client = await run(args, { namespace: options.from }, options.seconds * 1000 + 30_000);

  const report = JSON.parse(client.stdout || "{}") as IperfJson;
  if (report.error !== undefined || report.end === undefined) {
    throw new Error(`iperf3: ${report.error ?? "no report"}\n${client.said()}`);
  }
  const { sum, sum_received: received, sum_sent: sent } = report.end;
  return {
    bitsPerSecond: received?.bits_per_second ?? sum?.bits_per_second ?? 0,
    retransmits: sent?.retransmits ?? 0,
    datagrams: sum?.packets ?? 0,
    lost: sum?.lost_packets ?? 0,
  };
}

export interface PingResult {
  readonly sent: number;
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

/** Pings and gives every round trip. Lost probes are a result, not an error. */
export async function ping(options: PingOptions): Promise<PingResult> {
  const interval = options.intervalSeconds ?? 0.2;
  const args = ["ping", "-n", "-c", String(options.count), "-i", String(interval), "-W", "2"];
  if (options.payloadBytes !== undefined) args.push("-s", String(options.payloadBytes));
  if (options.whole) args.push("-M", "do");
  args.push(options.address);
  const hang = options.count * interval * 1000 + 30_000;
  const child = await run(args, { namespace: options.from }, hang);

  const times: number[] = [];
  for (const match of child.stdout.matchAll(/ time=([\d.]+) ms/g)) times.push(Number(match[1]));
  const summary = /(\d+) packets transmitted, (\d+) received(?:, \+(\d+) duplicates)?/.exec(
    child.stdout,
  );
  if (summary === null) throw new Error(`ping has no summary\n${child.said()}`);
  return {
    sent: Number(summary[1]),
    received: Number(summary[2]),
    times,
    duplicates: Number(summary[3] ?? 0),
  };
}
