/** The pages of a frontend: what they say, and what a stranger of the host can do to them. */
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { hostname } from "node:os";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { Device } from "../../device/index.ts";
import { Nic } from "../../frontend/nic.ts";
import { metricsText } from "../../frontend/pages/metrics.ts";
import { FrontendPages } from "../../frontend/pages/server.ts";
import { silentLogger } from "../../shared/log.ts";
import { readFrontend, StatusError } from "../../shared/status/read.ts";
import { testDevice } from "../support/device-server.ts";
import { eventually } from "../support/process.ts";

let device: Device;
let nic: Nic;
let pages: FrontendPages;
let port: number;
let sockets: Socket[];

beforeEach(() => {
  sockets = [];
});

afterEach(async () => {
  for (const socket of sockets) socket.destroy();
  await pages.close();
  await nic.close();
  await device.close();
});

async function start(driver: "ena" | "xen" = "ena", isOpen = true): Promise<void> {
  device = await testDevice();
  nic = new Nic({ connect: device.url, driver });
  const options = { host: "127.0.0.1", port: 0, agent: "ringwire/1.2.3", log: silentLogger };
  pages = new FrontendPages({ ...options, nic });
  port = await pages.listen();
  if (isOpen) await nic.open();
}

/** A connection that has sent `text`. */
async function raw(
  text: string,
): Promise<{ socket: Socket; said: () => string; ended: () => boolean }> {
  const socket = connect(port, "127.0.0.1");
  sockets.push(socket);
  let said = "";
  let ended = false;
  socket.on("error", () => {});
  socket.on("data", (bytes) => {
    said += bytes.toString("latin1");
  });
  socket.on("close", () => {
    ended = true;
  });
  await once(socket, "connect");
  socket.write(text);
  return { socket, said: () => said, ended: () => ended };
}

const get = (
  path: string,
  lines: readonly string[] = ["Host: 127.0.0.1"],
  method = "GET",
): string => [`${method} ${path} HTTP/1.1`, ...lines, "", ""].join("\r\n");

async function answerTo(request: string): Promise<{ status: number; body: string }> {
  const { said, ended } = await raw(request);
  await eventually(
    () => `the end of ${said()}`,
    () => ended() || undefined,
  );
  const [, status] = /^HTTP\/1\.1 (\d{3}) /.exec(said()) ?? [];
  return { status: Number(status), body: said().split("\r\n\r\n")[1] ?? "" };
}

const page = async (path: string) => await answerTo(get(path));

