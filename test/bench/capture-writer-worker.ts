/**
 * Prints frames per second of one way to keep frames. Arguments: mode, bytes, bytes kept, seconds.
 */
import process from "node:process";
import { setImmediate as turn } from "node:timers/promises";
import type { CaptureOutput, CaptureSink } from "../../shared/capture/output.ts";
import { Recorder } from "../../shared/capture/recorder.ts";
import { Frame } from "../../shared/net/frame.ts";
import { BlockBuffer } from "../../shared/pcapng/block-buffer.ts";
import { Direction } from "../../shared/pcapng/layout.ts";
import { type PacketFacts, PcapngWriter } from "../../shared/pcapng/writer.ts";

/** The frames of one flush of a link. */
const BURST = 64;
/** Different frames, used in turn: more than a first-level cache holds. */
const FRAMES = 256;
const BUFFER_BYTES = 128 * 1024;
const ROOM_BYTES = 2048;

const [mode = "", ...numbers] = process.argv.slice(2);
const [frameBytes = 60, snapBytes = 60, seconds = 1] = numbers.map(Number);
const kept = Math.min(frameBytes, snapBytes);

const frames = Array.from({ length: FRAMES }, (_, i) => {
  const frame = new Frame();
  frame.push(new Uint8Array(frameBytes).fill(i), 0, frameBytes);
  frame.id = i + 1;
  return frame;
});

function copying(): () => void {
  const buffer = new Uint8Array(BUFFER_BYTES);
  let at = 0;
  let next = 0;
  return () => {
    for (let i = 0; i < BURST; i++) {
      if (at + kept > BUFFER_BYTES) at = 0;
      frames[next++ % FRAMES]!.copyTo(buffer, at, 0, kept);
      at += kept;
    }
  };
}

function writing(): () => void {
  const out = new BlockBuffer(BUFFER_BYTES);
  const writer = new PcapngWriter(out);
  const facts: PacketFacts = {
    interface: 0,
    timeHigh: 1,
    timeLow: 2,
    captured: kept,
    original: frameBytes,
    flags: Direction.IN,
    queue: 3,
    id: 0,
    drops: 0,
    note: undefined,
  };
  let next = 0;
  return () => {
    for (let i = 0; i < BURST; i++) {
      if (out.used > BUFFER_BYTES - ROOM_BYTES) out.used = 0;
      const frame = frames[next++ % FRAMES]!;
      facts.id = frame.id;
      frame.copyTo(out.bytes, writer.packet(facts), 0, kept);
    }
  };
}

function recording(): () => void {
  const sink: CaptureSink = { name: "nowhere", write: async () => {}, close: async () => {} };
  const output: CaptureOutput = { name: "nowhere", open: async () => sink };
  const recorder = new Recorder(output, { snapLength: snapBytes });
  const port = recorder.addInterface({ name: "vm1", layer: "frame" });
  let next = 0;
  return () => {
    for (let i = 0; i < BURST; i++) {
      recorder.frame(port, Direction.IN, 3, frames[next++ % FRAMES]!);
    }
    if (recorder.stats[0]!.dropped > 0) throw new Error("the recorder dropped");
  };
}

const burst = mode === "copy" ? copying() : mode === "writer" ? writing() : recording();

/** All three modes yield to the event loop: the recorder hands over its buffers there. */
async function rate(forSeconds: number): Promise<number> {
  const start = performance.now();
  let bursts = 0;
  let elapsed = 0;
  while (elapsed < forSeconds * 1000) {
    for (let i = 0; i < 8; i++) burst();
    bursts += 8;
    await turn();
    elapsed = performance.now() - start;
  }
  return (bursts * BURST * 1000) / elapsed;
}

await rate(0.3);
process.stdout.write(String(await rate(seconds)));
process.exit(0);
