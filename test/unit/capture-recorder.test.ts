/** The recorder: counts, limits, rotation, time, and outputs that fail. */
import { describe, expect, it } from "vitest";
import type { TimeSource } from "../../shared/capture/clock.ts";
import { nextFrameId } from "../../shared/capture/frame-id.ts";
import { SinkError } from "../../shared/capture/output.ts";
import { MAX_SNAP_BYTES, Recorder } from "../../shared/capture/recorder.ts";
import type { FrameFilter } from "../../shared/capture/recorder-types.ts";
import {
  LinkDirection,
  parseRingPacket,
  RingPersonality,
} from "../../shared/capture/ring-header.ts";
import { Frame, Gso } from "../../shared/net/frame.ts";
import { Direction } from "../../shared/pcapng/layout.ts";
import { packetNote, Verdict } from "../../shared/pcapng/writer.ts";
import { MemoryOutput } from "../support/capture-output.ts";
import { captureSoFar } from "../support/capture-reading.ts";
import { RecordingLog } from "../support/recording-log.ts";
import { sameBytes } from "../support/same.ts";

const MAC = Uint8Array.of(2, 0, 0, 0, 0, 1);

/** A clock that only the test advances. */
class ManualTime implements TimeSource {
  wall = 1_700_000_000_000;
  monotonic = 5000;
  wallMs = (): number => this.wall;
  monotonicMs = (): number => this.monotonic;
}

function frameOf(...parts: readonly Uint8Array[]): Frame {
  const frame = new Frame();
  // The span lies in the middle of a larger buffer, like real spans.
  for (const part of parts) frame.push(Buffer.concat([Buffer.alloc(3), part]), 3, part.length);
  return frame;
}

const numbered = (n: number, length = 60): Frame => frameOf(Buffer.alloc(length, n));

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

