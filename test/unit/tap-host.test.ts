import { setImmediate as turn } from "node:timers/promises";
import { describe, expect, test, vi } from "vitest";
import { Errno } from "../../frontend/bus/errno.ts";
import { TapHost } from "../../frontend/host/tap-host.ts";
import { Ifcap, Iff, Ifnet } from "../../frontend/net/ifnet.ts";
import { Csum, Mbuf, mCopyData } from "../../frontend/net/mbuf.ts";
import { systemClock } from "../../shared/clock.ts";
import { Frame, Gso } from "../../shared/net/frame.ts";
import { Headers } from "../../shared/net/headers.ts";
import { stallsOf } from "../../shared/stall.ts";
import { TapError } from "../../shared/tap/errors.ts";
import { type Facts, FakeTap } from "../support/fake-tap.ts";
import { plainSum, pseudoHeader } from "../support/packets.ts";
import { transmitEach } from "../support/transmit.ts";

const ALL =
  Ifcap.TXCSUM | Ifcap.TXCSUM_IPV6 | Ifcap.TSO4 | Ifcap.TSO6 | Ifcap.RXCSUM | Ifcap.RXCSUM_IPV6;

/** A driver that holds its packets until the test completes them. */
class FakeDriver {
  readonly ifnet = new Ifnet("ena0", new Uint8Array([2, 0, 0, 0, 0, 1]), 1500);
  readonly ring: Mbuf[] = [];
  depth = Number.POSITIVE_INFINITY;
  errno = 0;
  mtuErrno = 0;
  readonly calls: string[] = [];
  readonly logged: string[] = [];
  /** When set, `up` and `down` wait until the test resolves it. */
  gate: Promise<void> | undefined;

  constructor(capEnable: number) {
    const { ifnet } = this;
    ifnet.capabilities = ALL;
    ifnet.capEnable = capEnable;
    ifnet.flags = Iff.UP;
    transmitEach(ifnet, (m) => {
      if (this.errno !== 0) return this.errno;
      if (this.ring.length >= this.depth) return Errno.ENOBUFS;
      this.ring.push(m);
      return 0;
    });
    ifnet.setMtu = async (mtu) => {
      this.calls.push(`mtu ${mtu}`);
      if (this.mtuErrno === 0) ifnet.mtu = mtu;
      return this.mtuErrno;
    };
  }

  get hooks() {
    const log = (_: object, text: string): void => void this.logged.push(text);
    return {
      log: { debug() {}, info() {}, warn: log, error: log },
      up: () => this.#call("up"),
      down: () => this.#call("down"),
    };
  }

  async #call(name: "up" | "down"): Promise<void> {
    await this.gate;
    this.calls.push(name);
    if (name === "up") this.ifnet.flags |= Iff.UP;
    else this.ifnet.flags &= ~Iff.UP;
  }

  /** Completes the oldest transmissions. */
  complete(count: number): void {
    for (const m of this.ring.splice(0, count)) m.free();
  }

  bytes(at: number): Uint8Array {
    return dataOf(this.ring[at]!);
  }
}

function dataOf(m: Mbuf): Uint8Array {
  const data = new Uint8Array(m.pktLength);
  mCopyData(m, 0, m.pktLength, data, 0);
  return data;
}

function join(capEnable = ALL, slots = 8) {
  const tap = new FakeTap("rw0", slots);
  const driver = new FakeDriver(capEnable);
  const host = new TapHost(tap, driver.ifnet, driver.hooks);
  return { tap, driver, host, ifnet: driver.ifnet };
}

interface Shape {
  readonly v6?: boolean;
  readonly udp?: boolean;
  readonly port?: number;
  readonly payload: number;
}

