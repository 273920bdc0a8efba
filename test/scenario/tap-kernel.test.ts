/** The kernel's own TAP: traffic, link changes, and its disappearance. */
import { setTimeout } from "node:timers/promises";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { silentLogger } from "../../shared/log.ts";
import { Frame, Gso } from "../../shared/net/frame.ts";
import { pollingReactor } from "../../shared/reactor/index.ts";
import type { KernelTap as Tap } from "../../shared/tap/kernel-tap.ts";
import { openTap, type TapOptions } from "../../shared/tap/tap.ts";
import { pingResult } from "../support/iperf.ts";
import { Namespace, whyNoNamespaces } from "../support/netns.ts";
import { bytesOf } from "../support/packets.ts";
import { type Child, run as runToEnd, start } from "../support/process.ts";

const why = whyNoNamespaces();
const describeKernel = describe.skipIf(why !== undefined);
const suffix = why === undefined ? "" : `: ${why}`;

const MAC_A = new Uint8Array([2, 0, 0, 0, 0, 0xa]);
const MAC_B = new Uint8Array([2, 0, 0, 0, 0, 0xb]);

let a: Namespace;
let b: Namespace;
const taps: Tap[] = [];

beforeEach(() => {
  if (why !== undefined) return;
  a = new Namespace("a");
  b = new Namespace("b");
  for (const ns of [a, b]) {
    // Stops the kernel's own packets.
    for (const what of ["router_solicitations=0", "autoconf=0"]) {
      ns.run("sysctl", "-qw", `net.ipv6.conf.default.${what}`);
    }
  }
});

afterEach(async () => {
  await Promise.all(taps.splice(0).map((tap) => tap.close()));
  a?.destroy();
  b?.destroy();
});

async function open(ns: Namespace, options: Partial<TapOptions> = {}): Promise<Tap> {
  const all = { name: "rw0", offloads: true, log: silentLogger, ...options };
  using _inside = ns.enter();
  const tap = await openTap(all);
  taps.push(tap);
  return tap;
}

/** Waits for a callback of the TAP; only the runner's time limit ends the wait. */
function next<K extends "onLinkChange" | "onGone" | "onFrames" | "onDrain">(tap: Tap, event: K) {
  return new Promise<Parameters<NonNullable<Tap[K]>>[0]>((resolve) => {
    Object.assign(tap, { [event]: resolve });
  });
}

/**
 * Sends everything that one TAP receives out of the other. Keeps the largest frame of each kind.
 */
function bridge(from: Tap, to: Tap) {
  const frame = new Frame();
  const seen = { longest: 0, gso: new Set<number>(), full: 0 };
  const pump = (): void => {
    for (let n = 0; n < 64; n++) {
      const token = from.receive(frame);
      if (token < 0) return;
      seen.longest = Math.max(seen.longest, frame.length);
      seen.gso.add(frame.gso);
      if (!to.send(frame)) seen.full++;
      from.release(token);
    }
    setImmediate(pump);
  };
  from.onFrames = pump;
  pump();
  return seen;
}

/** Two namespaces whose TAPs are joined in this process. */
async function pair(options: Partial<TapOptions> = {}) {
  const tapA = await open(a, { mac: MAC_A, ...options });
  const tapB = await open(b, { mac: MAC_B, ...options });
  tapA.setCarrier(true);
  tapB.setCarrier(true);
  a.run("ip", "addr", "add", "10.201.7.1/24", "dev", "rw0");
  b.run("ip", "addr", "add", "10.201.7.2/24", "dev", "rw0");
  a.run("ip", "addr", "add", "fd00:7::1/64", "dev", "rw0", "nodad");
  b.run("ip", "addr", "add", "fd00:7::2/64", "dev", "rw0", "nodad");
  const joined = { tapA, tapB, fromA: bridge(tapA, tapB), fromB: bridge(tapB, tapA) };
  await Promise.all([ready(a), ready(b)]);
  return joined;
}

