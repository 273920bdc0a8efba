/** netfront against the device's netback, in one process: connect, frames both ways, detach. */
import { afterEach, describe, expect, test, vi } from "vitest";
import { Errno } from "../../frontend/bus/errno.ts";
import { Ifcap } from "../../frontend/net/ifnet.ts";
import { Csum, type Mbuf } from "../../frontend/net/mbuf.ts";
import { XenDmaMap } from "../../frontend/xen/bus-dma-xen/map.ts";
import { getMapGref, repoolTxMap, take } from "../../frontend/xen/pool.ts";
import { Gso } from "../../shared/net/frame.ts";
import { frame, MAC, PEER } from "../support/nic-frames.ts";
import { buildPacket } from "../support/packets.ts";
import { XenPair } from "../support/pair.ts";
import { sameBytes } from "../support/same.ts";
import { backendViolations, referencesInUse, violations } from "../support/xen-invariants.ts";

/** A TCP super-frame as a TAP delivers it, to be segmented. */
function superFrame(pair: XenPair, bytes: number, v6 = false): { m: Mbuf; bytes: Uint8Array } {
  const built = buildPacket({
    v6,
    payload: new Uint8Array(bytes).map((_, i) => i & 0xff),
    checksum: "partial",
    destination: PEER,
  });
  const m = pair.mbuf(built.bytes);
  m.csumFlags = v6 ? Csum.IP6_TSO | Csum.IP6_TCP : Csum.IP_TSO | Csum.IP_TCP;
  m.csumStart = built.l4;
  m.csumOffset = 16;
  m.tsoSegsz = 1400;
  m.headerLength = built.payload;
  m.isIp6 = v6;
  return { m, bytes: built.bytes };
}

afterEach(() => {
  vi.restoreAllMocks();
});

describe("connecting", () => {
  test("both states Connected, carrier up, every receive slot posted", async () => {
    const pair = await XenPair.started();
    expect(pair.linkStates).toEqual([true]);
    expect(pair.nic.snapshot().backend).toBe("connected");
    expect(pair.nic.snapshot().frontend).toBe("connected");
    expect(pair.counter("queue0", "rx", "in_flight")).toBe(256);
    expect(violations(pair)).toEqual([]);
    expect(backendViolations(pair)).toEqual([]);
    expect([...pair.driver.ifnet.mac]).toEqual(MAC);
    expect(pair.driver.ifnet.linkState).toBe("up");
  });

  test("several queues have their keys in directories, one has them at the top", async () => {
    const keys = (pair: XenPair): readonly string[] => [
      ...pair.machine.store.directory("/local/domain/1/device/vif/0").children.names(),
    ];
    const one = await XenPair.started();
    expect(keys(one)).toContain("tx-ring-ref");
    expect(keys(one)).not.toContain("multi-queue-num-queues");
    const four = await XenPair.started({ queues: 4 });
    expect(keys(four)).not.toContain("tx-ring-ref");
    expect(keys(four)).toEqual(expect.arrayContaining(["queue-0", "queue-3"]));
    const { store } = four.machine;
    expect(store.read("/local/domain/1/device/vif/0/multi-queue-num-queues")).toBe("4");
    expect(four.info.rxqs).toHaveLength(4);
  });

  test("a frontend takes no more queues than the backend offers", async () => {
    const pair = await XenPair.started({ queues: 4, config: { queues: 2 } });
    expect(pair.info.txqs).toHaveLength(2);
  });

  test("an MTU beyond the backend's is a sentence", async () => {
    const pair = new XenPair({ mtu: 9500 });
    await expect(pair.attach()).rejects.toThrow("MTU 9500: the backend takes 68");
    await pair.settle();
    expect(referencesInUse(pair)).toBe(0);
  });

  test("a backend that never answers is a sentence, and nothing is left", async () => {
    const pair = new XenPair({ driver: { connectMs: 20 } });
    // Drops the store's events.
    pair.tamper = (act) => (act.kind === "xenstore" && act.bytes[0] === 15 ? [] : [act]);
    await expect(pair.attach()).rejects.toThrow(
      "the backend did not offer a connection: its state is Unknown",
    );
    await pair.settle();
    expect(referencesInUse(pair)).toBe(0);
  });

  test("a link that goes in the middle ends attach, at any message", async () => {
    for (let steps = 1; steps < 60; steps += 3) {
      const pair = new XenPair();
      const attached = pair.attach().then(
        () => "attached",
        () => "ended",
      );
      for (let i = 0; i < steps; i++) {
        pair.pump();
        await new Promise((resolve) => setImmediate(resolve));
        if (i === steps - 1) pair.cut();
      }
      const end = await attached;
      if (end === "attached") break;
      expect(pair.info.grants.liveCount).toBe(0);
      expect(referencesInUse(pair)).toBe(0);
    }
  });
});

