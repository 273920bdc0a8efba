/**
 * Capture filters against tcpdump: the same filter on the same frames must let the same ones
 * through. Needs libpcap, which tcpdump brings.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { FileOutput } from "../../shared/capture/file-output.ts";
import { CaptureFilterError, compileFilter } from "../../shared/capture/filter.ts";
import { openLibrary } from "../../shared/capture/libpcap.ts";
import { Direction } from "../../shared/capture/pcapng/layout.ts";
import { readCapture } from "../../shared/capture/read.ts";
import { Recorder } from "../../shared/capture/recorder.ts";
import { Frame } from "../../shared/net/frame.ts";
import { cases } from "../support/counts.ts";
import { missingProgram, outputOf } from "../support/installed.ts";
import { eventually } from "../support/process.ts";
import { Random, seedOfRun } from "../support/random.ts";

const why = missingProgram("tcpdump", "capinfos");

const FILTERS = [
  "ip",
  "ip6",
  "arp",
  "tcp",
  "udp port 53",
  "tcp port 80 and host 10.0.0.1",
  "src net 10.0.0.0/30",
  "ether host 02:00:00:00:00:01",
  "ether multicast",
  "broadcast",
  "not ip and not ip6",
  "portrange 50-90",
  "tcp[tcpflags] & (tcp-syn|tcp-fin) != 0",
  "ip[0] & 0xf > 5",
  "ip[6:2] & 0x1fff != 0",
  "vlan",
  "vlan 3 and ip",
  "vlan and udp",
  "greater 200",
  "less 100",
  "len % 3 = 1",
  "ether[14:4] / 7 * 3 + 5 > 0x20000000",
  "ether[20] << 3 >= ether[21] >> 1",
  "ip6 proto 6",
  "ip6 host fe80::1",
  "icmp or igmp",
  "ether proto 0x88b5",
  "ether[300:4] = 0",
  "udp[8:2] = 0x1234",
  "tcp port 80 or udp port 53 or icmp",
];

/** A frame that some of the filters like: half right headers, the rest random. */
function randomFrame(random: Random): Buffer {
  const bytes = Buffer.alloc(14 + random.below(400));
  for (let i = 0; i < bytes.length; i++) bytes[i] = random.below(256);
  const put = (at: number, hex: string): void => {
    Buffer.from(hex, "hex").copy(bytes, at);
  };
  if (random.oneIn(3)) put(0, random.pick(["020000000001", "ffffffffffff", "01005e000001"]));
  put(12, random.pick(["0800", "0800", "0800", "86dd", "0806", "8100", "88b5"]));
  let l3 = 14;
  if (bytes.readUInt16BE(12) === 0x8100) {
    put(14, random.pick(["0003", "0fff", "0003"]) + random.pick(["0800", "86dd"]));
    l3 = 18;
  }
  if (bytes.length > l3 + 60) {
    const type = bytes.readUInt16BE(l3 - 2);
    if (type === 0x0800) {
      bytes[l3] = 0x40 + random.pick([5, 5, 5, 6, 15]);
      bytes[l3 + 9] = random.pick([6, 17, 1, 2]);
      if (!random.oneIn(4)) bytes.writeUInt16BE(random.pick([0, 0x4000]), l3 + 6);
      if (!random.oneIn(3)) bytes.writeUInt32BE(0x0a000000 + random.below(4), l3 + 12);
      const l4 = l3 + (bytes[l3]! & 15) * 4;
      if (l4 + 10 < bytes.length) {
        bytes.writeUInt16BE(random.pick([80, 53, 50, 90, 91]), l4 + random.pick([0, 2]));
        if (random.oneIn(3)) put(l4 + 8, "1234");
      }
    } else if (type === 0x86dd) {
      bytes[l3] = 0x60;
      bytes[l3 + 6] = random.pick([6, 17, 58, 44]);
      if (random.oneIn(2)) put(l3 + 8, "fe800000000000000000000000000001");
    }
  }
  return bytes;
}

/** The same bytes in one to five spans, cut anywhere. */
function inPieces(bytes: Buffer, random: Random): Frame {
  const frame = new Frame();
  let at = 0;
  while (at < bytes.length) {
    const left = bytes.length - at;
    const length = frame.count === 4 ? left : 1 + random.below(left);
    frame.push(bytes, at, length);
    at += length;
  }
  return frame;
}

