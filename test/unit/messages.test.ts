/**
 * How many messages traffic costs, and that nothing waits for a deadline that somebody waits for.
 * The clock stands still in these tests.
 */
import { beforeEach, describe, expect, test } from "vitest";
import type { Mbuf } from "../../frontend/net/mbuf.ts";
import { NicCouple } from "../support/nic-couple.ts";
import { frame } from "../support/nic-frames.ts";
import { EnaPair, LAZY_MS, NICS, type NicOptions } from "../support/pair.ts";

describe.each(NICS)("$kind", ({ make }) => {
  let couple: NicCouple;

  /** Host b answers each frame. As a kernel does, it answers in a turn of its own. */
  function echo({ b }: NicCouple): void {
    b.onInput = (m: Mbuf) => {
      m.free();
      b.clock.setImmediate(() => expect(b.send(couple.frame("b"))).toBe(0));
    };
  }

  async function ping(): Promise<number> {
    const before = couple.messages;
    expect(couple.a.send(couple.frame("a"))).toBe(0);
    await couple.pump();
    return couple.messages - before;
  }

  beforeEach(async () => {
    couple = await NicCouple.started(make);
    echo(couple);
  });

  test("a ping in steady state is four messages, one for each hop", async () => {
    // The first interrupts, and the first unmasking.
    for (let i = 0; i < 3; i++) await ping();
    const { a, b } = couple;
    const before = [a.inputs.length, b.inputs.length];
    const costs: number[] = [];
    for (let i = 0; i < 300; i++) costs.push(await ping());
    expect([a.inputs.length, b.inputs.length]).toEqual(before.map((n) => n + 300));
    // A refill of receive buffers is in some of them, in a message of its own or not.
    expect(costs.filter((messages) => messages !== 4).length).toBeLessThanOrEqual(2 * (300 / 32));
    expect(costs.slice(0, 30)).toEqual(new Array(30).fill(4));
    expect([a.faults, b.faults]).toEqual([[], []]);
  });

  test("the last completion comes at the deadline, and then nothing more", async () => {
    await ping();
    const { b } = couple;
    expect(b.outstanding).toBe(1);
    b.clock.advance(LAZY_MS - 1);
    await couple.pump();
    expect(b.outstanding).toBe(1);
    b.clock.advance(1);
    const before = couple.messages;
    await couple.pump();
    expect([b.outstanding, couple.messages - before]).toEqual([0, 1]);
    b.clock.advance(10 * LAZY_MS);
    await couple.pump();
    expect(couple.messages - before).toBe(1);
  });
});

describe.each(NICS)("a driver that leaves, $kind", ({ make }) => {
  test("knows which of its packets were sent", async () => {
    const pair = make();
    await pair.start();
    for (let i = 0; i < 5; i++) pair.send(frame(60, i));
    pair.pumpDown();
    expect([pair.segment.length, pair.outstanding]).toEqual([5, 5]);
    await pair.detach();
    expect([pair.outstanding, pair.ifnet.counters.oqdrops]).toEqual([0, 0]);
  });
});

/** Everything that a sender waits for comes without the help of time. */
describe.each(NICS)("a blocked sender, $kind", ({ kind, make }) => {
  const small = (options: NicOptions) =>
    kind === "ena" ? new EnaPair({ ...options, driver: { rxRingSize: 512 } }) : make(options);

  /** Sends `count` frames from a, each as soon as the driver accepts it. Returns those received. */
  async function stream(couple: NicCouple, count: number, length = 60): Promise<number> {
    const { a, b } = couple;
    let sent = 0;
    const more = (): void => {
      while (sent < count && a.send(couple.frame("a", length, sent)) === 0) sent++;
    };
    a.ifnet.onTransmitReady = () => a.clock.setImmediate(more);
    const before = b.inputs.length;
    more();
    await couple.pump();
    return b.inputs.length - before;
  }

  test.each([
    ["hold", 60],
    ["hold", 1514],
    ["drop", 60],
  ] as const)("goes on: when full %s, frames of %i bytes", async (whenFull, length) => {
    const couple = await NicCouple.started(small, whenFull);
    const received = await stream(couple, 5000, length);
    if (whenFull === "hold") expect(received).toBe(5000);
    expect(couple.segment.snapshot().ports.map((port) => port.in.frames)).toEqual([5000, 0]);
    // No sender waits for a report of the bytes that are still unreported.
    expect(couple.a.outstanding).toBeLessThanOrEqual(64);
    await couple.settle();
    expect(couple.a.outstanding).toBe(0);
  });

  test("goes on while the receiver keeps its buffers for a while", async () => {
    const couple = await NicCouple.started(small, "hold");
    const { b } = couple;
    const kept: Mbuf[] = [];
    b.onInput = (m) => kept.push(m);
    const before = couple.messages;
    const received = stream(couple, 20_000);
    await received;
    expect(couple.messages).toBeGreaterThan(before);
    const held = couple.segment.snapshot().ports[0]!.in.held;
    expect(held).toBeGreaterThan(0);
    b.onInput = (m) => m.free();
    for (const m of kept.splice(0)) m.free();
    for (let i = 0; i < 4; i++) {
      await b.second();
      await couple.pump();
    }
    expect(b.inputs.length).toBe(20_000);
  });
});
