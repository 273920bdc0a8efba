/**
 * A frontend of group `netmap`: pkt-gen's loop over the rings of one NIC, as generator or sink. The
 * sink sends one frame first, so that the switch learns its port. A line on stdin is a request for
 * the counters; the answer carries its number.
 */
import process from "node:process";
import { createInterface } from "node:readline";
import { parseArgs } from "node:util";
import { tuneV8 } from "../../cli/common/compiler.ts";
import { Control, Counts } from "../../frontend/apps/app.ts";
import { parseEndpoints } from "../../frontend/apps/pkt-gen/endpoints.ts";
import { type PktGenConfig, pktGen } from "../../frontend/apps/pkt-gen.ts";
import { runApp, runInWorker } from "../../frontend/apps/run.ts";
import { openNic } from "../../frontend/index.ts";
import { nmOpen } from "../../frontend/netmap/index.ts";
import { formatMac, parseMac } from "../../shared/net/ethernet.ts";

const BURST = 512;
/** Many flows, so that the receiver's hash uses all of its rings. */
const MANY = "10.0.0.1:1000-10.0.0.1:1255";
const LEAST_FRAME = 60;

tuneV8();

const { values: args } = parseArgs({
  options: {
    role: { type: "string" },
    connect: { type: "string" },
    frame: { type: "string", default: "60" },
    rings: { type: "string", default: "1" },
    "ring-size": { type: "string", default: "4096" },
    to: { type: "string", default: "ff:ff:ff:ff:ff:ff" },
    worker: { type: "boolean", default: false },
    "zero-mask": { type: "boolean", default: false },
  },
});
if (args.connect === undefined) throw new Error("--connect URL is needed");
const isSink = args.role === "sink";
const rings = Number(args.rings);

const nic = await openNic({
  connect: args.connect,
  ifname: "ena0",
  name: isSink ? "sink" : "generator",
  queues: rings,
  rxRingSize: Number(args["ring-size"]),
  txRingSize: Number(args["ring-size"]),
  zeroMask: args["zero-mask"],
  netmap: true,
});
const port = await nmOpen("netmap:ena0", { netmap: nic.netmap });
const control = new Control();
const counts = new Counts();
const config: PktGenConfig = {
  mode: isSink ? "rx" : "tx",
  count: 0,
  burst: BURST,
  rate: 0,
  frags: 1,
  fragBytes: 0,
  captured: [],
  rubbish: false,
  dump: false,
  endWhenIdle: false,
  lengthMin: Number(args.frame),
  lengthMax: Number(args.frame),
  src: parseEndpoints(rings === 1 ? "10.0.0.1" : MANY),
  dst: parseEndpoints("10.1.0.1"),
  srcMac: nic.ifnet.mac,
  dstMac: parseMac(args.to),
  randomSrc: false,
  randomDst: false,
};

if (isSink) {
  const call: PktGenConfig = {
    ...config,
    mode: "tx",
    count: 1,
    lengthMin: LEAST_FRAME,
    lengthMax: LEAST_FRAME,
  };
  await pktGen(port, call, new Counts(), control);
}
await nic.settled();
const run = args.worker ? runInWorker : runApp;
const work = run({ app: "pkt-gen", config }, [port], [counts], control);
const say = (value: object): boolean => process.stdout.write(`${JSON.stringify(value)}\n`);
say({ ready: true, running: true, mac: formatMac(nic.ifnet.mac) });

createInterface({ input: process.stdin }).on("line", (line) => {
  const { user, system } = process.cpuUsage();
  const atMs = performance.now();
  say({ tag: Number(line), frames: counts.packets, atMs, cpuMs: (user + system) / 1000 });
});
process.once("SIGTERM", () => {
  control.stop();
  work
    .then(() => port.close())
    .then(() => nic.close())
    .then(
      () => process.exit(0),
      () => process.exit(1),
    );
});
