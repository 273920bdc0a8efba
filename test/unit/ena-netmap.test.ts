/** Native netmap on ENA from the application's side: long frames, waiting, resets, other devices. */
import { describe, expect, test } from "vitest";
import type { NmPort } from "../../frontend/netmap/descriptor.ts";
import { Ns, Poll } from "../../frontend/netmap/flags.ts";
import { viewOf } from "../../shared/bytes/words.ts";
import { putFrame, takeAll } from "../support/netmap-frames.ts";
import { AWAY, MAC, NetmapPair, numbered, SLOTS } from "../support/netmap-pair.ts";

const out = (n: number, length = 100): Uint8Array => numbered(n, length, AWAY);
const into = (n: number, length = 100): Uint8Array => numbered(n, length, MAC);
const bytesOf = (frames: Uint8Array[]): Buffer[] => frames.map((f) => Buffer.from(f));
const sent = (pair: NetmapPair): Buffer[] => pair.segment.map((f) => Buffer.from(f.bytes));

describe.each([
  ["device memory", { llq: true }],
  ["device memory, meta always", { llq: true, disableMetaCaching: true }],
  ["host memory", { llq: false }],
])("descriptors in %s", (_, device) => {
  test("frames up to 9000 bytes in buffers of 2048, both ways", async () => {
    const pair = new NetmapPair({ device: { ...device, completionOrder: "shuffle" }, mtu: 9000 });
    const port = await pair.startOpen();
    const before = pair.census();
    const lengths = [60, 2047, 2048, 2049, 4096, 4097, 6144, 8191, 8192, 9000, 9014];
    for (const length of lengths) {
      await pair.arrive(into(length, length));
      port.rxsync();
      const ring = port.rxRing(0);
      expect(ring.space).toBe(Math.ceil(length / 2048));
      const flags = Array.from({ length: ring.space }, (__, i) =>
        ring.slotFlags((ring.head + i) % SLOTS),
      );
      const last = flags.length - 1;
      expect(flags.map((f) => (f & Ns.MOREFRAG) !== 0)).toEqual(flags.map((__, i) => i < last));
      expect(takeAll(port, ring)).toEqual(bytesOf([into(length, length)]));
      expect(putFrame(port, port.txRing(0), out(length, length))).toBe(true);
      port.txsync();
      await pair.settle();
      port.txsync();
      pair.check();
    }
    expect(sent(pair)).toEqual(bytesOf(lengths.map((length) => out(length, length))));
    expect(pair.census()).toEqual(before);
    expect([pair.deviceFaults, pair.driverFaults]).toEqual([[], []]);
  });

  test("as many slots as a packet may have", async () => {
    const pair = new NetmapPair({ device });
    const port = await pair.startOpen();
    expect(putFrame(port, port.txRing(0), out(1, 1900), 100)).toBe(true);
    port.txsync();
    await pair.settle();
    expect(sent(pair)).toEqual(bytesOf([out(1, 1900)]));
    expect(pair.tx().stats.bad_packet).toBe(0);
  });
});

