/**
 * Signals: the first one, or a closed terminal, asks for an orderly end; a second one ends at once.
 */
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { pcapFile } from "../support/capture-files.ts";
import { fileSoFar, framesSoFar } from "../support/capture-reading.ts";
import { DeviceProcess } from "../support/device-process.ts";
import {
  eventually,
  NODE,
  ROOT,
  runRingwire,
  sleep,
  start,
  startRingwire,
} from "../support/process.ts";

const DONE = { code: 0, signal: null };
const PROGRAM = join(ROOT, "dist/cli/ringwire.js");
const folder = mkdtempSync(join(tmpdir(), "ringwire-signals-"));
const pcap = join(folder, "one.pcap");
let device: DeviceProcess;

beforeAll(async () => {
  device = await DeviceProcess.start();
  writeFileSync(pcap, pcapFile([{ bytes: Buffer.alloc(60, 0xff) }]));
});

afterAll(async () => {
  await device.stop();
  rmSync(folder, { recursive: true });
});

const connected = (...args: string[]): string[] => [...args, "--connect", device.url];

describe("ux-P6 SIGHUP ends in good order", () => {
  it("device: goodbye to its frontends, and the last counters", async () => {
    await using other = await DeviceProcess.start();
    await using nic = startRingwire(["frontend", "--connect", other.url, "--json"]);
    await nic.waitForJson((line) => line["event"] === "ready");
    other.child.signal("SIGHUP");
    expect(await other.child.ended()).toEqual(DONE);
    expect(other.child.stdout).toContain('"event":"stopped"');
    const lost = await nic.waitForJson<{ reason: string }>((line) => line["event"] === "link-lost");
    expect(lost.reason).toMatch(/the device stops/);
  });

  it("frontend: goodbye to its device, its last counters, a whole capture", async () => {
    const file = join(folder, "nic.pcapng");
    const args = connected("frontend", "--name", "hup", "--json", "--capture", file);
    await using nic = startRingwire(args);
    await nic.waitForJson((line) => line["event"] === "ready");
    nic.signal("SIGHUP");
    expect(await nic.ended()).toEqual(DONE);
    expect(nic.stdout).toContain('"event":"stopped"');
    const left = await device.child.waitForJson<{ reason: string }>(
      (line) => line["event"] === "left" && line["name"] === "hup",
    );
    expect(left.reason).toMatch(/the frontend stops/);
    expect(fileSoFar(file).reader.statistics).not.toHaveLength(0);
  });

  it("capture: with its statistics", async () => {
    const file = join(folder, "capture.pcapng");
    await using capture = startRingwire(connected("capture", "-w", file));
    await capture.waitFor(/has begun/);
    await runRingwire(connected("pkt-gen", "-i", "netmap:ena4", "-f", "tx", "-n", "1"));
    await eventually("a frame", () => framesSoFar(file)[0]);
    capture.signal("SIGHUP");
    expect(await capture.ended()).toEqual(DONE);
    expect(capture.stderr).toMatch(/ended: SIGHUP/);
    expect(fileSoFar(file).reader.statistics).not.toHaveLength(0);
  });

  it.each([
    ["pkt-gen", "-i", "netmap:ena1", "-f", "rx"],
    ["bridge", "-L", "-i", "netmap:ena2"],
    ["lb", "-i", "netmap:ena3"],
    ["replay", pcap, "--loop", "0", "-R", "5"],
  ])("%s: with its result", async (...args) => {
    await using app = startRingwire(connected(...args, "--json"));
    await app.waitForJson((line) => line["event"] === "ready");
    app.signal("SIGHUP");
    expect(await app.ended()).toEqual(DONE);
    expect(app.stdout).toContain('"event":"result"');
  });

  it("status --watch", async () => {
    await using status = startRingwire(connected("status", "--watch"));
    await status.waitFor(/segment/);
    status.signal("SIGHUP");
    expect(await status.ended()).toEqual(DONE);
  });
});

describe("the demo", () => {
  it.each(["SIGHUP", "SIGINT"] as const)(
    "ux-S17 stopped by %s leaves no process and no empty folder",
    async (signal) => {
      const temporary = join(folder, signal);
      mkdirSync(temporary);
      await using demo = startRingwire(["demo", "--seconds", "600"], {
        env: { TMPDIR: temporary },
      });
      const [, pid = ""] = await demo.waitFor(/device +process (\d+)/);
      demo.signal(signal);
      expect(await demo.ended()).toEqual({ code: 1, signal: null });
      expect(demo.stderr).toMatch(new RegExp(`stopped by ${signal} before the end`));
      expect(readdirSync(temporary)).toEqual([]);
      expect(existsSync(`/proc/${pid}`)).toBe(false);
    },
  );
});

