/**
 * Requests that pkt-gen, bridge and lb refuse: an exit code, and one sentence that says what to do.
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { DeviceProcess } from "../support/device-process.ts";
import { runInside } from "../support/inside.ts";

const folder = mkdtempSync(join(tmpdir(), "ringwire-netmap-"));
let device: DeviceProcess;

beforeAll(async () => {
  device = await DeviceProcess.start();
  writeFileSync(join(folder, "text.pcap"), "no capture at all, only words");
  writeFileSync(
    join(folder, "ng.pcap"),
    Buffer.concat([Buffer.from("0a0d0d0a", "hex"), Buffer.alloc(28)]),
  );
  const header = Buffer.alloc(24);
  header.writeUInt32LE(0xa1b2c3d4, 0);
  header.writeUInt16LE(2, 4);
  header.writeUInt16LE(4, 6);
  header.writeUInt32LE(65_535, 16);
  header.writeUInt32LE(1, 20);
  writeFileSync(join(folder, "empty.pcap"), header);
  const record = Buffer.alloc(16 + 60);
  record.writeUInt32LE(61, 8);
  record.writeUInt32LE(61, 12);
  writeFileSync(join(folder, "cut.pcap"), Buffer.concat([header, record]));
});

afterAll(async () => {
  await device.child.stop();
  rmSync(folder, { recursive: true });
});

/** DEVICE and FOLDER stand for the device and the folder of this run. */
const USAGE: readonly (readonly [string, RegExp])[] = [
  ["pkt-gen", /--interface is needed: .*netmap port name/],
  ["pkt-gen -i tap:rw0", /--interface takes a netmap port, and tap:rw0 is none/],
  ["pkt-gen -i vale0", /-i vale0: no colon after the prefix/],
  ["pkt-gen -i eth0", /-i eth0: begins with neither ena nor xn/],
  ["pkt-gen -i ena0 -t 5 -r 6", /-t 5 sends and -r 6 receives/],
  ["pkt-gen -i ena0 -t 5 -n 6", /given twice, by -n 6 and -t 5/],
  ["pkt-gen -i ena0 -t 5 -f rxseq", /-t 5 sends, and -f rxseq is something else/],
  ["pkt-gen -i ena0 -r 5 -f ping", /-r 5 receives, and -f ping is something else/],
  ["pkt-gen -i ena0 -n 1e17", /--count takes a whole number from 0 to 9007199254740991, also as/],
  ["pkt-gen -i ena0 -r 1.5", /--receive takes a whole number/],
  ["pkt-gen -i netmap:", /-i netmap:: the port has no name/],
  ["pkt-gen -i netmap:ena0-x", /-i netmap:ena0-x: a ring number is expected/],
  ["pkt-gen -i netmap:eth0 --connect DEVICE", /begins with neither ena nor xn.*--driver ena/],
  [
    "pkt-gen -i netmap:ena0 --connect DEVICE -f fly",
    /--function takes rx, tx, ping, pong, txseq or rxseq/,
  ],
  ["pkt-gen -i netmap:ena0 --connect DEVICE -n -1", /--count takes a whole number from 0/],
  ["pkt-gen -i netmap:ena0 --connect DEVICE -l 59", /--length takes a whole number from 60/],
  ["pkt-gen -i netmap:ena0 --connect DEVICE -l 60 -l 61 -l 62", /--length is given once, or twice/],
  ["pkt-gen -i netmap:ena0 --connect DEVICE -f tx -l 9000", /a buffer holds 2048 bytes, so -F 5/],
  ["pkt-gen -i netmap:ena0 --connect DEVICE -f tx -l 60 -F 64 -M 2", /do not fill so many slots/],
  [
    "pkt-gen -i netmap:ena0 --connect DEVICE -s 10.0.0",
    /--src takes IP.*"10.0.0" is no IPv4 address/,
  ],
  [
    "pkt-gen -i netmap:ena0 --connect DEVICE -d 10.0.0.9-10.0.0.1",
    /--dst takes IP.*ends before it begins/,
  ],
  ["pkt-gen -i netmap:ena0 --connect DEVICE -D 00:11", /--dst-mac takes a MAC/],
  ["pkt-gen -i netmap:ena0 --connect DEVICE -C 1,x", /--ring-config takes TX_SLOTS/],
  ["pkt-gen -i netmap:ena0 --connect DEVICE -f txseq -p 2", /txseq has one thread/],
  ["pkt-gen -i netmap:ena0-1 --connect DEVICE -p 2", /must not name rings itself/],
  ["pkt-gen -i netmap:ena0 --connect DEVICE -a 1", /-a is not offered: .*taskset/],
  ["pkt-gen -i netmap:ena0/R --connect DEVICE -f tx", /-f tx sends, and netmap:ena0\/R opens no/],
  ["pkt-gen -i netmap:ena0/R --connect DEVICE -f ping", /-f ping sends, and /],
  ["pkt-gen -i netmap:ena0/T --connect DEVICE -f rxseq", /-f rxseq receives, and .* opens no ring/],
  ["pkt-gen -i netmap:ena0 --connect DEVICE -H 12", /-H is not offered: /],
  ["pkt-gen -i netmap:ena0 --connect DEVICE -I", /-I is not offered: /],
  ["pkt-gen -i vale0:a --tap rw0", /--tap needs a NIC/],
  ["pkt-gen -i vale0:a --name x", /--name goes with one NIC/],
  ["bridge", /-i is needed once or twice/],
  ["bridge -i netmap:ena0 --connect DEVICE", /nobody is behind them without --tap/],
  ["bridge -i netmap:ena0 -i ena0 --connect DEVICE", /-i netmap:ena0 is given twice/],
  ["bridge -i netmap:ena0 -i netmap:ena1 --connect DEVICE --tap rw0", /--tap goes with one NIC/],
  ["bridge -i netmap:ena0 -i netmap:ena1 --connect DEVICE --name x", /--name goes with one NIC/],
  ["bridge -i netmap:ena0 -i netmap:ena1 --connect DEVICE -L", /--loopback goes with one port/],
  ["lb -i netmap:ena0{1 --connect DEVICE", /a pipe has no pipes of its own/],
  ["lb -i netmap:ena0 --connect DEVICE --app FOLDER/none.js", /--app: there is no file .*none\.js/],
  ["lb -i netmap:ena0 --connect DEVICE -p 0", /--pipes takes a whole number/],
];

