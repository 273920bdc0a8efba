/** Driver and device test each other: the whole path of a frame, and every recovery. */

import { describe, expect, test } from "vitest";
import { Iff } from "../../frontend/net/ifnet.ts";
import { Csum } from "../../frontend/net/mbuf.ts";
import { ResetReason } from "../../shared/ena/registers.ts";
import { Gso } from "../../shared/net/frame.ts";
import { SOAK } from "../support/counts.ts";
import { buildPacket } from "../support/packets.ts";
import { EnaPair } from "../support/pair.ts";

const MAC = [2, 0, 0, 0, 0, 1];
const payload = (length: number, seed = 1): Uint8Array =>
  Uint8Array.from({ length }, (_, i) => (i * 7 + seed) & 0xff);
const rawFrame = (length: number, seed = 1): Uint8Array => {
  const bytes = payload(length, seed);
  bytes.set([2, 0, 0, 0, 0, 9, ...MAC, 0x88, 0xb5]);
  return bytes;
};
const toUs = (length: number, seed = 1): Uint8Array => {
  const bytes = payload(length, seed);
  bytes.set([...MAC, 2, 0, 0, 0, 0, 9, 0x88, 0xb5]);
  return bytes;
};

for (const llq of [false, true]) {
  describe(`with Tx descriptors in ${llq ? "device" : "host"} memory`, () => {
    const start = async (queues = 1, mtu = 1500): Promise<EnaPair> => {
      const pair = new EnaPair({ device: { llq }, queues, mtu });
      await pair.start();
      return pair;
    };

    test("attaches, comes up, link comes up", async () => {
      const pair = await start();
      const { ifnet } = pair.driver;
      expect([...ifnet.mac]).toEqual(MAC);
      expect(pair.linkStates).toEqual([true]);
      expect(ifnet.flags & Iff.DRV_RUNNING).not.toBe(0);
      expect(pair.driver.counters()["tx_placement"]).toBe(llq ? "device" : "host");
      expect(pair.deviceFaults).toEqual([]);
      expect(pair.driverFaults).toEqual([]);
    });

    test("frames of all lengths arrive in the segment, byte for byte, and are freed", async () => {
      const pair = await start();
      const lengths = [14, 60, 95, 96, 97, 128, 1000, 1514];
      for (const length of lengths) expect(pair.send(rawFrame(length))).toBe(0);
      await pair.settle();
      expect(pair.segment.map((f) => f.bytes)).toEqual(lengths.map((n) => rawFrame(n)));
      expect(pair.outstanding).toBe(0);
      expect(pair.deviceFaults).toEqual([]);
      expect(pair.counter("pushed_bytes")).toBe(0);
    });

    test("chains of pieces arrive whole, more pieces than descriptors too", async () => {
      const pair = await start();
      const whole = rawFrame(1200);
      for (const size of [1, 7, 60, 64, 150, 1199]) {
        const pieces: Uint8Array[] = [];
        for (let at = 0; at < whole.length; at += size) pieces.push(whole.slice(at, at + size));
        expect(pair.send(...pieces)).toBe(0);
      }
      await pair.settle();
      expect(pair.segment.map((f) => f.bytes)).toEqual(new Array(6).fill(whole));
      expect(pair.counter("queue0", "tx_ring", "mbuf_collapses")).toBeGreaterThan(0);
      expect(pair.outstanding).toBe(0);
      expect(pair.deviceFaults).toEqual([]);
    });

    test("a batch costs one doorbell for each 64 packets", async () => {
      const pair = await start();
      const mbufs = Array.from({ length: 130 }, (_, i) => pair.mbuf(rawFrame(60, i)));
      expect(pair.driver.ifnet.transmit(mbufs, 130)).toBe(130);
      await pair.settle();
      expect(pair.counter("queue0", "tx_ring", "doorbells")).toBe(3);
      expect(pair.segment.length).toBe(130);
    });

    test("many laps of the ring, in and out", async () => {
      const pair = await start();
      for (let round = 0; round < 40; round++) {
        for (let i = 0; i < 100; i++) expect(pair.send(rawFrame(300 + i, round))).toBe(0);
        for (let i = 0; i < 100; i++) expect(pair.inject(toUs(200 + i, round))).toBeUndefined();
        pair.flushPort();
        await pair.settle();
      }
      expect(pair.segment.length).toBe(4000);
      expect(pair.inputs.length).toBe(4000);
      expect(pair.inputs.filter((f, i) => f.bytes.length !== 200 + (i % 100))).toEqual([]);
      expect(pair.deviceFaults).toEqual([]);
      expect(pair.driverFaults).toEqual([]);
      expect(pair.outstanding).toBe(0);
    });

    test("partial checksum and TSO facts reach the segment", async () => {
      const pair = await start();
      const tcp = buildPacket({ payload: payload(5000), checksum: "partial" });
      const m = pair.mbuf(tcp.bytes);
      m.csumFlags = Csum.IP_TSO | Csum.IP_TCP;
      m.csumStart = tcp.l4;
      m.csumOffset = 16;
      m.tsoSegsz = 1448;
      m.headerLength = tcp.payload;
      expect(pair.driver.ifnet.send(m)).toBe(0);
      const udp = buildPacket({ payload: payload(500), checksum: "partial", protocol: 17 });
      const n = pair.mbuf(udp.bytes);
      n.csumFlags = Csum.IP_UDP;
      n.csumStart = udp.l4;
      n.csumOffset = 6;
      expect(pair.driver.ifnet.send(n)).toBe(0);
      expect(pair.send(rawFrame(100))).toBe(0);
      await pair.settle();
      const [first, second, third] = pair.segment;
      expect(first).toMatchObject({ gso: Gso.TCPV4, gsoSize: 1448 });
      expect(second).toMatchObject({ gso: Gso.NONE, needsCsum: true, csumStart: udp.l4 });
      expect(third).toMatchObject({ gso: Gso.NONE, needsCsum: false });
      expect(pair.deviceFaults).toEqual([]);
    });

    test("a full ring refuses, and says when there is room", async () => {
      const pair = await start();
      let sent = 0;
      while (pair.send(rawFrame(200)) === 0) sent++;
      expect(sent).toBeGreaterThan(200);
      expect(pair.driver.ifnet.flags & Iff.DRV_OACTIVE).not.toBe(0);
      await pair.settle();
      expect(pair.readyCalls).toBe(1);
      expect(pair.driver.ifnet.flags & Iff.DRV_OACTIVE).toBe(0);
      expect(pair.segment.length).toBe(sent);
      expect(pair.send(rawFrame(200))).toBe(0);
    });

    test("jumbo frames come in several buffers and leave as one chain", async () => {
      const pair = await start(1, 9000);
      for (const length of [60, 2048, 4096, 4097, 9014]) {
        expect(pair.inject(toUs(length))).toBeUndefined();
      }
      pair.flushPort();
      await pair.settle();
      expect(pair.inputs.map((f) => f.bytes)).toEqual(
        [60, 2048, 4096, 4097, 9014].map((n) => toUs(n)),
      );
      expect(pair.inputs.map((f) => f.pieces)).toEqual([1, 1, 1, 2, 3]);
    });

    test("four queues: flows spread, each frame once", async () => {
      const pair = await start(4);
      for (let port = 0; port < 64; port++) {
        const { bytes } = buildPacket({ payload: payload(100), sourcePort: 5000 + port });
        expect(pair.send(bytes)).toBe(0);
        const back = buildPacket({
          payload: payload(100),
          sourcePort: 5000 + port,
          destination: MAC,
        });
        expect(pair.inject(back.bytes)).toBeUndefined();
      }
      pair.flushPort();
      await pair.settle();
      expect(pair.segment.length).toBe(64);
      expect(pair.inputs.length).toBe(64);
      const queues = [0, 1, 2, 3];
      expect(queues.map((q) => pair.counter(`queue${q}`, "tx_ring", "count"))).not.toContain(0);
      expect(queues.map((q) => pair.counter(`queue${q}`, "rx_ring", "count"))).not.toContain(0);
    });

    test("down and up, and traffic goes on", async () => {
      const pair = await start();
      for (let i = 0; i < 5; i++) {
        await pair.run(pair.driver.down());
        expect(pair.send(rawFrame(60))).not.toBe(0);
        await pair.run(pair.driver.up());
        await pair.settle();
        expect(pair.send(rawFrame(60))).toBe(0);
        expect(pair.inject(toUs(60))).toBeUndefined();
        pair.flushPort();
        await pair.settle();
      }
      expect(pair.segment.length).toBe(5);
      expect(pair.inputs.length).toBe(5);
      expect(pair.deviceFaults).toEqual([]);
      await pair.run(pair.driver.detach());
      expect(pair.counter("rx_mbufs_in_use")).toBe(0);
    });

    test("a lost link frees all, the next device takes over", async () => {
      const pair = await start();
      for (let i = 0; i < 50; i++) expect(pair.send(rawFrame(300))).toBe(0);
      pair.cut();
      expect(pair.outstanding).toBe(0);
      expect(pair.linkStates).toEqual([true, false]);
      expect(pair.counter("queue0", "tx_ring", "dropped_link")).toBe(50);
      expect(pair.send(rawFrame(60))).not.toBe(0);
      await pair.reconnect();
      await pair.settle();
      expect(pair.linkStates).toEqual([true, false, true]);
      expect(pair.readyCalls).toBeGreaterThan(0);
      expect(pair.send(rawFrame(60))).toBe(0);
      expect(pair.inject(toUs(99))).toBeUndefined();
      pair.flushPort();
      await pair.settle();
      expect(pair.segment.length).toBe(1);
      expect(pair.inputs.length).toBe(1);
    });
  });
}