describe("sending", () => {
  test.each([14, 60, 1514, 4095, 4096, 4097, 9014])("a frame of %d bytes", async (length) => {
    const pair = await XenPair.started({ mtu: 9000 });
    const bytes = frame(length);
    expect(pair.send(bytes)).toBe(0);
    expect(pair.outstanding).toBe(1);
    await pair.settle();
    expect(pair.segment.map((f) => f.bytes)).toEqual([bytes]);
    expect(pair.outstanding).toBe(0);
    expect(pair.end.memory.readCount).toBe(0);
    expect(violations(pair)).toEqual([]);
  });

  test("a chain of pieces, some of them empty, some longer than a page", async () => {
    const pair = await XenPair.started({ mtu: 9000 });
    const bytes = frame(9000);
    const cuts = [0, 20, 20, 5000, 5001, 9000];
    const pieces = cuts.slice(1).map((end, i) => bytes.slice(cuts[i], end));
    expect(pair.send(...pieces)).toBe(0);
    await pair.settle();
    expect(pair.segment[0]?.bytes).toEqual(bytes);
    expect(pair.outstanding).toBe(0);
  });

  test("more than 18 pieces are copied together", async () => {
    const pair = await XenPair.started();
    const bytes = frame(1000);
    const pieces = Array.from({ length: 50 }, (_, i) => bytes.slice(i * 20, i * 20 + 20));
    expect(pair.send(...pieces)).toBe(0);
    await pair.settle();
    expect(pair.segment[0]?.bytes).toEqual(bytes);
    expect(pair.counter("queue0", "tx", "defrag")).toBe(1);
  });

  test("what no backend takes stays with the caller", async () => {
    const pair = await XenPair.started();
    expect(pair.send(frame(65536))).toBe(Errno.EMSGSIZE);
    expect(pair.counter("queue0", "tx", "too_long")).toBe(1);
    expect(pair.outstanding).toBe(0);
    expect(violations(pair)).toEqual([]);
  });

  test("too short for an Ethernet header: dropped, counted", async () => {
    const pair = await XenPair.started();
    expect(pair.send(frame(13))).toBe(0);
    await pair.settle();
    expect(pair.segment).toEqual([]);
    expect(pair.counter("queue0", "tx", "too_short")).toBe(1);
    expect(pair.outstanding).toBe(0);
  });

  test.each([false, true])("a super-frame goes as one packet (v6: %s)", async (v6) => {
    const pair = await XenPair.started();
    const { m, bytes } = superFrame(pair, 60_000, v6);
    expect(pair.sendMbuf(m)).toBe(0);
    await pair.settle();
    expect(pair.segment).toHaveLength(1);
    expect(pair.segment[0]).toMatchObject({
      gso: v6 ? Gso.TCPV6 : Gso.TCPV4,
      gsoSize: 1400,
      needsCsum: true,
    });
    expect(pair.segment[0]?.bytes).toEqual(bytes);
    expect(pair.counter("queue0", "tx", "tso")).toBe(1);
    expect(pair.outstanding).toBe(0);
    expect(violations(pair)).toEqual([]);
  });

  test("the pages of a large packet have consecutive references, whatever went before", async () => {
    const pair = await XenPair.started();
    const loads = vi.spyOn(XenDmaMap.prototype, "load");
    const runs: boolean[] = [];
    for (let i = 0; i < 300; i++) {
      loads.mockClear();
      const bytes = i % 3 === 0 ? 9000 + 37 * i : 200;
      expect(pair.sendMbuf(superFrame(pair, bytes).m)).toBe(0);
      const refs = loads.mock.contexts.map((map) => getMapGref(map as XenDmaMap));
      runs.push(refs.every((ref, k) => k === 0 || ref === refs[k - 1]! + 1));
      if (i % 4 === 3) await pair.settle();
    }
    expect(runs).not.toContain(false);
    expect(violations(pair)).toEqual([]);
  });

  test("a large packet goes also when no maps with consecutive references are left", async () => {
    const pair = await XenPair.started();
    const txq = pair.txq();
    const taken = Array.from({ length: 128 }, (_, i) => take(txq.pool, 2 * i)!);
    const { m, bytes } = superFrame(pair, 20_000);
    expect(pair.sendMbuf(m)).toBe(0);
    for (const map of taken) repoolTxMap(txq, map);
    await pair.settle();
    expect(pair.segment[0]?.bytes).toEqual(bytes);
    expect(violations(pair)).toEqual([]);
  });

  test("a blank checksum goes as one", async () => {
    const pair = await XenPair.started();
    const { bytes, l4 } = buildPacket({ payload: frame(100), checksum: "partial", protocol: 17 });
    const m = pair.mbuf(bytes);
    m.csumFlags = Csum.IP_UDP;
    m.csumStart = l4;
    m.csumOffset = 6;
    expect(pair.sendMbuf(m)).toBe(0);
    await pair.settle();
    expect(pair.segment[0]).toMatchObject({ needsCsum: true, csumStart: l4, csumOffset: 6 });
  });

  test("a batch leaves as grants, one range of requests, one index, one event", async () => {
    const pair = await XenPair.started();
    pair.sent.length = 0;
    const mbufs = Array.from({ length: 5 }, (_, i) => pair.mbuf(frame(200 + i)));
    expect(pair.driver.ifnet.transmit(mbufs, 5)).toBe(5);
    const kinds = pair.sent.map((act) => (act.kind === "write" ? act.bytes.length : act.kind));
    expect(kinds).toEqual(["push", "push", "push", "push", "push", "grant", 5 * 12, 4, "event"]);
  });

  test("super-frames of one batch leave together", async () => {
    const pair = await XenPair.started();
    pair.sent.length = 0;
    const mbufs = Array.from({ length: 3 }, () => superFrame(pair, 10_000).m);
    expect(pair.driver.ifnet.transmit(mbufs, 3)).toBe(3);
    expect(pair.sent.filter((act) => act.kind === "event")).toHaveLength(1);
    const writes = pair.sent.filter((act) => act.kind === "write");
    expect(writes.map((act) => act.kind === "write" && act.bytes.length)).toEqual([3 * 4 * 12, 4]);
  });

  test("a full ring refuses, and says when there is room", async () => {
    const pair = await XenPair.started();
    let sent = 0;
    while (pair.send(frame(100)) === 0) sent++;
    expect(sent).toBe(256 - 20);
    expect(pair.counter("queue0", "tx", "refused_ring")).toBe(1);
    expect(pair.readyCalls).toBe(0);
    await pair.settle();
    expect(pair.readyCalls).toBe(1);
    expect(pair.send(frame(100))).toBe(0);
  });

  test("a link without room refuses until it has some", async () => {
    const pair = await XenPair.started();
    pair.writable = false;
    expect(pair.send(frame(100))).toBe(Errno.ENOBUFS);
    pair.driver.writableAgain();
    expect(pair.readyCalls).toBe(0);
    pair.writable = true;
    pair.driver.writableAgain();
    expect(pair.readyCalls).toBe(1);
  });

  test("no more bytes are pushed than the device holds", async () => {
    const pair = await XenPair.started({ pushBytes: 10_000 });
    let sent = 0;
    while (pair.send(frame(1500)) === 0) sent++;
    expect(sent).toBe(6);
    expect(pair.counter("queue0", "tx", "refused_budget")).toBe(1);
    await pair.settle();
    expect(pair.readyCalls).toBe(1);
    expect(pair.counter("pushed_bytes")).toBe(0);
  });

  test("a flow stays on one queue, many flows use all", async () => {
    const pair = await XenPair.started({ queues: 4 });
    for (let port = 0; port < 64; port++) {
      const { bytes } = buildPacket({ sourcePort: 1000 + port });
      for (let i = 0; i < 3; i++) expect(pair.send(bytes)).toBe(0);
    }
    await pair.settle();
    const counts = [0, 1, 2, 3].map((q) => pair.counter(`queue${q}`, "tx", "count"));
    expect(counts.reduce((a, b) => a + b)).toBe(192);
    for (const count of counts) {
      expect(count % 3).toBe(0);
      expect(count).toBeGreaterThan(0);
    }
  });

  test("a distrusted backend sees copies in pages that are zero behind them", async () => {
    const pair = await XenPair.started({ device: { trusted: false } });
    expect(pair.info.trusted).toBe(false);
    const bytes = frame(5000);
    expect(pair.send(bytes.slice(0, 100), bytes.slice(100))).toBe(0);
    const txq = pair.txq();
    const pages = txq.bounce.filter((page) => page !== undefined);
    expect(pages).toHaveLength(2);
    const shown = Buffer.concat(pages.map((page) => Buffer.from(page!)));
    expect(new Uint8Array(shown.subarray(0, 5000))).toEqual(bytes);
    sameBytes(shown.subarray(5000), new Uint8Array(shown.length - 5000));
    await pair.settle();
    expect(pair.segment[0]?.bytes).toEqual(bytes);
    // The page is reused for a shorter packet, and must hold nothing of the longer one.
    expect(pair.send(frame(60, 5))).toBe(0);
    const again = txq.bounce.find((page) => page?.[59] === frame(60, 5)[59]);
    sameBytes(again!.subarray(60), new Uint8Array(again!.length - 60));
    await pair.settle();
    expect(pair.segment[1]?.bytes).toEqual(frame(60, 5));
  });
});

