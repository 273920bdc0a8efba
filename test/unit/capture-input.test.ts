/** Capture files from pipes: the writer comes late, pauses, never comes, or leaves. */
import { closeSync, constants, mkdtempSync, openSync, rmSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, it } from "vitest";
import { FileInput } from "../../shared/capture/file-input.ts";
import { run, sleep } from "../support/process.ts";

const folder = mkdtempSync(join(tmpdir(), "ringwire-input-"));
afterAll(() => rmSync(folder, { recursive: true }));

let pipes = 0;
async function makeFifo(): Promise<string> {
  const path = join(folder, `fifo${pipes++}`);
  const made = await run(["mkfifo", path]);
  expect(made.exit?.code, made.said()).toBe(0);
  return path;
}
const waits = async (reading: Promise<unknown>): Promise<unknown> =>
  await Promise.race([reading, sleep(100).then(() => "waits")]);

it("a named pipe is waited for, read as it is written, and ends with its writer", async () => {
  const path = await makeFifo();
  const input = await FileInput.open(path);
  const into = new Uint8Array(10);
  const first = input.read(into, 2);
  expect(await waits(first)).toBe("waits");
  const fd = openSync(path, constants.O_WRONLY);
  expect(await waits(first)).toBe("waits");
  writeSync(fd, "abc");
  expect(await first).toBe(3);
  expect(Buffer.from(into).toString("latin1", 2, 5)).toBe("abc");
  const second = input.read(into, 0);
  expect(await waits(second)).toBe("waits");
  closeSync(fd);
  expect(await second).toBe(0);
  await input.close();
});

it("who is told not to wait any longer does not, with a writer and without", async () => {
  for (const written of [false, true]) {
    const path = await makeFifo();
    const input = await FileInput.open(path);
    const fd = written ? openSync(path, constants.O_WRONLY) : undefined;
    const reading = input.read(new Uint8Array(10), 0);
    expect(await waits(reading)).toBe("waits");
    input.abandon();
    expect(await reading).toBe(0);
    await input.close();
    if (fd !== undefined) closeSync(fd);
  }
});

it("a pipe that is open already has ended when its writer has gone without a word", async () => {
  const path = await makeFifo();
  const fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  const input = await FileInput.open(`/proc/self/fd/${fd}`);
  expect(await input.read(new Uint8Array(10), 0)).toBe(0);
  await input.close();
  closeSync(fd);
});