interface Shown {
  readonly operstate: string;
  readonly addr_info: {
    readonly family: string;
    readonly scope: string;
    readonly tentative?: true;
  }[];
}

/**
 * Waits until the kernel has noticed the carrier: a kernel worker starts the queue, and IPv6 makes
 * its link-local address only then.
 */
async function ready(ns: Namespace): Promise<void> {
  for (;;) {
    const [link] = JSON.parse(ns.run("ip", "-json", "addr", "show", "dev", "rw0")) as Shown[];
    const local = link?.addr_info.some((info) => info.family === "inet6" && info.scope === "link");
    const tentative = link?.addr_info.some((info) => info.tentative);
    if (link?.operstate === "UP" && local && !tentative) return;
    await setTimeout(10);
  }
}

/** Runs a command inside without blocking this thread, which forwards the frames. */
async function run(namespace: Namespace, ...argv: string[]): Promise<string> {
  const child = await runToEnd(argv, { namespace });
  expect(child.exit?.code, child.said()).toBe(0);
  return child.stdout;
}

async function startIperf(): Promise<Child> {
  const server = start(["iperf3", "-s", "-1", "--forceflush"], { namespace: b });
  await server.waitFor(/listening/);
  return server;
}

describeKernel(`traffic between two TAPs${suffix}`, () => {
  test.each([
    ["IPv4", "10.201.7.2"],
    ["IPv6", "fd00:7::2"],
  ])("ping over %s loses nothing", async (_name, address) => {
    await pair();
    // With a deadline ping waits for the last answers; without one it waits for two round trips.
    const said = await run(a, "ping", "-c", "100", "-i", "0.005", "-w", "15", address);
    expect(pingResult(said, 100)).toMatchObject({ received: 100, duplicates: 0 });
  });

  test.each([
    ["IPv4", "10.201.7.2", Gso.TCPV4],
    ["IPv6", "fd00:7::2", Gso.TCPV6],
  ])("TCP over %s crosses in super-frames, every frame accounted for", async (_n, address, gso) => {
    const { tapA, tapB, fromA, fromB } = await pair();
    await using server = await startIperf();
    await run(a, "iperf3", "-n", "64M", "-c", address);
    await server.ended();

    expect(fromA.gso).toContain(gso);
    expect(fromA.longest).toBeGreaterThan(20_000);
    expect(fromA.full + fromB.full).toBe(0);
    // Nothing is in flight any more once both are closed.
    await Promise.all([tapA.close(), tapB.close()]);
    expect(tapB.counters.txFrames).toBeLessThanOrEqual(tapA.counters.rxFrames);
    expect(tapB.counters.txFrames).toBeGreaterThanOrEqual(tapA.counters.rxFrames - 8);
    expect(tapA.counters).toMatchObject({ rxMalformed: 0, rxTruncated: 0, txErrors: {} });
    expect(tapB.counters).toMatchObject({ rxMalformed: 0, rxTruncated: 0, txErrors: {} });
  });

  test("without offloads the kernel finishes and cuts everything itself", async () => {
    const { fromA } = await pair({ offloads: false });
    await using server = await startIperf();
    await run(a, "iperf3", "-n", "4M", "-c", "10.201.7.2");
    await server.ended();
    expect([...fromA.gso]).toEqual([Gso.NONE]);
    expect(fromA.longest).toBe(1514);
  });
});

/** Sequence number of an ICMP echo request over IPv4 without options; -1 for anything else. */
function echoSequence(frame: Frame): number {
  const bytes = bytesOf(frame);
  if (bytes[12] !== 8 || bytes[13] !== 0 || bytes[23] !== 1 || bytes[34] !== 8) return -1;
  return (bytes[40]! << 8) | bytes[41]!;
}