describe("what is recorded", () => {
  it("is the frame's bytes over all its spans, its queue, direction, id, note and offload facts", async () => {
    const output = new MemoryOutput();
    const recorder = new Recorder(output, { application: "ringwire 9" });
    const port = recorder.addInterface({
      name: "vm1",
      description: "port 1",
      mac: MAC,
      layer: "frame",
      speed: 25e9,
    });
    const frame = frameOf(Buffer.from("ab"), Buffer.from("cde"), Buffer.from("f"));
    frame.id = 2 ** 40 + 1;
    frame.needsCsum = true;
    frame.gso = Gso.TCPV4;
    recorder.frame(port, Direction.OUT, 3, frame, packetNote(Verdict.DROPPED, "no buffer"));
    const received = frameOf(Buffer.from("xyz"));
    received.csumValid = true;
    recorder.frame(port, Direction.IN, -1, received);
    recorder.span(port, Direction.IN, 1, Buffer.from("..span.."), 2, 4, 7);
    const summary = await recorder.stop("enough");

    const { reader, packets } = captureSoFar(output.files[0]!.bytes);
    expect(packets.map(({ bytes }) => Buffer.from(bytes).toString())).toEqual([
      "abcdef",
      "xyz",
      "span",
    ]);
    expect(packets[0]).toMatchObject({
      // Outbound, checksum not ready, segmentation offloaded.
      flags: 2 | 0x200 | 0x800,
      queue: 3,
      id: 2n ** 40n + 1n,
      comments: ["no buffer"],
    });
    expect(packets[1]).toMatchObject({ flags: 1 | 0x400, queue: undefined, id: undefined });
    expect(packets[2]).toMatchObject({ flags: 1, queue: 1, id: 7n });
    expect(reader.sections).toMatchObject([{ application: "ringwire 9" }]);
    expect(reader.interfaces).toMatchObject([{ name: "vm1", description: "port 1", linkType: 1 }]);
    expect(reader.names).toMatchObject([{ names: ["vm1"] }]);
    expect(summary).toMatchObject({
      reason: "enough",
      packets: 3,
      bytes: output.files[0]!.bytes.length,
      interfaces: [{ name: "vm1", received: 3, accepted: 3, dropped: 0, delivered: 3 }],
    });
    expect(output.files[0]!.closed).toBe(true);
  });

  it("has one id on every interface that sees a frame, and another for the next frame", async () => {
    const output = new MemoryOutput();
    const recorder = new Recorder(output);
    const ports = ["a", "switch", "b"].map((name) =>
      recorder.addInterface({ name, layer: "frame" }),
    );
    for (const n of [1, 2]) {
      const frame = numbered(n);
      frame.id = nextFrameId();
      for (const port of ports) recorder.frame(port, Direction.IN, 0, frame);
    }
    await recorder.stop("enough");
    const ids = captureSoFar(output.files[0]!.bytes).packets.map(({ id }) => id!);
    expect(new Set(ids.slice(0, 3)).size).toBe(1);
    expect(new Set(ids.slice(3)).size).toBe(1);
    expect(ids[3]).toBeGreaterThan(ids[0]!);
  });

  it("is a batch behind its header, on an interface of its own link type", async () => {
    const output = new MemoryOutput();
    const recorder = new Recorder(output, { snapLength: 20 });
    const ring = recorder.addInterface({ name: "vm1", layer: "ring" });
    const batch = Buffer.from("the whole batch, whatever the snap length of frames");
    recorder.batch(ring, LinkDirection.TO_DEVICE, 7, RingPersonality.ENA, batch);
    recorder.batch(
      ring,
      LinkDirection.TO_FRONTEND,
      8,
      RingPersonality.XEN,
      new Uint8Array(1 << 20),
    );
    await recorder.stop("enough");

    const { packets } = captureSoFar(output.files[0]!.bytes);
    expect(packets.map(({ linkType, flags }) => [linkType, flags])).toEqual([
      [252, Direction.OUT],
      [252, Direction.IN],
    ]);
    const first = parseRingPacket(packets[0]!.bytes)!;
    expect(first).toMatchObject({ direction: LinkDirection.TO_DEVICE, epoch: 7, personality: 0 });
    sameBytes(first.bytes, batch);
    // A packet too long for Wireshark is cut, and keeps its original length.
    expect(packets[1]).toMatchObject({
      capturedLength: 262_144,
      originalLength: (1 << 20) + 40,
    });
    expect(parseRingPacket(packets[1]!.bytes)).toMatchObject({ epoch: 8, personality: 1 });
  });

  for (const [snapLength, kept] of [
    [0, 1514],
    [1, 1],
    [96, 96],
    [1514, 1514],
    [1e9, 1514],
  ] as const) {
    it(`fault-N4 is ${kept} of 1514 bytes with a snap length of ${snapLength}`, async () => {
      const output = new MemoryOutput();
      const recorder = new Recorder(output, { snapLength });
      const port = recorder.addInterface({ name: "vm1", layer: "frame" });
      recorder.frame(port, Direction.IN, 0, numbered(9, 1514));
      recorder.span(port, Direction.IN, 0, new Uint8Array(1514).fill(9), 0, 1514, 0);
      await recorder.stop("enough");
      const { reader, packets } = captureSoFar(output.files[0]!.bytes);
      const limit = snapLength === 0 || snapLength > MAX_SNAP_BYTES ? MAX_SNAP_BYTES : snapLength;
      expect(reader.interfaces[0]!.snapLength).toBe(limit);
      for (const packet of packets) {
        expect(packet).toMatchObject({ capturedLength: kept, originalLength: 1514 });
        sameBytes(packet.bytes, new Uint8Array(kept).fill(9));
      }
      expect(packets).toHaveLength(2);
    });
  }

  it("is what the filter lets through, and only frames are filtered", async () => {
    const filter: FrameFilter = {
      text: "odd",
      matches: (frame) => frame.byteAt(0) % 2 === 1,
      matchesSpan: (bytes, at) => bytes[at]! % 2 === 1,
    };
    const output = new MemoryOutput();
    const recorder = new Recorder(output, { filter });
    const port = recorder.addInterface({ name: "vm1", layer: "frame" });
    const ring = recorder.addInterface({ name: "vm1 ring", layer: "ring" });
    for (let n = 0; n < 5; n++) recorder.frame(port, Direction.IN, 0, numbered(n));
    recorder.span(port, Direction.IN, 0, Uint8Array.of(0, 4), 1, 1, 0);
    recorder.batch(ring, LinkDirection.TO_DEVICE, 1, RingPersonality.ENA, Uint8Array.of(0x90));
    await recorder.stop("enough");
    const { reader, packets } = captureSoFar(output.files[0]!.bytes);
    expect(packets.map(({ bytes }) => bytes[0])).toEqual([1, 3, 0]);
    expect(reader.interfaces.map((info) => info.filter)).toEqual(["odd", undefined]);
    expect(reader.statistics).toMatchObject([
      { received: 6n, accepted: 2n, dropped: 0n, delivered: 2n },
      { received: 1n, accepted: 1n, dropped: 0n, delivered: 1n },
    ]);
  });

  it("ends by itself after as many packets as were asked for", async () => {
    const output = new MemoryOutput();
    const recorder = new Recorder(output, { maxPackets: 3 });
    const port = recorder.addInterface({ name: "vm1", layer: "frame" });
    for (let n = 0; n < 10; n++) recorder.frame(port, Direction.IN, 0, numbered(n));
    expect(recorder.ended).toBe(true);
    expect(await recorder.done).toMatchObject({ reason: "count", packets: 3 });
    expect(await recorder.stop("later")).toMatchObject({ reason: "count" });
    expect(captureSoFar(output.files[0]!.bytes).packets).toHaveLength(3);
  });

  it("has as many packets as were asked for behind its state record", async () => {
    const output = new MemoryOutput();
    const recorder = new Recorder(output, { maxPackets: 2 });
    const ring = recorder.addInterface({ name: "vm1 ring", layer: "ring" });
    const bytes = Uint8Array.of(0x90);
    for (let n = 0; n < 5; n++) recorder.state(ring, 1, RingPersonality.ENA, bytes);
    expect(recorder.ended).toBe(false);
    for (let n = 0; n < 5; n++) {
      recorder.batch(ring, LinkDirection.TO_DEVICE, 1, RingPersonality.ENA, bytes);
    }
    expect(await recorder.done).toMatchObject({ reason: "count", packets: 7 });
    expect(captureSoFar(output.files[0]!.bytes).packets).toHaveLength(7);
  });

  it("reaches the output without a stop: the head at once, packets at the end of the burst", async () => {
    const output = new MemoryOutput();
    const recorder = new Recorder(output, { flushMs: 0 });
    const port = recorder.addInterface({ name: "vm1", layer: "frame" });
    await turn();
    await turn();
    expect(captureSoFar(output.files[0]!.bytes).reader.interfaces).toHaveLength(1);
    recorder.frame(port, Direction.IN, 0, numbered(1));
    recorder.frame(port, Direction.IN, 0, numbered(2));
    await turn();
    await turn();
    expect(captureSoFar(output.files[0]!.bytes).packets).toHaveLength(2);
    expect(output.writes).toBe(2);
    await recorder.stop("enough");
  });

  it("gathers bursts that follow each other into one write, and needs no stop for it", async () => {
    const output = new MemoryOutput();
    const recorder = new Recorder(output);
    const port = recorder.addInterface({ name: "vm1", layer: "frame" });
    await turn();
    await turn();
    expect(output.writes).toBe(1);
    for (let n = 0; n < 5; n++) {
      recorder.frame(port, Direction.IN, 0, numbered(n));
      await turn();
    }
    while (captureSoFar(output.files[0]!.bytes).packets.length < 5) await turn();
    // One write for all five packets, unless this process was paused between two of them.
    expect(output.writes).toBeLessThan(6);
    await recorder.stop("enough");
  });
});