test("many resets under load, for every reason, no buffer lost or doubled", async () => {
  const resets = SOAK ? 10_000 : 200;
  const pair = new EnaPair({ driver: { rxRingSize: 256, txRingSize: 256 } });
  const reasons: ResetReason[] = Object.values(ResetReason).filter((reason) => reason !== 0);
  await pair.start();
  let sent = 0;
  for (let i = 0; i < resets; i++) {
    for (let k = 0; k < 10; k++) if (pair.send(rawFrame(300, k)) === 0) sent++;
    for (let k = 0; k < 10; k++) pair.inject(toUs(300, k));
    pair.flushPort();
    // In every second reset the frames are still in flight; in the others they have been delivered.
    if (i % 2 === 0) pair.pump();
    const reason = reasons[i % reasons.length]!;
    if (reason !== ResetReason.DEVICE_REQUEST) pair.driver.adapter.requestReset(reason);
    else if (!pair.nic.levers.requestReset())
      throw new Error(`reset ${i}: the event queue is full`);
    pair.pump();
    await pair.second();
  }
  expect(pair.counter("total_resets")).toBe(resets);
  expect(pair.counter("reset_failures")).toBe(0);
  // The device got each reason by its number.
  const seen = pair.nic.snapshot().resets;
  for (const [name, reason] of Object.entries(ResetReason)) {
    if (reasons.includes(reason)) expect([name, (seen[name] ?? 0) > 0]).toEqual([name, true]);
  }
  expect(pair.outstanding).toBe(0);
  const dropped = pair.counter("queue0", "tx_ring", "dropped_reset");
  expect(pair.segment.length).toBeGreaterThanOrEqual(sent - dropped);
  expect(pair.segment.length).toBeLessThanOrEqual(sent);
  expect(pair.driverFaults).toEqual([]);
  await pair.run(pair.driver.detach());
  expect(pair.counter("rx_mbufs_in_use")).toBe(0);
});
