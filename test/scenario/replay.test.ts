/** `ringwire replay` through a real device: a second NIC receives the frames of the file. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Nic, openNic } from "../../frontend/nic.ts";
import { pcapFile, pcapngFile } from "../support/capture-files.ts";
import { DeviceProcess } from "../support/device-process.ts";
import { type Ended, runInside } from "../support/inside.ts";
import { buildPacket, plainSum, pseudoHeader } from "../support/packets.ts";
import { type Child, eventually, NODE, run, startRingwire } from "../support/process.ts";
import { type PortStatus, portOf, sum } from "../support/status.ts";

interface Result {
  readonly packets: number;
  readonly read: number;
  readonly passes: number;
  readonly padded: number;
  readonly lost: number;
  readonly stopped: boolean;
  readonly skipped: Readonly<Record<string, number>>;
  readonly broken?: string;
}

const folder = mkdtempSync(join(tmpdir(), "ringwire-replay-"));
let device: DeviceProcess;
let receiver: Nic;
let received: Buffer[] = [];

beforeAll(async () => {
  device = await DeviceProcess.start();
  receiver = await openNic({ connect: device.url, ifname: "ena5" });
  receiver.ifnet.input = (m) => {
    const pieces: Buffer[] = [];
    for (let piece: typeof m | undefined = m; piece !== undefined; piece = piece.next) {
      pieces.push(Buffer.from(piece.buffer.subarray(piece.at, piece.at + piece.length)));
    }
    received.push(Buffer.concat(pieces));
    m.free();
  };
  await receiver.settled();
});

afterAll(async () => {
  await receiver.close();
  await device.stop();
  rmSync(folder, { recursive: true });
});

/** A broadcast with a local experimental EtherType: every NIC gets it, and no one answers. */
function frame(length: number, fill: number): Buffer {
  const bytes = Buffer.from(Array.from({ length }, (_, i) => (i * 7 + fill) & 0xff));
  bytes.set([255, 255, 255, 255, 255, 255, 2, 0, 0, 0, 0, 7, 0x88, 0xb5]);
  return bytes;
}

/**
 * All lengths. Their sum is below the bytes that a device sends to a NIC before it needs progress
 * (128 KiB), so even a slow receiver loses none.
 */
const FRAMES = Array.from({ length: 120 }, (_, n) => frame(60 + ((n * 97) % 1455), n));

function fileOf(name: string, bytes: Uint8Array): string {
  const path = join(folder, name);
  writeFileSync(path, bytes);
  return path;
}

const command = (path: string, flags: string): string[] => [
  ...["replay", path, "--connect", device.url],
  ...flags.split(" ").filter((word) => word !== ""),
];

async function replayed(path: string, flags = ""): Promise<Ended> {
  received = [];
  return await runInside(command(path, flags));
}

function resultIn({ stdout }: Ended): Result {
  const events = stdout.split("\n").filter((line) => line.startsWith("{"));
  return events.map((line) => JSON.parse(line)).find((event) => event.event === "result");
}

/** The result of a command that succeeded. */
function resultOf(child: Ended): Result {
  expect(child.exit, child.said()).toMatchObject({ code: 0 });
  return resultIn(child);
}

const arrived = async (count: number): Promise<Buffer[]> =>
  await eventually(
    () => `${count} frames; ${received.length} are here`,
    () => (received.length >= count ? received : undefined),
  );

