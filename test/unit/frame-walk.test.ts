/**
 * The path of a frame: TAP, driver, device, switch, device, driver, TAP. Each of the three
 * processes on the path parses the headers once. Here all are one process, so the parses add up.
 */
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { EnaDriver } from "../../frontend/ena/index.ts";
import { TapHost } from "../../frontend/host/tap-host.ts";
import { Session } from "../../frontend/session.ts";
import { XenDriver } from "../../frontend/xen/index.ts";
import { silentLogger } from "../../shared/log.ts";
import { Gso } from "../../shared/net/frame.ts";
import { Headers } from "../../shared/net/headers.ts";
import { testDevice } from "../support/device-server.ts";
import { type Facts, FakeTap } from "../support/fake-tap.ts";
import { buildPacket } from "../support/packets.ts";
import { eventually } from "../support/process.ts";

const FRAMES = 8;
const PROCESSES = 3;

interface Host extends AsyncDisposable {
  readonly tap: FakeTap;
  readonly mac: Uint8Array;
}

let stack: AsyncDisposableStack;
let ena: Host;
let xen: Host;

async function host(port: number, personality: "ena" | "xen"): Promise<Host> {
  const session = new Session({
    connect: `ws://127.0.0.1:${port}`,
    name: personality,
    personality,
    agent: "test",
    queues: 2,
    log: silentLogger,
    driver: (context) => (personality === "xen" ? new XenDriver(context) : new EnaDriver(context)),
  });
  await session.start();
  const { ifnet } = session.driver;
  const tap = new FakeTap(personality, 64);
  const joined = new TapHost(tap, ifnet, {
    log: silentLogger,
    up: () => session.driver.up(),
    down: () => session.driver.down(),
  });
  await joined.settled();
  return { tap, mac: ifnet.mac, [Symbol.asyncDispose]: () => session.close() };
}

beforeEach(async () => {
  stack = new AsyncDisposableStack();
  const device = await testDevice();
  stack.defer(() => device.close());
  ena = stack.use(await host(device.port, "ena"));
  xen = stack.use(await host(device.port, "xen"));
  // Frames flood until the switch knows both hosts, and are dropped until both have buffers.
  await meet(ena, xen);
  await meet(xen, ena);
});
afterEach(async () => {
  vi.restoreAllMocks();
  await stack.disposeAsync();
});

async function meet(from: Host, to: Host): Promise<void> {
  const greet = (length: number): void => {
    const hello = new Uint8Array(length);
    hello.set(to.mac, 0);
    hello.set(from.mac, 6);
    from.tap.inject(hello);
  };
  const has = (length: number) => to.tap.sent.some((frame) => frame.bytes.length === length);
  await eventually("a frame from one TAP at the other", () => {
    greet(60);
    return has(60) || undefined;
  });
  // Frames stay in order: when the last one has arrived, none is in flight.
  greet(61);
  await eventually("the last of them", () => has(61) || undefined);
  to.tap.sent.length = 0;
}

/** Sends frames of `payload` bytes, and counts the parses until all have arrived. */
async function parsesOf(from: Host, to: Host, payload: number, facts: Facts): Promise<number> {
  const { bytes, l4 } = buildPacket({
    payload: new Uint8Array(payload),
    checksum: "partial",
    destination: [...to.mac],
    source: [...from.mac],
  });
  const parse = vi.spyOn(Headers.prototype, "parse");
  const told = { needsCsum: true, csumValid: true, csumStart: l4, csumOffset: 16, ...facts };
  for (let i = 0; i < FRAMES; i++) from.tap.inject(bytes, told);
  await eventually("all frames", () => (to.tap.sent.length === FRAMES ? true : undefined));
  expect(to.tap.sent.map((frame) => frame.bytes.length)).toEqual(
    new Array(FRAMES).fill(bytes.length),
  );
  return parse.mock.calls.length;
}

test.each([
  ["an unfinished checksum", 500, {}],
  ["a super-frame", 20_000, { gso: Gso.TCPV4, gsoSize: 1448, headerLength: 54 }],
])("from ENA to Xen with %s: one parse in each process", async (_, payload, facts) => {
  expect(await parsesOf(ena, xen, payload, facts)).toBe(FRAMES * PROCESSES);
});

test("from Xen to ENA: one parse in each process", async () => {
  expect(await parsesOf(xen, ena, 500, {})).toBe(FRAMES * PROCESSES);
});

test("a frame that leaves nothing undone is parsed for its flow, its verdict and LRO", async () => {
  const parse = vi.spyOn(Headers.prototype, "parse");
  const { bytes } = buildPacket({ destination: [...ena.mac], source: [...xen.mac] });
  for (let i = 0; i < FRAMES; i++) xen.tap.inject(bytes, { csumValid: true });
  await eventually("all frames", () => (ena.tap.sent.length === FRAMES ? true : undefined));
  expect(parse).toHaveBeenCalledTimes(FRAMES * PROCESSES);
});
