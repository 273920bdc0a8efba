/** `ringwire frontend --listen`: pages of a real process. */
import { afterAll, beforeAll, expect, it } from "vitest";
import { readFrontend } from "../../shared/status/read.ts";
import { DeviceProcess } from "../support/device-process.ts";
import { Namespace, whyNoNamespaces } from "../support/netns.ts";
import { eventually, NODE, run, runRingwire, startRingwire } from "../support/process.ts";

let device: DeviceProcess;

beforeAll(async () => {
  device = await DeviceProcess.start();
});

afterAll(async () => {
  await device.stop();
});

const args = (...more: string[]): string[] => ["frontend", "--connect", device.url, ...more];

it("ux-P5 the driver's counters can be read while it runs", async () => {
  await using nic = startRingwire(args("--listen", "127.0.0.1:0", "--json", "--name", "p5"));
  const { url } = await nic.waitForJson<{ url: string }>((line) => line["event"] === "listening");
  await nic.waitForJson((line) => line["event"] === "ready");
  const page = async () => readFrontend(await (await fetch(`${url}/status`)).json());
  const { nic: status, pid } = await page();
  expect(pid).toBe(nic.pid);
  expect(status).toMatchObject({ name: "p5", state: "attached" });
  expect((await fetch(`${url}/readyz`)).status).toBe(200);
  nic.signal("SIGTERM");
  expect(await nic.ended()).toEqual({ code: 0, signal: null });
});

const why = whyNoNamespaces();

it.skipIf(why !== undefined)("a TAP is a part of both pages", async () => {
  await using ends = new AsyncDisposableStack();
  const namespace = new Namespace("pages");
  ends.defer(() => namespace.destroy());
  namespace.ip("link", "set", "lo", "up");
  const there = ends.use(await DeviceProcess.startWith({ namespace }));
  const tap = ["--connect", there.url, "--tap", "rw0", "--listen", "127.0.0.1:0", "--json"];
  const nic = ends.use(startRingwire(["frontend", ...tap], { namespace }));
  const { url } = await nic.waitForJson<{ url: string }>((line) => line["event"] === "listening");
  await nic.waitForJson((line) => line["event"] === "ready");
  const page = async (path: string) => {
    const ask = `fetch("${url}${path}").then(async (a) => process.stdout.write(await a.text()))`;
    return (await run([NODE, "-e", ask], { namespace })).stdout;
  };
  const { nic: status } = readFrontend(JSON.parse(await page("/status")));
  expect(status?.counters.tap).toMatchObject({ txErrors: {}, host: expect.any(Object) });
  expect(await page("/metrics")).toMatch(
    /^ringwire_frontend_tap_frames_total\{direction="in"\} \d/m,
  );
});

it("the pages answer while the frontend waits for its device", async () => {
  const waits = ["frontend", "--connect", "127.0.0.1:9", "--wait", "--listen", "127.0.0.1:0"];
  await using nic = startRingwire([...waits, "--json"]);
  const { url } = await nic.waitForJson<{ url: string }>((line) => line["event"] === "listening");
  await nic.waitFor(/trying again/);
  expect(await (await fetch(`${url}/readyz`)).json()).toEqual({
    ok: false,
    reasons: ["not_connected"],
  });
  nic.signal("SIGTERM");
  expect(await nic.ended()).toEqual({ code: 0, signal: null });
});

it.each([
  [
    ["--listen", "0.0.0.0:0"],
    /0\.0\.0\.0:0 can be reached from other hosts, and everybody may read/,
  ],
  [["--listen", "127.0.0.1"], /--listen takes HOST:PORT: the port is missing/],
])("%s is wrong usage", async (more, says) => {
  const child = await runRingwire(args(...more));
  expect(child.exit?.code).toBe(2);
  expect(child.stderr).toMatch(says);
});

it("a port in use is said before the device has the NIC", async () => {
  const { port } = device;
  const child = await runRingwire(
    args("--listen", `127.0.0.1:${port}`, "--name", "never", "--json"),
  );
  expect(child.exit?.code).toBe(1);
  expect(child.stderr).toMatch(/is in use, perhaps by another process/);
  const { left, nics } = await device.status();
  expect([...left.nics, ...nics].map(({ name }) => name)).not.toContain("never");
});

it("--insecure lets others read, and says so", async () => {
  await using nic = startRingwire(args("--listen", "0.0.0.0:0", "--insecure", "--json"));
  await nic.waitFor(/--insecure: whoever reaches this port can read the counters/);
  const { url } = await nic.waitForJson<{ url: string }>((line) => line["event"] === "listening");
  await eventually("the page", async () => (await fetch(`${url}/livez`)).ok || undefined);
});
