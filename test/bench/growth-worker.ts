/**
 * Many idle NICs of one personality, connected to a device, each with receive buffers posted.
 *
 *   node growth-worker.ts PORT ena|xen COUNT
 *
 * Prints {"ready":true} when all are connected. For a line "broadcast TAG COUNT" the first NIC sends
 * that many broadcasts; the answer comes when all other NICs have received all of them.
 */
import process from "node:process";
import { createInterface } from "node:readline";
import { eventually, sleep } from "../support/process.ts";
import { broadcast, RawEna } from "../support/raw-ena.ts";
import { FREE_REFERENCE, RawXen } from "../support/raw-xen.ts";

/** NICs that connect at the same time. */
const SIDE_BY_SIDE = 8;
const BUFFERS = 60;
const EVERY_MS = 20;

interface Guest {
  send(frame: Uint8Array): void;
  /** Frames received so far. */
  received(): number;
}

async function ena(port: number, name: string): Promise<Guest> {
  const { ena, tx, rx } = await RawEna.startWithQueues(port, name);
  ena.refill(rx, BUFFERS);
  await ena.raw.survived();
  let count = 0;
  return {
    send: (frame) => ena.transmit(tx, frame),
    received() {
      count += ena.takeRx(rx).length;
      return count;
    },
  };
}

async function xen(port: number, name: string): Promise<Guest> {
  const guest = await RawXen.connected(port, name);
  for (let n = 0; n < BUFFERS; n++) {
    guest.grant(FREE_REFERENCE + n);
    guest.post(FREE_REFERENCE + n);
  }
  guest.notify();
  await guest.survived();
  let reference = FREE_REFERENCE + BUFFERS;
  return {
    send(frame) {
      guest.sendFrame(reference++, frame);
      guest.notify();
    },
    received: () => guest.rx.rspProd,
  };
}

const [port, driver, count] = process.argv.slice(2);
const start = driver === "xen" ? xen : ena;
const guests: Guest[] = [];
let next = 0;
async function connectSome(): Promise<void> {
  while (next < Number(count)) guests.push(await start(Number(port), `nic${next++}`));
}
await Promise.all(Array.from({ length: SIDE_BY_SIDE }, connectSome));
process.stdout.write('{"ready":true}\n');

async function broadcasts(tag: number, frames: number): Promise<void> {
  const [first, ...others] = guests;
  const before = others.map((guest) => guest.received());
  for (let n = 0; n < frames; n++) {
    first!.send(broadcast(60, [2, 0, 0, 0, 0xee, 2]));
    await sleep(EVERY_MS);
  }
  await eventually("the broadcasts", () => {
    const late = others.find((guest, i) => guest.received() - before[i]! < frames);
    return late === undefined || undefined;
  });
  process.stdout.write(`${JSON.stringify({ tag })}\n`);
}

createInterface({ input: process.stdin }).on("line", (line) => {
  const [, tag, frames] = line.split(" ").map(Number);
  void broadcasts(tag!, frames!);
});
process.once("SIGTERM", () => process.exit(0));