describe.skipIf(why !== undefined)(`libpcap's filters${why ?? ""}`, () => {
  let folder = "";
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), "ringwire-filter-"));
  });
  afterAll(() => {
    rmSync(folder, { recursive: true, force: true });
  });

  it("let through what tcpdump lets through, whole frames and frames in pieces", async () => {
    const random = new Random(seedOfRun());
    const frames = Array.from({ length: cases(20_000) }, () => randomFrame(random));
    const path = join(folder, "all.pcapng");
    const recorder = new Recorder(new FileOutput(path), { queueBytes: 1 << 28 });
    const port = recorder.addInterface({ name: "vm1", layer: "frame" });
    for (const bytes of frames) recorder.span(port, Direction.IN, 0, bytes, 0, bytes.length, 0);
    expect((await recorder.stop("enough")).packets).toBe(frames.length);

    let liked = 0;
    for (const text of FILTERS) {
      const theirs = outputOf("tcpdump", ["-r", path, "-w", "-", text]);
      const expected = [...readCapture(theirs)].map(({ bytes }) =>
        Buffer.from(bytes).toString("hex"),
      );
      const filter = await compileFilter(text);
      const said = (which: string) => `${text}, ${which}, seed ${random.seed}`;
      const whole = frames.filter((bytes) => filter.matchesSpan(bytes, 0, bytes.length));
      expect(
        whole.map((bytes) => bytes.toString("hex")),
        said("whole"),
      ).toEqual(expected);
      const pieces = frames.filter((bytes) => filter.matches(inPieces(bytes, random)));
      expect(
        pieces.map((bytes) => bytes.toString("hex")),
        said("in pieces"),
      ).toEqual(expected);
      if (expected.length > 0) liked++;
    }
    // Nearly every filter has something to let through, so the comparison means something.
    expect(liked).toBeGreaterThan(FILTERS.length - 4);
  });

  it("are refused in libpcap's words", async () => {
    await expect(compileFilter("tcp prot 80")).rejects.toThrow(CaptureFilterError);
    await expect(compileFilter("tcp prot 80")).rejects.toMatchObject({
      code: "FILTER",
      message: tcpdumpSays("tcp prot 80"),
    });
    await expect(compileFilter("port 99999")).rejects.toMatchObject({
      code: "FILTER",
      message: tcpdumpSays("port 99999"),
    });
    // libpcap takes these for Linux's own sockets: here they would let nothing through.
    for (const text of ["inbound", "tcp and outbound"]) {
      await expect(compileFilter(text)).rejects.toThrow(/only a Linux socket knows/);
    }
  });

  it("name the package when there is no libpcap", () => {
    expect(() => openLibrary(["libpcap-that-is-not-there.so.9"])).toThrow(/package libpcap0\.8/);
  });

  it("stand in the interface's description, and an empty one lets everything through", async () => {
    const filter = await compileFilter("udp port 53");
    const path = join(folder, "some.pcapng");
    const recorder = new Recorder(new FileOutput(path), { filter });
    recorder.addInterface({ name: "vm1", layer: "frame" });
    await recorder.stop("enough");
    const described = outputOf("capinfos", [path]).toString();
    expect(described).toContain("udp port 53");
    expect((await compileFilter("")).matchesSpan(Buffer.alloc(14), 0, 14)).toBe(true);
  });

  it("are compiled four at a time: each has a thread, and a resolver may hold it", async () => {
    // Those of the tests before may still be ending, behind their answers; and they do end.
    await eventually("four at once", async () => {
      const asked = Array.from({ length: 6 }, () => compileFilter("icmp"));
      const answers = await Promise.allSettled(asked);
      const refused = answers.filter(({ status }) => status === "rejected");
      for (const { reason } of refused as PromiseRejectedResult[]) {
        expect(reason).toMatchObject({ code: "BUSY" });
      }
      expect(refused.length).toBeGreaterThanOrEqual(2);
      return refused.length === 2 ? true : undefined;
    });
  });
});

/** The message of tcpdump, which prints what libpcap says behind its own name. */
function tcpdumpSays(text: string): string {
  try {
    outputOf("tcpdump", ["-d", text]);
  } catch (error) {
    const lines = (error as { stderr: Buffer }).stderr.toString().trim().split("\n");
    return lines.at(-1)!.replace(/^tcpdump: /, "");
  }
  throw new Error(`tcpdump accepts ${text}`);
}
