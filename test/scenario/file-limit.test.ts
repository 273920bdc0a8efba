/** A device with a low limit of open files, when none is left. (fault-K10) */
import { execFileSync } from "node:child_process";
import { connect, type Socket } from "node:net";
import { afterAll, beforeAll, expect, it } from "vitest";
import { type Child, eventually, NODE, run, start } from "../support/process.ts";
import { RawFrontend } from "../support/raw-frontend.ts";

const FILES = 64;

let device: Child;
let port: number;

beforeAll(async () => {
  // Node raises the soft limit to the hard one, so both are lowered.
  const limited = `ulimit -n ${FILES}; exec "$@"`;
  const command = [NODE, "dist/cli/ringwire.js", "device", "--listen", "127.0.0.1:0", "--json"];
  device = start(["sh", "-c", limited, "sh", ...command]);
  ({ port } = await device.waitForJson<{ port: number }>((v) => v["event"] === "listening"));
});

afterAll(async () => {
  await device.stop();
});

const cpuTicks = (): number => {
  const stat = execFileSync("cat", [`/proc/${device.pid}/stat`], { encoding: "utf8" });
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return Number(fields[11]) + Number(fields[12]);
};

it("fault-K10: without a free file no filter can be compiled, and whoever asks is told to try again", async () => {
  const program = `
    import { openSync } from "node:fs";
    import { compileFilter } from "./dist/shared/capture/filter.js";
    try {
      for (;;) openSync("/dev/null");
    } catch {}
    const { code, message } = await compileFilter("ip").catch((error) => error);
    console.log(code, message);
  `;
  const command = [NODE, "--input-type=module", "--eval", program];
  const { stdout } = await run(["sh", "-c", `ulimit -n ${FILES}; exec "$@"`, "sh", ...command]);
  expect(stdout).toMatch(/^BUSY filters can't be compiled now: .*EMFILE/);
});

it("fault-K10: without a free file it neither ends nor spins; NICs work on, and newcomers come in", async () => {
  const nic = await RawFrontend.join(port, "before");
  const sockets: Socket[] = [];
  try {
    for (let i = 0; i < 4 * FILES; i++) {
      const socket = connect({ host: "127.0.0.1", port });
      socket.on("error", () => {
        // The device closed this connection to make room for another.
      });
      sockets.push(socket);
    }
    await device.waitFor(/has no place for another connection/);
    // NICs stay: the existing one works, and a new one can join.
    expect(await nic.survived()).toBe(true);
    const late = await RawFrontend.join(port, "late");
    expect(await late.survived()).toBe(true);
    expect((await fetch(`http://127.0.0.1:${port}/livez`)).ok).toBe(true);
    const before = cpuTicks();
    await new Promise((resolve) => setTimeout(resolve, 2000));
    expect(cpuTicks() - before, "CPU of 2 s, in 10 ms").toBeLessThan(120);
    await late.end();
  } finally {
    for (const socket of sockets) socket.destroy();
  }
  expect(device.exit).toBeUndefined();
  expect(await nic.survived()).toBe(true);
  await eventually("the strangers to be gone", async () => {
    const status = (await (await fetch(`http://127.0.0.1:${port}/status`)).json()) as {
      http: { requests: number; refused: Record<string, number> };
    };
    expect(status.http.refused["evicted"]).toBeGreaterThan(0);
    return status.http.requests === 0 || undefined;
  });
  await nic.end();
  // Sockets of NICs that left are not counted any more.
  for (let i = 0; i < FILES; i++) await (await RawFrontend.join(port, `guest${i}`)).end();
  const lines = device.stderr.split("\n").filter((line) => line.includes("no place"));
  expect(lines.length).toBeLessThan(30);
});
