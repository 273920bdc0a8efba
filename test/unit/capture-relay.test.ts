/** A device's stream on its way to files: blocks stay unchanged, and each file is complete. */
import { describe, expect, it } from "vitest";
import { CaptureRelay, type RelayOptions } from "../../cli/capture/relay.ts";
import type { TimeSource } from "../../shared/capture/clock.ts";
import { Recorder } from "../../shared/capture/recorder.ts";
import { Frame } from "../../shared/net/frame.ts";
import { Direction } from "../../shared/pcapng/layout.ts";
import { type CapturedPacket, CaptureFormatError } from "../../shared/pcapng/packet.ts";
import type { PcapngReader } from "../../shared/pcapng/reader.ts";
import { packetNote, Verdict } from "../../shared/pcapng/writer.ts";
import { MemoryOutput } from "../support/capture-output.ts";
import { type CaptureSoFar, captureSoFar } from "../support/capture-reading.ts";

/** A clock that advances by a second at each reading. */
class Seconds implements TimeSource {
  #now = 0;
  wallMs = (): number => 1_700_000_000_000;
  monotonicMs = (): number => {
    this.#now += 1000;
    return this.#now;
  };
}

const NOTE = packetNote(Verdict.DROPPED, "dropped: runt");

/** A device's stream: `frames` frames of 100 bytes, on two interfaces in turn. */
async function streamOf(frames: number, options: { queueBytes?: number } = {}) {
  const output = new MemoryOutput();
  const recorder = new Recorder(output, { time: new Seconds(), application: "device", ...options });
  const mac = Uint8Array.of(2, 0, 0, 0, 0, 1);
  recorder.addInterface({ name: "a", layer: "frame", mac });
  recorder.addInterface({ name: "b", layer: "frame" });
  for (let i = 0; i < frames; i++) {
    const frame = new Frame();
    frame.push(Buffer.alloc(100, i), 0, 100);
    frame.id = 1000 + i;
    recorder.frame(i % 2, Direction.OUT, i % 2, frame, i === 0 ? NOTE : undefined);
  }
  await recorder.stop("test");
  return Uint8Array.from(output.files[0]!.bytes);
}

function read(bytes: Uint8Array): CaptureSoFar {
  const all = captureSoFar(bytes);
  expect(all.reader.pending).toBe(0);
  return all;
}

async function relayed(pieces: Iterable<Uint8Array>, options: RelayOptions = {}) {
  const output = new MemoryOutput();
  const relay = new CaptureRelay(output, options);
  for (const piece of pieces) await relay.feed(piece);
  const summary = await relay.end("test");
  return { files: output.files.map(({ bytes }) => read(bytes)), summary, output };
}

/** Length of a packet's block in these streams: fixed part, bytes, options. */
const blockBytes = (p: CapturedPacket): number =>
  28 + 100 + p.options.reduce((sum, o) => sum + 4 + ((o.bytes.length + 3) & ~3), 0) + 8;

function* cut(bytes: Uint8Array, size: number): Generator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.slice(at, at + size);
}

const facts = (packets: readonly CapturedPacket[]) =>
  packets.map((p) => ({
    on: p.interface.name,
    tsNs: p.tsNs,
    bytes: Buffer.from(p.bytes).toString("hex"),
    options: p.options.map(({ code, bytes }) => [code, Buffer.from(bytes).toString("hex")]),
  }));