describe("a slow output", () => {
  it("costs packets, which are counted in the next one written and at the end", async () => {
    const output = new MemoryOutput();
    const { promise, resolve: resume } = Promise.withResolvers<void>();
    output.held = promise;
    const recorder = new Recorder(output, { queueBytes: 100_000 });
    const a = recorder.addInterface({ name: "a", layer: "frame" });
    const b = recorder.addInterface({ name: "b", layer: "frame" });
    for (let n = 0; n < 300; n++) recorder.frame(a, Direction.IN, 0, numbered(1, 1000));
    for (let n = 0; n < 7; n++) recorder.frame(b, Direction.IN, 0, numbered(2, 1000));
    const lost = recorder.stats[0]!.dropped;
    // Some packets fitted, fewer than their bytes alone would allow, and the others were dropped.
    expect(lost).toBeGreaterThan(200);
    expect(lost).toBeLessThan(300);
    expect(recorder.stats[1]).toMatchObject({ received: 7, dropped: 7, delivered: 0 });
    resume();
    while (output.files.length === 0 || output.files[0]!.bytes.length < 1000) await turn();
    await turn();
    recorder.frame(a, Direction.IN, 0, numbered(3));
    recorder.frame(a, Direction.IN, 0, numbered(4));
    recorder.frame(b, Direction.IN, 0, numbered(5));
    const summary = await recorder.stop("enough");

    const { reader, packets } = captureSoFar(output.files[0]!.bytes);
    const told = packets.filter(({ drops }) => drops !== undefined);
    expect(told.map(({ bytes, drops }) => [bytes[0], drops])).toEqual([
      [3, BigInt(lost)],
      [5, 7n],
    ]);
    expect(reader.statistics).toMatchObject([
      { received: 302n, dropped: BigInt(lost), delivered: BigInt(302 - lost) },
      { received: 8n, dropped: 7n, delivered: 1n },
    ]);
    expect(summary.packets).toBe(packets.length);
    expect(packets).toHaveLength(302 - lost + 1);
  });
});