describe("what arrives", () => {
  it.each([
    ["pcap", "ena", pcapFile],
    ["pcapng", "ena", pcapngFile],
    ["pcapng", "xen", pcapngFile],
  ])("is what a %s file holds, byte for byte and in order: %s", async (kind, driver, write) => {
    const path = fileOf(`frames.${kind}`, write(FRAMES.map((bytes) => ({ bytes }))));
    const result = resultOf(await replayed(path, `--driver ${driver} --json`));
    expect(result).toMatchObject({ packets: 120, read: 120, passes: 1, padded: 0, lost: 0 });
    expect(await arrived(120)).toEqual(FRAMES);
  });

  it("at full speed: all of it, in order, less what the device says it had to drop", async () => {
    const before = portOf(await device.status(), "ena5");
    const path = fileOf("fast.pcap", pcapFile(FRAMES.map((bytes) => ({ bytes }))));
    const result = resultOf(await replayed(path, "--loop 50 --json"));
    expect(result).toMatchObject({ packets: 6000, read: 6000, passes: 50, lost: 0 });
    const after = portOf(await device.status(), "ena5");
    expect(after.out.offered - before.out.offered).toBe(6000);
    const dropsOf = ({ out, lost }: PortStatus) => sum(out.dropped) + sum(lost.out);
    const got = await arrived(6000 - (dropsOf(after) - dropsOf(before)));
    let n = 0;
    for (const bytes of got) {
      while (n < 6000 && !bytes.equals(FRAMES[n % 120]!)) n++;
      expect(n++).toBeLessThan(6000);
    }
  });

  it("is the file again and again with --loop, less what can't be sent", async () => {
    const packets = [
      { bytes: FRAMES[0]! },
      { bytes: frame(1515, 1) },
      { bytes: frame(40, 2) },
      { bytes: frame(60, 3), original: 61 },
    ];
    const child = await replayed(fileOf("mixed.pcap", pcapFile(packets)), "--loop 50 --json");
    const result = resultOf(child);
    expect(result).toMatchObject({
      ...{ packets: 100, read: 200, passes: 50, padded: 50, lost: 0, stopped: false },
      skipped: { tooLong: 50, truncated: 50, notEthernet: 0, refused: 0 },
    });
    const padded = Buffer.concat([frame(40, 2), Buffer.alloc(20)]);
    const pass = [FRAMES[0]!, padded];
    expect(await arrived(100)).toEqual(Array.from({ length: 50 }, () => pass).flat());
    // Each reason is printed once, with a remedy.
    expect(child.stderr.match(/--mtu 1501/g)).toHaveLength(1);
    expect(child.stderr.match(/--send-truncated/g)).toHaveLength(1);
  });

  it.each([
    ["ena", false],
    ["xen", false],
    ["ena", true],
    ["xen", true],
  ])("case-W4 is whole segments of one that states no length: %s, IPv6 %s", async (driver, v6) => {
    const payload = Buffer.from(Array.from({ length: 4000 }, (_, i) => (i * 13) & 0xff));
    const destination = [255, 255, 255, 255, 255, 255];
    const built = buildPacket({ payload, checksum: "partial", sequence: 7, destination, v6 });
    const bytes = Buffer.from(built.bytes);
    bytes.writeUInt16BE(0, v6 ? 18 : 16);
    const path = fileOf("unstated.pcap", pcapFile([{ bytes }]));
    const result = resultOf(await replayed(path, `--driver ${driver} --json`));
    expect(result).toMatchObject({ packets: 1, read: 1, lost: 0 });
    const segments = await arrived(3);
    const l4 = v6 ? 54 : 34;
    expect(Buffer.concat(segments.map((segment) => segment.subarray(l4 + 20)))).toEqual(payload);
    const [at, less] = v6 ? [18, 54] : [16, 14];
    expect(segments.map((segment) => segment.readUInt16BE(at))).toEqual(
      segments.map(({ length }) => length - less),
    );
    const sums = segments.map((s) => plainSum(pseudoHeader(s, 14, l4, 6), s.subarray(l4)));
    expect(sums).toEqual([0xffff, 0xffff, 0xffff]);
  });

  it.each(["ena", "xen"])("is whole segments of a captured super-frame: %s", async (driver) => {
    const payload = Buffer.from(Array.from({ length: 20_000 }, (_, i) => (i * 13) & 0xff));
    const destination = [255, 255, 255, 255, 255, 255];
    const { bytes } = buildPacket({ payload, checksum: "partial", sequence: 7, destination });
    const path = fileOf("super.pcap", pcapFile([{ bytes }]));
    const result = resultOf(await replayed(path, `--driver ${driver} --json`));
    expect(result).toMatchObject({ packets: 1, read: 1 });
    // 1460 bytes of payload fit after the IP and TCP headers.
    const segments = await arrived(14);
    expect(Buffer.concat(segments.map((segment) => segment.subarray(54)))).toEqual(payload);
    segments.forEach((segment, n) => {
      expect(segment.readUInt32BE(38)).toBe(7 + n * 1460);
      expect(plainSum(segment.subarray(14, 34))).toBe(0xffff);
      expect(plainSum(pseudoHeader(segment, 14, 34, 6), segment.subarray(34))).toBe(0xffff);
    });
  });

  it("is what a pipe gives; that can't be sent twice", async () => {
    const path = fileOf("piped.pcap", pcapFile(FRAMES.slice(0, 5).map((bytes) => ({ bytes }))));
    const piped = async (flags: string): Promise<Child> => {
      received = [];
      const argv = [NODE, "dist/cli/ringwire.js", ...command("-", flags)];
      return await run(["bash", "-c", `cat ${path} | "$@"`, "bash", ...argv]);
    };
    expect((await piped("--json")).exit).toMatchObject({ code: 0 });
    expect(await arrived(5)).toEqual(FRAMES.slice(0, 5));
    const twice = await piped("--loop 2");
    expect(twice.exit).toMatchObject({ code: 2 });
    expect(twice.stderr).toMatch(/is a pipe, and can be sent once/);
    expect(received).toEqual([]);
  });

  it("is no sooner than the file says with --preserve-timing", async () => {
    const packets = [0n, 400n, 300n, 700n].map((ms, n) => ({
      bytes: frame(60, n),
      ns: 1_700_000_000_000_000_000n + ms * 1_000_000n,
    }));
    const path = fileOf("timed.pcapng", pcapngFile(packets));
    const result = resultOf(await replayed(path, "--preserve-timing --json"));
    expect(result.packets).toBe(4);
    // Late is allowed, early is not: 400 ms, back to the start at once, then 400 ms again.
    expect((result as Result & { seconds: number }).seconds).toBeGreaterThan(0.799);
    expect(await arrived(4)).toEqual(packets.map(({ bytes }) => bytes));
  });
});