describe("CaptureRelay", () => {
  it.each([1, 7, 1000, 1 << 20])("passes everything on, in pieces of %i bytes", async (size) => {
    const stream = await streamOf(20);
    const { files, summary } = await relayed(cut(stream, size));
    const [want, got] = [read(stream), files[0]!];
    expect(facts(got.packets)).toEqual(facts(want.packets));
    expect(got.packets[0]?.comments).toEqual(["dropped: runt"]);
    expect(got.reader.interfaces.map((i) => [i.name, i.mac])).toEqual(
      want.reader.interfaces.map((i) => [i.name, i.mac]),
    );
    expect(got.reader.names).toEqual(want.reader.names);
    expect(got.reader.sections[0]?.application).toBe("device");
    const counts = ({ reader }: { reader: PcapngReader }) =>
      reader.statistics.map((s) => [s.received, s.accepted, s.dropped, s.delivered, s.endNs]);
    expect(counts(got)).toEqual(counts(want));
    expect(summary).toMatchObject({ reason: "test", packets: 20 });
  });

  it("a stream cut anywhere becomes a whole file of what came", async () => {
    const stream = await streamOf(3);
    const want = facts(read(stream).packets);
    let seen = 0;
    for (let end = 1; end < stream.length; end++) {
      const { files } = await relayed([stream.slice(0, end)]);
      if (files.length === 0) continue;
      const { packets, reader } = files[0]!;
      expect(facts(packets)).toEqual(want.slice(0, packets.length));
      expect(reader.statistics).toHaveLength(reader.interfaces.length);
      const delivered = reader.statistics.reduce((sum, s) => sum + Number(s.delivered), 0);
      expect(delivered).toBe(packets.length);
      seen = Math.max(seen, packets.length);
    }
    expect(seen).toBe(3);
  });

  it("begins new files by size, each with all descriptions and counts that run on", async () => {
    const stream = await streamOf(50);
    const { files, output, summary } = await relayed([stream], { rotateBytes: 2000 });
    expect(files.length).toBeGreaterThan(3);
    expect(Math.max(...output.files.map(({ bytes }) => bytes.length))).toBeLessThanOrEqual(2000);
    expect(facts(files.flatMap(({ packets }) => packets))).toEqual(facts(read(stream).packets));
    let delivered = 0;
    for (const { packets, reader } of files) {
      expect(reader.interfaces.map(({ name }) => name)).toEqual(["a", "b"]);
      delivered += packets.length;
      const told = reader.statistics.reduce((sum, s) => sum + Number(s.delivered), 0);
      expect(told).toBe(delivered);
    }
    expect(summary.files.map(({ packets }) => packets)).toEqual(files.map((f) => f.packets.length));
  });

  it("begins new files by the packets' own time", async () => {
    // The recorder reads the clock once in eight packets, so every eight packets are a second.
    const stream = await streamOf(64);
    const { files } = await relayed([stream], { rotateMs: 2000 });
    expect(files.map(({ packets }) => packets.length)).toEqual([16, 16, 16, 16]);
  });

  it("counts what the device lost, when the stream ends without its statistics", async () => {
    const stream = await streamOf(40, { queueBytes: 2500 });
    const { packets, reader } = read(stream);
    const [lost] = reader.statistics.map(({ dropped }) => dropped);
    expect(lost).toBeGreaterThan(0n);
    // Without the last two blocks, which are the statistics, of 112 bytes each.
    const { summary } = await relayed([stream.slice(0, stream.length - 2 * 112)]);
    expect(summary.interfaces.map(({ delivered }) => delivered)).toEqual(
      ["a", "b"].map((name) => packets.filter((p) => p.interface.name === name).length),
    );
    const { summary: whole } = await relayed([stream]);
    expect(whole.interfaces[0]).toMatchObject({ received: 20, dropped: Number(lost) });
  });

  it("ends with its output, and says why", async () => {
    const output = new MemoryOutput();
    output.capacity = 700;
    const relay = new CaptureRelay(output);
    const stream = await streamOf(20);
    await relay.feed(stream);
    const summary = await relay.done;
    expect(summary).toMatchObject({
      code: "ENOSPC",
      reason: expect.stringMatching(/^failed: no space/),
    });
    expect(read(output.files[0]!.bytes).packets).toHaveLength(summary.packets);
    await relay.feed(stream);
    expect(await relay.end("again")).toBe(summary);
    const gone = new MemoryOutput();
    gone.capacity = 0;
    gone.code = "EPIPE";
    const piped = new CaptureRelay(gone);
    await piped.feed(stream);
    expect(await piped.end("test")).toMatchObject({ code: "EPIPE", reason: "reader gone" });
  });

  it("refuses what is no device's stream", async () => {
    for (const bytes of [Buffer.from("<html> no capture"), Buffer.alloc(64)]) {
      const relay = new CaptureRelay(new MemoryOutput());
      await expect(relay.feed(Uint8Array.from(bytes))).rejects.toThrow(CaptureFormatError);
    }
    const stream = await streamOf(2);
    const broken = Uint8Array.from(stream);
    // The section's length is not a multiple of four.
    broken[4] = 3;
    const relay = new CaptureRelay(new MemoryOutput());
    await expect(relay.feed(broken)).rejects.toThrow(/a block that claims/);
  });

  it.each([
    ["a packet of 2^31 bytes", 20, 0x8000_0000, /longer than its block/],
    ["a packet longer than its block", 20, 160, /longer than its block/],
    ["a packet of no interface", 8, 2, /no interface/],
    ["another length behind than in front", 184, 184, /in front, .* behind/],
    ["a packet of the kind that was before", 0, 2, /of an old kind/],
    ["a packet without an interface", 0, 3, /of an old kind/],
  ])("refuses %s, and its file is whole up to there", async (_what, at, value, says) => {
    // The last packet precedes the statistics of two interfaces.
    const stream = await streamOf(3);
    const view = new DataView(stream.buffer);
    const { packets } = read(stream);
    expect(packets).toHaveLength(3);
    const last = stream.length - 2 * 112 - blockBytes(packets[2]!);
    expect(view.getUint32(last, true)).toBe(6);
    const place = at === 184 ? last + blockBytes(packets[2]!) - 4 : last + at;
    view.setUint32(place, value, true);
    const output = new MemoryOutput();
    const relay = new CaptureRelay(output);
    const fed = relay.feed(stream);
    await expect(fed).rejects.toThrow(CaptureFormatError);
    await expect(fed).rejects.toThrow(says);
    expect(await relay.end("test")).toMatchObject({ packets: 2 });
    expect(read(output.files[0]!.bytes).packets).toHaveLength(2);
  });

  it("refuses a second section, and descriptions without end", async () => {
    const stream = await streamOf(1);
    const output = new MemoryOutput();
    const relay = new CaptureRelay(output);
    await expect(relay.feed(Buffer.concat([stream, stream]))).rejects.toThrow(/second section/);
    await relay.end("test");
    expect(read(output.files[0]!.bytes).packets).toHaveLength(1);
    const flooded = new CaptureRelay(new MemoryOutput());
    const name = Buffer.concat([Buffer.from("0400000070000000", "hex"), Buffer.alloc(104)]);
    name.writeUInt32LE(name.length, 4);
    name.writeUInt32LE(name.length, name.length - 4);
    const flood = Buffer.concat(Array.from({ length: 10_000 }, () => name));
    await flooded.feed(stream.slice(0, stream.length - 2 * 112));
    const flooding = async (): Promise<void> => {
      for (let mebibytes = 0; mebibytes < 10; mebibytes++) await flooded.feed(Buffer.from(flood));
    };
    await expect(flooding()).rejects.toThrow(/without end/);
  });
});