/** Makes the kernel of `a` send `count` echo requests that nobody answers. */
async function echoes(tap: Tap, count: number): Promise<void> {
  tap.setCarrier(true);
  const mac = "02:00:00:00:00:0b";
  a.run("ip", "addr", "add", "10.201.7.1/24", "dev", "rw0");
  a.run("ip", "neigh", "add", "10.201.7.2", "lladdr", mac, "nud", "permanent", "dev", "rw0");
  const args = ["-q", "-c", String(count), "-i", "0.002", "-W", "0.1", "10.201.7.2"];
  await run(a, "ping", ...args).catch(() => undefined);
}

describeKernel(`slots${suffix}`, () => {
  test("with every slot out the kernel's queue holds; slots come back in any order", async () => {
    const tap = await open(a, { slots: 4 });
    const frame = new Frame();
    const held: { token: number; sequence: number }[] = [];
    const sequences: number[] = [];
    const take = (): void => {
      for (;;) {
        const token = tap.receive(frame);
        if (token < 0) return;
        held.push({ token, sequence: echoSequence(frame) });
      }
    };
    tap.onFrames = take;
    take();
    await echoes(tap, 12);
    while (held.length < 4) await next(tap, "onFrames").then(take);
    expect(new Set(held.map((each) => each.token)).size).toBe(4);
    expect(tap.counters.rxStalls).toBe(1);

    while (sequences.filter((n) => n > 0).length < 12) {
      // Releases the newest first, so that the order of release is not the order of arrival.
      for (const { token, sequence } of held.splice(0).reverse()) {
        sequences.push(sequence);
        tap.release(token);
      }
      while (held.length === 0 && sequences.filter((n) => n > 0).length < 12) {
        await next(tap, "onFrames").then(take);
      }
    }
    const echoed = sequences.filter((n) => n > 0).sort((x, y) => x - y);
    expect(echoed).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
  });
});

