/** Outputs on real files, descriptors and streams. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import {
  closeSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { descriptorOutput, FileOutput, rotatedName } from "../../shared/capture/file-output.ts";
import type { CaptureOutput } from "../../shared/capture/output.ts";
import { CaptureFileReader, readCapture, readCaptureFile } from "../../shared/capture/read.ts";
import { Recorder } from "../../shared/capture/recorder.ts";
import type { RecorderOptions } from "../../shared/capture/recorder-types.ts";
import { StreamOutput } from "../../shared/capture/stream-output.ts";
import { Frame } from "../../shared/net/frame.ts";
import { Direction } from "../../shared/pcapng/layout.ts";
import { CaptureFormatError } from "../../shared/pcapng/packet.ts";
import { pcapngFile } from "../support/capture-files.ts";
import { run } from "../support/process.ts";
import { RecordingLog } from "../support/recording-log.ts";

let folder = "";
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "ringwire-capture-"));
});
afterEach(() => {
  rmSync(folder, { recursive: true, force: true });
});

const frame = new Frame();
frame.push(Buffer.alloc(100, 7), 0, 100);

function record(output: CaptureOutput, count: number, options: RecorderOptions = {}): Recorder {
  const recorder = new Recorder(output, options);
  const port = recorder.addInterface({ name: "vm1", layer: "frame" });
  for (let n = 0; n < count; n++) recorder.frame(port, Direction.IN, 0, frame);
  return recorder;
}

describe("a file", () => {
  it("belongs to its owner only, and is read back packet by packet", async () => {
    const path = join(folder, "trace.pcapng");
    await record(new FileOutput(path), 20_000).stop("enough");
    expect(statSync(path).mode & 0o777).toBe(0o600);
    let packets = 0;
    for await (const { bytes } of readCaptureFile(path)) {
      packets++;
      expect(bytes.length).toBe(100);
    }
    expect(packets).toBe(20_000);
  });

  it("has a number and a time in its name when there are several; the oldest go", async () => {
    const path = join(folder, "trace.pcapng");
    const options = { rotating: true, keep: 3 };
    const recorder = record(new FileOutput(path, options), 100, { rotateBytes: 2000 });
    const { files } = await recorder.stop("enough");
    expect(files.length).toBeGreaterThan(5);
    const kept = files.slice(-3).map(({ name }) => name);
    expect(
      readdirSync(folder)
        .map((name) => join(folder, name))
        .sort(),
    ).toEqual(kept.sort());
    for (const { name, bytes } of files.slice(-3)) expect(statSync(name).size).toBe(bytes);
    const start = new Date(2026, 0, 2, 3, 4, 5).getTime();
    expect(rotatedName("/tmp/a.b/trace.pcapng", 7, start)).toBe(
      "/tmp/a.b/trace_00007_20260102030405.pcapng",
    );
    expect(rotatedName("trace", 123_456, start)).toBe("trace_123456_20260102030405");
  });

  it("loses what stands behind its last whole block", async () => {
    const path = join(folder, "trace.pcapng");
    const sink = await new FileOutput(path).open(1, 0);
    await sink.write(new Uint8Array(100));
    await sink.close(60);
    expect(statSync(path).size).toBe(60);
  });

  it("that can't be made, or written, ends the capture with the system's word for it", async () => {
    const log = new RecordingLog();
    const nowhere = new FileOutput(join(folder, "no", "trace.pcapng"));
    expect(await record(nowhere, 10, { log }).done).toMatchObject({
      reason: "failed",
      code: "ENOENT",
      packets: 0,
    });
    expect(await record(new FileOutput("/dev/full"), 10, { log }).done).toMatchObject({
      reason: "failed",
      code: "ENOSPC",
      packets: 0,
    });
    expect(log.warnings).toHaveLength(2);
    expect(log.warnings[1]).toMatch(/\/dev\/full stopped: .*no space left.* 0 packets in 0 bytes/);
  });
});

describe("a pipe", () => {
  it("whose reader leaves ends the capture, without a warning", async () => {
    const log = new RecordingLog();
    // `head` reads a hundred bytes and ends.
    const fifo = join(folder, "fifo");
    await run(["mkfifo", fifo]);
    const reader = spawn("head", ["-c", "100", fifo], { stdio: "ignore" });
    const fd = openSync(fifo, "w");
    try {
      const recorder = record(descriptorOutput(fd, "the pipe"), 1, { log });
      await once(reader, "exit");
      const port = recorder.addInterface({ name: "vm2", layer: "frame" });
      recorder.frame(port, Direction.IN, 0, frame);
      expect(await recorder.done).toMatchObject({ reason: "reader gone", code: "EPIPE" });
    } finally {
      closeSync(fd);
    }
    expect(log.warnings).toEqual([]);
    expect(log.infos).toHaveLength(1);
  });
});

describe("a stream", () => {
  it("gets the whole capture and its end", async () => {
    const stream = new PassThrough();
    const chunks: Buffer[] = [];
    stream.on("data", (chunk: Buffer) => chunks.push(chunk));
    const ended = once(stream, "end");
    const summary = await record(new StreamOutput(stream, "a client"), 500).stop("enough");
    await ended;
    expect(summary.packets).toBe(500);
    expect([...readCapture(Buffer.concat(chunks))]).toHaveLength(500);
  });

  it("that nobody reads costs packets and no memory beyond the queue", async () => {
    const stream = new PassThrough();
    const recorder = record(new StreamOutput(stream, "a client"), 100_000, { queueBytes: 300_000 });
    const { received, dropped, delivered } = recorder.stats[0]!;
    expect(received).toBe(100_000);
    expect(dropped).toBeGreaterThan(95_000);
    expect(delivered).toBe(received - dropped);
    const stopped = recorder.stop("enough");
    stream.resume();
    expect((await stopped).packets).toBe(delivered);
  });

  it("that is destroyed ends the capture, between writes and in one", async () => {
    const idle = new PassThrough();
    const waiting = record(new StreamOutput(idle, "a client"), 1);
    idle.once("data", () => idle.destroy());
    expect(await waiting.done).toMatchObject({ reason: "reader gone" });

    const stuck = new PassThrough({ highWaterMark: 16 });
    const writing = record(new StreamOutput(stuck, "a client"), 10_000);
    const reset = Object.assign(new Error("reset"), { code: "ECONNRESET" });
    setImmediate(() => stuck.destroy(reset));
    expect(await writing.done).toMatchObject({ reason: "reader gone" });

    const gone = new PassThrough();
    gone.destroy();
    expect(await record(new StreamOutput(gone, "a client"), 1).done).toMatchObject({
      reason: "reader gone",
    });
  });
});

describe("reading", () => {
  it("refuses what is no capture, and tells how much of a file is cut off", async () => {
    const path = join(folder, "trace.pcapng");
    await record(new FileOutput(path), 10).stop("enough");
    const bytes = readFileSync(path);
    expect(() => [...readCapture(Buffer.from("hello world, no capture"))]).toThrow(
      CaptureFormatError,
    );
    expect(() => [...readCapture(new Uint8Array(0))]).toThrow(CaptureFormatError);
    // The file holds ten packets of 160 bytes and the statistics.
    const packets = readCaptureFile(path);
    for (let n = 0; n < 10; n++) expect((await packets.next()).done).toBe(false);
    expect(await packets.next()).toEqual({ done: true, value: { cutBytes: 0 } });
    writeFileSync(path, bytes.subarray(0, bytes.length - 112 - 10));
    const cut = readCaptureFile(path);
    let whole = 0;
    let end = await cut.next();
    for (; !end.done; end = await cut.next()) whole++;
    expect(whole).toBe(9);
    expect(end.value).toMatchObject({ cutBytes: expect.any(Number) });
    expect((end.value as { cutBytes: number }).cutBytes).toBeGreaterThan(100);
  });

  it("takes a file of any size through one buffer, which grows for a block that is longer", async () => {
    const path = join(folder, "trace.pcapng");
    const packets = Array.from({ length: 3000 }, (_, n) => ({
      bytes: Buffer.alloc(1000 + (n % 7), n),
    }));
    const long = Buffer.alloc(5_000_012, 3);
    long.writeUInt32LE(0x4711, 0);
    for (const at of [4, long.length - 4]) long.writeUInt32LE(long.length, at);
    const file = pcapngFile(packets);
    writeFileSync(path, Buffer.concat([file, long, file]));
    await using reader = await CaptureFileReader.open(path);
    for (let pass = 0; pass < 3; pass++) {
      const memory = new Set<ArrayBufferLike>();
      let read = 0;
      while (await reader.more()) {
        for (let p = reader.next(); p !== undefined; p = reader.next()) {
          memory.add(p.bytes.buffer);
          // Interfaces of the second section begin at 0 again; their options are not overwritten.
          expect([...p.interface.options[0]!.bytes]).toEqual([9]);
          expect(Buffer.compare(p.bytes, packets[read % 3000]!.bytes)).toBe(0);
          read++;
        }
      }
      expect([read, reader.pending]).toEqual([6000, 0]);
      expect(reader.bytes).toBe(2 * file.length + long.length);
      // The buffer grows once and then stays.
      expect(memory.size).toBe(pass === 0 ? 2 : 1);
      await reader.rewind();
    }
  });
});
