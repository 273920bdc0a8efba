/** The package as a user gets it: packed, unpacked, and with the examples of README run on it. */
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Device, openDevice } from "../../device/index.ts";
import { missingProgram } from "../support/installed.ts";
import { NODE, ROOT, run, start } from "../support/process.ts";

const TOOLS = join(ROOT, "node_modules");
let folder: string;

interface Manifest {
  readonly exports: Readonly<Record<string, unknown>>;
}
const manifest = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8")) as Manifest;
const faces = Object.keys(manifest.exports)
  .filter((path) => !path.endsWith(".json"))
  .map((path) => path.replace(".", "ringwire"));

const there = (...argv: string[]) => ["env", `--chdir=${folder}`, ...argv];
const here = (...argv: string[]) => run(there(...argv));

async function install(): Promise<void> {
  folder = mkdtempSync(join(tmpdir(), "ringwire-library-"));
  const packed = await run(["npm", "pack", "--json", "--pack-destination", folder]);
  const [{ filename }] = JSON.parse(packed.stdout) as [{ filename: string }];
  mkdirSync(join(folder, "node_modules/ringwire"), { recursive: true });
  await here("tar", "-xzf", filename, "--strip-components=1", "-C", "node_modules/ringwire");
  // The package's dependencies, then the packages that its user has installed.
  symlinkSync(TOOLS, join(folder, "node_modules/ringwire/node_modules"));
  for (const tool of ["vitest", "@types", "undici-types"]) {
    symlinkSync(join(TOOLS, tool), join(folder, "node_modules", tool));
  }
  writeFileSync(join(folder, "package.json"), '{ "type": "module" }');
  const readme = readFileSync(join(folder, "node_modules/ringwire/README.md"), "utf8");
  for (const [, text, name] of readme.matchAll(/```ts\n(\/\/ example: (.*)\n[\s\S]*?)```/g)) {
    writeFileSync(join(folder, name!), text!);
  }
}

describe.skipIf(missingProgram("npm", "tar"))("the examples of README", () => {
  let device: Device;
  beforeAll(async () => {
    await install();
    device = await openDevice({ listen: { port: 0 } });
  });
  afterAll(async () => {
    await device.close();
    rmSync(folder, { recursive: true });
  });

  /** Runs an example, which has to end by itself. */
  async function example(name: string, ...args: string[]): Promise<string> {
    const child = await here(NODE, name, ...args);
    expect(child.exit?.code, child.said()).toBe(0);
    return child.stdout;
  }

  it("fit the types of the package, and use every face of it", async () => {
    const names = readdirSync(folder).filter((name) => name.endsWith(".ts"));
    const tsc = join(TOOLS, "typescript/bin/tsc");
    const flags = ["--noEmit", "--strict", "--module", "nodenext", "--types", "node"];
    const lib = ["--target", "es2024", "--lib", "es2024,esnext.disposable"];
    const checked = await here(NODE, tsc, ...flags, ...lib, "--skipLibCheck", ...names);
    expect(checked.stdout).toBe("");
    const all = names.map((name) => readFileSync(join(folder, name), "utf8")).join();
    expect(faces.filter((face) => !all.includes(`from "${face}"`))).toEqual([]);
  });

  it("frame.test.ts passes under vitest", async () => {
    const child = await here(NODE, join(TOOLS, "vitest/vitest.mjs"), "run");
    expect(child.exit?.code, child.said()).toBe(0);
    expect(child.stdout).toMatch(/1 passed/);
  });

  it("device.ts and echo.ts: who comes, what is echoed, and both end", async () => {
    const host = start(there(NODE, "device.ts", "0"));
    const [url] = await host.waitFor(/ws:\S+/);
    const echo = start(there(NODE, "echo.ts", url!, "1"));
    await host.waitFor(/echo joined/);
    const { openNic } = await import("../../frontend/index.ts");
    await using nic = await openNic({ connect: url!, driver: "xen" });
    const answers = nic[Symbol.asyncIterator]();
    const frame = new Uint8Array(60).fill(0xff, 0, 6);
    frame.set(nic.ifnet.mac, 6);
    // The first frames may arrive before the example has posted receive buffers, or asked for
    // frames.
    const sending = setInterval(() => nic.send(frame).catch(() => {}), 100);
    const { value } = await answers.next();
    clearInterval(sending);
    expect(value?.slice(0, 6)).toEqual(nic.ifnet.mac);
    expect((await echo.ended()).code, echo.said()).toBe(0);
    expect(echo.stdout).toMatch(/^received \d+\n$/);
    expect((await host.ended()).code, host.said()).toBe(0);
    expect(host.stdout).toContain("echo left: ");
  });

  it("netmap.ts", async () => {
    expect(await example("netmap.ts", device.url)).toMatch(/^\d+ slots are free\n$/);
  });

  it("wire.ts", async () => {
    expect(await example("wire.ts")).toBe(
      "4096 4096\ncreates coherent memory, zeroed on both sides\n",
    );
  });

  it("capture.ts", async () => {
    expect(await example("capture.ts", join(folder, "lan0.pcapng"))).toMatch(/^switch 60$/m);
  });

  it("no face starts anything before it is called", async () => {
    const imports = faces.map((face) => `await import(${JSON.stringify(face)});`).join("");
    const script = `${imports} process.on("beforeExit", () => console.log("nothing is left to do"));`;
    expect(await example("--input-type=module", "-e", script)).toBe("nothing is left to do\n");
  });
});

it("npm run docs finds every face, and every link in its texts", async () => {
  const child = await run([NODE, join(ROOT, "scripts/docs.mjs"), "--check"]);
  expect(child.exit?.code, child.said()).toBe(0);
});
