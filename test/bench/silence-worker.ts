/**
 * Two NICs of one device that send each other a frame every few milliseconds. For each line with a
 * tag on stdin, the process prints the longest time without a frame since the line before. Time in
 * which this process itself did not run is not counted.
 */
import process from "node:process";
import { createInterface } from "node:readline";
import { parseArgs } from "node:util";
import type { Ifnet } from "../../frontend/net/ifnet.ts";
import { MbufPool } from "../../frontend/net/mbuf.ts";
import { openNic } from "../../frontend/nic.ts";
import { broadcast } from "../support/raw-ena.ts";

const EVERY_MS = 5;
const FRAME_BYTES = 60;

const { values: args } = parseArgs({ options: { connect: { type: "string" } } });
if (args.connect === undefined) throw new Error("--connect URL is needed");
const connect = args.connect;

/** Sum of the delays of this process's own timer: time in which it did not run. */
let stalledMs = 0;

class Watch {
  longestMs = 0;
  #last = performance.now();
  #stalledMs = 0;

  seen(): void {
    const now = performance.now();
    const silence = now - this.#last - (stalledMs - this.#stalledMs);
    this.longestMs = Math.max(this.longestMs, silence);
    this.#last = now;
    this.#stalledMs = stalledMs;
  }
}

function send(from: Ifnet, to: Ifnet, pool: MbufPool): void {
  const m = pool.get();
  if (m === undefined) return;
  const frame = broadcast(FRAME_BYTES, [...from.mac]);
  frame.set(to.mac, 0);
  m.buffer.set(frame);
  m.length = FRAME_BYTES;
  m.pktLength = FRAME_BYTES;
  if (from.send(m) !== 0) m.free();
}

const agent = "ringwire-bench";
const nics = [
  await openNic({ connect, agent, name: "pair-a" }),
  await openNic({ connect, agent, name: "pair-b" }),
] as const;
const [a, b] = [nics[0].ifnet, nics[1].ifnet];
const pool = new MbufPool(2048, 1024);
const watches = [a, b].map((ifnet) => {
  const watch = new Watch();
  ifnet.input = (m) => {
    m.free();
    watch.seen();
  };
  return watch;
});

let due = performance.now() + EVERY_MS;
setInterval(() => {
  const now = performance.now();
  stalledMs += Math.max(0, now - due);
  due = now + EVERY_MS;
  send(a, b, pool);
  send(b, a, pool);
}, EVERY_MS);

createInterface({ input: process.stdin }).on("line", (tag) => {
  // A gap that has not ended counts up to now.
  for (const watch of watches) watch.seen();
  const silenceMs = Math.max(...watches.map(({ longestMs }) => longestMs));
  for (const watch of watches) watch.longestMs = 0;
  const reconnects = nics.reduce((sum, nic) => sum + nic.status().reconnects, 0);
  process.stdout.write(`${JSON.stringify({ tag: Number(tag), silenceMs, reconnects })}\n`);
});
process.once("SIGTERM", () => process.exit(0));
process.stdout.write('{"ready":true}\n');
