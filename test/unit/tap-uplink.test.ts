import { setImmediate as turn } from "node:timers/promises";
import { expect, test, vi } from "vitest";
import { TapUplink } from "../../device/ports/tap-uplink.ts";
import { DropReason, type Port, type SwitchPort, Verdict } from "../../device/switch/port.ts";
import { systemClock } from "../../shared/clock.ts";
import { silentLogger } from "../../shared/log.ts";
import { Frame, Gso } from "../../shared/net/frame.ts";
import { stallsOf } from "../../shared/stall.ts";
import { TapError } from "../../shared/tap/errors.ts";
import { FakeTap, type Told, tell } from "../support/fake-tap.ts";

/** A segment with one port; the test plays everything behind it. */
class OnePlug {
  port: Port | undefined;
  readonly got: Told[] = [];
  readonly drops: [DropReason, "in" | "out", number][] = [];
  /** Frames accepted before the segment answers HELD; -1 accepts all. */
  room = -1;
  flushes = 0;
  wakes = 0;
  detached = false;
  readonly switchPort: SwitchPort = {
    onReady: undefined,
    taken: 0,
    work: 1,
    stale: false,
    input: (frame) => {
      if (this.room === 0) return Verdict.HELD;
      this.room--;
      this.got.push(tell(frame));
      return Verdict.DONE;
    },
    flush: () => this.flushes++,
    roomAgain: () => this.wakes++,
    drop: (reason, direction, frames = 1) => this.drops.push([reason, direction, frames]),
    detach: () => {
      this.detached = true;
    },
  };

  attach(port: Port): SwitchPort {
    this.port = port;
    return this.switchPort;
  }
}

function plug(tap = new FakeTap("up0")) {
  const segment = new OnePlug();
  const uplink = new TapUplink(tap, { segment, log: silentLogger });
  const port: Port = uplink;
  return { tap, segment, uplink, port };
}

const bytes = (n: number, length = 60): Uint8Array => new Uint8Array(length).fill(n);

function frameOf(data: Uint8Array, facts: Partial<Frame> = {}): Frame {
  const frame = new Frame();
  frame.push(data, 0, data.length);
  return Object.assign(frame, facts);
}

test("frames and facts reach the segment, each slot goes back, one flush a burst", () => {
  const { tap, segment } = plug();
  const facts = {
    needsCsum: true,
    csumStart: 34,
    csumOffset: 16,
    csumValid: true,
    gso: Gso.TCPV4,
    gsoSize: 1448,
    headerLength: 54,
    gsoEcn: true,
  };
  tap.inject(bytes(7, 3000), facts);
  tap.inject(bytes(8));
  expect(segment.got.map((told) => told.bytes)).toEqual([bytes(7, 3000), bytes(8)]);
  expect(segment.got[0]!.facts).toEqual(facts);
  expect(segment.flushes).toBe(2);
  expect(tap.out.size).toBe(0);
});

test("a HELD frame keeps its slot and stops reading; onReady goes on in order", () => {
  const { tap, segment } = plug();
  segment.room = 1;
  for (let n = 1; n <= 4; n++) tap.inject(bytes(n));
  expect(segment.got.length).toBe(1);
  expect(tap.out.size).toBe(1);
  expect(tap.waiting).toBe(2);

  segment.room = -1;
  segment.switchPort.onReady?.();
  expect(segment.got.map((told) => told.bytes[0])).toEqual([1, 2, 3, 4]);
  expect(tap.out.size).toBe(0);
});

test("a long burst gives others a turn after 64 frames", async () => {
  const { tap, segment } = plug(new FakeTap("up0", 256));
  segment.room = 0;
  for (let n = 0; n < 150; n++) tap.inject(bytes(n));
  segment.room = -1;
  segment.switchPort.onReady?.();
  // The held frame, and 64 more.
  expect(segment.got.length).toBe(65);
  await turn();
  expect(segment.got.length).toBe(129);
  await turn();
  expect(segment.got.length).toBe(150);
  expect(segment.flushes).toBe(3);
});

test("a burst of frames with many copies ends earlier", async () => {
  const { tap, segment } = plug(new FakeTap("up0", 256));
  Object.assign(segment.switchPort, { work: 64 });
  segment.room = 0;
  for (let n = 0; n < 10; n++) tap.inject(bytes(n));
  segment.room = -1;
  segment.switchPort.onReady?.();
  expect(segment.got.length).toBe(4);
  await turn();
  expect(segment.got.length).toBe(8);
  await turn();
  expect(segment.got.map((told) => told.bytes[0])).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
});

