/**
 * Defects of the original netfront, and of its rewrite under review, that ours does not have. One
 * test for each, named after the defect.
 */

import { afterEach, describe, expect, test, vi } from "vitest";
import { Errno } from "../../frontend/bus/errno.ts";
import { Mbuf } from "../../frontend/net/mbuf.ts";
import { XenDmaMap } from "../../frontend/xen/bus-dma-xen/map.ts";
import { XenDmaTag } from "../../frontend/xen/bus-dma-xen/tag.ts";
import { GrantTable } from "../../frontend/xen/grant-table.ts";
import {
  getMapGref,
  repoolRxMap,
  repoolTxMap,
  unpoolRxMap,
  unpoolTxMap,
} from "../../frontend/xen/pool.ts";
import { TX_MAPS } from "../../frontend/xen/rings.ts";
import { RecordType } from "../../shared/wire/records.ts";
import { grantRef } from "../../shared/xen/grant.ts";
import { frame, MAC } from "../support/nic-frames.ts";
import { XenPair } from "../support/pair.ts";
import { referencesInUse, txMaps, violations } from "../support/xen-invariants.ts";

afterEach(() => {
  vi.restoreAllMocks();
});

async function receive(pair: XenPair, bytes: Uint8Array): Promise<void> {
  pair.inject(bytes);
  pair.flushPort();
  await pair.settle();
}

describe("the pool of maps", () => {
  test("an unsigned index is never below zero: an empty pool indexes out of range", async () => {
    const pair = await XenPair.started();
    const rxq = pair.rxq();
    const last = unpoolRxMap(rxq)!;
    for (let i = 0; i < 5; i++) expect(unpoolRxMap(rxq)).toBeUndefined();
    repoolRxMap(rxq, last);
    expect(rxq.pool.count).toBe(1);
    expect(violations(pair)).toEqual([]);
  });

  test("repool's assertion is off by one: map 258 overflows the array", async () => {
    const pair = await XenPair.started();
    const txq = pair.txq();
    const stranger = pair.rxq().maps[0]!;
    expect(() => repoolRxMap(pair.rxq(), stranger)).not.toThrow();
    for (let i = 1; i < 256; i++) repoolRxMap(pair.rxq(), pair.rxq().maps[i]!);
    expect(() => repoolRxMap(pair.rxq(), stranger)).toThrow("more maps than the pool had");
    expect(pair.rxq().pool.maps).toHaveLength(257);
    expect(txq.pool.count).toBe(257);
  });

  test("repool fails for a pool that was emptied: index -1", async () => {
    const pair = await XenPair.started();
    const txq = pair.txq();
    const all: XenDmaMap[] = [];
    for (let map = unpoolTxMap(txq); map !== undefined; map = unpoolTxMap(txq)) all.push(map);
    expect(txq.pool.count).toBe(0);
    for (const map of all) repoolTxMap(txq, map);
    pair.send(frame(100));
    await pair.settle();
    expect(pair.segment).toHaveLength(1);
  });
});

describe("setting up queues", () => {
  /** Lets only `n` maps be created. */
  function shortOfMaps(n: number): void {
    const real = XenDmaTag.prototype.createMap;
    let made = 0;
    vi.spyOn(XenDmaTag.prototype, "createMap").mockImplementation(function (
      this: XenDmaTag,
      flags,
    ) {
      return made++ < n ? real.call(this, flags) : Errno.ENOSPC;
    });
  }

  test.each([0, 1, 100, 257, 300, 513])(
    "a pool that is partly filled destroys maps that are not there (map %d fails)",
    async (n) => {
      shortOfMaps(n);
      const pair = new XenPair();
      await expect(pair.attach()).rejects.toMatchObject({ code: "NO_MEMORY" });
      expect(pair.info.rxqs).toEqual([]);
      expect(pair.info.txqs).toEqual([]);
      await pair.settle();
      expect(referencesInUse(pair)).toBe(0);
    },
  );

  test.each([0, 1, 2, 3])(
    "a failure before the tag is there disconnects without one (ring %d fails)",
    async (n) => {
      const real = GrantTable.prototype.allocGrantReference;
      let calls = 0;
      // A queue allocates a reference for each of its maps, then one for its ring.
      const ofRing = (n + 1) * (TX_MAPS + 1);
      vi.spyOn(GrantTable.prototype, "allocGrantReference").mockImplementation(function (
        this: GrantTable,
      ) {
        return ++calls === ofRing ? grantRef(-1) : real.call(this);
      });
      const pair = new XenPair({ queues: 2 });
      await expect(pair.attach()).rejects.toMatchObject({
        code: "NO_MEMORY",
        message: expect.stringMatching(/ ring: no grant reference is free/),
      });
      await pair.settle();
      expect(referencesInUse(pair)).toBe(0);
    },
  );

  test("an array freed after a failed setup is left dangling", async () => {
    shortOfMaps(600);
    const pair = new XenPair({ queues: 2 });
    await expect(pair.attach()).rejects.toThrow("map refused");
    vi.restoreAllMocks();
    // No queue is left for the functions that walk over all queues.
    pair.driver.batchApplied();
    pair.driver.tick();
    pair.driver.linkLost();
    expect(pair.counter("queues")).toBe(0);
  });

  test("references of empty slots are 0, a reference like any other, instead of none", async () => {
    const pair = await XenPair.started();
    const rxq = pair.rxq();
    await pair.driver.down();
    const filled = (slots: readonly unknown[]) => slots.map((each) => each !== undefined);
    expect(filled(rxq.maps)).toEqual(filled(rxq.mbufs));
    pair.cut();
    expect(rxq.maps.filter((map) => map !== undefined)).toEqual([]);
  });
});