/** An IP packet whose TCP or UDP checksum field holds the pseudo-header sum, as the kernel leaves it. */
function packet(shape: Shape): { bytes: Uint8Array; facts: Facts } {
  const v6 = shape.v6 === true;
  const udp = shape.udp === true;
  const l4 = v6 ? 54 : 34;
  const l4Header = udp ? 8 : 20;
  const l4Length = l4Header + shape.payload;
  const bytes = new Uint8Array(l4 + l4Length);
  const v = new DataView(bytes.buffer);
  bytes.set([2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, v6 ? 0x86 : 0x08, v6 ? 0xdd : 0x00]);
  const protocol = udp ? 17 : 6;
  if (v6) {
    v.setUint8(14, 0x60);
    v.setUint16(18, l4Length);
    v.setUint8(20, protocol);
    v.setUint8(21, 64);
    bytes.fill(0x11, 22, 54);
  } else {
    v.setUint8(14, 0x45);
    v.setUint16(16, 20 + l4Length);
    v.setUint8(22, 64);
    v.setUint8(23, protocol);
    bytes.set([10, 0, 0, 1, 10, 0, 0, 2], 26);
    v.setUint16(24, complement(sum(bytes, 14, 34)));
  }
  v.setUint16(l4, shape.port ?? 1000);
  v.setUint16(l4 + 2, 80);
  if (udp) v.setUint16(l4 + 4, l4Length);
  else v.setUint16(l4 + 12, 0x5010);
  for (let i = l4 + l4Header; i < bytes.length; i++) bytes[i] = i & 0xff;
  const csumOffset = udp ? 6 : 16;
  const addresses = v6 ? sum(bytes, 22, 54) : sum(bytes, 26, 34);
  v.setUint16(l4 + csumOffset, fold(addresses + protocol + l4Length));
  return { bytes, facts: { needsCsum: true, csumStart: l4, csumOffset, csumValid: true } };
}

const fold = (n: number): number => (n > 0xffff ? fold((n & 0xffff) + (n >>> 16)) : n);
const complement = (n: number): number => ~fold(n) & 0xffff;
function sum(bytes: Uint8Array, from: number, to: number): number {
  let total = 0;
  for (let i = from; i < to; i += 2) total += (bytes[i]! << 8) | (bytes[i + 1] ?? 0);
  return fold(total);
}

function superFrame(v6: boolean, payload: number, mss: number) {
  const { bytes, facts } = packet({ v6, payload });
  const headerLength = v6 ? 74 : 54;
  const gso = v6 ? Gso.TCPV6 : Gso.TCPV4;
  return { bytes, facts: { ...facts, gso, gsoSize: mss, headerLength } };
}

/** Returns the sum over the TCP or UDP packet, which is 0xffff with a correct checksum. */
function l4Sum(bytes: Uint8Array): number {
  const frame = new Frame();
  frame.push(bytes, 0, bytes.length);
  const h = new Headers();
  h.parse(frame);
  return plainSum(pseudoHeader(bytes, h.l3Offset, h.l4Offset, h.l4), bytes.subarray(h.l4Offset));
}