test("attack-S12 frames that waited while the process stood still are marked, until none is left", async () => {
  const now = vi.spyOn(performance, "now");
  let ms = 1e9;
  now.mockImplementation(() => ms);
  stallsOf(systemClock).look(ms);
  try {
    const { tap, segment } = plug(new FakeTap("up0", 256));
    const marks: boolean[] = [];
    const input = segment.switchPort.input;
    segment.switchPort.input = (frame) => {
      marks.push(segment.switchPort.stale);
      return input(frame);
    };
    tap.inject(bytes(1));
    ms += 2000;
    tap.inject(bytes(2));
    expect(marks.splice(0)).toEqual([false, false]);
    segment.room = 0;
    for (let n = 0; n < 150; n++) tap.inject(bytes(n));
    segment.room = -1;
    ms += 2001;
    marks.length = 0;
    segment.switchPort.onReady?.();
    await turn();
    await turn();
    expect(marks).toEqual(new Array(150).fill(true));
    tap.inject(bytes(3));
    expect(marks.at(-1)).toBe(false);
  } finally {
    now.mockRestore();
  }
});

test("room announced inside a burst does not start a second one", () => {
  const { tap, segment } = plug();
  const taken = segment.switchPort.input;
  segment.switchPort.input = (frame) => {
    segment.switchPort.onReady?.();
    return taken(frame);
  };
  tap.inject(bytes(1));
  tap.inject(bytes(2));
  expect(segment.got.map((told) => told.bytes[0])).toEqual([1, 2]);
});

test("deliver passes a frame to the kernel at once, with its facts", () => {
  const { tap, port } = plug();
  const frame = frameOf(bytes(9, 2000), { csumValid: true });
  expect(port.deliver(frame)).toBeUndefined();
  expect(tap.sent).toEqual([tell(frame)]);
});

test("a full TAP drops by name; a holding segment is woken when there is room", () => {
  const { tap, segment, port } = plug();
  tap.room = 1;
  expect(port.ready(60, 1)).toBe(true);
  expect(port.deliver(frameOf(bytes(1)))).toBeUndefined();
  expect(port.ready(60, 1)).toBe(false);
  expect(port.deliver(frameOf(bytes(2)))).toBe(DropReason.QUEUE_FULL);
  tap.drain(8);
  expect(segment.wakes).toBe(1);
  expect(port.ready(60, 1)).toBe(true);
});

test("an interface that is down drops by name, and holds nobody up", () => {
  const { tap, segment, port } = plug();
  tap.room = 0;
  expect(port.ready(60, 1)).toBe(false);
  tap.change({ up: false });
  expect(segment.wakes).toBe(1);
  expect(port.ready(60, 1)).toBe(true);
  expect(port.deliver(frameOf(bytes(1)))).toBe(DropReason.PORT_DOWN);
});

test("the longest frame follows the kernel's MTU", () => {
  const { tap, port } = plug();
  expect(port.maxFrameBytes).toBe(1518);
  tap.change({ mtu: 9000 });
  expect(port.maxFrameBytes).toBe(9018);
});

test("frames that contradict their vnet header are counted as drops of this port", () => {
  const { tap, segment } = plug();
  tap.rxMalformed = 3;
  tap.inject(bytes(1));
  expect(segment.drops).toEqual([[DropReason.MALFORMED_OFFLOAD, "in", 3]]);
  tap.inject(bytes(2));
  expect(segment.drops.length).toBe(1);
});

test("closing unplugs, and nothing is delivered afterwards", async () => {
  const { tap, segment, uplink } = plug();
  await uplink.close();
  expect(segment.detached).toBe(true);
  expect(tap.closed).toBe(true);
  tap.inject(bytes(1));
  expect(segment.got.length).toBe(0);
});

test("a turn that was asked for before closing does nothing", async () => {
  const { tap, segment, uplink } = plug(new FakeTap("up0", 256));
  segment.room = 0;
  for (let n = 0; n < 100; n++) tap.inject(bytes(n));
  segment.room = -1;
  segment.switchPort.onReady?.();
  await uplink.close();
  await turn();
  expect(segment.got.length).toBe(65);
});

test("an interface deleted from outside leaves the segment, and the owner is told", async () => {
  const tap = new FakeTap("up0");
  const segment = new OnePlug();
  const told = new Promise<Error>(
    (resolve) => new TapUplink(tap, { segment, log: silentLogger, onGone: resolve }),
  );
  tap.onGone?.(new TapError("TAP_GONE", "deleted"));
  expect(segment.detached).toBe(true);
  expect(await told).toMatchObject({ code: "TAP_GONE" });
});
