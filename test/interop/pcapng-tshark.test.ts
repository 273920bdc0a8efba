/**
 * Our files in Wireshark's programs: tshark and capinfos show what was written. Needs tshark
 * (Debian's package of that name), which brings capinfos.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { FileOutput } from "../../shared/capture/file-output.ts";
import { Recorder } from "../../shared/capture/recorder.ts";
import { LinkDirection, RingPersonality } from "../../shared/capture/ring-header.ts";
import { Frame } from "../../shared/net/frame.ts";
import { Direction } from "../../shared/pcapng/layout.ts";
import { packetNote, Verdict } from "../../shared/pcapng/writer.ts";
import { cases, holds } from "../support/counts.ts";
import { missingProgram, outputOf } from "../support/installed.ts";

const why = missingProgram("tshark", "capinfos");

let folder = "";
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "ringwire-tshark-"));
});
afterAll(() => {
  rmSync(folder, { recursive: true, force: true });
});

/** A program's output for a file. Throws when the program calls the file damaged. */
const output = (program: string, ...args: readonly string[]): string =>
  outputOf(program, args).toString();

const FIELDS = [
  "frame.time_epoch",
  "frame.len",
  "frame.cap_len",
  "frame.interface_id",
  "frame.interface_name",
  "frame.interface_description",
  "frame.interface_queue",
  "frame.packet_flags_direction",
  "frame.packet_id",
  "frame.drop_count",
  "frame.verdict.hw",
  "frame.comment",
  "frame.encap_type",
] as const;
type Shown = Partial<Record<(typeof FIELDS)[number], readonly string[]>>;

/** The fields of every packet in tshark's output. */
function shown(path: string): Shown[] {
  const fields = FIELDS.flatMap((name) => ["-e", name]);
  const text = output("tshark", "-n", "-r", path, "-T", "json", ...fields);
  return (JSON.parse(text) as { _source: { layers: Shown } }[]).map(
    ({ _source }) => _source.layers,
  );
}

/** The bytes of every packet in tshark's output. */
function dumped(path: string): string[] {
  const text = output("tshark", "-n", "-r", path, "-T", "jsonraw", "-j", "frame");
  const found = JSON.parse(text) as { _source: { layers: { frame_raw: readonly string[] } } }[];
  return found.map(({ _source }) => _source.layers.frame_raw[0]!);
}

/** A line of capinfos -M as a number. */
function capinfo(path: string, option: string, title: string): number {
  const line = output("capinfos", "-M", option, path)
    .split("\n")
    .find((candidate) => candidate.startsWith(title));
  return Number(
    line!
      .slice(line!.indexOf(":") + 1)
      .trim()
      .split(" ")[0],
  );
}

interface Given {
  readonly data: Uint8Array;
  readonly direction: 0 | 1 | 2;
  readonly queue: number;
  readonly id: number;
  readonly comment: string | undefined;
}

/** Text that a C program prints unchanged: without control characters and unpaired surrogates. */
const plainText = fc
  .string({ unit: "binary", minLength: 1, maxLength: 30 })
  .filter((text) => text.isWellFormed() && !/[\p{Cc}\p{Cn}\u2028\u2029\ufffd]/u.test(text));

const given: fc.Arbitrary<Given> = fc.record({
  data: fc.uint8Array({ minLength: 14, maxLength: 200 }),
  direction: fc.constantFrom<(0 | 1 | 2)[]>(0, 1, 2),
  queue: fc.integer({ min: -1, max: 127 }),
  id: fc.oneof(fc.constant(0), fc.nat(1000), fc.maxSafeNat()),
  comment: fc.option(plainText, { nil: undefined }),
});

function frameOf(data: Uint8Array, id: number): Frame {
  const frame = new Frame();
  const half = data.length >> 1;
  frame.push(data, 0, half);
  frame.push(data, half, data.length - half);
  frame.id = id;
  return frame;
}