describe("kernel to driver", () => {
  test("the mbuf points into the slot, which goes back at Tx completion, in any order", () => {
    const { tap, driver } = join();
    for (let n = 0; n < 3; n++) tap.inject(new Uint8Array(60).fill(n));
    expect(driver.ring.length).toBe(3);
    expect(tap.out.size).toBe(3);
    driver.ring.splice(1, 1)[0]!.free();
    expect([...tap.out]).toEqual([0, 2]);
    expect(driver.bytes(1)).toEqual(new Uint8Array(60).fill(2));
    driver.complete(2);
    expect(tap.out.size).toBe(0);
  });

  test("all slots in the driver stop the source; completions go on", () => {
    const { tap, driver } = join(ALL, 4);
    for (let n = 0; n < 6; n++) tap.inject(new Uint8Array(60).fill(n));
    expect(driver.ring.length).toBe(4);
    expect(tap.waiting).toBe(2);
    driver.complete(3);
    expect(driver.ring.map((m) => dataOf(m)[0])).toEqual([3, 4, 5]);
  });

  test.each<[string, Shape, number]>([
    ["TCP over IPv4", { payload: 100 }, Csum.IP_TCP],
    ["UDP over IPv4", { payload: 100, udp: true }, Csum.IP_UDP],
    ["TCP over IPv6", { payload: 100, v6: true }, Csum.IP6_TCP],
    ["UDP over IPv6", { payload: 100, v6: true, udp: true }, Csum.IP6_UDP],
  ])("checksum of %s is asked of the driver", (_name, shape, flags) => {
    const { tap, driver } = join();
    const { bytes, facts } = packet(shape);
    tap.inject(bytes, facts);
    const m = driver.ring[0]!;
    expect(m.csumFlags).toBe(flags);
    expect([m.csumStart, m.csumOffset]).toEqual([facts.csumStart, facts.csumOffset]);
    expect(m.pktLength).toBe(bytes.length);
    expect(m.isIp6).toBe(shape.v6 === true);
  });

  test.each([
    [false, Csum.IP_TSO | Csum.IP_TCP],
    [true, Csum.IP6_TSO | Csum.IP6_TCP],
  ])("a super-frame is asked of the driver (IPv6 %s)", (v6, flags) => {
    const { tap, driver } = join();
    const { bytes, facts } = superFrame(v6, 20_000, 1400);
    tap.inject(bytes, { ...facts, gsoEcn: true });
    const m = driver.ring[0]!;
    expect(m.csumFlags).toBe(flags);
    expect(m).toMatchObject({ tsoSegsz: 1400, headerLength: facts.headerLength, gsoEcn: true });
    expect(m.pktLength).toBe(bytes.length);
  });

  test("a frame that needs nothing asks for nothing", () => {
    const { tap, driver } = join(0);
    tap.inject(new Uint8Array(60), { csumValid: true });
    expect(driver.ring[0]!.csumFlags).toBe(0);
  });

  test.each([
    [{ payload: 101 }],
    [{ payload: 100, udp: true }],
    [{ payload: 33, v6: true }],
    [{ payload: 100, v6: true, udp: true }],
  ])("without checksum offload it is finished here: %j", (shape) => {
    const { tap, driver, host } = join(0);
    const { bytes, facts } = packet(shape);
    expect(l4Sum(bytes)).not.toBe(0xffff);
    tap.inject(bytes, facts);
    expect(driver.ring[0]!.csumFlags).toBe(0);
    expect(l4Sum(driver.bytes(0))).toBe(0xffff);
    expect(tap.out.size).toBe(0);
    expect(host.counters.txSoftware).toBe(1);
  });

  test.each([false, true])("without TSO it is cut here (IPv6 %s)", (v6) => {
    const { tap, driver } = join(Ifcap.TXCSUM | Ifcap.TXCSUM_IPV6);
    const { bytes, facts } = superFrame(v6, 4000, 1400);
    tap.inject(bytes, facts);
    const headers = facts.headerLength;
    expect(driver.ring.map((m) => m.pktLength - headers)).toEqual([1400, 1400, 1200]);
    const payload = driver.ring.flatMap((_, i) => [...driver.bytes(i).subarray(headers)]);
    expect(Uint8Array.from(payload)).toEqual(bytes.subarray(headers));
    for (let i = 0; i < 3; i++) expect(l4Sum(driver.bytes(i))).toBe(0xffff);
    expect(new Set(driver.ring.map((m) => m.flowId)).size).toBe(1);
    expect(tap.out.size).toBe(0);
  });

  test("a super-frame longer than the driver takes is cut here, one as long as that is not", () => {
    const { tap, driver } = join();
    const { bytes, facts } = superFrame(false, 4000, 1400);
    driver.ifnet.hwTsomax = bytes.length;
    tap.inject(bytes, facts);
    expect(driver.ring.map((m) => m.pktLength)).toEqual([bytes.length]);
    driver.ifnet.hwTsomax = bytes.length - 1;
    tap.inject(bytes, facts);
    const headers = facts.headerLength;
    const cut = driver.ring.slice(1).map((m) => m.pktLength - headers);
    expect(cut).toEqual([1400, 1400, 1200]);
  });

  test("a tunnel's inner checksum is finished here, whatever the driver can do", () => {
    const { tap, driver } = join();
    const outer = packet({ payload: 60, udp: true });
    const csumStart = outer.bytes.length - 40;
    // An empty field stands for a pseudo-header sum of 0, so the whole sum must be right.
    outer.bytes.fill(0, csumStart + 16, csumStart + 18);
    tap.inject(outer.bytes, { needsCsum: true, csumStart, csumOffset: 16, csumValid: true });
    expect(driver.ring[0]!.csumFlags).toBe(0);
    const out = driver.bytes(0);
    expect(sum(out, csumStart, out.length)).toBe(0xffff);
  });

  test("facts that nobody can honour end the frame, counted", () => {
    const { tap, driver, host, ifnet } = join();
    const { bytes, facts } = superFrame(false, 4000, 1400);
    tap.inject(bytes, { ...facts, gso: Gso.TCPV6, csumStart: 30 });
    expect(driver.ring.length).toBe(0);
    expect(host.counters.txMalformed).toBe(1);
    expect(ifnet.counters.oqdrops).toBe(1);
    expect(tap.out.size).toBe(0);
  });

  test("ENOBUFS keeps the frame and stops the source; onTransmitReady goes on in order", () => {
    const { tap, driver, ifnet } = join();
    driver.depth = 2;
    for (let n = 0; n < 5; n++) tap.inject(new Uint8Array(60).fill(n));
    expect(driver.ring.length).toBe(2);
    expect(tap.waiting).toBe(2);
    driver.complete(1);
    ifnet.onTransmitReady();
    expect(driver.ring.map((m) => dataOf(m)[0])).toEqual([1, 2]);
    driver.depth = 10;
    ifnet.onTransmitReady();
    expect(driver.ring.map((m) => dataOf(m)[0])).toEqual([1, 2, 3, 4]);
  });

  test("frames that waited too long for a slow link are dropped, others never are", () => {
    const { tap, driver, ifnet, host } = join();
    driver.depth = 2;
    for (let n = 0; n < 5; n++) tap.inject(new Uint8Array(60).fill(n));
    tap.waitedMs = 500;
    driver.depth = 10;
    ifnet.onTransmitReady();
    // The frame that the driver had refused is sent; the two behind it are too old.
    expect(driver.ring.map((m) => dataOf(m)[0])).toEqual([0, 1, 2]);
    expect(host.counters.txTooOld).toBe(2);
    expect(ifnet.counters.oqdrops).toBe(2);
    // The driver has room again: a late turn of our own is no reason to drop.
    tap.inject(new Uint8Array(60).fill(9));
    expect(driver.ring.map((m) => dataOf(m)[0])).toEqual([0, 1, 2, 9]);
    expect(host.counters.txTooOld).toBe(2);
  });

  test("attack-S12 frames that waited while the process stood still are dropped, counted", () => {
    const now = vi.spyOn(performance, "now");
    let ms = 1e9;
    now.mockImplementation(() => ms);
    stallsOf(systemClock).look(ms);
    try {
      const { tap, driver, ifnet, host } = join();
      tap.inject(new Uint8Array(60).fill(1));
      driver.depth = 1;
      for (let n = 2; n < 8; n++) tap.inject(new Uint8Array(60).fill(n));
      ms += 2001;
      driver.depth = 10;
      ifnet.onTransmitReady();
      // The driver had the first, and the host the second.
      expect(driver.ring.map((m) => dataOf(m)[0])).toEqual([1, 2]);
      expect(host.counters.txTooOld).toBe(5);
      tap.inject(new Uint8Array(60).fill(9));
      expect(driver.ring.map((m) => dataOf(m)[0])).toEqual([1, 2, 9]);
    } finally {
      now.mockRestore();
    }
  });

  test("ENOBUFS in the middle of a cut super-frame keeps the rest", () => {
    const { tap, driver, ifnet } = join(0);
    driver.depth = 2;
    const { bytes, facts } = superFrame(false, 4000, 1000);
    tap.inject(bytes, facts);
    expect(driver.ring.length).toBe(2);
    driver.depth = 10;
    ifnet.onTransmitReady();
    const payload = driver.ring.flatMap((_, i) => [...driver.bytes(i).subarray(54)]);
    expect(Uint8Array.from(payload)).toEqual(bytes.subarray(54));
  });

  test("another errno ends the frame, counted", () => {
    const { tap, driver, host, ifnet } = join();
    driver.errno = Errno.ENETDOWN;
    tap.inject(new Uint8Array(60));
    expect(host.counters.txRefused).toBe(1);
    expect(ifnet.counters.oqdrops).toBe(1);
    expect(tap.out.size).toBe(0);
  });

  test("a driver that says ready inside transmit gets each frame once", () => {
    const { tap, driver, ifnet } = join();
    const { transmit } = ifnet;
    ifnet.transmit = (mbufs, n) => {
      ifnet.onTransmitReady();
      return transmit(mbufs, n);
    };
    for (let n = 0; n < 3; n++) tap.inject(new Uint8Array(60).fill(n));
    expect(driver.ring.map((m) => dataOf(m)[0])).toEqual([0, 1, 2]);
  });

  test("a long burst gives others a turn after 64 frames", async () => {
    const { tap, driver, ifnet } = join(ALL, 256);
    driver.depth = 0;
    for (let n = 0; n < 100; n++) tap.inject(new Uint8Array(60).fill(n));
    driver.depth = 1000;
    ifnet.onTransmitReady();
    expect(driver.ring.length).toBe(65);
    await turn();
    expect(driver.ring.map((m) => dataOf(m)[0])).toEqual(Array.from({ length: 100 }, (_, n) => n));
  });

  test("frames of one flow share a number, and flows differ; fragments ignore ports", () => {
    const { tap, driver } = join();
    const fragment = packet({ payload: 64, udp: true, port: 1 }).bytes;
    fragment[20] = 0x20;
    const otherFragment = packet({ payload: 64, udp: true, port: 2 }).bytes;
    otherFragment[20] = 0x20;
    for (const port of [1, 1, 2]) tap.inject(packet({ payload: 10, port }).bytes);
    tap.inject(fragment);
    tap.inject(otherFragment);
    const ids = driver.ring.map((m) => m.flowId);
    expect(ids[0]).toBe(ids[1]);
    expect(ids[0]).not.toBe(ids[2]);
    expect(ids[3]).toBe(ids[4]);
  });
});