describe("receiving", () => {
  test.each([60, 1514, 4096, 4097, 9014])("a frame of %d bytes", async (length) => {
    const pair = await XenPair.started({ mtu: 9000 });
    const bytes = frame(length, 2, MAC);
    expect(pair.inject(bytes)).toBeUndefined();
    pair.flushPort();
    await pair.settle();
    expect(pair.inputs.map((i) => i.bytes)).toEqual([bytes]);
    expect(pair.inputs[0]?.pieces).toBe(Math.ceil(length / 4096));
    expect(pair.inputDones).toBe(1);
    expect(pair.counter("queue0", "rx", "in_flight")).toBe(256);
    expect(violations(pair)).toEqual([]);
  });

  test("each receive slot keeps its own map and reference", async () => {
    const pair = await XenPair.started();
    const refs = () => pair.rxq().maps.map((map) => map && getMapGref(map));
    const first = refs()[0]!;
    const own = Array.from({ length: 256 }, (_, slot) => first + slot);
    expect(refs()).toEqual(own);
    for (let i = 0; i < 400; i++) {
      pair.inject(frame(60 + ((i * 97) % 1400), i, MAC));
      if (i % 7 !== 6) continue;
      pair.flushPort();
      await pair.settle();
    }
    expect(refs()).toEqual(own);
  });

  test("a slot whose map went on with extra info gets one that no empty slot needs", async () => {
    const pair = await XenPair.started();
    const built = buildPacket({ payload: frame(30_000), checksum: "partial", destination: MAC });
    const facts = { needsCsum: true, csumStart: built.l4, csumOffset: 16, csumValid: true };
    for (let i = 0; i < 100; i++) {
      for (let n = 0; n <= i % 3; n++) {
        pair.inject(built.bytes, {
          ...facts,
          gso: Gso.TCPV4,
          gsoSize: 1400,
          headerLength: built.payload,
        });
      }
      pair.flushPort();
      await pair.settle();
      expect(violations(pair)).toEqual([]);
    }
    const { maps } = pair.rxq();
    const away = maps.filter((map, slot) => map!.index !== slot).length;
    expect(away).toBeLessThan(100);
  });

  test.each([false, true])("a super-frame comes up as one chain (v6: %s)", async (v6) => {
    const pair = await XenPair.started();
    const { bytes, l4, payload } = buildPacket({
      v6,
      payload: new Uint8Array(60_000),
      checksum: "partial",
      destination: MAC,
    });
    let got: Mbuf | undefined;
    pair.onInput = (m) => {
      got = m;
    };
    pair.inject(bytes, {
      needsCsum: true,
      csumStart: l4,
      csumOffset: 16,
      csumValid: true,
      gso: v6 ? Gso.TCPV6 : Gso.TCPV4,
      gsoSize: 1400,
      headerLength: payload,
    });
    pair.flushPort();
    await pair.settle();
    expect(pair.inputs[0]?.bytes).toEqual(bytes);
    expect(got).toMatchObject({
      tsoSegsz: 1400,
      csumStart: l4,
      csumOffset: 16,
      headerLength: payload,
      isIp6: v6,
      csumFlags: v6 ? Csum.IP6_TSO | Csum.IP6_TCP : Csum.IP_TSO | Csum.IP_TCP,
    });
    got?.free();
    expect(violations(pair)).toEqual([]);
  });

  test("a blank checksum comes with its place", async () => {
    const pair = await XenPair.started();
    const { bytes, l4 } = buildPacket({ checksum: "partial", destination: MAC });
    let got: Mbuf | undefined;
    pair.onInput = (m) => {
      got = m;
    };
    pair.inject(bytes, { needsCsum: true, csumStart: l4, csumOffset: 16, csumValid: true });
    pair.flushPort();
    await pair.settle();
    expect(got).toMatchObject({ csumFlags: Csum.IP_TCP, csumStart: l4, csumOffset: 16 });
  });

  test("without rxcsum the backend finishes checksums and cuts", async () => {
    const pair = await XenPair.started({ driver: { rxcsum: false } });
    const { bytes, l4 } = buildPacket({ checksum: "partial", destination: MAC });
    pair.inject(bytes, { needsCsum: true, csumStart: l4, csumOffset: 16, csumValid: true });
    pair.flushPort();
    await pair.settle();
    expect(pair.inputs[0]?.csumFlags).toBe(Csum.L4_CALC | Csum.L4_VALID);
    expect(pair.end.port?.offloads).toMatchObject({ csum: false, tso4: false, tso6: false });
    expect(pair.driver.ifnet.capEnable & (Ifcap.RXCSUM | Ifcap.LRO)).toBe(0);
  });

  test("segments of one flow are merged", async () => {
    const pair = await XenPair.started();
    for (let i = 0; i < 4; i++) {
      const { bytes } = buildPacket({
        payload: new Uint8Array(1000),
        sequence: 1000 * i,
        df: true,
        destination: MAC,
        flags: 0x10,
      });
      pair.inject(bytes, { csumValid: true });
    }
    pair.flushPort();
    await pair.settle();
    expect(pair.inputs).toHaveLength(1);
    expect(pair.inputs[0]?.tsoSegsz).toBe(1000);
    expect(pair.counter("queue0", "rx", "lro_flushed")).toBe(1);
  });

  test("many more frames than the ring has slots", async () => {
    const pair = await XenPair.started();
    for (let round = 0; round < 8; round++) {
      for (let i = 0; i < 200; i++) pair.inject(frame(100 + i, round, MAC));
      pair.flushPort();
      await pair.settle();
    }
    expect(pair.inputs).toHaveLength(1600);
    expect(violations(pair)).toEqual([]);
  });

  test("pages that the stack keeps leave the ring short; it fills up again by itself", async () => {
    const pair = await XenPair.started();
    const held: Mbuf[] = [];
    pair.onInput = (m) => held.push(m);
    for (let round = 0; round < 20; round++) {
      for (let i = 0; i < 250; i++) pair.inject(frame(60, i, MAC));
      pair.flushPort();
      await pair.settle();
    }
    expect(pair.rxq().short).toBe(true);
    expect(pair.counter("queue0", "rx", "mbuf_alloc_fail")).toBeGreaterThan(0);
    for (const m of held.splice(0)) m.free();
    pair.onInput = undefined;
    await pair.second();
    expect(pair.rxq().short).toBe(false);
    expect(pair.counter("queue0", "rx", "in_flight")).toBe(256);
  });

  test("down: what still comes is dropped and counted", async () => {
    const pair = await XenPair.started();
    await pair.driver.down();
    pair.inject(frame(100, 1, MAC));
    pair.flushPort();
    await pair.settle();
    expect(pair.inputs).toEqual([]);
    expect(pair.counter("queue0", "rx", "dropped_down")).toBe(1);
    expect(pair.send(frame(100))).toBe(Errno.ENETDOWN);
    await pair.driver.up();
    pair.inject(frame(100, 2, MAC));
    pair.flushPort();
    await pair.settle();
    expect(pair.inputs).toHaveLength(1);
  });
});

