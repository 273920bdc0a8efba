/** Host rings and NS_FORWARD: the connection of a NIC in netmap mode with the host's stack. */
import { beforeEach, describe, expect, test, vi } from "vitest";
import { Errno } from "../../frontend/bus/errno.ts";
import { Csum } from "../../frontend/net/mbuf.ts";
import { nmOpen } from "../../frontend/netmap/descriptor.ts";
import { Ns, Poll, RegFlag, RingFlag } from "../../frontend/netmap/flags.ts";
import { Netmap } from "../../frontend/netmap/netmap.ts";
import { bytesOf, FakeNic, mbufOf } from "../support/fake-netmap-adapter.ts";
import { ethernet, putFrame, takeAll } from "../support/netmap-frames.ts";

let netmap: Netmap;
let nic: FakeNic;
beforeEach(() => {
  netmap = new Netmap();
  nic = new FakeNic(netmap, { txRings: 2, rxRings: 2 });
});
const open = (name: string) => nmOpen(name, { netmap });

describe("what the stack sends", () => {
  test("goes to the host ring when its queue is in netmap mode, else to the driver", async () => {
    const port = await open("netmap:fake0*");
    expect(nic.ifnet.send(mbufOf(ethernet(1, 2)))).toBe(0);
    expect(port.look(Poll.IN)).toBe(Poll.IN);
    expect(takeAll(port, port.rxRing(2))).toEqual([Buffer.from(ethernet(1, 2))]);
    expect(nic.plainSent).toEqual([]);
    await port.close();
    nic.ifnet.send(mbufOf(ethernet(1, 3)));
    expect(nic.plainSent).toEqual([Buffer.from(ethernet(1, 3))]);
  });

  test("only for queues in netmap mode: the flow id chooses the queue", async () => {
    const port = await open("netmap:fake0-0");
    const host = await open("netmap:fake0^");
    nic.ifnet.send(mbufOf(ethernet(1, 0), 0));
    nic.ifnet.send(mbufOf(ethernet(1, 1), 1));
    nic.ifnet.send(mbufOf(ethernet(1, 2), 2));
    expect(nic.plainSent).toEqual([Buffer.from(ethernet(1, 1))]);
    host.rxsync();
    expect(takeAll(host, host.rxRing(2))).toHaveLength(2);
    await host.close();
    await port.close();
  });

  test("a batch for both ends where the driver first refuses a frame", async () => {
    const port = await open("netmap:fake0-0");
    const host = await open("netmap:fake0^");
    const batch = [1, 3, 0, 5, 7, 2].map((flow) => mbufOf(ethernet(1, flow), flow));
    let room = 3;
    const driver = vi.spyOn(nic.na, "driverTransmit").mockImplementation((mbufs, n) => {
      const accepted = Math.min(room, n);
      for (let i = 0; i < accepted; i++) nic.plainSent.push(bytesOf(mbufs[i]!));
      room -= accepted;
      return accepted;
    });
    const sources = (frames: readonly Uint8Array[]) => frames.map((bytes) => bytes[11]);
    expect(nic.ifnet.transmit(batch, batch.length)).toBe(4);
    expect(driver).toHaveBeenCalledTimes(2);
    host.rxsync();
    expect(sources(nic.plainSent)).toEqual([1, 3, 5]);
    expect(sources(takeAll(host, host.rxRing(2)))).toEqual([0]);
    await host.close();
    await port.close();
  });

  test("a frame that the host ring accepts clears the driver's last refusal", async () => {
    const port = await open("netmap:fake0-0");
    nic.ifnet.transmitErrno = Errno.ENOBUFS;
    expect(nic.ifnet.transmit([mbufOf(ethernet(1, 0), 0)], 1)).toBe(1);
    expect(nic.ifnet.transmitErrno).toBe(0);
    await port.close();
  });

  test("host rings alone intercept nothing", async () => {
    const host = await open("netmap:fake0^");
    nic.ifnet.send(mbufOf(ethernet(1, 2)));
    expect(nic.plainSent).toHaveLength(1);
    await host.close();
  });

  test("each drop has its reason, frees the mbuf, and counts at the interface", async () => {
    const port = await open("netmap:fake0*");
    const { counters } = nic.na;
    const csum = mbufOf(ethernet(1, 2));
    csum.csumFlags = Csum.IP_TCP;
    const tso = mbufOf(ethernet(1, 2));
    tso.csumFlags = Csum.IP_TSO | Csum.IP_TCP;
    const long = mbufOf(ethernet(1, 2, 2049));
    for (const m of [csum, tso, long]) expect(nic.ifnet.send(m)).toBe(0);
    expect([csum.freed, tso.freed, long.freed]).toEqual([true, true, true]);
    for (let i = 0; i < 10; i++) nic.ifnet.send(mbufOf(ethernet(1, 2)));
    expect(counters).toMatchObject({
      hostDropCsum: 1,
      hostDropTso: 1,
      hostDropTooLong: 1,
      hostDropFull: 3,
    });
    expect(nic.ifnet.counters.oqdrops).toBe(6);
    port.rxsync();
    expect(takeAll(port, port.rxRing(2))).toHaveLength(7);
    await port.close();
  });

  test("received flags of a forwarded packet are no reason to drop it", async () => {
    const port = await open("netmap:fake0*");
    const m = mbufOf(ethernet(1, 2));
    m.csumFlags = Csum.L4_CALC | Csum.L4_VALID;
    nic.ifnet.send(m);
    port.rxsync();
    expect(takeAll(port, port.rxRing(2))).toHaveLength(1);
    await port.close();
  });

  test("what waits when the port closes is freed", async () => {
    const port = await open("netmap:fake0*");
    const m = mbufOf(ethernet(1, 2));
    nic.ifnet.send(m);
    expect(m.freed).toBe(false);
    await port.close();
    expect(m.freed).toBe(true);
  });
});

