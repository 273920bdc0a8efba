/**
 * Two kernels joined by the product's TAPs, by vde2's, or by a bare veth pair. Each run makes new
 * namespaces and processes and sends the same traffic.
 */

import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { iperf, ping } from "../support/iperf.ts";
import { type DriverName, Lab } from "../support/lab.ts";
import { joinByVeth, Namespace } from "../support/netns.ts";
import { type Child, eventually, start } from "../support/process.ts";
import { quantile } from "./stats.ts";
import type { Measured } from "./variant.ts";

/** Two namespaces that reach each other at these addresses. */
export interface Segment extends AsyncDisposable {
  readonly a: Namespace;
  readonly b: Namespace;
  readonly addressOfB: string;
}

const PINGS = 300;
const WARMING = 3000;

/** TCP through one stream, in each direction, in bit/s. */
export async function measureTcp(segment: Segment, seconds: number): Promise<Measured> {
  const { a: from, b: to, addressOfB: address } = segment;
  const there = await iperf({ from, to, address, seconds });
  const back = await iperf({ from, to, address, seconds, args: ["-R"] });
  return {
    tcpBitsPerSecond: there.sum_received.bits_per_second,
    tcpBackBitsPerSecond: back.sum_received.bits_per_second,
    retransmits: there.sum_sent.retransmits + back.sum_sent.retransmits,
  };
}

/**
 * Round trips on an idle segment, in microseconds: first of fresh processes that have seen twenty
 * frames and run uncompiled code, then of the same processes some thousand frames later.
 */
export async function measurePing(segment: Segment): Promise<Measured> {
  const { a: from, addressOfB: address } = segment;
  const probe = (count: number, intervalSeconds: number) =>
    ping({ from, address, count, intervalSeconds });
  // The first probe also waits for ARP.
  await probe(20, 0.01);
  const cold = await probe(PINGS, 0.005);
  await probe(WARMING, 0.001);
  const warm = await probe(PINGS, 0.005);
  return {
    rttP50Us: quantile(cold.times, 0.5) * 1000,
    rttP99Us: quantile(cold.times, 0.99) * 1000,
    rttWarmP50Us: quantile(warm.times, 0.5) * 1000,
    rttWarmP99Us: quantile(warm.times, 0.99) * 1000,
    lostProbes: cold.sent - cold.received + warm.sent - warm.received,
  };
}

/** The product: `ringwire device` and two `ringwire frontend --tap`. */
export async function tapSegment(zeroMask: boolean, driver: DriverName): Promise<Segment> {
  const lab = new Lab(2, [driver, driver]);
  try {
    await lab.startDevice();
    const args = zeroMask ? ["--zero-mask"] : [];
    await Promise.all([lab.startFrontend(0, { args }), lab.startFrontend(1, { args })]);
  } catch (error) {
    await lab.close();
    throw error;
  }
  return {
    a: lab.host(0).namespace,
    b: lab.host(1).namespace,
    addressOfB: lab.host(1).address,
    [Symbol.asyncDispose]: () => lab.close(),
  };
}

/** vde2: one vde_switch, two vde_plug2tap, Unix sockets between them. */
export async function vdeSegment(): Promise<Segment> {
  const folder = mkdtempSync(join(tmpdir(), "ringwire-vde-"));
  const control = join(folder, "switch");
  const namespaces = [new Namespace("vde-a"), new Namespace("vde-b")] as const;
  const children: Child[] = [];
  const close = async () => {
    for (const child of children.reverse()) await child.stop();
    for (const namespace of namespaces) namespace.destroy();
    rmSync(folder, { recursive: true, force: true });
  };
  try {
    // Without --daemon they are child processes with known pids. The switch ends when its stdin
    // closes.
    children.push(start(["vde_switch", "-s", control]));
    await eventually("vde_switch", () => existsSync(join(control, "ctl")) || undefined);
    for (const [i, namespace] of namespaces.entries()) {
      children.push(start(["vde_plug2tap", "-s", control, "tap0"], { namespace }));
      await eventually("vde_plug2tap", () => namespace.link("tap0"));
      namespace.ip("addr", "add", `10.202.1.${i + 1}/24`, "dev", "tap0");
      namespace.ip("link", "set", "tap0", "up");
    }
  } catch (error) {
    await close();
    throw error;
  }
  return {
    a: namespaces[0],
    b: namespaces[1],
    addressOfB: "10.202.1.2",
    [Symbol.asyncDispose]: close,
  };
}

/** A veth pair only: the speed of the kernel alone on this machine. */
export async function vethSegment(): Promise<Segment> {
  const a = new Namespace("veth-a");
  const b = new Namespace("veth-b");
  joinByVeth(
    { namespace: a, device: "veth0", address: "10.202.2.1/24" },
    { namespace: b, device: "veth0", address: "10.202.2.2/24" },
  );
  return {
    a,
    b,
    addressOfB: "10.202.2.2",
    async [Symbol.asyncDispose]() {
      a.destroy();
      b.destroy();
    },
  };
}
