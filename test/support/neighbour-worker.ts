/**
 * Two NICs of one device that send each other frames all the time, and verify order, length and
 * every byte. They run in a process of their own, so that the attack's own work does not slow them.
 *
 *   node neighbour-worker.ts URL DRIVER-OF-A DRIVER-OF-B [TOKEN]
 *
 * Commands on stdin, answered on stdout in one line of JSON: "counts N" reports the counts, "drain
 * N" stops sending, waits until all is quiet, then reports with figures, "resume N" sends again.
 */
import process from "node:process";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { type Nic, openNic } from "../../frontend/nic.ts";
import type { DirectionCounts, NeighbourFigures } from "./neighbour.ts";

const HEADER_BYTES = 14;
/** Local experimental EtherType (IEEE 802). */
const ETHER_TYPE = 0x88b5;
/** The payload follows the sequence number. */
const PAYLOAD_AT = HEADER_BYTES + 4;
const MIN_BYTES = 60;
const MAX_BYTES = 1514;
const BURST = 8;
/** Times of the last frames sent, by their sequence numbers. */
const TIMES = 1 << 16;
/** A frame of this age (ms) is of no use to anybody. */
const OLD_MS = 1000;
const BURST_MS = 10;
const QUIET_MS = 300;
/** Checks in a row without a new frame, after which all is quiet. */
const QUIET_LOOKS = 10;
/** More frames than a device can deliver at once after a pause. */
const READER_FRAMES = 1 << 16;

let sending = true;
/** Ages (ms) of the frames that arrived since the traffic began. */
let ages: number[] = [];
let since = performance.now();
/** Frames that arrived and are not of the pair. */
let foreign = 0;

function frameOf(sequence: number, from: Nic, to: Nic): Buffer {
  const frame = Buffer.alloc(MIN_BYTES + ((sequence * 397) % (MAX_BYTES - MIN_BYTES + 1)));
  frame.set(to.ifnet.mac, 0);
  frame.set(from.ifnet.mac, 6);
  frame.writeUInt16BE(ETHER_TYPE, 12);
  frame.writeUInt32BE(sequence, HEADER_BYTES);
  let x = (sequence + 1) * 2_654_435_761;
  for (let i = PAYLOAD_AT; i < frame.length; i++) {
    x = (Math.imul(x, 1_103_515_245) + 12_345) | 0;
    frame[i] = x >>> 16;
  }
  return frame;
}

interface Direction {
  readonly counts: DirectionCounts;
  readonly sentAt: Float64Array;
}

const direction = (): Direction => ({
  counts: { sent: 0, received: 0, wrong: 0, old: 0 },
  sentAt: new Float64Array(TIMES),
});

async function send(from: Nic, to: Nic, { counts: d, sentAt }: Direction): Promise<never> {
  for (;;) {
    await sleep(BURST_MS);
    if (!sending) continue;
    for (let i = 0; i < BURST; i++) sentAt[(d.sent + i) % TIMES] = performance.now();
    const burst = Array.from({ length: BURST }, (_, i) => frameOf(d.sent + i, from, to));
    await Promise.all(burst.map((frame) => from.send(frame)));
    d.sent += BURST;
  }
}

async function verify(from: Nic, to: Nic, { counts: d, sentAt }: Direction): Promise<void> {
  let next = 0;
  for await (const bytes of to) {
    const frame = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
    const sequence = frame.length < PAYLOAD_AT ? 0 : frame.readUInt32BE(HEADER_BYTES);
    const wanted = frameOf(sequence, from, to);
    if (frame.compare(wanted, 0, HEADER_BYTES, 0, HEADER_BYTES) !== 0) foreign++;
    else if (!frame.equals(wanted) || sequence < next) d.wrong++;
    else {
      next = sequence + 1;
      d.received++;
      const age = performance.now() - sentAt[sequence % TIMES]!;
      if (age > OLD_MS) d.old++;
      ages.push(age);
    }
  }
}

const [connect = "", driverA, driverB, token] = process.argv.slice(2);
const open = (name: string, driver = "") =>
  openNic({
    connect,
    name,
    driver: driver === "xen" ? "xen" : "ena",
    agent: "ringwire-neighbour",
    readerFrames: READER_FRAMES,
    credentials: { token },
  });
const a = await open("pair-a", driverA);
const b = await open("pair-b", driverB);
const ab = direction();
const ba = direction();

function say(value: object): void {
  process.stdout.write(`${JSON.stringify(value)}\n`);
}

const reconnects = (): number => a.status().reconnects + b.status().reconnects;

function counts(tag: number, figures?: NeighbourFigures): void {
  say({ tag, ab: ab.counts, ba: ba.counts, foreign, reconnects: reconnects(), figures });
}

/** The figures since the last call. */
function figures(): NeighbourFigures {
  const sorted = ages.sort((x, y) => x - y);
  const seconds = (performance.now() - since) / 1000;
  ages = [];
  return {
    framesPerSecond: sorted.length / seconds,
    p99Ms: sorted[Math.floor(sorted.length * 0.99)] ?? 0,
    oldestMs: sorted.at(-1) ?? 0,
  };
}

/**
 * Reports once all frames have arrived, or none arrives for longer than a process may be paused.
 */
function whenQuiet(tag: number, received = -1, quiet = 0): void {
  const now = ab.counts.received + ba.counts.received;
  const still = now === received ? quiet + 1 : 0;
  if (now === ab.counts.sent + ba.counts.sent || still === QUIET_LOOKS) counts(tag, figures());
  else setTimeout(() => whenQuiet(tag, now, still), QUIET_MS);
}

createInterface({ input: process.stdin }).on("line", (line) => {
  const [word, tag] = line.split(" ");
  sending = word === "drain" ? false : sending || word === "resume";
  if (word === "resume") since = performance.now();
  if (word === "drain") whenQuiet(Number(tag));
  else counts(Number(tag));
});

say({ ready: true });
await Promise.all([verify(a, b, ab), verify(b, a, ba), send(a, b, ab), send(b, a, ba)]);