describe("what the application sends to the stack", () => {
  test("goes up at txsync, and all slots are free again", async () => {
    const port = await open("netmap:fake0^");
    const ring = port.txRing(2);
    putFrame(port, ring, ethernet(1, 2));
    putFrame(port, ring, ethernet(1, 3, 1500));
    port.txsync();
    expect(nic.up).toEqual([Buffer.from(ethernet(1, 2)), Buffer.from(ethernet(1, 3, 1500))]);
    expect(ring.space).toBe(ring.numSlots - 1);
    await port.close();
  });

  test("lengths that no frame has are passed over", async () => {
    const port = await open("netmap:fake0^");
    const ring = port.txRing(2);
    for (const length of [13, 14, 2048, 2049]) {
      ring.setLen(ring.head, length);
      ring.head = ring.next(ring.head);
    }
    ring.cur = ring.head;
    port.txsync();
    expect(nic.up.map((f) => f.length)).toEqual([14, 2048]);
    expect(nic.na.counters.toHostDropLength).toBe(2);
    await port.close();
  });
});

describe("NS_FORWARD", () => {
  test("NIC to host: marked frames go up when they are released, with NR_FORWARD only", async () => {
    const port = await open("netmap:fake0*");
    const ring = port.rxRing(0);
    for (const on of [false, true]) {
      ring.flags = on ? RingFlag.FORWARD : 0;
      nic.inject(0, ethernet(1, 2));
      nic.inject(0, ethernet(1, 3));
      port.rxsync();
      ring.setSlotFlags(ring.head, Ns.FORWARD);
      ring.head = ring.tail;
      ring.cur = ring.head;
      port.rxsync();
      expect(nic.up).toEqual(on ? [Buffer.from(ethernet(1, 2))] : []);
    }
    await port.close();
  });

  test("host to NIC: buffers change places with transmit slots, and poll sends them", async () => {
    const port = await open("netmap:fake0*");
    const host = port.rxRing(2);
    const tx = port.txRing(0);
    host.flags = RingFlag.FORWARD;
    nic.ifnet.send(mbufOf(ethernet(1, 2)));
    nic.ifnet.send(mbufOf(ethernet(1, 3)));
    expect(port.look(Poll.IN)).toBe(Poll.IN);
    const before = [host.bufIdx(0), tx.bufIdx(0)];
    host.setSlotFlags(0, Ns.FORWARD);
    host.head = host.tail;
    host.cur = host.head;
    port.look(Poll.IN);
    expect(nic.sent[0]).toEqual([Buffer.from(ethernet(1, 2))]);
    expect([tx.bufIdx(0), host.bufIdx(0)]).toEqual(before);
    expect(host.slotFlags(0)).toBe(Ns.BUF_CHANGED);
    await port.close();
  });

  test("host to NIC: NR_NO_TX_POLL holds until a poll has moved a frame", async () => {
    const port = await nmOpen("netmap:fake0*", { netmap, flags: RegFlag.NO_TX_POLL });
    const host = port.rxRing(2);
    host.flags = RingFlag.FORWARD;
    putFrame(port, port.txRing(0), ethernet(1, 4));
    for (const [flags, sent] of [
      [0, []],
      [Ns.FORWARD, [4, 2]],
    ] as const) {
      nic.ifnet.send(mbufOf(ethernet(1, 2)));
      expect(port.look(Poll.IN)).toBe(Poll.IN);
      host.setSlotFlags(host.head, flags);
      host.advance(host.tail);
      expect(port.look(Poll.IN)).toBe(0);
      expect(nic.sent[0]!.map((bytes) => bytes[11])).toEqual(sent);
    }
    await port.close();
  });

  test("host to NIC needs all transmit rings bound", async () => {
    const all = await open("netmap:fake0/T");
    const host = await open("netmap:fake0^");
    const ring = host.rxRing(2);
    ring.flags = RingFlag.FORWARD;
    nic.ifnet.send(mbufOf(ethernet(1, 2)));
    host.rxsync();
    ring.setSlotFlags(0, Ns.FORWARD);
    ring.head = ring.tail;
    ring.cur = ring.head;
    host.look(Poll.IN);
    all.txsync();
    expect(nic.sent.flat()).toEqual([]);
    await host.close();
    await all.close();
  });
});