describe("driver to kernel", () => {
  function chain(...pieces: Uint8Array[]): { head: Mbuf; freed: () => number } {
    let freed = 0;
    const mbufs = pieces.map((piece) => {
      const m = new Mbuf();
      m.attach(piece, 0, piece.length, () => freed++);
      return m;
    });
    for (const [i, m] of mbufs.entries()) m.next = mbufs[i + 1];
    mbufs[0]!.pktLength = pieces.reduce((n, piece) => n + piece.length, 0);
    return { head: mbufs[0]!, freed: () => freed };
  }

  test("a chain becomes one frame, and is freed", () => {
    const { tap, ifnet } = join();
    const { head, freed } = chain(new Uint8Array(40).fill(1), new Uint8Array(30).fill(2));
    ifnet.input(head);
    expect(freed()).toBe(2);
    const bytes = new Uint8Array(70).fill(1);
    bytes.fill(2, 40);
    expect(tap.sent[0]!.bytes).toEqual(bytes);
    expect(tap.sent[0]!.facts).toMatchObject({ csumValid: false, needsCsum: false });
  });

  test.each([
    [Csum.L4_CALC | Csum.L4_VALID, true],
    // A computed and wrong checksum is left to the stack: no checked bit.
    [Csum.L4_CALC, false],
    [Csum.L3_CALC | Csum.L3_VALID, false],
    [0, false],
  ])("csum flags %i: valid %s", (flags, csumValid) => {
    const { tap, ifnet } = join();
    const { head } = chain(new Uint8Array(60));
    head.csumFlags = flags;
    ifnet.input(head);
    expect(tap.sent[0]!.facts.csumValid).toBe(csumValid);
  });

  test.each([
    [false, Csum.IP_TSO | Csum.IP_TCP, Gso.TCPV4],
    [true, Csum.IP6_TSO | Csum.IP6_TCP, Gso.TCPV6],
  ])("what LRO merged goes up as a super-frame (IPv6 %s)", (isIp6, csumFlags, gso) => {
    const { tap, ifnet } = join();
    const { head } = chain(new Uint8Array(2000), new Uint8Array(1400));
    const facts = { csumStart: 34, csumOffset: 16, headerLength: 66, tsoSegsz: 1448 };
    Object.assign(head, facts, { isIp6, csumFlags });
    ifnet.input(head);
    expect(tap.sent[0]!.facts).toEqual({
      needsCsum: true,
      csumStart: 34,
      csumOffset: 16,
      csumValid: true,
      gso,
      gsoEcn: false,
      gsoSize: 1448,
      headerLength: 66,
    });
  });

  test("every loss is counted by its reason, and the chain freed", () => {
    const { tap, ifnet, host } = join();
    const many = chain(...Array.from({ length: 97 }, () => new Uint8Array(10)));
    ifnet.input(many.head);
    tap.room = 0;
    const full = chain(new Uint8Array(60));
    ifnet.input(full.head);
    tap.up = false;
    const down = chain(new Uint8Array(60));
    ifnet.input(down.head);
    expect(host.counters).toMatchObject({ rxTooManyPieces: 1, rxQueueFull: 1, rxDown: 1 });
    expect(ifnet.counters.iqdrops).toBe(3);
    expect([many.freed(), full.freed(), down.freed()]).toEqual([97, 1, 1]);
  });
});

