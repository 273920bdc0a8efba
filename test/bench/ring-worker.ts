/**
 * A frontend that generates or counts frames at its driver's interface, as fast as the driver
 * accepts them. The sink sends broadcasts until frames arrive, so that the switch learns its port
 * and the generator its address, unless --to gives it. A line on stdin is a request for the counters;
 * the answer carries its number. The line "cut" shuts the sockets of this process down.
 */
import { readdirSync, readlinkSync } from "node:fs";
import process from "node:process";
import { createInterface } from "node:readline";
import { parseArgs } from "node:util";
import { tuneV8 } from "../../cli/common/compiler.ts";
import type { Ifnet } from "../../frontend/net/ifnet.ts";
import { type Mbuf, MbufPool } from "../../frontend/net/mbuf.ts";
import { openNic } from "../../frontend/nic.ts";
import { formatMac, parseMac } from "../../shared/net/ethernet.ts";
import * as sys from "../../shared/reactor/sys.ts";

/** Frames sent before the event loop gets its turn: half of what one flush of the link carries. */
const BURST = 64;
/** More mbufs than a Tx ring has slots, so that the ring fills up first. */
const POOL = 4096;
const HEADER_BYTES = 14;
/** Local experimental EtherType (IEEE 802), which kernels and switches ignore. */
const ETHER_TYPE = 0x88b5;
const CALL_MS = 100;
/** Descriptors above those of the process itself. */
const FIRST_FD = 3;

tuneV8();

const { values: args } = parseArgs({
  options: {
    role: { type: "string" },
    connect: { type: "string" },
    frame: { type: "string", default: "60" },
    "ring-size": { type: "string", default: "4096" },
    "zero-mask": { type: "boolean", default: false },
    driver: { type: "string", default: "ena" },
    name: { type: "string" },
    to: { type: "string" },
    "every-ms": { type: "string" },
  },
});
const frameBytes = Number(args.frame);
/** Time between two bursts; undefined for full speed. */
const everyMs = args["every-ms"] === undefined ? undefined : Number(args["every-ms"]);
let frames = 0;
const batch: Mbuf[] = [];

function say(value: object): void {
  process.stdout.write(`${JSON.stringify(value)}\n`);
}

function header(to: Uint8Array, from: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(HEADER_BYTES);
  bytes.set(to, 0);
  bytes.set(from, 6);
  bytes[12] = ETHER_TYPE >> 8;
  bytes[13] = ETHER_TYPE & 0xff;
  return bytes;
}

/** Sends up to `n` frames of `head` and zeros. Returns how many frames fitted into the ring. */
function send(ifnet: Ifnet, pool: MbufPool, head: Uint8Array, n: number): number {
  batch.length = 0;
  for (let m = pool.get(); m !== undefined; m = batch.length < n ? pool.get() : undefined) {
    // Only the header is ever written; the rest of the cluster stays zero.
    m.buffer.set(head, m.at);
    m.length = frameBytes;
    m.pktLength = frameBytes;
    batch.push(m);
  }
  const sent = ifnet.transmit(batch, batch.length);
  for (let i = sent; i < batch.length; i++) batch[i]!.free();
  return sent;
}

function generate(ifnet: Ifnet): void {
  const pool = new MbufPool(2048, POOL);
  let head = args.to === undefined ? undefined : header(parseMac(args.to), ifnet.mac);
  let waiting = false;

  const burst = () => {
    waiting = false;
    // Scheduled before the link's flush, so that a flush sends two bursts.
    const next = everyMs === undefined ? setImmediate(burst) : undefined;
    const sent = send(ifnet, pool, head!, BURST);
    frames += sent;
    if (sent < BURST) {
      clearImmediate(next);
      waiting = true;
    } else if (everyMs !== undefined) setTimeout(burst, everyMs);
  };
  ifnet.onTransmitReady = () => {
    if (!waiting || head === undefined) return;
    waiting = false;
    setImmediate(burst);
  };
  ifnet.input = (m) => {
    const first = head === undefined;
    if (first) head = header(m.buffer.slice(m.at + 6, m.at + 12), ifnet.mac);
    m.free();
    if (!first) return;
    begin();
  };
  const begin = () => {
    say({ running: true, to: formatMac(head!.subarray(0, 6)) });
    setImmediate(burst);
  };
  if (head !== undefined) begin();
}

function count(ifnet: Ifnet): void {
  const pool = new MbufPool(2048, 16);
  const head = header(new Uint8Array(6).fill(0xff), ifnet.mac);
  const call = setInterval(() => send(ifnet, pool, head, 1), CALL_MS);
  let calling = true;
  ifnet.input = (m) => {
    frames++;
    m.free();
    if (!calling) return;
    calling = false;
    clearInterval(call);
  };
}

/** Ends the connections as a broken line does: the link notices it when it reads or writes. */
function cut(): void {
  for (const fd of readdirSync("/proc/self/fd").map(Number)) {
    if (fd >= FIRST_FD && linkOf(fd).startsWith("socket:")) sys.shutdown(fd, sys.SHUT_RDWR);
  }
}

function linkOf(fd: number): string {
  try {
    return readlinkSync(`/proc/self/fd/${fd}`);
  } catch {
    // The descriptor with which the folder was read.
    return "";
  }
}

if (args.connect === undefined) throw new Error("--connect URL is needed");
const nic = await openNic({
  connect: args.connect,
  name: args.name ?? (args.role === "sink" ? "sink" : "generator"),
  zeroMask: args["zero-mask"],
  rxRingSize: Number(args["ring-size"]),
  driver: args.driver === "xen" ? "xen" : "ena",
  // As the frontend sets it under a TAP.
  lro: true,
  agent: "ringwire-bench",
});
if (args.role === "sink") count(nic.ifnet);
else generate(nic.ifnet);
say({ ready: true });

createInterface({ input: process.stdin }).on("line", (line) => {
  if (line === "cut") {
    cut();
    return;
  }
  const { user, system } = process.cpuUsage();
  const atMs = performance.now();
  say({ tag: Number(line), frames, atMs, cpuMs: (user + system) / 1000 });
});
process.once("SIGTERM", () => {
  nic.close().then(
    () => process.exit(0),
    () => process.exit(1),
  );
});
