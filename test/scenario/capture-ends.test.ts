/** Ends of captures in difficult cases: pipes that nobody reads, output that accepts no more. */
import {
  closeSync,
  constants,
  mkdtempSync,
  openSync,
  readFileSync,
  readSync,
  rmSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { readCapture } from "../../shared/capture/read.ts";
import { runInside } from "../support/inside.ts";
import { type Child, eventually, NODE, run, start, startRingwire } from "../support/process.ts";

const folder = mkdtempSync(join(tmpdir(), "ringwire-capture-ends-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

let pipes = 0;
async function makeFifo(): Promise<string> {
  const path = join(folder, `fifo${pipes++}`);
  const made = await run(["mkfifo", path]);
  expect(made.exit?.code, made.said()).toBe(0);
  return path;
}

/** Number of bytes that a pipe gives now. */
function bytesIn(fd: number): number {
  try {
    return readSync(fd, Buffer.alloc(4096));
  } catch {
    // EAGAIN: the writer exists, and has written nothing yet.
    return 0;
  }
}

async function startDevice(args: readonly string[] = []) {
  const child = startRingwire(["device", "--listen", "127.0.0.1:0", "--json", ...args]);
  const { port } = await child.waitForJson<{ port: number }>((line) => line.event === "listening");
  return { child, at: `127.0.0.1:${port}` };
}

const DONE = { code: 0, signal: null };

describe("ringwire capture", () => {
  let device: Child;
  let at: string;
  beforeAll(async () => {
    ({ child: device, at } = await startDevice());
  });
  afterAll(async () => {
    await device.stop();
  });

  const send = async (frames: number): Promise<void> => {
    const port = ["-i", "netmap:ena9", "-f", "tx", "-n", String(frames), "-l", "60", "-w", "0"];
    const child = await runInside(["pkt-gen", ...port, "--connect", at]);
    expect(child.exit?.code, child.said()).toBe(0);
  };
  const argv = (args: readonly string[]) => [
    ...[NODE, "dist/cli/ringwire.js", "capture", "--connect", at],
    ...args,
  ];

  it("-w PIPE that nobody reads: a signal ends it", async () => {
    await using capture = start(argv(["-w", await makeFifo()]));
    await capture.waitFor(/has begun/);
    capture.signal("SIGINT");
    expect(await capture.ended()).toEqual(DONE);
  });

  it("-w PIPE whose reader leaves: it ends, though there is no traffic", async () => {
    const path = await makeFifo();
    const fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
    await using capture = start(argv(["-w", path]));
    await eventually("the first block", () => bytesIn(fd) || undefined);
    closeSync(fd);
    expect(await capture.ended()).toEqual(DONE);
    expect(capture.stderr).toMatch(/ended: reader gone/);
  });

  it("fault-K8: --json -w FILE to a reader that has left is no failure, --print to a full disk is one", async () => {
    const path = join(folder, "result.pcapng");
    const script = `set -o pipefail; exec 3>&2; "$@" 2>&3 | exec 0<&-`;
    const left = argv(["--json", "-c", "4", "-w", path]);
    await using one = start(["bash", "-c", script, "bash", ...left]);
    await using two = start(["bash", "-c", `"$@" > /dev/full`, "bash", ...argv(["--print"])]);
    await Promise.all([one.waitFor(/has begun/), two.waitFor(/has begun/)]);
    await send(10);
    expect((await one.ended()).code, one.said()).toBe(0);
    expect(one.stderr).not.toMatch(/EPIPE|Error/);
    expect([...readCapture(readFileSync(path))]).toHaveLength(4);
    expect((await two.ended()).code, two.said()).toBe(1);
    expect(two.stderr).toMatch(/ringwire: standard output: .*no space left/);
    expect(two.stderr).not.toMatch(/ {4}at /);
  });
});

describe("--capture", () => {
  it("PIPE that nobody reads: the device ends when it is told to", async () => {
    const { child } = await startDevice(["--capture", await makeFifo()]);
    await using device = child;
    device.signal("SIGTERM");
    expect(await device.ended()).toEqual(DONE);
  });

  it("PIPE whose reader does not read: the device ends all the same", async () => {
    const path = await makeFifo();
    const fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
    const { child, at } = await startDevice(["--capture", path]);
    await using device = child;
    const port = ["-i", "netmap:ena9", "-f", "tx", "-n", "3000", "-l", "500", "-w", "0"];
    await runInside(["pkt-gen", ...port, "--connect", at]);
    device.signal("SIGTERM");
    expect(await device.ended()).toEqual(DONE);
    closeSync(fd);
  });
});