describe("link", () => {
  test("carrier follows the driver's link", () => {
    const { tap, ifnet } = join();
    expect(tap.carrier).toBe(false);
    ifnet.setLinkState(true);
    expect(tap.carrier).toBe(true);
    ifnet.setLinkState(false);
    expect(tap.carrier).toBe(false);
  });

  test("a new MTU goes to the driver", async () => {
    const { tap, driver, host, ifnet } = join();
    tap.change({ mtu: 9000 });
    await host.settled();
    expect(ifnet.mtu).toBe(9000);
    expect(driver.calls).toEqual(["mtu 9000"]);
    expect(tap.mtuWishes).toEqual([]);
  });

  test("a refused MTU is said, with the command that works, and the kernel's set back", async () => {
    const { tap, driver, host } = join();
    driver.mtuErrno = Errno.EINVAL;
    tap.change({ mtu: 60_000 });
    await host.settled();
    expect(tap.mtu).toBe(1500);
    expect(driver.logged.join()).toContain("EINVAL");
    expect(driver.logged.join()).toContain('"ip link set dev rw0 mtu 1500"');
  });

  test("when the kernel's can't be set back either, that is said too, once", async () => {
    const { tap, driver, host } = join();
    driver.mtuErrno = Errno.EINVAL;
    tap.mtuRefusal = new TapError("TAP_NO_PERMISSION", "sudo ip link");
    tap.change({ mtu: 60_000 });
    await host.settled();
    expect(tap.mtuWishes).toEqual([1500]);
    expect(driver.logged.length).toBe(2);
    expect(driver.logged[1]).toContain("sudo ip link");
  });

  test("down and up follow, and only the last of many changes counts", async () => {
    const { tap, driver, host, ifnet } = join();
    tap.change({ up: false });
    await host.settled();
    expect(driver.calls).toEqual(["down"]);
    expect(ifnet.flags & Iff.UP).toBe(0);

    let open = (): void => {};
    driver.gate = new Promise((resolve) => {
      open = resolve;
    });
    for (const up of [true, false, true, false, true]) tap.change({ up });
    open();
    await host.settled();
    expect(driver.calls).toEqual(["down", "up"]);
    expect(ifnet.flags & Iff.UP).toBe(Iff.UP);
  });

  test("a driver that is not up yet is taken up at once", async () => {
    const tap = new FakeTap("rw0");
    const driver = new FakeDriver(ALL);
    driver.ifnet.flags = 0;
    const host = new TapHost(tap, driver.ifnet, driver.hooks);
    await host.settled();
    expect(driver.calls).toEqual(["up"]);
  });

  test("a driver that fails to go down is said, and does not end anything", async () => {
    const tap = new FakeTap("rw0");
    const driver = new FakeDriver(ALL);
    const down = async (): Promise<void> => {
      driver.ifnet.flags &= ~Iff.UP;
      throw new Error("no answer");
    };
    const host = new TapHost(tap, driver.ifnet, { ...driver.hooks, down });
    tap.change({ up: false });
    await host.settled();
    expect(driver.logged).toEqual(["The driver does not go down: no answer"]);
  });
});

test("leaving frees what waits and lets go of both ends", () => {
  const { tap, driver, host, ifnet } = join();
  driver.depth = 1;
  tap.inject(new Uint8Array(60));
  tap.inject(new Uint8Array(60));
  expect(tap.out.size).toBe(2);
  host.leave();
  expect(tap.out.size).toBe(1);
  driver.complete(1);
  expect(tap.out.size).toBe(0);
  tap.inject(new Uint8Array(60));
  ifnet.onTransmitReady();
  expect(driver.ring.length).toBe(0);
});