describe("transmit", () => {
  test("an error of the load is ignored, and a stale reference sent", async () => {
    const pair = await XenPair.started();
    vi.spyOn(XenDmaMap.prototype, "load").mockReturnValueOnce(Errno.ENOSPC);
    pair.sent.length = 0;
    expect(pair.send(frame(100))).toBe(0);
    await pair.settle();
    expect(pair.sent.filter((act) => act.kind === "write")).toEqual([]);
    expect(pair.outstanding).toBe(0);
    expect(pair.driver.ifnet.counters.oerrors).toBe(1);
  });

  test("a buffer that crosses a page is two segments in a map of one", async () => {
    const pair = await XenPair.started({ mtu: 9000 });
    const storage = new Uint8Array(3 * 4096);
    const bytes = frame(5000);
    storage.set(bytes, 4000);
    const m = new Mbuf();
    m.attach(storage, 4000, 5000, undefined);
    expect(pair.driver.ifnet.send(m)).toBe(0);
    expect(txMaps(pair.txq()).map((map) => map.segmentCount)).toEqual([1, 1]);
    await pair.settle();
    expect(pair.segment[0]?.bytes).toEqual(bytes);
  });

  test.each([0, 257, 300, 0xffff])(
    "an id of the shared ring is used unchecked (%d)",
    async (id) => {
      const pair = await XenPair.started();
      pair.tamper = (act) => {
        if (act.kind === "write" && act.type === RecordType.XEN_TX_RSP) {
          new DataView(act.bytes.buffer, act.bytes.byteOffset).setUint16(0, id, true);
        }
        return [act];
      };
      pair.send(frame(100));
      await pair.settle();
      expect(pair.info.broken).toBe("TX_ID");
      expect(violations(pair)).toEqual([]);
    },
  );

  test("no free id is a panic: with the ring full of extra info there are ids left", async () => {
    const pair = await XenPair.started();
    let sent = 0;
    while (pair.send(frame(64)) === 0) sent++;
    expect(sent).toBeGreaterThan(200);
    expect(pair.txq().freeId).not.toBe(0);
    await pair.settle();
    expect(violations(pair)).toEqual([]);
  });

  test("a page still in use at its completion is a panic", async () => {
    const pair = await XenPair.started();
    pair.send(frame(100));
    const [map] = txMaps(pair.txq());
    pair.hypervisor.onGrantUse(getMapGref(map!), 1, 0);
    await expect(pair.settle()).resolves.toBeUndefined();
    expect(pair.info.broken).toBe("TX_GRANT_IN_USE");
  });
});