describe("what a sync costs", () => {
  /** Values of the doorbells since the last look. */
  function doorbells(pair: NetmapPair): number[] {
    return pair.sent.splice(0).flatMap((act) => {
      if (act.kind !== "mmio_write" || act.space !== 0 || act.address !== 0x1000) return [];
      return [viewOf(act.bytes).getUint32(0, true)];
    });
  }

  test.each([
    ["host", { llq: false }],
    ["device", { llq: true }],
  ])(
    "in %s memory: a doorbell behind each 64 packets and behind the last, none without",
    async (_, device) => {
      const pair = new NetmapPair({ device });
      const port = await pair.startOpen();
      doorbells(pair);
      port.txsync();
      expect(doorbells(pair)).toEqual([]);
      for (let n = 0; n < 130; n++) expect(putFrame(port, port.txRing(0), out(n))).toBe(true);
      port.txsync();
      expect(doorbells(pair)).toEqual([64, 128, 130]);
      await pair.settle();
      port.txsync();
      expect(doorbells(pair)).toEqual([]);
      for (let n = 0; n < 64; n++) expect(putFrame(port, port.txRing(0), out(n))).toBe(true);
      port.txsync();
      expect(doorbells(pair)).toEqual([194]);
      await pair.settle();
      expect(pair.tx().stats).toMatchObject({ count: 194, doorbells: 4, bytes: 194 * 100 });
      expect(pair.ifnet.counters).toMatchObject({ opackets: 194, oerrors: 0 });
    },
  );

  test("a ring stops while 21 slots or less would be left, and goes on with more", async () => {
    const pair = new NetmapPair({ device: { llq: false } });
    const port = await pair.startOpen();
    const tx = pair.tx();
    const ring = port.txRing(0);
    for (let n = 0; n < SLOTS - 22; n++) expect(putFrame(port, ring, out(n))).toBe(true);
    port.txsync();
    expect([tx.running, tx.stats.queue_stops]).toEqual([true, 0]);
    expect(putFrame(port, ring, out(1))).toBe(true);
    port.txsync();
    expect([tx.running, tx.stats.queue_stops]).toEqual([false, 1]);
    port.txsync();
    expect(tx.stats.queue_stops).toBe(1);
    await pair.settle();
    pair.clock.advance(500);
    port.txsync();
    expect([tx.running, tx.stats.queue_wakeups]).toEqual([true, 1]);
    port.txsync();
    expect(tx.stats.queue_wakeups).toBe(1);
  });

  test.each([9014, 9015, 0])("a frame of %i bytes, when 9014 may be sent", async (length) => {
    const pair = new NetmapPair({ mtu: 9000, bufBytes: 16_384 });
    const port = await pair.startOpen();
    pair.adapter.gate.maxFrameBytes = 9014;
    const ring = port.txRing(0);
    putFrame(port, ring, out(1, 9014));
    ring.setLen(0, length);
    putFrame(port, ring, out(2));
    port.txsync();
    await pair.settle();
    const ok = length === 9014;
    expect(sent(pair)).toEqual(bytesOf(ok ? [out(1, 9014), out(2)] : [out(2)]));
    expect(pair.tx().stats).toMatchObject({ bad_packet: ok ? 0 : 1, count: ok ? 2 : 1 });
    expect(pair.ifnet.counters.oerrors).toBe(ok ? 0 : 1);
    port.txsync();
    expect(ring.space).toBe(SLOTS - 1);
    pair.check();
  });

  test("ids come back in the order of completions", async () => {
    const pair = new NetmapPair({ device: { completionOrder: "shuffle" } });
    const port = await pair.startOpen();
    for (let round = 0; round < 6; round++) {
      for (let n = 0; n < 100; n++) expect(putFrame(port, port.txRing(0), out(n))).toBe(true);
      port.txsync();
      await pair.settle();
      port.txsync();
      expect(sent(pair)).toEqual(bytesOf(Array.from({ length: 100 }, (_, n) => out(n))));
      pair.segment.length = 0;
      expect(port.txRing(0).space).toBe(SLOTS - 1);
    }
    expect([...pair.tx().freeIds].sort((a, b) => a - b)).toEqual(
      Array.from({ length: SLOTS }, (_, id) => id),
    );
    expect(pair.faults).toEqual([]);
  });
});

