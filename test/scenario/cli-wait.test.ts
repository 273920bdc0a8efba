/**
 * Commands that start before their device: they wait with --wait, and fail with a message without.
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { type AddressInfo, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { pcapFile } from "../support/capture-files.ts";
import { runRingwire, startRingwire } from "../support/process.ts";

const folder = mkdtempSync(join(tmpdir(), "ringwire-wait-"));
const pcap = join(folder, "one.pcap");

beforeAll(() => {
  writeFileSync(pcap, pcapFile([{ bytes: Buffer.alloc(60, 0xff) }]));
});
afterAll(() => {
  rmSync(folder, { recursive: true });
});

/** A port where no process listens, until a test does. */
async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

const COMMANDS = [
  "frontend",
  "pkt-gen -i netmap:ena0 -f tx -n 1",
  "bridge -L -i netmap:ena0",
  "lb -i netmap:ena0",
  `replay ${pcap}`,
  "status",
  "status --watch",
  "capture -w /dev/null",
];

describe("ux-S5 a device that is not there yet", () => {
  it.each(COMMANDS)("is waited for by %s", async (command) => {
    const words = command.split(" ");
    const place = `127.0.0.1:${await freePort()}`;
    const json = words[0] === "capture" ? [] : ["--json"];
    await using child = startRingwire([...words, "--connect", place, "--wait", ...json]);
    await child.waitFor(/warn .*nothing listens at .*again/);
    await using device = startRingwire(["device", "--listen", place, "--json"]);
    await device.waitForJson((line) => line["event"] === "listening");
    if (words[0] === "capture") await child.waitFor(/has begun/);
    else if (words[0] === "status") await child.waitFor(/"segments"/);
    else await child.waitForJson((line) => line["event"] === "ready");
    // The reason was logged once, however often it occurred.
    expect(child.stderr.match(/nothing listens/g)).toHaveLength(1);
  });

  it.each(COMMANDS)("is waited for until a signal by %s", async (command) => {
    const words = command.split(" ");
    const place = `127.0.0.1:${await freePort()}`;
    await using child = startRingwire([...words, "--connect", place, "--wait"]);
    await child.waitFor(/nothing listens/);
    child.signal("SIGTERM");
    expect(await child.ended()).toEqual({ code: 0, signal: null });
  });

  it.each(COMMANDS)("without --wait ends %s", async (command) => {
    const words = command.split(" ");
    const child = await runRingwire([...words, "--connect", `127.0.0.1:${await freePort()}`]);
    expect(child.exit).toEqual({ code: 1, signal: null });
    expect(child.stderr).toMatch(/^ringwire: nothing listens at .*\n$/);
  });

  it.each(COMMANDS)("is nothing that a stranger's port can become: %s", async (command) => {
    const words = command.split(" ");
    const server = createServer((socket) => {
      socket.on("error", () => {});
      socket.end("220 mail.example ESMTP\r\n");
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const { port } = server.address() as AddressInfo;
    const child = await runRingwire([...words, "--connect", `127.0.0.1:${port}`, "--wait"]);
    server.close();
    expect(child.exit, child.said()).toEqual({ code: 1, signal: null });
  });
});