test("a capture at the interface sees what goes to and comes from the host ring, once each", async () => {
  const port = await open("netmap:fake0*");
  const seen: [string, number | undefined, number][] = [];
  nic.ifnet.bpf = {
    output: (m, queue) => seen.push(["out", bytesOf(m)[11], queue]),
    input: (m, queue) => seen.push(["in", bytesOf(m)[11], queue]),
  };
  nic.ifnet.send(mbufOf(ethernet(1, 2)));
  const bad = mbufOf(ethernet(1, 3));
  bad.csumFlags = Csum.IP_TCP;
  nic.ifnet.send(bad);
  port.rxsync();
  putFrame(port, port.txRing(2), ethernet(1, 4));
  port.txsync();
  expect(nic.up).toHaveLength(1);
  // As in the original, two kinds don't count: frames that the host ring never takes, and frames
  // that the application sends.
  putFrame(port, port.txRing(0), ethernet(1, 5));
  nic.inject(0, ethernet(1, 6));
  port.txsync();
  port.rxsync();
  expect(seen).toEqual([
    ["out", 2, -1],
    ["in", 4, -1],
  ]);
  await port.close();
});

test("a capture sees a frame of a queue that the driver kept as the driver's", async () => {
  const port = await open("netmap:fake0-0");
  let seen = 0;
  nic.ifnet.bpf = { output: () => seen++, input: () => seen++ };
  nic.ifnet.send(mbufOf(ethernet(1, 1), 1));
  expect(nic.plainSent).toHaveLength(1);
  expect(seen).toBe(0);
  await port.close();
});