describe("waiting", () => {
  test("an interrupt wakes who waits for frames, and for room", async () => {
    const pair = new NetmapPair({ device: { llq: false } });
    const port = await pair.startOpen();
    const input = port.poll(Poll.IN, -1);
    await pair.arrive(into(1));
    expect(await input).toBe(Poll.IN);
    takeAll(port, port.rxRing(0));

    const ring = port.txRing(0);
    while (putFrame(port, ring, out(1)));
    // Nothing is delivered before the pump, so the ring stays full.
    port.txsync();
    expect(ring.isEmpty).toBe(true);
    const room = port.poll(Poll.OUT, -1);
    await pair.settle();
    expect(await room).toBe(Poll.OUT);
    expect(ring.space).toBe(SLOTS - 1);
  });

  test("a link without room keeps the slots where they are, and says when it has room", async () => {
    const pair = new NetmapPair({ device: { llq: false } });
    const port = await pair.startOpen();
    const ring = port.txRing(0);
    for (let n = 0; n < SLOTS - 1; n++) expect(putFrame(port, ring, out(n))).toBe(true);
    pair.writable = false;
    expect(port.look(Poll.OUT)).toBe(0);
    await pair.settle();
    expect([pair.segment.length, pair.txKring().nrHwcur, ring.space]).toEqual([0, 0, 0]);
    expect(pair.tx().stats.refused_link).toBeGreaterThan(0);
    const room = port.poll(Poll.OUT, -1);
    pair.writable = true;
    pair.driver.writableAgain();
    expect(await pair.run(room)).toBe(Poll.OUT);
    expect(sent(pair)).toEqual(bytesOf(Array.from({ length: SLOTS - 1 }, (_, n) => out(n))));
  });

  test("the push budget holds slots back until completions free it", async () => {
    const pair = new NetmapPair({ pushBytes: 20_000, device: { llq: false } });
    const port = await pair.startOpen();
    for (let n = 0; n < 40; n++) expect(putFrame(port, port.txRing(0), out(n, 1500))).toBe(true);
    for (let i = 0; i < 40 && pair.segment.length < 40; i++) {
      port.look(Poll.OUT | Poll.IN);
      port.txsync();
      expect(pair.adapter.gate.pushedBytes).toBeLessThanOrEqual(20_000);
      await pair.settle();
    }
    expect(sent(pair)).toEqual(bytesOf(Array.from({ length: 40 }, (_, n) => out(n, 1500))));
    expect(pair.tx().stats.refused_budget).toBeGreaterThan(0);
  });

  test("slots released while the device is away go out, or count, once it is back", async () => {
    const pair = new NetmapPair();
    const port = await pair.startOpen();
    pair.cut();
    expect(putFrame(port, port.txRing(0), out(1))).toBe(true);
    expect(port.look(Poll.OUT | Poll.IN) & Poll.ERR).toBe(0);
    await pair.reconnect();
    await pair.settle();
    expect(putFrame(port, port.txRing(0), out(2))).toBe(true);
    port.txsync();
    await pair.settle();
    // netmap_reset treats unsent packets as sent; here a counter counts them.
    expect(sent(pair)).toEqual(bytesOf([out(2)]));
    expect(pair.tx().stats.dropped_unsent).toBe(1);
    expect(pair.adapter.ifnet.counters).toMatchObject({ opackets: 1, oqdrops: 1 });
  });
});

/** Sends traffic in both directions, and expects the same number of buffers as before. */
async function works(pair: NetmapPair, port: NmPort, n: number): Promise<void> {
  const from = pair.segment.length;
  await pair.arrive(into(n, 5000), into(n + 1));
  expect(port.look(Poll.IN)).toBe(Poll.IN);
  expect(takeAll(port, port.rxRing(0))).toEqual(bytesOf([into(n, 5000), into(n + 1)]));
  expect(putFrame(port, port.txRing(0), out(n, 5000))).toBe(true);
  port.txsync();
  await pair.settle();
  expect(sent(pair).slice(from)).toEqual(bytesOf([out(n, 5000)]));
  pair.check();
}

