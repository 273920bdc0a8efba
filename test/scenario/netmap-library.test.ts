/**
 * The examples of the netmap README, as a stranger runs them: a file, and an installed `ringwire`.
 */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { DeviceProcess } from "../support/device-process.ts";
import { resultOf, startApp } from "../support/netmap-app.ts";
import { NODE, ROOT, run, start } from "../support/process.ts";

const README = join(ROOT, "frontend/netmap/README.md");
let device: DeviceProcess;
let folder: string;

beforeAll(async () => {
  device = await DeviceProcess.start();
  folder = mkdtempSync(join(tmpdir(), "ringwire-library-"));
  mkdirSync(join(folder, "node_modules"));
  symlinkSync(ROOT, join(folder, "node_modules/ringwire"));
});

afterAll(async () => {
  await device.child.stop();
  rmSync(folder, { recursive: true });
});

/** Writes the example with this name into a file of its own. */
function example(name: string): string {
  const blocks = readFileSync(README, "utf8").matchAll(/```js\n(\/\/ example: (.*)\n[\s\S]*?)```/g);
  const block = [...blocks].find(([, , title]) => title === name);
  if (block === undefined) throw new Error(`${README} has no example "${name}"`);
  const file = join(folder, `${name.replaceAll(" ", "-")}.mjs`);
  writeFileSync(file, block[1]!);
  return file;
}

describe("the examples of the README", () => {
  it("main thread: sends 500 frames and receives them", async () => {
    const child = await run([NODE, example("main thread"), device.url]);
    expect(child.exit?.code, child.said()).toBe(0);
    expect(child.stdout).toBe("received 500\n");
  });

  it("worker: blocks in a thread of its own until 500 frames are there", async () => {
    const child = start([NODE, example("worker"), device.url]);
    await child.waitFor(/listening/);
    await resultOf(await startApp("pkt-gen -i netmap:ena1 -f tx -n 500", device.url));
    const { code } = await child.ended();
    expect(code, child.said()).toBe(0);
    expect(child.stdout).toBe("listening\nreceived 500\n");
  });
});