describe.each(["ena", "xen"] as const)("the pages of a NIC of %s", (driver) => {
  it("/status has the counters of the driver, in the form of the schema", async () => {
    await start(driver);
    const { status, body } = await page("/status");
    expect(status).toBe(200);
    const value = readFrontend(JSON.parse(body));
    expect(value).toMatchObject({
      agent: "ringwire/1.2.3",
      pid: process.pid,
      nic: { driver, state: "attached", link: "up", counters: { driver: expect.any(Object) } },
    });
    expect(value.nic).toEqual({ ...nic.status(), counters: expect.any(Object) });
    expect(Object.keys(value.nic!.counters.driver)).toContain("queue0");
  });

  it("/metrics has the form of Prometheus, and every number of the driver", async () => {
    await start(driver);
    const { status, body } = await page("/metrics");
    expect(status).toBe(200);
    const lines = body.split("\n").filter((line) => line.startsWith("ringwire_"));
    for (const line of lines) {
      expect(line).toMatch(/^ringwire_[a-z_]+(?:\{(?:[a-z]+="[^"\n]*",?)+\})? -?\d+(?:\.\d+)?$/);
    }
    expect(lines).toContain("ringwire_frontend_up 1");
    expect(lines).toContain("ringwire_frontend_link_up 1");
    expect(lines).toContain('ringwire_frontend_frames_total{direction="out"} 0');
    expect(lines).toContain(
      `ringwire_build_info{version="1.2.3",wire="1",node="${process.version}"} 1`,
    );
    const count = lines.filter((line) => line.startsWith("ringwire_frontend_driver{")).length;
    expect(count).toBeGreaterThan(20);
    const types = body.split("\n").filter((line) => line.startsWith("# TYPE"));
    expect(new Set(types).size).toBe(types.length);
  });
});

describe("/readyz", () => {
  const ready = async () => {
    const { status, body } = await page("/readyz");
    return { status, ...JSON.parse(body) };
  };

  it("says why the NIC does not work: before it is open, without its device, at the end", async () => {
    await start("ena", false);
    expect(await ready()).toEqual({ status: 503, ok: false, reasons: ["not_connected"] });
    expect(readFrontend(JSON.parse((await page("/status")).body)).nic).toBeUndefined();
    expect((await page("/metrics")).body).toContain("ringwire_frontend_up 0");
    expect(await page("/livez")).toEqual({ status: 200, body: '{"ok":true}\n' });
    await nic.open();
    expect(await ready()).toEqual({ status: 200, ok: true, reasons: [] });
    const gone = once(nic, "link-gone");
    await device.close();
    await gone;
    expect(await ready()).toEqual({ status: 503, ok: false, reasons: ["link_lost"] });
    pages.stopping();
    expect((await ready()).reasons).toEqual(["stopping", "link_lost"]);
  });

  it("says that the device reports no link", async () => {
    await start();
    const down = { isOpen: true, status: () => ({ ...nic.status(), link: "down" as const }) };
    const common = { host: "127.0.0.1", port: 0, agent: "test", log: silentLogger };
    const other = new FrontendPages({ ...common, nic: down });
    expect(other.unready()).toEqual(["link_down"]);
    const { text } = await metricsText(other.status());
    expect(text.split("\n")).toEqual(
      expect.arrayContaining(["ringwire_frontend_up 1", "ringwire_frontend_link_up 0"]),
    );
  });
});

describe("refusals", () => {
  it.each<[string, string, number]>([
    ["another page", get("/nope"), 404],
    ["a name of Object", get("/constructor"), 404],
    ["POST", get("/status", ["Host: localhost", "Content-Length: 0"], "POST"), 405],
    ["no host", get("/status", []), 400],
    ["two hosts", get("/status", ["Host: a", "Host: b"]), 400],
    ["another host (DNS rebinding)", get("/status", ["Host: evil.example"]), 421],
    ["another origin", get("/status", ["Host: localhost", "Origin: http://evil.example"]), 403],
    ["a foreign fetch", get("/status", ["Host: localhost", "Sec-Fetch-Site: cross-site"]), 403],
    ["a bad path", get("/%zz"), 400],
    ["no HTTP", "\x16\x03\x01\r\n\r\n", 400],
    ["a long head", get("/status", ["Host: localhost", `X: ${"x".repeat(20_000)}`]), 400],
  ])("%s", async (_what, request, status) => {
    await start("ena", false);
    expect((await answerTo(request)).status).toBe(status);
    expect((await page("/livez")).status).toBe(200);
  });

  it("the machine's own name is none", async () => {
    await start("ena", false);
    expect((await answerTo(get("/livez", [`Host: ${hostname()}:1`]))).status).toBe(200);
  });
});

describe("a stranger of the host", () => {
  it("that opens many connections and sends nothing keeps nobody out", async () => {
    await start("ena", false);
    const silent = [];
    for (let i = 0; i < 200; i++) silent.push(await raw(""));
    expect((await page("/livez")).status).toBe(200);
    const { http } = readFrontend(JSON.parse((await page("/status")).body));
    expect(http.connections).toBeLessThanOrEqual(64);
    expect(http.refused["evicted"]).toBeGreaterThan(130);
  });

  it("gets one answer to many requests of one connection", async () => {
    await start("ena", false);
    const { said, ended } = await raw(get("/livez").repeat(1000));
    await eventually("the end", () => ended() || undefined);
    expect(said().split("HTTP/1.1 200").length - 1).toBeLessThanOrEqual(1);
  });

  it("does not hold up the end of the frontend", async () => {
    await start("ena", false);
    const { socket } = await raw("GET /status HTTP/1.1\r\n");
    const closed = once(socket, "close");
    await pages.close();
    await closed;
  });
});

it.each<[string, unknown, string]>([
  ["no object", [], "the page: expected object, received array"],
  ["another state", { nic: { state: "flying" } }, "agent"],
])("a page that is %s is refused", (_what, value, says) => {
  expect(() => readFrontend(value)).toThrow(StatusError);
  expect(() => readFrontend(value)).toThrow(says);
  // The hooks close what a test has started.
  return start("ena", false);
});