test("an application survives 100 resets and a device restart with its rings open", async () => {
  const pair = new NetmapPair({ mtu: 9000, device: { completionOrder: "shuffle" } });
  const port = await pair.startOpen();
  const before = pair.census();
  for (let i = 0; i < 100; i++) {
    await works(pair, port, 2 * i);
    // Frames are in flight in both directions when the reset comes.
    for (const length of [100, 9000]) putFrame(port, port.txRing(0), out(i, length));
    port.txsync();
    pair.inject(into(i, 3000));
    pair.nic.levers.requestReset();
    await pair.second();
    expect(pair.adapter.devStats.total_resets).toBe(i + 1);
    expect(port.look(Poll.IN | Poll.OUT) & Poll.ERR).toBe(0);
    takeAll(port, port.rxRing(0));
    await pair.settle();
    port.txsync();
    expect(pair.census()).toEqual(before);
  }
  putFrame(port, port.txRing(0), out(1, 9000));
  port.txsync();
  pair.cut();
  pair.check();
  expect(pair.census()).toEqual(before);
  for (let i = 0; i < 5; i++) {
    expect(port.look(Poll.IN | Poll.OUT) & Poll.ERR).toBe(0);
    await pair.second();
  }
  await pair.reconnect();
  await pair.settle();
  expect(port.look(Poll.OUT)).toBe(Poll.OUT);
  await works(pair, port, 500);
  expect(pair.census()).toEqual(before);
  await pair.close(port);
  await pair.arrive(into(900));
  expect(pair.inputs.length).toBe(1);
  expect(pair.netmap.memory.badFrees).toBe(0);
});

test("another device with fewer queues: rings without one rest, the next opening sees it", async () => {
  const pair = new NetmapPair({ queues: 4 });
  const port = await pair.startOpen();
  const before = pair.census();
  pair.cut();
  await pair.reconnect(undefined, { queues: 2 });
  await pair.settle();
  expect(pair.adapter.queues.length).toBe(2);
  expect(port.look(Poll.IN | Poll.OUT) & Poll.ERR).toBe(0);
  expect(putFrame(port, port.txRing(3), out(1))).toBe(true);
  expect([pair.txsync(3), pair.rxsync(3)]).toEqual([0, 0]);
  expect(pair.census()).toEqual(before);
  expect(putFrame(port, port.txRing(1), out(2))).toBe(true);
  port.txsync();
  await pair.settle();
  expect(sent(pair)).toEqual(bytesOf([out(2)]));
  await pair.close(port);
  const again = await pair.open();
  expect([again.nicTxRings, again.nicRxRings]).toEqual([2, 2]);
  pair.check();
});

test("a ring that is opened again shows nothing that its last user left", async () => {
  const pair = new NetmapPair({ queues: 2 });
  await pair.start();
  const flows = await pair.flows(4);
  const kept = await pair.open("netmap:ena0-0");
  const left = await pair.open("netmap:ena0-1");
  await pair.arrive(...flows[1]!);
  left.rxsync();
  expect(left.rxRing(1).space).toBe(4);
  await pair.close(left);
  const again = await pair.open("netmap:ena0-1");
  expect(again.rxRing(1).space).toBe(0);
  await pair.arrive(flows[1]![0]!);
  expect(again.look(Poll.IN)).toBe(Poll.IN);
  expect(takeAll(again, again.rxRing(1))).toEqual(bytesOf([flows[1]![0]!]));
  pair.check();
  await pair.close(kept);
  await pair.close(again);
  expect(pair.netmap.memory.badFrees).toBe(0);
});

test("the driver goes while a port is open: errors for the application, no buffer lost", async () => {
  const pair = new NetmapPair({ mtu: 9000 });
  const port = await pair.startOpen();
  await pair.arrive(into(1));
  await pair.run(pair.driver.detach());
  expect(port.look(Poll.IN) & Poll.ERR).toBe(Poll.ERR);
  await pair.close(port);
  expect(pair.netmap.memory.badFrees).toBe(0);
  expect(pair.netmap.memory.buffers.objFree).toBe(8192 - 2);
  // The same driver, or another, can use the name again.
  await pair.start();
  await works(pair, await pair.open(), 5);
});
