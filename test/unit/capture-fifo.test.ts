/** Captures into a named pipe: the wait for a reader, and the end when the reader has gone. */
import { closeSync, constants, mkdtempSync, openSync, readSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { FifoOutput } from "../../cli/capture/fifo-output.ts";
import type { SinkError } from "../../shared/capture/output.ts";
import { run, sleep } from "../support/process.ts";

const folder = mkdtempSync(join(tmpdir(), "ringwire-fifo-"));
afterAll(() => rmSync(folder, { recursive: true }));

let pipes = 0;
async function makeFifo(): Promise<string> {
  const path = join(folder, `fifo${pipes++}`);
  const made = await run(["mkfifo", path]);
  if (made.exit?.code !== 0) throw new Error(made.said());
  return path;
}
const openReader = (path: string): number =>
  openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);

function gone(): { said: Promise<SinkError>; onGone: (error: SinkError) => void } {
  const { promise, resolve } = Promise.withResolvers<SinkError>();
  return { said: promise, onGone: resolve };
}

describe("a capture into a named pipe", () => {
  it("waits for the reader, and writes", async () => {
    const path = await makeFifo();
    const output = new FifoOutput(path);
    const attached = output.attach();
    // No reader has opened the pipe, so the output waits.
    expect(await Promise.race([attached, sleep(60).then(() => "waits")])).toBe("waits");
    const fd = openReader(path);
    await attached;
    const sink = await output.open(1, 0, () => {});
    await sink.write(Buffer.from("packets"));
    const bytes = Buffer.alloc(20);
    expect(bytes.toString("latin1", 0, readSync(fd, bytes))).toBe("packets");
    await sink.close(7);
    // The end of the file: the watch has closed the pipe too.
    expect(readSync(fd, bytes)).toBe(0);
    closeSync(fd);
  });

  it("says that the reader went, though nothing is written", async () => {
    const path = await makeFifo();
    const fd = openReader(path);
    const output = new FifoOutput(path);
    await output.attach();
    const { said, onGone } = gone();
    await output.open(1, 0, onGone);
    closeSync(fd);
    expect((await said).code).toBe("EPIPE");
  });

  it("a pipe that has lost its name is written on", async () => {
    const path = await makeFifo();
    const fd = openReader(path);
    const output = new FifoOutput(path);
    await output.attach();
    rmSync(path);
    const { said, onGone } = gone();
    const sink = await output.open(1, 0, onGone);
    // The wait is longer than the watch's interval.
    expect(await Promise.race([said, sleep(1300).then(() => "open")])).toBe("open");
    await sink.write(Buffer.from("more"));
    expect(readSync(fd, Buffer.alloc(20))).toBe(4);
    await sink.close(4);
    closeSync(fd);
  });

  it("waits when it is opened, if nobody did before, until it is told not to", async () => {
    const path = await makeFifo();
    const output = new FifoOutput(path);
    const opened = output.open(1, 0, () => {});
    expect(await Promise.race([opened, sleep(60).then(() => "waits")])).toBe("waits");
    const fd = openReader(path);
    const sink = await opened;
    // An existing reader stays connected.
    output.waitNoLonger();
    await sink.write(Buffer.from("packets"));
    expect(readSync(fd, Buffer.alloc(20))).toBe(7);
    await sink.close(7);
    closeSync(fd);
    const alone = new FifoOutput(await makeFifo());
    const waiting = alone.open(1, 0, () => {});
    alone.waitNoLonger();
    await expect(waiting).rejects.toMatchObject({ code: "EPIPE" });
  });

  it("waits no longer when it is told so", async () => {
    const output = new FifoOutput(await makeFifo());
    const attached = output.attach();
    output.abort();
    await expect(attached).rejects.toMatchObject({ code: "EPIPE" });
    await expect(output.open(1, 0, () => {})).rejects.toMatchObject({ code: "EPIPE" });
  });

  it("ends a write that its reader does not take", async () => {
    const path = await makeFifo();
    const fd = openReader(path);
    const output = new FifoOutput(path);
    await output.attach();
    const sink = await output.open(1, 0, () => {});
    const write = sink.write(new Uint8Array(1 << 20));
    output.abort();
    await expect(write).rejects.toThrow();
    expect(output.aborted).toBe(true);
    closeSync(fd);
  });

  it("needs a pipe", async () => {
    const output = new FifoOutput(join(folder, "none"));
    await expect(output.attach()).rejects.toMatchObject({ code: "ENOENT" });
  });
});