describeKernel(`link${suffix}`, () => {
  test("the created interface is up, with the MAC and MTU asked for, and vanishes", async () => {
    const tap = await open(a, { mac: MAC_A, mtu: 9000 });
    expect(tap).toMatchObject({ existing: false, mtu: 9000, up: true, mac: MAC_A });
    const shown = a.run("ip", "link", "show", "dev", "rw0");
    expect(shown).toContain("02:00:00:00:00:0a");
    expect(shown).toMatch(/[<,]UP[,>]/);
    expect(shown).toContain("mtu 9000");
    await tap.close();
    expect(a.run("ip", "-o", "link")).not.toContain("rw0");
  });

  test("one opened before its address is known comes up at start, with that address", async () => {
    const tap = await open(a, { bringUp: false });
    expect(tap.up).toBe(false);
    await tap.start(MAC_A);
    expect(tap).toMatchObject({ up: true, mac: MAC_A });
    expect(a.run("ip", "link", "show", "dev", "rw0")).toContain("02:00:00:00:00:0a");
  });

  test("start with an address that is none is refused, and the interface stays down", async () => {
    const tap = await open(a, { bringUp: false });
    const wrong = tap.start(new Uint8Array([1, 0, 0, 0, 0, 1]));
    await expect(wrong).rejects.toMatchObject({ code: "TAP_BAD_MAC" });
    expect(tap.up).toBe(false);
  });

  test("ip link set mtu, down and up are seen; the last state stands", async () => {
    const tap = await open(a);
    for (const [args, expected] of [
      [["mtu", "1400"], { mtu: 1400, up: true }],
      [["down"], { mtu: 1400, up: false }],
      [["up"], { mtu: 1400, up: true }],
    ] as const) {
      const change = next(tap, "onLinkChange");
      a.run("ip", "link", "set", "rw0", ...args);
      expect(await change).toEqual(expected);
      expect({ mtu: tap.mtu, up: tap.up }).toEqual(expected);
    }
  });

  test("carrier is what ip link shows", async () => {
    const tap = await open(a);
    // The carrier is off at first, because no frame would reach anybody yet.
    expect(a.run("ip", "link", "show", "rw0")).toContain("NO-CARRIER");
    tap.setCarrier(true);
    expect(a.run("ip", "link", "show", "rw0")).toContain("LOWER_UP");
    tap.setCarrier(false);
    expect(a.run("ip", "link", "show", "rw0")).toContain("NO-CARRIER");
  });

  test("setMtu sets the kernel's, and a refused one is an error that says so", async () => {
    const tap = await open(a);
    const change = next(tap, "onLinkChange");
    await tap.setMtu(2000);
    expect(await change).toEqual({ mtu: 2000, up: true });
    await expect(tap.setMtu(100_000)).rejects.toMatchObject({ code: "TAP_BAD_MTU" });
    expect(a.run("ip", "link", "show", "rw0")).toContain("mtu 2000");
  });

  test("a renamed interface is still followed", async () => {
    const tap = await open(a);
    a.run("ip", "link", "set", "rw0", "down");
    a.run("ip", "link", "set", "rw0", "name", "other0");
    a.run("ip", "link", "set", "other0", "mtu", "1300", "up");
    while (tap.mtu !== 1300 || !tap.up) await next(tap, "onLinkChange");
    await tap.setMtu(1301);
    expect(a.run("ip", "link", "show", "other0")).toContain("mtu 1301");
  });

  test("an interface moved to another namespace is followed there", async () => {
    const tap = await open(a);
    a.run("ip", "link", "set", "rw0", "netns", b.name);
    while (tap.up) await next(tap, "onLinkChange");
    b.run("ip", "link", "set", "rw0", "mtu", "1234", "up");
    while (tap.mtu !== 1234 || !tap.up) await next(tap, "onLinkChange");
    expect(tap).toMatchObject({ mtu: 1234, up: true });
  });

  test("frames for an interface that is down are counted by errno", async () => {
    const tap = await open(a);
    a.run("ip", "link", "set", "rw0", "down");
    while (tap.up) await next(tap, "onLinkChange");
    const frame = new Frame();
    frame.push(new Uint8Array(60), 0, 60);
    for (let n = 0; n < 3; n++) expect(tap.send(frame)).toBe(true);
    expect(tap.counters).toMatchObject({ txFrames: 0, txErrors: { EIO: 3 } });
  });

  test("a deleted interface is told once, and closing still works", async () => {
    const tap = await open(a);
    const gone = next(tap, "onGone");
    a.run("ip", "link", "del", "rw0");
    expect(await gone).toMatchObject({ code: "TAP_GONE" });
    await tap.close();
    await expect(tap.setMtu(1400)).rejects.toMatchObject({ code: "TAP_GONE" });
  });

  test("a long frame with a piece too small for the kernel to read goes out, with its header", async () => {
    const tap = await open(a, { mac: MAC_A, mtu: 9000 });
    const frame = new Frame();
    frame.push(Uint8Array.of(...MAC_B, ...MAC_A, 0x88, 0xb5), 0, 14);
    frame.push(new Uint8Array(4000), 0, 4000);
    expect(tap.send(frame)).toBe(true);
    expect(tap.counters).toMatchObject({ txFrames: 1, txBytes: 4014, txErrors: {} });
    // Segments of no bytes: the kernel reads this from the header.
    frame.gso = Gso.TCPV4;
    expect(tap.send(frame)).toBe(true);
    expect(tap.counters).toMatchObject({ txFrames: 1, txErrors: { EINVAL: 1 } });
  });

  test("nothing of a closed TAP is watched", async () => {
    const tap = await open(a, { mac: MAC_A });
    const reactor = await pollingReactor();
    expect(reactor.isActive).toBe(true);
    await tap.close();
    expect(reactor.isActive).toBe(false);
  });

  test("wishes that are open when the TAP is closed are answered", async () => {
    const tap = await open(a);
    const closed = tap.close();
    await tap.setMtu(1400).catch((error: { code: string }) => expect(error.code).toBe("TAP_GONE"));
    await closed;
  });
});
