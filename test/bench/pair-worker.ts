/**
 * The honest pair: two NICs of one device, of which one sends frames to the other at a steady rate.
 * Each frame carries its time. For each line with a tag on stdin, the process prints what happened
 * since the line before:
 *
 *   sent, received, seconds    frames and time
 *   p50Us, p99Us               one-way latency: medians of the intervals' quantiles
 *   histogram                  of the latencies, in us
 *   silenceMs                  longest time without a frame, less the time in which this process
 *                              itself did not run
 *   reconnects                 since the start
 */
import process from "node:process";
import { createInterface } from "node:readline";
import { parseArgs } from "node:util";
import { type Mbuf, MbufPool } from "../../frontend/net/mbuf.ts";
import { openNic } from "../../frontend/nic.ts";
import { broadcast } from "../support/raw-ena.ts";
import { Histogram } from "./histogram.ts";
import { quantile } from "./stats.ts";

const FRAME_BYTES = 60;
const STAMP = 16;
const TICK_MS = 2;
const INTERVAL_MS = 250;
/** Frames sent late at once, after this process did not run. The others are not sent. */
const BURST = 256;

const { values: args } = parseArgs({
  options: {
    connect: { type: "string" },
    rate: { type: "string", default: "12500" },
    driver: { type: "string", default: "ena" },
  },
});
if (args.connect === undefined) throw new Error("--connect URL is needed");
const perMs = Number(args.rate) / 1000;
const open = (name: string) =>
  openNic({
    connect: args.connect!,
    agent: "ringwire-bench",
    name,
    driver: args.driver === "xen" ? "xen" : "ena",
  });
const nics = [await open("pair-a"), await open("pair-b")] as const;
const [from, to] = [nics[0].ifnet, nics[1].ifnet];

let sent = 0;
let received = 0;
let stalledMs = 0;
let silenceMs = 0;
let last = { at: performance.now(), stalledMs: 0 };
let latencies: number[] = [];
let histogram = new Histogram();
let p50s: number[] = [];
let p99s: number[] = [];

function seen(): void {
  const at = performance.now();
  silenceMs = Math.max(silenceMs, at - last.at - (stalledMs - last.stalledMs));
  last = { at, stalledMs };
}

function endInterval(): void {
  if (latencies.length === 0) return;
  for (const latency of latencies) histogram.add(latency);
  p50s.push(quantile(latencies, 0.5));
  p99s.push(quantile(latencies, 0.99));
  latencies = [];
}

const fromPair = Buffer.from(from.mac);
to.input = (m) => {
  // Frames of a flood may reach the pair.
  if (m.length === FRAME_BYTES && fromPair.compare(m.buffer, m.at + 6, m.at + 12) === 0) {
    const view = new DataView(m.buffer.buffer, m.buffer.byteOffset + m.at, m.length);
    latencies.push((performance.now() - view.getFloat64(STAMP)) * 1000);
    received++;
    seen();
  }
  m.free();
};
from.input = (m) => m.free();

const pool = new MbufPool(2048, 4096);
const frame = broadcast(FRAME_BYTES, [...from.mac]);
frame.set(to.mac, 0);
const batch: Mbuf[] = [];

/** Sends up to `count` frames. Frames that the ring does not accept are not sent. */
function send(count: number): void {
  batch.length = 0;
  for (let m = pool.get(); m !== undefined; m = batch.length < count ? pool.get() : undefined) {
    m.buffer.set(frame, m.at);
    const view = new DataView(m.buffer.buffer, m.buffer.byteOffset + m.at, FRAME_BYTES);
    view.setFloat64(STAMP, performance.now());
    m.length = FRAME_BYTES;
    m.pktLength = FRAME_BYTES;
    batch.push(m);
  }
  const accepted = from.transmit(batch, batch.length);
  for (let i = accepted; i < batch.length; i++) batch[i]!.free();
  sent += accepted;
}

// The switch learns the receiver's address.
const hello = pool.get()!;
hello.buffer.set(broadcast(FRAME_BYTES, [...to.mac]), hello.at);
hello.length = FRAME_BYTES;
hello.pktLength = FRAME_BYTES;
if (to.send(hello) !== 0) hello.free();

let dueAt = performance.now();
setInterval(() => {
  const now = performance.now();
  stalledMs += Math.max(0, now - dueAt - 2 * TICK_MS);
  const due = Math.floor((now - dueAt) * perMs);
  dueAt += due / perMs;
  if (due > 0) send(Math.min(due, BURST));
}, TICK_MS);
setInterval(endInterval, INTERVAL_MS);

let since = performance.now();
createInterface({ input: process.stdin }).on("line", (tag) => {
  // A silence that has not ended counts up to now.
  seen();
  endInterval();
  const now = performance.now();
  const reconnects = nics.reduce((sum, nic) => sum + nic.status().reconnects, 0);
  const latency = { p50Us: quantile(p50s, 0.5), p99Us: quantile(p99s, 0.5) };
  const counts = { sent, received, seconds: (now - since) / 1000 };
  const answer = { tag: Number(tag), ...counts, ...latency, silenceMs, reconnects, histogram };
  process.stdout.write(`${JSON.stringify(answer)}\n`);
  [sent, received, silenceMs, since] = [0, 0, 0, now];
  histogram = new Histogram();
  p50s = [];
  p99s = [];
});
process.once("SIGTERM", () => process.exit(0));
process.stdout.write('{"ready":true}\n');
