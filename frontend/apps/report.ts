/**
 * The report lines of pkt-gen, in the format of the original.
 *
 *   907.878 Kpps (908.789 Kpkts 435.781 Mbps in 1001003 usec) 16.00 avg_batch 99999 min_space
 *   Sent 1000 packets 60000 bytes 2 events 60 bytes each in 1.00 seconds.
 *   Speed: 1.000 Kpps Bandwidth: 480.000 Kbps (raw 672.000 Kbps). Average batch: 500.00 pkts
 *
 * Source: netmap: apps/pkt-gen/pkt-gen.c, main_thread, tx_output.
 */
import { type Counts, clockMs, NO_SPACE_SEEN } from "./app.ts";
import type { DelayReport } from "./pkt-gen/histogram.ts";

/** Preamble, checksum and gap of a frame on a wire, in bits: 4 + 20 bytes. */
const FRAMING_BITS = 24 * 8;
/** Number of reports in the averages of -A. */
const WINDOW = 40;
const UNITS = ["", "K", "M", "G", "T"] as const;

export interface ReportStyle {
  /** -N: plain numbers instead of K, M, G. */
  readonly plain: boolean;
  /** -A: mean and deviation over the last reports. */
  readonly averages: boolean;
  /** -B: rates include the bits of framing. */
  readonly framing: boolean;
}

/** 907878 is "907.878 K", with `plain` "907878.000 ". */
export function unitText(n: number, plain: boolean): string {
  let value = n;
  let unit = 0;
  while (!plain && value >= 1000 && unit < UNITS.length - 1) {
    value /= 1000;
    unit++;
  }
  return `${value.toFixed(3)} ${UNITS[unit]}`;
}

/** The values of a report line: differences since the previous report. */
export type Rate = ReturnType<Reporter["rate"]>;
export type Total = ReturnType<typeof totalOf>;

export class Reporter {
  readonly #counts: readonly Counts[];
  readonly #style: ReportStyle;
  readonly #window: number[] = [];
  #last = { packets: 0, bytes: 0, events: 0 };
  #at = clockMs();

  constructor(counts: readonly Counts[], style: ReportStyle) {
    this.#counts = counts;
    this.#style = style;
  }

  /** Differences since the last call. */
  rate() {
    const now = clockMs();
    const usec = Math.max(1, Math.round((now - this.#at) * 1000));
    const sums = sumOf(this.#counts);
    const packets = sums.packets - this.#last.packets;
    const bytes = sums.bytes - this.#last.bytes;
    const events = sums.events - this.#last.events;
    this.#last = sums;
    this.#at = now;
    const framing = this.#style.framing ? packets * FRAMING_BITS : 0;
    return {
      packets,
      bytes,
      usec,
      packetsPerSecond: Math.round((packets * 1e6) / usec),
      bitsPerSecond: Math.round(((bytes * 8 + framing) * 1e6) / usec),
      averageBatch: events === 0 ? 0 : packets / events,
      minSpace: Math.min(NO_SPACE_SEEN, ...this.#counts.map((counts) => counts.takeMinSpace())),
    };
  }

  rateText(rate: Rate): string {
    const { plain, averages } = this.#style;
    const text = (n: number): string => unitText(n, plain);
    const spread = averages ? this.#spread(rate.packetsPerSecond) : "";
    return (
      `${text(rate.packetsPerSecond)}pps ${spread}(${text(rate.packets)}pkts ${text(rate.bitsPerSecond)}bps ` +
      `in ${rate.usec} usec) ${rate.averageBatch.toFixed(2)} avg_batch ${rate.minSpace} min_space`
    );
  }

  #spread(packetsPerSecond: number): string {
    this.#window.push(packetsPerSecond);
    if (this.#window.length > WINDOW) this.#window.shift();
    const mean = this.#window.reduce((a, b) => a + b, 0) / this.#window.length;
    const variance = this.#window.reduce((a, b) => a + (b - mean) ** 2, 0) / this.#window.length;
    const { plain } = this.#style;
    return `[avg/std ${unitText(mean, plain)}/${unitText(Math.sqrt(variance), plain)}pps] `;
  }
}

function sumOf(counts: readonly Counts[]) {
  const sum = (key: "packets" | "bytes" | "events" | "drops" | "errors"): number =>
    counts.reduce((total, one) => total + one[key], 0);
  return {
    packets: sum("packets"),
    bytes: sum("bytes"),
    events: sum("events"),
    drops: sum("drops"),
    errors: sum("errors"),
  };
}

/** The whole run: the sums of all loops, and the time of the longest. */
export function totalOf(counts: readonly Counts[]) {
  const { drops, errors, ...sums } = sumOf(counts);
  const seconds = Math.max(0, ...counts.map((c) => c.ms)) / 1000;
  const per = (n: number): number => (seconds === 0 ? 0 : n / seconds);
  return {
    ...sums,
    seconds,
    packetsPerSecond: per(sums.packets),
    bitsPerSecond: per(sums.bytes * 8),
    averageBatch: sums.events === 0 ? 0 : sums.packets / sums.events,
    /** Frames dropped for want of room, and polls with an error. */
    drops,
    errors,
  };
}

/** The last two lines. `verb`: Sent, Received. */
export function totalText(verb: string, total: Total, { plain }: ReportStyle): string[] {
  if (total.packets === 0) return [`${verb} nothing.`];
  const { packets, bytes, events, seconds } = total;
  const size = Math.floor(bytes / packets);
  const raw = total.bitsPerSecond + total.packetsPerSecond * FRAMING_BITS;
  return [
    `${verb} ${packets} packets ${bytes} bytes ${events} events ${size} bytes each in ${seconds.toFixed(2)} seconds.`,
    `Speed: ${unitText(total.packetsPerSecond, plain)}pps Bandwidth: ${unitText(total.bitsPerSecond, plain)}bps ` +
      `(raw ${unitText(raw, plain)}bps). Average batch: ${total.averageBatch.toFixed(2)} pkts`,
  ];
}

/** ping: the lines of the original, and quantiles, which the original does not print. */
export function delayText(report: DelayReport): string[] {
  const { count, octaves } = report;
  if (count === 0) return ["RTT over 0 packets."];
  const ends = `k: ${octaves[0]![0]} .. ${octaves.at(-1)![0]}`;
  return [
    `RTT over ${count} packets: min ${report.minNs} av ${report.meanNs} ns`,
    `RTT p50 ${report.p50Ns} p90 ${report.p90Ns} p99 ${report.p99Ns} max ${report.maxNs} ns`,
    ends,
    `\t${octaves.map(([, n]) => String(n).padStart(6)).join("")}`,
  ];
}