const noTerminal = existsSync("/usr/bin/script") ? undefined : "needs the command script";

describe.skipIf(noTerminal !== undefined)(
  `a terminal${noTerminal ? `, ${noTerminal}` : ""}`,
  () => {
    it("ux-P6 that goes away ends a device in good order", async () => {
      const file = join(folder, "terminal.pcapng");
      const command = `${NODE} ${PROGRAM} device --listen 127.0.0.1:0 --json --capture ${file}`;
      await using terminal = start(["script", "-qec", command, "/dev/null"]);
      const line = await terminal.waitFor(/\{"event":"listening".*"port":(\d+),"pid":(\d+)\}/);
      const [, port, pid] = line;
      await using nic = startRingwire(["frontend", "--connect", `127.0.0.1:${port}`, "--json"]);
      await nic.waitForJson((l) => l["event"] === "ready");
      // Like a closed window: the kernel notifies the process, and no output can be written any
      // more.
      terminal.signal("SIGKILL");
      const lost = await nic.waitForJson<{ reason: string }>((l) => l["event"] === "link-lost");
      expect(lost.reason).toMatch(/the device stops/);
      await eventually("its end", () => (existsSync(`/proc/${pid}`) ? undefined : true));
      expect(fileSoFar(file).reader.statistics).not.toHaveLength(0);
    });
  },
);

describe("a second signal", () => {
  /** A frontend whose device does not answer, so that its orderly end takes seconds. */
  async function slowToEnd(program: readonly string[] = [NODE]) {
    const mute = await DeviceProcess.start();
    const args = ["frontend", "--connect", mute.url, "--json"];
    const nic = start([...program, PROGRAM, ...args]);
    const { pid } = await nic.waitForJson<{ pid: number }>((line) => line["event"] === "ready");
    mute.child.signal("SIGSTOP");
    return {
      nic,
      pid,
      async [Symbol.asyncDispose]() {
        mute.child.signal("SIGCONT");
        await nic.stop();
        await mute.stop();
      },
    };
  }

  it("ux-S7 of the same kind at once is the same wish: GNU timeout", async () => {
    await using slow = await slowToEnd(["timeout", "-s", "INT", "600", NODE]);
    // timeout sends every signal to its child, and to the child's group.
    slow.nic.signal("SIGINT");
    await slow.nic.waitForJson((line) => line["event"] === "stopped");
    await eventually("its end", () => (existsSync(`/proc/${slow.pid}`) ? undefined : true));
    expect(slow.nic.stderr).not.toMatch(/second signal/);
  });

  it.each([
    ["SIGTERM", "SIGTERM"],
    ["SIGINT", "SIGINT"],
    ["SIGINT", "SIGTERM"],
    ["SIGHUP", "SIGTERM"],
  ] as const)("fault-K12 %s, and later %s: at once", async (first, second) => {
    await using slow = await slowToEnd();
    slow.nic.signal(first);
    await slow.nic.waitForJson((line) => line["event"] === "stopped");
    // Waits longer than the time in which signals of one kind count as one; the orderly end takes 4
    // s.
    if (first === second) await sleep(300);
    slow.nic.signal(second);
    expect(await slow.nic.ended()).toEqual({ code: 1, signal: null });
    expect(slow.nic.stderr).toMatch(/stopped at once by a second signal/);
  });

  it("fault-K12 SIGHUP is never the second: terminals send several", async () => {
    await using slow = await slowToEnd();
    slow.nic.signal("SIGTERM");
    await slow.nic.waitForJson((line) => line["event"] === "stopped");
    slow.nic.signal("SIGHUP");
    await sleep(300);
    slow.nic.signal("SIGHUP");
    expect(await slow.nic.ended()).toEqual(DONE);
  });

  it("fault-K12 SIGTERM alone: in good order, though the device answers nothing", async () => {
    await using slow = await slowToEnd();
    slow.nic.signal("SIGTERM");
    expect(await slow.nic.ended()).toEqual(DONE);
  });
});