describe("receive", () => {
  test("an error of the load is ignored, and the slot keeps mbuf and map", async () => {
    const pair = await XenPair.started();
    await receive(pair, frame(100, 1, MAC));
    vi.spyOn(XenDmaMap.prototype, "load").mockReturnValueOnce(Errno.ENOSPC);
    await receive(pair, frame(100, 2, MAC));
    expect(pair.inputs).toHaveLength(2);
    expect(violations(pair)).toEqual([]);
    expect(pair.info.rxPool.inUse).toBe(255);
  });

  test("a bad first fragment leaves the next one as head, with a length that is not the packet's", async () => {
    const pair = await XenPair.started({ mtu: 9000 });
    let once = true;
    pair.tamper = (act) => {
      if (once && act.kind === "write" && act.type === RecordType.XEN_RX_RSP) {
        once = false;
        new DataView(act.bytes.buffer, act.bytes.byteOffset).setInt16(6, -1, true);
      }
      return [act];
    };
    await receive(pair, frame(9000, 1, MAC));
    expect(pair.inputs).toEqual([]);
    expect(pair.driver.ifnet.counters.ierrors).toBe(1);
    await receive(pair, frame(5000, 2, MAC));
    // inputOf compares the header's length with the chain's.
    expect(pair.inputs.map((input) => input.bytes.length)).toEqual([5000]);
    expect(violations(pair)).toEqual([]);
  });

  test("packets go up while the queue's lock is held", async () => {
    const pair = await XenPair.started();
    let nested = 0;
    pair.onInput = (m) => {
      m.free();
      // The ring is consistent, so the stack may call the driver.
      expect(violations(pair)).toEqual([]);
      if (nested++ === 0) pair.driver.batchApplied();
      expect(pair.send(frame(60))).toBe(0);
    };
    for (let i = 0; i < 5; i++) pair.inject(frame(100, i, MAC));
    pair.flushPort();
    await pair.settle();
    expect(nested).toBe(5);
    expect(pair.segment).toHaveLength(5);
  });

  test("rebuilding loads a map that is loaded still", async () => {
    const pair = await XenPair.started();
    const load = vi.spyOn(XenDmaMap.prototype, "load");
    pair.cut();
    await pair.reconnect();
    expect(load).toHaveBeenCalledTimes(256 + pair.counter("announcements"));
    expect(violations(pair)).toEqual([]);
  });

  test("buffers to be rebuilt are gone with their arrays: nothing is ever rebuilt", async () => {
    const pair = await XenPair.started({ queues: 2 });
    const before = new Set(pair.info.rxqs.flatMap((rxq) => rxq.mbufs));
    pair.cut();
    expect(pair.info.kept.map((buffers) => buffers.length)).toEqual([256, 256]);
    await pair.reconnect();
    const after = pair.info.rxqs.flatMap((rxq) => rxq.mbufs);
    expect(after.filter((m) => !before.has(m))).toEqual([]);
    expect(pair.info.kept.flat()).toEqual([]);
  });
});

describe("disconnecting", () => {
  test("a detach after a suspend destroys everything twice", async () => {
    const pair = await XenPair.started();
    await pair.suspend();
    await pair.run(pair.driver.detach());
    await pair.run(pair.driver.detach());
    await pair.settle();
    expect(referencesInUse(pair)).toBe(0);
  });

  test("a link that is lost twice, or after a detach, is lost once", async () => {
    const pair = await XenPair.started();
    pair.cut();
    pair.driver.linkLost();
    await pair.reconnect();
    expect(violations(pair)).toEqual([]);
    await pair.run(pair.driver.detach());
    pair.cut();
    pair.driver.linkLost();
    expect(referencesInUse(pair)).toBe(0);
  });

  test("the reference of a ring page stays valid after its access has ended", async () => {
    const pair = await XenPair.started();
    const ring = pair.rxq().ring!;
    pair.cut();
    expect(pair.rxq()).toBeUndefined();
    expect(pair.hostileWrite(ring.reference, 8, Uint8Array.of(1, 0, 0, 0))).toBe(false);
    expect(() => ring.end()).not.toThrow();
  });

  test("maps in use at a disconnect are a message, and leak", async () => {
    const pair = await XenPair.started();
    const reference = getMapGref(pair.rxq().maps[7]!);
    pair.hypervisor.onGrantUse(reference, 1, 1);
    await pair.run(pair.driver.detach());
    await pair.settle();
    expect(pair.info.grants.quarantined).toBe(1);
    expect(pair.counter("quarantined_maps")).toBe(1);
    // The use ends, so reference and page are free.
    pair.hypervisor.onGrantUse(reference, -1, -1);
    expect(pair.info.grants.quarantined).toBe(0);
    expect(referencesInUse(pair)).toBe(0);
    expect(pair.counter("rx_mbufs_in_use")).toBe(0);
  });
});
