/** SIGTERM ends a device and a frontend within 5 s, whatever others hold open. */
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { connect as connectTls } from "node:tls";
import { afterAll, beforeAll, expect, it } from "vitest";
import { DeviceProcess } from "../support/device-process.ts";
import { LabFiles } from "../support/lab-files.ts";
import { type Child, startRingwire } from "../support/process.ts";
import { slow } from "../support/slowness.ts";

const STOP_MS = 5000;
const DONE = { code: 0, signal: null };
const files = new LabFiles();
let sockets: Socket[] = [];

beforeAll(async () => {
  await files.deviceCertificates();
});

afterAll(() => {
  for (const socket of sockets) socket.destroy();
  files[Symbol.dispose]();
});

/** A connection that has sent `text` and reads nothing from then on. */
async function deaf(port: number, text: string, isTls: boolean): Promise<void> {
  const socket = isTls
    ? connectTls({ port, host: "127.0.0.1", ca: files.text("ca.pem") })
    : connect({ port, host: "127.0.0.1", allowHalfOpen: true });
  sockets.push(socket);
  socket.on("error", () => {});
  await once(socket, isTls ? "secureConnect" : "connect");
  if (text === "") return;
  socket.write(text);
  if (text.endsWith("\r\n\r\n")) await once(socket, "readable");
}

const get = (path: string): string => `GET ${path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n`;

/** Sends SIGTERM and returns the time (ms) until the end. The promise is a time, so a clock counts. */
async function stopMs(child: Child): Promise<number> {
  const begun = performance.now();
  child.signal("SIGTERM");
  expect(await child.ended()).toEqual(DONE);
  return performance.now() - begun;
}

it.each([false, true])("a device, TLS %s, with readers, half requests and NICs", async (isTls) => {
  sockets = [];
  const file = files.path(`stop-${isTls}.pcapng`);
  const tls = isTls ? files.deviceTls : [];
  await using device = await DeviceProcess.start(...tls, "--capture", file);
  const { port } = device;
  const url = `${isTls ? "wss" : "ws"}://localhost:${port}`;
  await using nic = startRingwire(["frontend", "--connect", url, ...files.ca, "--json"]);
  await nic.waitForJson((line) => line["event"] === "ready");
  for (let i = 0; i < 5; i++) {
    await deaf(port, get("/events"), isTls);
    await deaf(port, get("/capture?ring=1"), isTls);
    await deaf(port, get("/status"), isTls);
    await deaf(port, "GET /status HT", isTls);
    // A handshake of TLS that does not go on, or nothing.
    await deaf(port, "", false);
    await deaf(port, "\x16\x03\x01\x02\x00\x01\x00", false);
  }
  expect(await stopMs(device.child)).toBeLessThan(slow(STOP_MS));
  expect(device.child.stdout).toContain('"event":"stopped"');
});

it("a frontend with pages whose device stands still", async () => {
  sockets = [];
  const device = await DeviceProcess.start();
  const args = ["frontend", "--connect", device.url, "--listen", "127.0.0.1:0", "--json"];
  await using nic = startRingwire(args);
  const { port } = await nic.waitForJson<{ port: number }>((line) => line["event"] === "listening");
  await nic.waitForJson((line) => line["event"] === "ready");
  for (const text of ["", "GET /status HT", get("/metrics")]) await deaf(port, text, false);
  device.child.signal("SIGSTOP");
  try {
    expect(await stopMs(nic)).toBeLessThan(slow(STOP_MS));
  } finally {
    device.child.signal("SIGCONT");
    await device.stop();
  }
});