describe("what it says", () => {
  it("in words: rates on stderr, totals on stdout, as pkt-gen", async () => {
    const path = fileOf("words.pcap", pcapFile(FRAMES.map((bytes) => ({ bytes }))));
    const child = await replayed(path, "-R 1000 -T 50");
    expect(child.exit).toMatchObject({ code: 0 });
    expect(child.stdout).toMatch(/^replay of .*words\.pcap on replay0: ena, /);
    expect(child.stdout).toMatch(/\nSent 120 packets \d+ bytes \d+ events \d+ bytes each in /);
    expect(child.stdout).toMatch(/\nSpeed: .*pps Bandwidth: .*bps/);
    expect(child.stderr).toMatch(/pps \(.*pkts .*bps in \d+ usec\) .* avg_batch/);
  });

  it("ends at SIGINT with its totals, whatever it waits for", async () => {
    const packets = [0n, 86_400n].map((s, n) => ({ bytes: frame(60, n), ns: s * 1_000_000_000n }));
    const path = fileOf("day.pcap", pcapFile(packets));
    received = [];
    await using child = startRingwire(command(path, "--preserve-timing --json"));
    await arrived(1);
    child.signal("SIGINT");
    await child.ended();
    expect(resultOf(child)).toMatchObject({ packets: 1, read: 1, passes: 0, stopped: true });
  });

  it("a damaged file: exit 1, the byte, and what was sent before", async () => {
    const bytes = pcapFile(FRAMES.slice(0, 3).map((frame) => ({ bytes: frame })));
    const cut = fileOf("cut.pcap", bytes.subarray(0, -1));
    const child = await replayed(cut, "--json");
    expect(child.exit).toMatchObject({ code: 1 });
    const at = 24 + 16 + FRAMES[0]!.length + 16 + FRAMES[1]!.length;
    expect(child.stderr).toMatch(new RegExp(`cut off .* byte ${at}; 2 packets were sent before`));
    expect(resultIn(child)).toMatchObject({ packets: 2, read: 2, broken: expect.any(String) });
    expect(await arrived(2)).toEqual(FRAMES.slice(0, 2));
  });

  it.each([
    ["missing.pcap", 1, /missing\.pcap can't be replayed: ENOENT/],
    ["text.pcap", 1, /text\.pcap can't be replayed: neither pcap nor pcapng/],
    ["zero.pcap", 1, /zero\.pcap can't be replayed: 0 bytes are no capture/],
    ["none.pcap", 1, /none\.pcap holds no packets/],
    ["other.pcap", 1, /other\.pcap holds no packet that can be sent: 1 not Ethernet/],
  ])("%s: exit %i and a sentence", async (name, code, says) => {
    fileOf("text.pcap", Buffer.from("this is no capture file"));
    fileOf("zero.pcap", Buffer.alloc(0));
    fileOf("none.pcap", pcapFile([]));
    fileOf("other.pcap", pcapFile([{ bytes: frame(60, 1) }], 113));
    const child = await replayed(join(folder, name));
    expect(child.exit).toMatchObject({ code });
    expect(child.stderr).toMatch(says);
    expect(received).toEqual([]);
  });

  it("wrong usage: exit 2", async () => {
    const path = fileOf("usage.pcap", pcapFile([]));
    for (const argv of [["replay"], command(path, "--loop many")]) {
      const child = await runInside(argv);
      expect(child.exit, child.said()).toMatchObject({ code: 2 });
    }
  });
});
