/** Whatever a device sends, the resulting files can be read to their end. */
import fc from "fast-check";
import { expect, it } from "vitest";
import { CaptureRelay } from "../../cli/capture/relay.ts";
import { Recorder } from "../../shared/capture/recorder.ts";
import { Frame } from "../../shared/net/frame.ts";
import { Direction } from "../../shared/pcapng/layout.ts";
import { CaptureFormatError } from "../../shared/pcapng/packet.ts";
import { PcapngReader } from "../../shared/pcapng/reader.ts";
import { packetNote, Verdict } from "../../shared/pcapng/writer.ts";
import { MemoryOutput } from "../support/capture-output.ts";
import { cases, holds } from "../support/counts.ts";

/** A stream as devices send it, and small, so that most changes hit a meaningful byte. */
async function stream(): Promise<Uint8Array> {
  const output = new MemoryOutput();
  const recorder = new Recorder(output, { application: "device" });
  recorder.addInterface({ name: "a", layer: "frame", mac: Uint8Array.of(2, 0, 0, 0, 0, 1) });
  recorder.addInterface({ name: "b", layer: "frame" });
  const note = packetNote(Verdict.DROPPED, "dropped: runt");
  for (let i = 0; i < 6; i++) {
    const frame = new Frame();
    frame.push(Buffer.alloc(14, i), 0, 14);
    frame.id = i;
    recorder.frame(i % 2, Direction.OUT, i % 2, frame, i === 0 ? note : undefined);
  }
  await recorder.stop("test");
  return Uint8Array.from(output.files[0]!.bytes);
}

it("damaged streams are refused, or become whole files, in one piece and in several", async () => {
  const good = await stream();
  const change = fc.tuple(
    fc.nat(good.length - 1),
    fc.oneof(fc.constantFrom(0, 1, 4, 8, 128, 255), fc.nat(255)),
  );
  let refused = 0;
  let whole = 0;
  await holds(
    fc.asyncProperty(
      fc.array(change, { minLength: 1, maxLength: 4 }),
      fc.integer({ min: 1, max: good.length }),
      fc.constantFrom(0, 600),
      async (changes, step, rotateBytes) => {
        const bytes = good.slice();
        for (const [at, value] of changes) bytes[at] = value;
        const output = new MemoryOutput();
        const relay = new CaptureRelay(output, { rotateBytes });
        try {
          for (let at = 0; at < bytes.length; at += step) {
            await relay.feed(bytes.slice(at, at + step));
          }
          whole++;
        } catch (error) {
          expect(error).toBeInstanceOf(CaptureFormatError);
          refused++;
        }
        const { packets } = await relay.end("test");
        let read = 0;
        for (const file of output.files) {
          const reader = new PcapngReader();
          reader.feed(Uint8Array.from(file.bytes));
          while (reader.next() !== undefined) read++;
          expect(reader.pending).toBe(0);
        }
        expect(read).toBe(packets);
      },
    ),
    { numRuns: cases(5000) },
  );
  expect(Math.min(refused, whole)).toBeGreaterThan(50);
});