describe("rotation", () => {
  it("by size: no file is longer, each stands for itself, none of the packets is lost", async () => {
    const output = new MemoryOutput();
    const recorder = new Recorder(output, { rotateBytes: 4000 });
    const a = recorder.addInterface({ name: "a", mac: MAC, layer: "frame" });
    for (let n = 0; n < 30; n++) recorder.frame(a, Direction.IN, 0, numbered(n, 500));
    const b = recorder.addInterface({ name: "b", layer: "frame" });
    for (let n = 30; n < 60; n++) recorder.frame(b, Direction.IN, 0, numbered(n, 500));
    const summary = await recorder.stop("enough");

    expect(output.files.length).toBeGreaterThan(8);
    const seen: number[] = [];
    for (const [i, file] of output.files.entries()) {
      expect(file.bytes.length).toBeLessThanOrEqual(4000);
      expect(file.closed).toBe(true);
      const { reader, packets } = captureSoFar(file.bytes);
      expect(reader.pending).toBe(0);
      expect(reader.sections).toHaveLength(1);
      expect(reader.statistics).toHaveLength(reader.interfaces.length);
      expect(reader.names).toHaveLength(1);
      expect(summary.files[i]).toEqual({
        name: file.name,
        packets: packets.length,
        bytes: file.bytes.length,
      });
      for (const {
        bytes,
        interface: { name },
      } of packets) {
        seen.push(bytes[0]!);
        expect(name).toBe(bytes[0]! < 30 ? "a" : "b");
      }
      // Counts continue from file to file.
      const delivered = reader.statistics.reduce((sum, s) => sum + s.delivered!, 0n);
      expect(delivered).toBe(BigInt(seen.length));
    }
    expect(seen).toEqual(Array.from({ length: 60 }, (_, n) => n));
    expect(summary).toMatchObject({ packets: 60 });
  });

  it("by time: with the first packet behind the border", async () => {
    const time = new ManualTime();
    const output = new MemoryOutput();
    const recorder = new Recorder(output, { rotateMs: 1000, time });
    const port = recorder.addInterface({ name: "a", layer: "frame" });
    for (const at of [0, 999, 1000, 1500, 2001, 9000]) {
      time.monotonic = 5000 + at;
      recorder.frame(port, Direction.IN, 0, numbered(at % 251));
      await turn();
    }
    await recorder.stop("enough");
    const counts = output.files.map(({ bytes }) => captureSoFar(bytes).packets.length);
    expect(counts).toEqual([2, 2, 1, 1]);
    expect(output.files.map(({ startMs }) => Math.round(startMs - time.wall))).toEqual([
      0, 1000, 2001, 9000,
    ]);
  });
});