const FAILED: readonly (readonly [string, RegExp])[] = [
  ["pkt-gen -i netmap:ena0 --connect 127.0.0.1:1", /nothing listens at/],
  ["pkt-gen -i netmap:ena0-7 --connect DEVICE --queues 2", /has no such rings: it has 2 to/],
  ["pkt-gen -i netmap:ena0@99 --connect DEVICE", /no memory region 99/],
  ["pkt-gen -i netmap:ena0/r --connect DEVICE", /nothing to monitor/],
  ["pkt-gen -i netmap:ena0 --connect DEVICE -p 3 --queues 2", /has no such rings/],
  ["pkt-gen -i netmap:ena0 --connect DEVICE -f tx -P FOLDER/none.pcap", /none\.pcap/],
  [
    "pkt-gen -i netmap:ena0 --connect DEVICE -f tx -P FOLDER/text.pcap",
    /text\.pcap can't be read: neither pcap nor/,
  ],
  [
    "pkt-gen -i netmap:ena0 --connect DEVICE -f tx -P FOLDER/ng.pcap",
    /ng\.pcap can't be read: a section without/,
  ],
  ["pkt-gen -i netmap:ena0 --connect DEVICE -f tx -P FOLDER/empty.pcap", /holds no frames/],
  ["pkt-gen -i netmap:ena0 --connect DEVICE -f tx -P FOLDER/cut.pcap", /ends within frame 1/],
];

describe.each([
  ["wrong usage", 2, USAGE],
  ["a failure", 1, FAILED],
] as const)("%s ends with %i", (_kind, code, rows) => {
  it.each(rows)("%s", async (words, says) => {
    const args = words.replaceAll("DEVICE", device.url).replaceAll("FOLDER", folder).split(" ");
    const child = await runInside(args);
    expect(child.exit?.code, child.said()).toBe(code);
    expect(child.stderr).toMatch(says);
    // The error is a sentence for a person, without a stack trace.
    expect(child.stderr).not.toMatch(/^\s+at /m);
    expect(child.stdout).toBe("");
  });
});
