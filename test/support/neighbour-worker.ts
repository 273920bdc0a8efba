/**
 * Two NICs of one device that send each other frames, all the time, and verify what they get:
 * order, length and every byte. A process of its own, so that what the test does to the device in
 * the meantime slows nobody here down.
 *
 * Asked on stdin, it answers on stdout in one line of JSON: "counts N" tells, "drain N" stops
 * sending first, waits until all is quiet and tells then, "resume N" sends again.
 */
import process from "node:process";
import { createInterface } from "node:readline";
import { parseArgs } from "node:util";
import type { Ifnet } from "../../frontend/net/ifnet.ts";
import { type Mbuf, MbufPool, mCopyData } from "../../frontend/net/mbuf.ts";
import { openNic } from "../../frontend/nic.ts";
import type { Personality } from "../../shared/wire/personality.ts";

const HEADER_BYTES = 14;
/** Local experimental EtherType (IEEE 802). */
const ETHER_TYPE = 0x88b5;
/** Sequence number, length. */
const PAYLOAD_AT = HEADER_BYTES + 8;
const MIN_BYTES = 60;
const MAX_BYTES = 1514;
const BURST = 8;
const BURST_MS = 10;
const QUIET_MS = 300;
/** Looks in a row that find nothing new. */
const QUIET_LOOKS = 10;

/** What one NIC has sent to the other, and what arrived there. */
interface Direction {
  sent: number;
  received: number;
  /** Sequence numbers that were stepped over. */
  missing: number;
  /** Content or length not as sent; or a number that was there before. */
  wrong: number;
  next: number;
}

const { values: args } = parseArgs({
  options: {
    connect: { type: "string" },
    prefix: { type: "string", default: "pair" },
    /** Of a and of b. */
    drivers: { type: "string", default: "ena,ena" },
  },
});
if (args.connect === undefined) throw new Error("--connect URL is needed");
const connect = args.connect;

let sending = true;
let foreign = 0;
const scratch = Buffer.alloc(65536);
const expected = Buffer.alloc(MAX_BYTES);

function fill(frame: Buffer, sequence: number, length: number): void {
  frame.writeUInt16BE(ETHER_TYPE, 12);
  frame.writeUInt32BE(sequence, HEADER_BYTES);
  frame.writeUInt32BE(length, HEADER_BYTES + 4);
  let x = (sequence + 1) * 2_654_435_761;
  for (let i = PAYLOAD_AT; i < length; i++) {
    x = (Math.imul(x, 1_103_515_245) + 12_345) | 0;
    frame[i] = x >>> 16;
  }
}

const lengthOf = (sequence: number): number =>
  MIN_BYTES + ((sequence * 397) % (MAX_BYTES - MIN_BYTES + 1));

function send(from: Ifnet, to: Ifnet, pool: MbufPool, d: Direction): void {
  const m = pool.get();
  if (m === undefined) return;
  const length = lengthOf(d.sent);
  const frame = Buffer.from(m.buffer.buffer, m.buffer.byteOffset, length);
  frame.set(to.mac, 0);
  frame.set(from.mac, 6);
  fill(frame, d.sent, length);
  m.length = length;
  m.pktLength = length;
  if (from.send(m) === 0) d.sent++;
  else m.free();
}

function verify(m: Mbuf, to: Ifnet, from: Ifnet, d: Direction): void {
  const length = m.pktLength;
  mCopyData(m, 0, length, scratch, 0);
  m.free();
  const ours =
    length >= PAYLOAD_AT &&
    scratch.readUInt16BE(12) === ETHER_TYPE &&
    scratch.subarray(6, 12).equals(from.mac) &&
    scratch.subarray(0, 6).equals(to.mac);
  if (!ours) {
    foreign++;
    return;
  }
  const sequence = scratch.readUInt32BE(HEADER_BYTES);
  const right = lengthOf(sequence);
  expected.set(to.mac, 0);
  expected.set(from.mac, 6);
  fill(expected, sequence, right);
  if (length !== right || scratch.compare(expected, 0, right, 0, length) !== 0) {
    d.wrong++;
    return;
  }
  if (sequence < d.next) d.wrong++;
  else {
    d.missing += sequence - d.next;
    d.next = sequence + 1;
    d.received++;
  }
}

const [driverA = "", driverB = ""] = args.drivers.split(",");

const open = (name: string, driver: string) =>
  openNic({ connect, name, driver: oneOf(driver), agent: "ringwire-neighbour" });
const oneOf = (driver: string): Personality => (driver === "xen" ? "xen" : "ena");

const a = await open(`${args.prefix}-a`, driverA);
const b = await open(`${args.prefix}-b`, driverB);
const poolA = new MbufPool(2048, 1024);
const poolB = new MbufPool(2048, 1024);
const fresh = (): Direction => ({ sent: 0, received: 0, missing: 0, wrong: 0, next: 0 });
const ab = fresh();
const ba = fresh();
const ifA = a.ifnet;
const ifB = b.ifnet;
ifA.input = (m) => verify(m, ifA, ifB, ba);
ifB.input = (m) => verify(m, ifB, ifA, ab);

setInterval(() => {
  if (!sending) return;
  for (let i = 0; i < BURST; i++) {
    send(ifA, ifB, poolA, ab);
    send(ifB, ifA, poolB, ba);
  }
}, BURST_MS);

function say(value: object): void {
  process.stdout.write(`${JSON.stringify(value)}\n`);
}

function counts(tag: number): void {
  // What is missing at the very end shows in no gap.
  const tell = ({ next: _next, ...d }: Direction) => ({ ...d, lost: d.sent - d.received });
  const reconnects = a.status().reconnects + b.status().reconnects;
  say({ tag, ab: tell(ab), ba: tell(ba), foreign, reconnects });
}

/** Tells the counts once all has arrived, or nothing more for longer than a process stands still. */
function whenQuiet(tag: number, received = -1, quiet = 0): void {
  const now = ab.received + ba.received;
  const still = now === received ? quiet + 1 : 0;
  if (now === ab.sent + ba.sent || still === QUIET_LOOKS) counts(tag);
  else setTimeout(() => whenQuiet(tag, now, still), QUIET_MS);
}

createInterface({ input: process.stdin }).on("line", (line) => {
  const [word, tag] = line.split(" ");
  if (word === "drain") {
    sending = false;
    whenQuiet(Number(tag));
    return;
  }
  if (word === "resume") sending = true;
  counts(Number(tag));
});

process.once("SIGTERM", () => {
  Promise.all([a.close(), b.close()]).then(
    () => process.exit(0),
    () => process.exit(1),
  );
});
say({ ready: true });