describe("time", () => {
  it("fault-K6 starts at the wall clock and never runs backwards, whatever the clocks do", async () => {
    const time = new ManualTime();
    const output = new MemoryOutput();
    const recorder = new Recorder(output, { time });
    const port = recorder.addInterface({ name: "a", layer: "frame" });
    // The low word wraps after 4.3 s; the clock steps back; the wall clock is set.
    const steps = [0, 0.000001, 1, 4000, 4300, 4299, 9000, 1, 3_600_000, 86_400_000];
    for (const [i, step] of steps.entries()) {
      time.monotonic = 5000 + step;
      if (i === 4) time.wall = 0;
      recorder.frame(port, Direction.IN, 0, numbered(1));
      // Each turn of the event loop reads the clock again.
      await turn();
    }
    await recorder.stop("enough");
    const { reader, packets } = captureSoFar(output.files[0]!.bytes);
    const start = 1_700_000_000_000_000_000n;
    expect(packets.map(({ tsNs }) => tsNs! - start)).toEqual([
      0n,
      1n,
      1_000_000n,
      4_000_000_000n,
      4_300_000_000n,
      4_300_000_000n,
      9_000_000_000n,
      9_000_000_000n,
      3_600_000_000_000n,
      86_400_000_000_000n,
    ]);
    expect(reader.statistics[0]).toMatchObject({
      startNs: start,
      endNs: start + 86_400_000_000_000n,
    });
  });
});

describe("an output that fails", () => {
  it("fault-K8 at any byte: the capture ends with one warning and says what it holds; callers go on", async () => {
    // A whole capture first, to get its length.
    const whole = new MemoryOutput();
    const total = (await run(whole, new RecordingLog())).bytes;
    let cuts = 0;
    for (let capacity = 0; capacity < total; capacity += 11) {
      const output = new MemoryOutput();
      output.capacity = capacity;
      const log = new RecordingLog();
      const summary = await run(output, log);
      expect(summary).toMatchObject({ reason: "failed", code: "ENOSPC" });
      expect(log.warnings).toHaveLength(1);
      expect(log.warnings[0]).toContain(
        `holds ${summary.packets} packets in ${summary.bytes} bytes`,
      );
      const files = output.files.map(({ bytes }) =>
        bytes.length === 0 ? [] : captureSoFar(bytes),
      );
      const packets = files.reduce(
        (sum, file) => sum + ("packets" in file ? file.packets.length : 0),
        0,
      );
      expect(packets).toBe(summary.packets);
      for (const file of files) if ("reader" in file) expect(file.reader.pending).toBe(0);
      expect(output.files.filter(({ closed }) => !closed)).toEqual([]);
      expect(summary.bytes).toBeLessThanOrEqual(capacity);
      if (summary.bytes < capacity) cuts++;
    }
    // Most failures hit the middle of a block.
    expect(cuts).toBeGreaterThan(100);
  });

  async function run(output: MemoryOutput, log: RecordingLog) {
    const recorder = new Recorder(output, { rotateBytes: 2500, log });
    const port = recorder.addInterface({ name: "a", layer: "frame" });
    for (let n = 0; n < 40; n++) {
      recorder.frame(port, Direction.IN, 0, numbered(n, 100));
      if (n % 5 === 4) await turn();
    }
    const summary = await recorder.stop("enough");
    recorder.frame(port, Direction.IN, 0, numbered(1));
    recorder.addInterface({ name: "late", layer: "ring" });
    return summary;
  }

  it("because its reader has gone: an end and no warning, also without traffic", async () => {
    const output = new MemoryOutput();
    const log = new RecordingLog();
    const recorder = new Recorder(output, { log });
    recorder.addInterface({ name: "a", layer: "frame" });
    while (output.files.length === 0) await turn();
    output.leave(new SinkError("EPIPE", "closed"));
    expect(await recorder.done).toMatchObject({ reason: "reader gone", code: "EPIPE" });
    expect(recorder.ended).toBe(true);
    expect(log.warnings).toEqual([]);
  });
});
