/** The emulated adapter over a plain interface. Behaviour 024 of netmap's tests is here. */
import { beforeEach, describe, expect, test } from "vitest";
import { Errno } from "../../frontend/bus/errno.ts";
import { Ifcap, Ifnet } from "../../frontend/net/ifnet.ts";
import type { Mbuf } from "../../frontend/net/mbuf.ts";
import { adapterOf, type NmPort, nmOpen } from "../../frontend/netmap/descriptor.ts";
import { EmulatedAdapter } from "../../frontend/netmap/emulated.ts";
import { Ns, Poll } from "../../frontend/netmap/flags.ts";
import { Netmap } from "../../frontend/netmap/netmap.ts";
import { bytesOf, FakeNic, mbufOf } from "../support/fake-netmap-adapter.ts";
import { ethernet, putFrame, takeAll } from "../support/netmap-frames.ts";
import { transmitEach } from "../support/transmit.ts";

let netmap: Netmap;
let ifnet: Ifnet;
/** Packets that the driver holds and has not freed. */
let wire: Mbuf[];
let room: number;
/** Number of the frame that the driver always refuses. */
let refused: number;
let up: Uint8Array[];

beforeEach(() => {
  netmap = new Netmap({ emulated: { slots: 8, rings: 2 } });
  ifnet = new Ifnet("plain0", Uint8Array.of(2, 0, 0, 0, 0, 9), 1500);
  wire = [];
  up = [];
  room = 100;
  refused = -1;
  transmitEach(ifnet, (m) => {
    if (bytesOf(m)[11] === refused) return Errno.EMSGSIZE;
    if (room === 0) return Errno.ENOBUFS;
    room--;
    wire.push(m);
    return 0;
  });
  ifnet.input = (m) => {
    up.push(bytesOf(m));
    m.free();
  };
  netmap.addInterface(ifnet);
});
const open = (name = "netmap:plain0-0") => nmOpen(name, { netmap });
const put = (port: NmPort, n: number): void => {
  for (let i = 0; i < n; i++) putFrame(port, port.txRing(0), ethernet(1, i));
};

describe("transmit", () => {
  test("a frame that the driver never accepts is dropped and counted, those behind it go", async () => {
    refused = 1;
    const port = await open();
    put(port, 4);
    port.txsync();
    expect(wire.map((m) => bytesOf(m)[11])).toEqual([0, 2, 3]);
    expect(ifnet.counters.oqdrops).toBe(1);
    for (const m of wire) m.free();
    port.txsync();
    expect(port.txRing(0).space).toBe(7);
    await port.close();
  });

  test("frames are copied into mbufs; a slot is free when its mbuf is freed, in ring order", async () => {
    const port = await open();
    const ring = port.txRing(0);
    put(port, 7);
    port.txsync();
    expect(wire.map((m) => bytesOf(m)[11])).toEqual([0, 1, 2, 3, 4, 5, 6]);
    expect(ring.space).toBe(0);
    wire[1]!.free();
    port.txsync();
    expect(ring.space).toBe(0);
    wire[0]!.free();
    expect(port.look(Poll.OUT)).toBe(Poll.OUT);
    expect(ring.space).toBe(2);
    for (const m of wire.slice(2)) m.free();
    port.txsync();
    expect(ring.space).toBe(7);
    await port.close();
  });

  test("a driver without room keeps slots waiting, and wakes whoever waits", async () => {
    const port = await open();
    room = 2;
    put(port, 7);
    expect(port.look(Poll.OUT)).toBe(0);
    expect(wire).toHaveLength(2);
    const later = port.poll(Poll.OUT, -1);
    room = 100;
    for (const m of wire) m.free();
    ifnet.onTransmitReady();
    expect(await later).toBe(Poll.OUT);
    expect(wire).toHaveLength(7);
    expect((adapterOf(port) as EmulatedAdapter).txNoRoom).toBeGreaterThan(0);
    await port.close();
  });

  test("lengths beyond a buffer are cut, and report and change marks are taken off", async () => {
    const port = await open();
    const ring = port.txRing(0);
    put(port, 1);
    ring.setLen(0, 5000);
    ring.setSlotFlags(0, Ns.REPORT | Ns.BUF_CHANGED);
    port.txsync();
    expect(wire[0]!.pktLength).toBe(2048);
    expect(ring.slotFlags(0)).toBe(0);
    await port.close();
  });

  test("mbufs that come back after the port closed do no harm", async () => {
    const port = await open();
    put(port, 3);
    port.txsync();
    await port.close();
    for (const m of wire) m.free();
    const again = await open();
    expect(again.txRing(0).space).toBe(7);
    await again.close();
  });
});