describe("coming and going", () => {
  test("link lost and back: packets under way are freed, buffers rebuilt, the place announced", async () => {
    const pair = await XenPair.started();
    pair.send(frame(100));
    pair.cut();
    expect(pair.outstanding).toBe(0);
    expect(pair.linkStates).toEqual([true, false]);
    expect(referencesInUse(pair)).toBe(0);
    expect(pair.send(frame(100))).toBe(Errno.ENOBUFS);
    await pair.reconnect();
    expect(pair.linkStates).toEqual([true, false, true]);
    expect(pair.readyCalls).toBe(1);
    expect(violations(pair)).toEqual([]);
    expect(backendViolations(pair)).toEqual([]);
    const rarp = pair.segment.map((f) => f.bytes).filter((b) => b[12] === 0x80 && b[13] === 0x35);
    expect(rarp).toHaveLength(1);
    expect([...rarp[0]!.subarray(0, 12)]).toEqual([255, 255, 255, 255, 255, 255, ...MAC]);
    await pair.second();
    await pair.second();
    await pair.second();
    expect(pair.counter("announcements")).toBe(3);
  });

  test("suspend waits until what was sent is answered, and then nothing is sent", async () => {
    const pair = await XenPair.started();
    for (let i = 0; i < 100; i++) pair.send(frame(100, i));
    await pair.suspend();
    expect(pair.segment).toHaveLength(100);
    expect(pair.outstanding).toBe(0);
    expect(pair.send(frame(100))).toBe(Errno.ENOBUFS);
    expect(pair.linkStates.at(-1)).toBe(false);
    const acknowledged = pair.machine.store.read("/local/domain/1/control/shutdown");
    expect(acknowledged).toHaveLength(0);
    pair.cut();
    await pair.reconnect();
    expect(pair.send(frame(100))).toBe(0);
    await pair.settle();
    expect(pair.outstanding).toBe(0);
  });

  test("a suspend that the hypervisor refuses is cancelled: the rings go on", async () => {
    const pair = await XenPair.started();
    const { store } = pair.machine;
    store.write("/local/domain/1/control/shutdown", "suspend");
    pair.machine.settle();
    await pair.settle();
    await new Promise((resolve) => setTimeout(resolve, 20));
    await pair.settle();
    expect(pair.info.suspended).toBe(false);
    expect(pair.info.carrier).toBe(true);
    pair.send(frame(100));
    await pair.settle();
    expect(pair.segment).toHaveLength(1);
  });

  test("a backend that closes is followed, and one that offers itself again too", async () => {
    const pair = await XenPair.started();
    const state = "/local/domain/0/backend/vif/1/0/state";
    const { store } = pair.machine;
    store.write(state, "5");
    pair.machine.settle();
    await pair.settle();
    expect(pair.info.carrier).toBe(false);
    expect(pair.info.xenbus.state).toBe(6);
    expect(violations(pair)).toEqual([]);
  });

  test("a NIC without a link detaches", async () => {
    const pair = await XenPair.started();
    pair.cut();
    await pair.run(pair.driver.detach());
    expect(referencesInUse(pair)).toBe(0);
    expect(pair.counter("rx_mbufs_in_use")).toBe(0);
  });

  test("detach: the backend lets go first, then everything is free", async () => {
    const pair = await XenPair.started({ queues: 2 });
    for (let i = 0; i < 50; i++) pair.send(frame(100, i));
    await pair.run(pair.driver.detach());
    await pair.settle();
    expect(pair.segment).toHaveLength(50);
    expect(pair.driverFaults).toEqual([]);
    expect(pair.deviceFaults).toEqual([]);
    expect(referencesInUse(pair)).toBe(0);
    expect(pair.outstanding).toBe(0);
    expect(pair.counter("rx_mbufs_in_use")).toBe(0);
    expect(pair.nic.snapshot().backend).toBe("closed");
  });

  test("settled comes back behind everything posted", async () => {
    const pair = await XenPair.started();
    pair.send(frame(100));
    const settled = pair.driver.settled();
    await pair.run(settled);
    expect(pair.segment).toHaveLength(1);
  });

  test("another MAC on another device: the interface stays down", async () => {
    const pair = await XenPair.started();
    pair.cut();
    Object.assign(pair.options, { config: { mac: Uint8Array.of(2, 0, 0, 0, 0, 2) } });
    await pair.reconnect();
    expect(pair.info.carrier).toBe(false);
    expect(pair.counter("resume_failures")).toBe(1);
    expect(pair.info.retryTicks).toBe(0);
  });
});