describe.skipIf(why !== undefined)(`tshark${why ?? ""}`, () => {
  it("shows every packet as it was written", async () => {
    await holds(
      fc.asyncProperty(
        fc.array(given, { minLength: 200, maxLength: 200 }),
        plainText,
        plainText,
        fc.integer({ min: 14, max: 200 }),
        async (frames, name, description, snapLength) => {
          const path = join(folder, "property.pcapng");
          const recorder = new Recorder(new FileOutput(path), { snapLength });
          const first = recorder.addInterface({ name: "first", layer: "frame" });
          const port = recorder.addInterface({ name, description, layer: "frame" });
          for (const [i, { data, direction, queue, id, comment }] of frames.entries()) {
            const note = comment === undefined ? undefined : packetNote(Verdict.DROPPED, comment);
            const number = i % 2 === 0 ? first : port;
            recorder.frame(number, direction, queue, frameOf(data, id), note);
          }
          await recorder.stop("enough");

          const packets = shown(path);
          expect(packets).toHaveLength(200);
          let last = "";
          for (const [i, packet] of packets.entries()) {
            const { data, direction, queue, id, comment } = frames[i]!;
            expect({ ...packet, "frame.time_epoch": undefined }).toEqual({
              "frame.time_epoch": undefined,
              "frame.len": [String(data.length)],
              "frame.cap_len": [String(Math.min(data.length, snapLength))],
              "frame.interface_id": [String(i % 2)],
              "frame.interface_name": [i % 2 === 0 ? "first" : name],
              "frame.packet_flags_direction": [`0x${direction.toString(16).padStart(8, "0")}`],
              "frame.encap_type": ["1"],
              ...(i % 2 === 0 ? {} : { "frame.interface_description": [description] }),
              ...(queue < 0 ? {} : { "frame.interface_queue": [String(queue)] }),
              ...(id === 0 ? {} : { "frame.packet_id": [String(id)] }),
              ...(comment === undefined
                ? {}
                : { "frame.comment": [comment], "frame.verdict.hw": ["01"] }),
            });
            // Seconds with nine decimals: texts of equal length compare as numbers.
            const time = packet["frame.time_epoch"]![0]!;
            expect([last, time].sort()).toEqual([last, time]);
            last = time;
          }
          const kept = frames.map(({ data }) => data.subarray(0, snapLength));
          expect(dumped(path)).toEqual(kept.map((data) => Buffer.from(data).toString("hex")));
        },
      ),
      { numRuns: cases(40) },
    );
  });

  it("fault-N3 takes hostile names and comments", async () => {
    const texts = fc
      .array(fc.integer({ min: 0, max: 0xffff }), { minLength: 1, maxLength: 60 })
      .map((units) => String.fromCharCode(...units));
    await holds(
      fc.asyncProperty(fc.array(texts, { minLength: 20, maxLength: 20 }), async (hostile) => {
        const path = join(folder, "hostile.pcapng");
        const recorder = new Recorder(new FileOutput(path), { application: hostile[0]! });
        for (const text of hostile) {
          const port = recorder.addInterface({ name: text, description: text, layer: "frame" });
          const note = packetNote(Verdict.DROPPED, text);
          recorder.frame(port, Direction.IN, 0, frameOf(new Uint8Array(60), 1), note);
        }
        await recorder.stop("enough");
        const packets = shown(path);
        expect(packets).toHaveLength(hostile.length);
        for (const packet of packets) {
          // The comment is complete, although a zero byte could have ended it.
          expect(packet["frame.comment"]).toHaveLength(1);
          expect(packet["frame.interface_name"]![0]!.length).toBeGreaterThan(0);
        }
      }),
      { numRuns: cases(40) },
    );
  });

  it("fault-N3 takes names and comments too long for an option, cut with a mark", async () => {
    const path = join(folder, "long.pcapng");
    const recorder = new Recorder(new FileOutput(path));
    const long = "é€😀".repeat(20_000);
    const port = recorder.addInterface({
      name: long,
      mac: Uint8Array.of(2, 0, 0, 0, 0, 1),
      layer: "frame",
    });
    recorder.frame(
      port,
      Direction.IN,
      0,
      frameOf(new Uint8Array(60), 1),
      packetNote(Verdict.DROPPED, long),
    );
    await recorder.stop("enough");
    const [packet] = shown(path);
    const comment = packet!["frame.comment"]![0]!;
    expect(comment).toMatch(/…$/);
    expect(comment.slice(0, -1)).toBe(long.slice(0, comment.length - 1));
    expect(Buffer.byteLength(comment)).toBeLessThanOrEqual(65_535);
    expect(Buffer.byteLength(comment)).toBeGreaterThan(65_528);
  });

  it("opens ring packets as exported PDUs, of the longest batch too", async () => {
    const path = join(folder, "ring.pcapng");
    const recorder = new Recorder(new FileOutput(path));
    const ring = recorder.addInterface({ name: "vm1", layer: "ring" });
    recorder.batch(ring, LinkDirection.TO_DEVICE, 1, RingPersonality.ENA, Uint8Array.of(0x90));
    recorder.batch(
      ring,
      LinkDirection.TO_FRONTEND,
      1,
      RingPersonality.ENA,
      new Uint8Array(1 << 20),
    );
    await recorder.stop("enough");
    expect(shown(path)).toMatchObject([
      { "frame.len": ["41"], "frame.packet_flags_direction": ["0x00000002"] },
      { "frame.len": ["1048616"], "frame.cap_len": ["262144"] },
    ]);
    const tags = output(
      "tshark",
      "-n",
      "-r",
      path,
      "-c",
      "1",
      "-T",
      "fields",
      "-e",
      "exported_pdu.prot_name",
    );
    expect(tags.trim()).toBe("ringwire.batch");
  });

  it("agrees with capinfos about counts, times and rotated files", async () => {
    const path = join(folder, "many.pcapng");
    const output = new FileOutput(path, { rotating: true });
    const recorder = new Recorder(output, { rotateBytes: 20_000 });
    const port = recorder.addInterface({ name: "vm1", layer: "frame" });
    const frame = frameOf(new Uint8Array(500), 1);
    for (let n = 0; n < 200; n++) recorder.frame(port, n % 2 === 0 ? 1 : 2, 0, frame);
    const { files } = await recorder.stop("enough");
    expect(files.length).toBeGreaterThan(4);
    let packets = 0;
    for (const file of files) {
      expect(capinfo(file.name, "-c", "Number of packets")).toBe(file.packets);
      expect(capinfo(file.name, "-d", "Data size")).toBe(file.packets * 500);
      expect(capinfoText(file.name, "-o")).toContain("True");
      packets += file.packets;
    }
    expect(packets).toBe(200);
  });

  it("fault-N2 opens a file cut within a packet up to the packet before", async () => {
    const path = join(folder, "whole.pcapng");
    const recorder = new Recorder(new FileOutput(path));
    const port = recorder.addInterface({ name: "vm1", layer: "frame" });
    for (let n = 0; n < 5; n++) recorder.frame(port, 1, 0, frameOf(new Uint8Array(60), 1));
    await recorder.stop("enough");
    const bytes = readFileSync(path);
    const cutPath = join(folder, "cut.pcapng");
    // 112 bytes of statistics follow the last packet.
    for (const cut of [1, 50, 100]) {
      writeFileSync(cutPath, bytes.subarray(0, bytes.length - 112 - cut));
      expect(countDespiteCut(cutPath)).toBe(4);
    }
  });
});

function capinfoText(path: string, option: string): string {
  return output("capinfos", option, path);
}

/** tshark prints the whole packets and then fails, because the file ends within a packet. */
function countDespiteCut(path: string): number {
  try {
    output("tshark", "-n", "-r", path, "-T", "fields", "-e", "frame.number");
    throw new Error("tshark did not notice that the file is cut");
  } catch (error) {
    const { stdout, stderr } = error as { stdout?: Buffer; stderr?: Buffer };
    expect(String(stderr)).toContain("cut short");
    return String(stdout).trim().split("\n").length;
  }
}