describe("receive", () => {
  test("frames of the driver reach the ring, by flow, and not the stack", async () => {
    const port = await open("netmap:plain0");
    ifnet.input(mbufOf(ethernet(1, 2), 0));
    ifnet.input(mbufOf(ethernet(1, 3), 1));
    expect(port.look(Poll.IN)).toBe(Poll.IN);
    expect(takeAll(port, port.rxRing(0))).toEqual([Buffer.from(ethernet(1, 2))]);
    expect(takeAll(port, port.rxRing(1))).toEqual([Buffer.from(ethernet(1, 3))]);
    expect(up).toEqual([]);
    await port.close();
    ifnet.input(mbufOf(ethernet(1, 4)));
    expect(up).toHaveLength(1);
  });

  test("rings that are not open stay with the stack", async () => {
    const port = await open("netmap:plain0-1");
    ifnet.input(mbufOf(ethernet(1, 2), 0));
    expect(up).toHaveLength(1);
    await port.close();
  });

  test("a long packet, of several mbufs, fills several slots with NS_MOREFRAG", async () => {
    const port = await open();
    const frame = ethernet(1, 2, 5000);
    const m = mbufOf(frame.subarray(0, 100));
    m.next = mbufOf(frame.subarray(100));
    m.pktLength = 5000;
    ifnet.input(m);
    port.rxsync();
    const ring = port.rxRing(0);
    expect([0, 1, 2].map((i) => ring.slotFlags(i))).toEqual([Ns.MOREFRAG, Ns.MOREFRAG, 0]);
    expect(takeAll(port, ring)).toEqual([Buffer.from(frame)]);
    expect(m.freed).toBe(true);
    await port.close();
  });

  test("the queue holds a slot more than the ring, then frames are dropped and counted", async () => {
    const port = await open();
    for (let i = 0; i < 12; i++) ifnet.input(mbufOf(ethernet(1, i)));
    expect((adapterOf(port) as EmulatedAdapter).rxDropFull).toBe(3);
    expect(ifnet.counters.iqdrops).toBe(3);
    const got: number[] = [];
    for (let i = 0; i < 3; i++) {
      port.rxsync();
      got.push(...takeAll(port, port.rxRing(0)).map((f) => f[11]!));
    }
    expect(got).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8]);
    await port.close();
  });

  test("a packet that does not fit whole waits whole", async () => {
    const port = await open();
    for (let i = 0; i < 5; i++) ifnet.input(mbufOf(ethernet(1, i)));
    ifnet.input(mbufOf(ethernet(1, 9, 6000)));
    port.rxsync();
    const ring = port.rxRing(0);
    expect(ring.space).toBe(5);
    expect(takeAll(port, ring)).toHaveLength(5);
    port.rxsync();
    expect(takeAll(port, ring)).toEqual([Buffer.from(ethernet(1, 9, 6000))]);
    await port.close();
  });

  test("a buffer that is none: the packet is lost, the ring repaired, nothing else touched", async () => {
    const port = await open();
    const ring = port.rxRing(0);
    ring.setBufIdx(0, 999_999);
    const m = mbufOf(ethernet(1, 2));
    ifnet.input(m);
    port.rxsync();
    expect([m.freed, ring.bufIdx(0), ring.space]).toEqual([true, 0, 0]);
    await port.close();
  });
});

describe("the interface", () => {
  test("is as it was, once the last port is closed; what waited is freed", async () => {
    const { transmit, input, onTransmitReady } = ifnet;
    const one = await open("netmap:plain0-0");
    const two = await open();
    expect(ifnet.capEnable & Ifcap.NETMAP).toBe(Ifcap.NETMAP);
    const m = mbufOf(ethernet(1, 2));
    ifnet.input(m);
    await one.close();
    expect(ifnet.input).not.toBe(input);
    await two.close();
    expect(m.freed).toBe(true);
    expect([ifnet.transmit, ifnet.input, ifnet.onTransmitReady]).toEqual([
      transmit,
      input,
      onTransmitReady,
    ]);
    expect(ifnet.capEnable & Ifcap.NETMAP).toBe(0);
    expect(netmap.memory.active).toBe(0);
  });

  test("the stack's frames go to the host ring", async () => {
    const port = await open("netmap:plain0*");
    ifnet.send(mbufOf(ethernet(1, 2)));
    expect(wire).toEqual([]);
    port.rxsync();
    expect(takeAll(port, port.rxRing(2))).toHaveLength(1);
    putFrame(port, port.txRing(2), ethernet(1, 3));
    port.txsync();
    expect(up).toEqual([Buffer.from(ethernet(1, 3))]);
    await port.close();
  });

  test.each([
    ["best", false, true],
    ["native", false, false],
    ["generic", true, true],
  ] as const)("adapter mode %s", async (adapterMode, isEmulated, plainOpens) => {
    const other = new Netmap({ adapterMode });
    const nic = new FakeNic(other);
    other.addInterface(ifnet);
    const port = await nmOpen("netmap:fake0", { netmap: other });
    expect(adapterOf(port) instanceof EmulatedAdapter).toBe(isEmulated);
    await port.close();
    const plain = nmOpen("netmap:plain0", { netmap: other });
    if (plainOpens) await (await plain).close();
    else await expect(plain).rejects.toMatchObject({ code: "EOPNOTSUPP" });
    expect(nic.na.refs).toBe(1);
  });
});
