/** The example of `ringwire/capture`: a frame is recorded in a file and read back. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { Direction, FileOutput, Recorder, readCaptureFile } from "../../shared/capture/index.ts";

test("a frame is recorded in a file and read back", async () => {
  const folder = await mkdtemp(join(tmpdir(), "ringwire-library-"));
  const path = join(folder, "trace.pcapng");
  const frame = new Uint8Array(60).fill(0x5a);

  const recorder = new Recorder(new FileOutput(path));
  const port = recorder.addInterface({ name: "vm1", layer: "frame" });
  recorder.span(port, Direction.OUT, 0, frame, 0, frame.length, 0);
  const summary = await recorder.stop("done");
  const lengths: number[] = [];
  for await (const packet of readCaptureFile(path)) lengths.push(packet.originalLength);

  await rm(folder, { recursive: true });
  expect(summary).toMatchObject({ reason: "done", packets: 1 });
  expect(lengths).toEqual([60]);
});
