/** One test for each row of the netfront checklist, except the rows about bus_dma itself. */
import { afterEach, describe, expect, test, vi } from "vitest";
import { LinkMemory } from "../../device/dma/link-memory.ts";
import { Errno } from "../../frontend/bus/errno.ts";
import { SyncOp } from "../../frontend/bus/map.ts";
import { Csum, type Mbuf } from "../../frontend/net/mbuf.ts";
import { BUS_DMA_NOWAIT } from "../../frontend/xen/bus-dma-xen/index.ts";
import { XenDmaMap } from "../../frontend/xen/bus-dma-xen/map.ts";
import { rxeof } from "../../frontend/xen/datapath-rx.ts";
import { GrantTable } from "../../frontend/xen/grant-table.ts";
import {
  dmaCallback,
  getMapGref,
  getRxMap,
  repoolRxMap,
  repoolTxMap,
  unpoolRxMap,
  unpoolTxMap,
} from "../../frontend/xen/pool.ts";
import { disconnectRxq, disconnectTxq } from "../../frontend/xen/queues.ts";
import { silentLogger } from "../../shared/log.ts";
import { Gso } from "../../shared/net/frame.ts";
import { index32 } from "../../shared/ring/index32.ts";
import { Link } from "../../shared/wire/link.ts";
import { CloseCode, Limits } from "../../shared/wire/protocol.ts";
import { busAddress, RecordType, Space } from "../../shared/wire/records.ts";
import { loopbackPair } from "../support/loopback.ts";
import { frame, MAC, PEER } from "../support/nic-frames.ts";
import { buildPacket } from "../support/packets.ts";
import { XenPair } from "../support/pair.ts";
import { Random } from "../support/random.ts";
import { RecordingSink } from "../support/recording-sink.ts";
import { StockNetfront, type StockPacket } from "../support/stock-netfront.ts";
import {
  backendViolations,
  freeIds,
  MAPS,
  referencesInUse,
  rxMaps,
  txMaps,
  violations,
} from "../support/xen-invariants.ts";

const PAGE = 4096;

afterEach(() => {
  vi.restoreAllMocks();
});

async function receive(pair: XenPair, bytes: Uint8Array, facts = {}): Promise<void> {
  pair.inject(bytes, facts);
  pair.flushPort();
  await pair.settle();
}

/** References of the table that are neither free nor reserved. */
const taken = (pair: XenPair): number => {
  const { grants } = pair.info;
  return grants.frames * 512 - 8 - grants.freeCount;
};

/** The reference in the receive request of `slot`. */
const rxRequestGref = (pair: XenPair, slot: number): number =>
  pair.rxq().ring!.view.getUint32(64 + slot * 8 + 4, true);

/** Changes the first receive response that the backend writes. */
function spoilRx(pair: XenPair, change: (view: DataView, slots: number) => void): void {
  let once = true;
  pair.tamper = (act) => {
    if (once && act.kind === "write" && act.type === RecordType.XEN_RX_RSP) {
      once = false;
      change(new DataView(act.bytes.buffer, act.bytes.byteOffset), act.bytes.length / 8);
    }
    return [act];
  };
}

test("N1 a DMA tag in each rx and tx queue", async () => {
  const { info } = await XenPair.started({ queues: 4 });
  const tags = [...info.rxqs, ...info.txqs].map((queue) => queue.dmat);
  expect(tags).toHaveLength(8);
  expect(new Set(tags).size).toBe(8);
  expect(tags).not.toContain(undefined);
});

test("N2 tags: one segment of one page, no page crossed, granted to the backend's domain", async () => {
  const { info } = await XenPair.started();
  for (const { dmat } of [...info.rxqs, ...info.txqs]) {
    expect(dmat?.params).toMatchObject({ nSegments: 1, maxSize: PAGE, boundary: PAGE });
    expect(dmat?.params.maxSegSize).toBe(PAGE);
    expect(dmat?.domid).toBe(info.xenbus.otherendId);
    expect(dmat?.params.lock).toBeUndefined();
  }
});

test("N3 getRxMap returns the slot's map and clears it; a second call asserts", async () => {
  const pair = await XenPair.started();
  const rxq = pair.rxq();
  const map = rxq.maps[5]!;
  expect(getRxMap(rxq, index32(256 + 5))).toBe(map);
  expect(rxq.maps[5]).toBeUndefined();
  expect(() => getRxMap(rxq, index32(5))).toThrow("slot 5 has no map");
});

test("N4 unpoolRxMap and unpoolTxMap take from the pool, and an empty pool gives nothing", async () => {
  const pair = await XenPair.started();
  const txq = pair.txq();
  const rxq = pair.rxq();
  const out: XenDmaMap[] = [];
  for (let left = MAPS; left > 0; left--) {
    expect(txq.pool.count).toBe(left);
    out.push(unpoolTxMap(txq)!);
  }
  expect(new Set(out).size).toBe(MAPS);
  for (let i = 0; i < 3; i++) expect(unpoolTxMap(txq)).toBeUndefined();
  expect(txq.pool.count).toBe(0);
  for (const map of out) repoolTxMap(txq, map);
  expect(txq.pool.count).toBe(MAPS);
  // The backend has 256 maps of the receive queue; this is the last one.
  const last = unpoolRxMap(rxq);
  expect(last).toBeDefined();
  expect(unpoolRxMap(rxq)).toBeUndefined();
  repoolRxMap(rxq, last!);
  expect(violations(pair)).toEqual([]);
});

test("N5 repoolRxMap and repoolTxMap return to the pool; one more than it had asserts", async () => {
  const pair = await XenPair.started();
  const txq = pair.txq();
  const map = unpoolTxMap(txq)!;
  repoolTxMap(txq, map);
  expect(txq.pool.count).toBe(MAPS);
  expect(() => repoolTxMap(txq, map)).toThrow("more maps than the pool had");
  expect(txq.pool.count).toBe(MAPS);
  const rxq = pair.rxq();
  for (let left = 256; left > 0; left--) repoolRxMap(rxq, rxq.maps[left - 1]!);
  expect(() => repoolRxMap(rxq, map)).toThrow("more maps than the pool had");
});

test("N6 getMapGref is the one reference that the load granted", async () => {
  const pair = await XenPair.started();
  const txq = pair.txq();
  const map = unpoolTxMap(txq)!;
  expect(map.load(new Uint8Array(100), 0, 100, dmaCallback, undefined, BUS_DMA_NOWAIT)).toBe(0);
  pair.info.grants.post();
  pair.pump();
  const reference = getMapGref(map);
  const page = Math.floor(map.segmentAddress(0) / PAGE) % 2 ** 32;
  expect(pair.grants.frameOf(reference)).toBe(page);
  expect(map.unload()).toBe(0);
  repoolTxMap(txq, map);
  pair.info.grants.post();
  pair.pump();
  expect(pair.grants.frameOf(reference)).toBe(-1);
});

test.each([1, 3])(
  "N7 %d queue pairs: 257 references each way, and one for each ring",
  async (n) => {
    const pair = new XenPair({ queues: n });
    expect(taken(pair)).toBe(0);
    await pair.start();
    expect(taken(pair)).toBe(n * (2 * 257 + 2));
    for (const queue of [...pair.info.rxqs, ...pair.info.txqs]) {
      expect(queue.pool.maps).toHaveLength(257);
    }
  },
);

test("N8 unpool and repool are claim and release: the same trace as a list of references", async () => {
  const pair = await XenPair.started();
  const txq = pair.txq();
  // A model of gnttab's private list: claim takes its head, release puts a reference there.
  const list: number[] = [];
  const numbers = new Map<XenDmaMap, number>();
  const all: XenDmaMap[] = [];
  for (let map = unpoolTxMap(txq); map !== undefined; map = unpoolTxMap(txq)) all.push(map);
  for (const [i, map] of all.entries()) numbers.set(map, i);
  for (const map of all) {
    repoolTxMap(txq, map);
    list.unshift(numbers.get(map)!);
  }
  const random = new Random(8);
  const out: XenDmaMap[] = [];
  for (let i = 0; i < 5000; i++) {
    if (random.below(2) === 0) {
      const claimed = list.shift() ?? -1;
      const map = unpoolTxMap(txq);
      expect(map === undefined ? -1 : numbers.get(map)).toBe(claimed);
      if (map !== undefined) out.push(map);
    } else if (out.length > 0) {
      const [map] = out.splice(random.below(out.length), 1);
      repoolTxMap(txq, map!);
      list.unshift(numbers.get(map!)!);
    }
    expect(txq.pool.count).toBe(list.length);
  }
});

test("N12 rebuildRxBufs loads: after a resume every request's reference is live and its map's", async () => {
  const pair = await XenPair.started();
  const before = new Set(pair.rxq().mbufs);
  const old = pair.rxq();
  pair.cut();
  await pair.reconnect();
  const rxq = pair.rxq();
  expect(rxq).not.toBe(old);
  for (let slot = 0; slot < 256; slot++) {
    expect(rxRequestGref(pair, slot)).toBe(getMapGref(rxq.maps[slot]!));
    // The same buffers that the old backend had; the driver kept them.
    expect(before.has(rxq.mbufs[slot])).toBe(true);
  }
  expect(backendViolations(pair)).toEqual([]);
  await receive(pair, frame(2000, 3, MAC));
  expect(pair.inputs[0]?.bytes).toEqual(frame(2000, 3, MAC));
});

test("N13 queues are set up with maps: netfront allocates a reference for each ring alone", async () => {
  const alloc = vi.spyOn(GrantTable.prototype, "allocGrantReference");
  const load = vi.spyOn(XenDmaMap.prototype, "load");
  const pair = await XenPair.started({ queues: 2 });
  // Each map of a pool allocates its own reference.
  expect(alloc).toHaveBeenCalledTimes(2 * (2 * 257 + 2));
  expect(load).toHaveBeenCalledTimes(2 * 256);
  expect(violations(pair)).toEqual([]);
});

test("N14 a packet is loaded piece by piece, and granted read-only", async () => {
  const pair = await XenPair.started({ mtu: 9000 });
  const load = vi.spyOn(XenDmaMap.prototype, "load");
  const bytes = frame(6000);
  pair.send(bytes.slice(0, 100), bytes.slice(100, 5000), bytes.slice(5000));
  // 100, then 4096 and 804, then 1000.
  expect(load.mock.calls.map((call) => call[2])).toEqual([100, 4096, 804, 1000]);
  await Promise.resolve();
  const references = txMaps(pair.txq()).map(getMapGref);
  expect(references).toHaveLength(4);
  for (const reference of references) {
    expect(pair.hostileWrite(reference, 0, Uint8Array.of(1))).toBe(false);
    expect(pair.space.deviceRead(Space.GRANT, busAddress(reference * PAGE), 10)).toBeDefined();
  }
  pair.pumpDown();
  expect(backendViolations(pair)).toEqual([]);
});

test("N15 releaseRxBufs ends every reference, pools every map, frees every buffer once", async () => {
  const pair = await XenPair.started();
  const { info } = pair;
  const rxq = pair.rxq();
  const buffers = rxq.mbufs.filter((m) => m !== undefined);
  expect(buffers).toHaveLength(256);
  pair.space.detachLink();
  info.grants.linkGone();
  disconnectRxq(info, rxq, false);
  expect(buffers.filter((m) => !m.freed)).toEqual([]);
  expect(info.rxPool.inUse).toBe(0);
  expect(rxMaps(rxq)).toEqual([]);
  // Only the grant of the transmit queue's ring page is left.
  expect(info.grants.liveCount).toBe(1);
});

test("N16 a fragment's access has ended before the stack sees it", async () => {
  const pair = await XenPair.started({ mtu: 9000 });
  const old = [0, 1, 2].map((slot) => rxRequestGref(pair, slot));
  const bytes = frame(9000, 5, MAC);
  let checked = 0;
  pair.onInput = (m) => {
    const live = rxMaps(pair.rxq()).map(getMapGref);
    for (const reference of new Set([...old, ...live])) {
      pair.hostileWrite(reference, 0, new Uint8Array(4096).fill(0xee));
    }
    for (let piece: Mbuf | undefined = m, at = 0; piece !== undefined; piece = piece.next) {
      const part = piece.buffer.subarray(piece.at, piece.at + piece.length);
      expect(Buffer.compare(part, bytes.subarray(at, at + piece.length))).toBe(0);
      at += piece.length;
      checked++;
    }
    m.free();
  };
  await receive(pair, bytes);
  expect(checked).toBe(3);
  expect(violations(pair)).toEqual([]);
});

test("N17 packets pending at a disconnect: references ended, ids and packets free", async () => {
  const pair = await XenPair.started();
  const txq = pair.txq();
  for (let i = 0; i < 20; i++) pair.send(frame(100, i));
  expect(txq.idsOut).toBe(20);
  pair.cut();
  expect(pair.outstanding).toBe(0);
  expect(txMaps(txq)).toEqual([]);
  expect(txq.idsOut).toBe(0);
  expect(freeIds(txq).size).toBe(256);
  expect(referencesInUse(pair)).toBe(0);
});

test("N18 a completion pools the map; one whose page is still in use stops the NIC, loudly", async () => {
  const pair = await XenPair.started();
  pair.send(frame(100));
  await pair.settle();
  expect(pair.txq().pool.count).toBe(MAPS);
  expect(pair.info.broken).toBeUndefined();
  pair.send(frame(100));
  const [map] = txMaps(pair.txq());
  pair.hypervisor.onGrantUse(getMapGref(map!), 1, 0);
  await pair.settle();
  expect(pair.info.broken).toBe("TX_GRANT_IN_USE");
  expect(pair.linkStates.at(-1)).toBe(false);
  expect(map?.loaded).toBe(true);
  expect(pair.outstanding).toBe(1);
  expect(violations(pair)).toEqual([]);
});

test("N19 a disconnect destroys maps and tags; a second one is harmless", async () => {
  const pair = await XenPair.started();
  const { info } = pair;
  const rxq = pair.rxq();
  const txq = pair.txq();
  const tags = [rxq.dmat!, txq.dmat!];
  pair.space.detachLink();
  info.grants.linkGone();
  for (let i = 0; i < 2; i++) {
    disconnectRxq(info, rxq, false);
    expect(disconnectTxq(info, txq)).toBe(0);
  }
  for (const tag of tags) expect(tag.maps).toBe(0);
  expect([rxq.dmat, txq.dmat, rxq.ring, txq.ring]).toEqual(Array(4).fill(undefined));
  expect([rxq.pool.count, txq.pool.count]).toEqual([0, 0]);
  expect(referencesInUse(pair)).toBe(0);
});

test("N20 dmaCallback does nothing but assert: no error, one segment", async () => {
  const pair = await XenPair.started();
  const map = pair.rxq().maps[0]!;
  expect(() => dmaCallback(undefined, map, 1, 0)).not.toThrow();
  expect(() => dmaCallback(undefined, map, 1, Errno.ENOSPC)).toThrow("error 28");
  expect(() => dmaCallback(undefined, map, 2, 0)).toThrow("2 segments");
});

/** The slots written to a ring window, as text, and the published producer indexes. */
function txTrace(pair: XenPair, address: number): { slots: string[]; prod: number[] } {
  const slots: string[] = [];
  const prod: number[] = [];
  let gsoNext = false;
  for (const act of pair.sent) {
    if (act.kind !== "write" || act.address < address || act.address >= address + PAGE) continue;
    const view = new DataView(act.bytes.buffer, act.bytes.byteOffset);
    if (act.address === address) prod.push(view.getUint32(0, true));
    if (act.address < address + 64) continue;
    for (let at = 0; at < act.bytes.length; at += 12) {
      if (gsoNext) {
        slots.push(`gso ${view.getUint8(at + 4)} ${view.getUint16(at + 2, true)}`);
        expect(view.getUint16(at, true)).toBe(1);
        gsoNext = false;
        continue;
      }
      const bits = view.getUint16(at + 6, true);
      const names = ["blank", "validated", "more", "extra"].filter((_, i) => (bits >> i) & 1);
      gsoNext = (bits & 8) !== 0;
      slots.push(
        `${view.getUint16(at + 8, true)} ${names.join("+")} ${view.getUint16(at + 10, true)}`,
      );
    }
  }
  return { slots, prod };
}

const events = (pair: XenPair): number => pair.sent.filter((act) => act.kind === "event").length;

describe("N21", () => {
  const corpus: readonly StockPacket[] = [
    { pieces: [60] },
    { pieces: [1514] },
    { pieces: [54, 1460], csum: true },
    { pieces: [14, 20, 20, 100] },
    { pieces: [4096] },
    { pieces: [100, 4096, 4096, 7] },
    { pieces: [66, 4096, 4096, 4096, 1000], csum: true, mss: 1448 },
    { pieces: Array.from({ length: 18 }, () => 100) },
    { pieces: [90, ...Array.from({ length: 15 }, () => 4000)], csum: true, mss: 1400 },
  ];

  /** The packet as an mbuf chain with pieces of the given lengths. */
  function build(pair: XenPair, packet: StockPacket): Mbuf {
    const total = packet.pieces.reduce((a, b) => a + b, 0);
    const { bytes, l4 } = buildPacket({
      payload: new Uint8Array(Math.max(0, total - 54)),
      checksum: "partial",
      destination: PEER,
    });
    let at = 0;
    const m = pair.mbuf(
      ...packet.pieces.map((length) => {
        const piece = new Uint8Array(length);
        piece.set(bytes.subarray(at, at + length));
        at += length;
        return piece;
      }),
    );
    m.csumStart = l4;
    m.csumOffset = 16;
    if (packet.csum) m.csumFlags |= Csum.IP_TCP;
    if (packet.mss !== undefined) {
      m.csumFlags |= Csum.IP_TSO;
      m.tsoSegsz = packet.mss;
    }
    return m;
  }

  test("N21 transmit: the requests, flags, sizes, ids and events of the stock driver", async () => {
    const pair = await XenPair.started({ mtu: 9000 });
    const stock = new StockNetfront();
    const ring = pair.txq().ring!;
    for (let round = 0; round < 4; round++) {
      for (const packet of corpus) {
        pair.sent.length = 0;
        const event = ring.view.getUint32(4, true);
        const before = stock.txProd;
        expect(pair.sendMbuf(build(pair, packet))).toBe(0);
        await Promise.resolve();
        const expected = stock.send(packet);
        const { slots, prod } = txTrace(pair, ring.memory.address);
        expect(slots).toEqual(expected);
        expect(prod).toEqual([stock.txProd]);
        expect(events(pair)).toBe(StockNetfront.notifies(before, stock.txProd, event) ? 1 : 0);
        // In every other round the backend sees the packet at once, else after the next packet.
        if (round % 2 === 0 || packet === corpus.at(-1)) {
          await pair.settle();
          const armed = ring.view.getUint32(12, true);
          expect(armed).toBe(stock.txDone());
        }
      }
    }
    expect(pair.outstanding).toBe(0);
  });

  test("N21 receive: as many requests, the same ids, event index and events", async () => {
    const pair = new XenPair({ mtu: 9000 });
    const stock = new StockNetfront();
    await pair.start();
    const ring = pair.rxq().ring!;
    const address = ring.memory.address;
    const requested = (): number[] =>
      pair.sent.flatMap((act) => {
        if (act.kind !== "write" || act.address < address + 64 || act.address >= address + PAGE) {
          return [];
        }
        const view = new DataView(act.bytes.buffer, act.bytes.byteOffset);
        return Array.from({ length: act.bytes.length / 8 }, (_, i) => view.getUint16(i * 8, true));
      });
    expect(requested()).toEqual(stock.fill());
    // The first request of an empty ring notifies the backend, and xn_kick_rings notifies once
    // more.
    expect(StockNetfront.notifies(0, stock.rxProd, 1)).toBe(true);
    expect(events(pair)).toBe(2);
    for (const length of [60, 1514, 4096, 4097, 9000, 60, 60, 8193, 100]) {
      pair.sent.length = 0;
      const asked = ring.view.getUint32(4, true);
      const before = stock.rxProd;
      await receive(pair, frame(length, 1, MAC));
      const { ids, event } = stock.received(Math.ceil(length / PAGE));
      expect(requested()).toEqual(ids);
      expect(ring.view.getUint32(12, true)).toBe(event);
      expect(events(pair)).toBe(StockNetfront.notifies(before, stock.rxProd, asked) ? 1 : 0);
    }
  });
});

test("N22 no lock is shared by two queues: one works while another is in the middle", async () => {
  const pair = await XenPair.started({ queues: 2 });
  const { info } = pair;
  // Frames wait in both queues.
  for (let port = 0; port < 32; port++) {
    pair.inject(
      buildPacket({ destination: MAC, sourcePort: 2000 + port, payload: frame(50) }).bytes,
    );
  }
  pair.flushPort();
  const both: number[] = [];
  pair.onInput = (m) => {
    m.free();
    if (both.length > 0) return;
    // The busy queue has called the stack. Now the other queue handles its packets.
    const at = info.rxqs.findIndex((rxq) => rxq.busy);
    both.push(at);
    const other = info.rxqs[1 - at]!;
    if (rxeof(info, other)) both.push(other.id);
  };
  pair.pumpUp();
  expect(both.sort()).toEqual([0, 1]);
  await pair.settle();
  expect(pair.inputs).toHaveLength(32);
  // Then a load within the callback of another queue's load.
  const [a, b] = info.txqs;
  const first = unpoolTxMap(a!)!;
  const second = unpoolTxMap(b!)!;
  let inner = -1;
  const buffer = new Uint8Array(10);
  first.load(
    buffer,
    0,
    10,
    () => (inner = second.load(buffer, 0, 10, dmaCallback, undefined, 1)),
    0,
    1,
  );
  expect(inner).toBe(0);
  expect(getMapGref(first)).not.toBe(getMapGref(second));
});

test("N23 the data path works while sc_lock is held: it never asks for it", async () => {
  const pair = await XenPair.started();
  void pair.info.lock.run(() => new Promise<void>(() => {}));
  for (let i = 0; i < 300; i++) {
    if (pair.send(frame(100, i)) !== 0) await pair.settle();
    await receive(pair, frame(200, i, MAC));
  }
  await pair.settle();
  expect(pair.segment.length).toBeGreaterThan(280);
  expect(pair.inputs).toHaveLength(300);
  expect(violations(pair)).toEqual([]);
});

describe("N25", () => {
  const spoils: readonly [string, (view: DataView, slots: number) => void, number][] = [
    ["status below zero", (v) => v.setInt16(6, -1, true), 0],
    ["offset and status beyond the page", (v) => v.setUint16(2, 4000, true), 0],
    ["second of three fragments", (v) => v.setInt16(8 + 6, -7, true), 1],
    ["last of three fragments", (v) => v.setUint16(16 + 2, 4096, true), 2],
  ];
  test.each(spoils)(
    "N25 %s: the slot's buffer goes back under the same reference",
    async (_, change, bad) => {
      const pair = await XenPair.started({ mtu: 9000 });
      const gref = rxRequestGref(pair, bad);
      const buffer = pair.rxq().mbufs[bad];
      spoilRx(pair, change);
      await receive(pair, frame(9000, 1, MAC));
      expect(pair.inputs).toEqual([]);
      expect(pair.counter("queue0", "rx", "bad_response")).toBe(1);
      expect(violations(pair)).toEqual([]);
      expect(backendViolations(pair)).toEqual([]);
      // Its map is that of its slot.
      expect(rxRequestGref(pair, bad)).toBe(gref);
      expect(pair.rxq().mbufs[bad]).toBe(buffer);
      await receive(pair, frame(9000, 2, MAC));
      expect(pair.inputs[0]?.bytes).toEqual(frame(9000, 2, MAC));
    },
  );

  test("N25 fragments that never come: the packet is dropped, nothing is lost", async () => {
    const pair = await XenPair.started({ mtu: 9000 });
    spoilRx(pair, (v, slots) => v.setUint16((slots - 1) * 8 + 4, 4, true));
    await receive(pair, frame(9000, 1, MAC));
    expect(pair.inputs).toEqual([]);
    expect(pair.counter("queue0", "rx", "missing_frags")).toBe(1);
    expect(violations(pair)).toEqual([]);
    await receive(pair, frame(100, 2, MAC));
    expect(pair.inputs).toHaveLength(1);
  });
});

test("N26 the slot of extra info gives its buffer back: mbuf, reference and map together", async () => {
  const pair = await XenPair.started();
  const { bytes, l4, payload } = buildPacket({
    payload: new Uint8Array(5000),
    checksum: "partial",
    destination: MAC,
  });
  const gref = rxRequestGref(pair, 1);
  const buffer = pair.rxq().mbufs[1];
  const map = pair.rxq().maps[1];
  const facts = { needsCsum: true, csumStart: l4, csumOffset: 16, csumValid: true };
  const gso = { gso: Gso.TCPV4, gsoSize: 1000, headerLength: payload };
  await receive(pair, bytes, { ...facts, ...gso });
  expect(pair.inputs[0]?.bytes).toEqual(bytes);
  // Slots 0 to 2 were data, extra info, data. All slots have the maps of their own again.
  expect(rxRequestGref(pair, 1)).toBe(gref);
  expect(pair.rxq().mbufs[1]).toBe(buffer);
  expect(pair.rxq().maps[1]).toBe(map);
  const isHome = () => pair.rxq().maps.every((map, slot) => map?.index === slot);
  expect(isHome()).toBe(true);
  // Laps of the ring that end at any slot.
  for (let i = 0; i < 200; i++) await receive(pair, bytes, { ...facts, ...gso });
  expect([pair.inputs.length, isHome()]).toEqual([201, true]);
  expect(violations(pair)).toEqual([]);
  expect(backendViolations(pair)).toEqual([]);
});

describe("N27", () => {
  test.each([0, 1, 3])(
    "N27 the load of piece %d of a packet fails: dropped, nothing is left of it",
    async (at) => {
      const pair = await XenPair.started({ mtu: 9000 });
      const real = XenDmaMap.prototype.load;
      let n = 0;
      vi.spyOn(XenDmaMap.prototype, "load").mockImplementation(function (this: XenDmaMap, ...args) {
        return n++ === at ? Errno.ENOSPC : real.apply(this, args);
      });
      const bytes = frame(8000);
      expect(
        pair.send(bytes.slice(0, 10), bytes.slice(10, 20), bytes.slice(20, 30), bytes.slice(30)),
      ).toBe(0);
      expect(pair.outstanding).toBe(0);
      expect(pair.counter("queue0", "tx", "dma_mapping_err")).toBe(1);
      expect(violations(pair)).toEqual([]);
      await pair.settle();
      expect(pair.segment).toEqual([]);
      expect(backendViolations(pair)).toEqual([]);
      expect(pair.send(bytes)).toBe(0);
      await pair.settle();
      expect(pair.segment[0]?.bytes).toEqual(bytes);
    },
  );

  test("N27 the load of a receive buffer fails: the buffer is freed, the refill comes later", async () => {
    const pair = await XenPair.started();
    const real = XenDmaMap.prototype.load;
    let fails = 3;
    vi.spyOn(XenDmaMap.prototype, "load").mockImplementation(function (this: XenDmaMap, ...args) {
      return fails > 0 && fails-- > 0 ? Errno.ENOSPC : real.apply(this, args);
    });
    for (let i = 0; i < 3; i++) {
      await receive(pair, frame(100, i, MAC));
      expect(violations(pair)).toEqual([]);
    }
    expect(pair.inputs).toHaveLength(3);
    expect(pair.counter("queue0", "rx", "dma_mapping_err")).toBe(3);
    expect(pair.counter("queue0", "rx", "in_flight")).toBe(253);
    await receive(pair, frame(100, 9, MAC));
    expect(pair.counter("queue0", "rx", "in_flight")).toBe(256);
  });
});

test("N29 a hundred moves under load: references and maps stay constant", async () => {
  const pair = await XenPair.started({ queues: 2 });
  const references = taken(pair);
  let received = 0;
  for (let cycle = 0; cycle < 100; cycle++) {
    for (let i = 0; i < 20; i++) pair.send(frame(100 + i, cycle));
    for (let i = 0; i < 20; i++) pair.inject(frame(100 + i, cycle, MAC));
    pair.flushPort();
    if (cycle % 2 === 0) await pair.suspend();
    received = pair.inputs.length;
    pair.cut();
    expect(referencesInUse(pair)).toBe(0);
    expect(pair.outstanding).toBe(0);
    await pair.reconnect();
    expect(taken(pair)).toBe(references);
    expect(violations(pair)).toEqual([]);
  }
  expect(received).toBeGreaterThan(0);
  expect(pair.counter("resumes")).toBe(100);
  expect(pair.counter("connects")).toBe(101);
  await receive(pair, frame(60, 1, MAC));
  expect(pair.inputs.length).toBeGreaterThan(received);
});

describe("N30", () => {
  const fails = (error: Errno): void => {
    vi.spyOn(XenDmaMap.prototype, "load").mockReturnValue(error);
  };

  test.each([Errno.EINVAL, Errno.EFBIG])(
    "N30 error %d of a load reaches the callback's assertion, on both paths of the product",
    async (error) => {
      const pair = await XenPair.started();
      fails(error);
      expect(() => pair.send(frame(100))).toThrow(`load called back with error ${error}`);
      pair.inject(frame(100, 1, MAC));
      pair.flushPort();
      expect(() => pair.pump()).toThrow(`load called back with error ${error}`);
    },
  );

  test("N30 a shortage of references is the caller's to handle, not the assertion's", async () => {
    const pair = await XenPair.started();
    fails(Errno.ENOSPC);
    expect(pair.send(frame(100))).toBe(0);
    await receive(pair, frame(100, 1, MAC));
    expect(pair.counter("queue0", "tx", "dma_mapping_err")).toBe(1);
    expect(pair.counter("queue0", "rx", "dma_mapping_err")).toBe(1);
    expect(violations(pair)).toEqual([]);
  });
});

test("N31 a buffer is synced POSTREAD while it is loaded, before its access ends, and PREREAD before", async () => {
  const pair = await XenPair.started({ mtu: 9000 });
  const trace = new Map<XenDmaMap, string>();
  const note = (map: XenDmaMap, what: string): void => {
    trace.set(map, `${trace.get(map) ?? ""} ${what}`);
  };
  const { load, sync, unload } = XenDmaMap.prototype;
  vi.spyOn(XenDmaMap.prototype, "load").mockImplementation(function (this: XenDmaMap, ...args) {
    note(this, "load");
    return load.apply(this, args);
  });
  vi.spyOn(XenDmaMap.prototype, "sync").mockImplementation(function (this: XenDmaMap, op) {
    note(this, `sync ${op}`);
    sync.call(this, op);
  });
  vi.spyOn(XenDmaMap.prototype, "unload").mockImplementation(function (this: XenDmaMap) {
    note(this, "unload");
    return unload.call(this);
  });
  const posted = [0, 1, 2].map((slot) => pair.rxq().maps[slot]!);
  await receive(pair, frame(9000, 5, MAC));
  expect(posted.map((map) => trace.get(map))).toEqual(
    Array(3).fill(` sync ${SyncOp.POSTREAD} unload load sync ${SyncOp.PREREAD}`),
  );
  trace.clear();
  const bytes = frame(5000);
  pair.send(bytes);
  await pair.settle();
  expect([...trace.values()]).toEqual(
    Array(2).fill(` load sync ${SyncOp.PREWRITE} sync ${SyncOp.POSTWRITE} unload`),
  );
});

test("N31 a fragment that goes back to the backend is synced PREREAD once more", async () => {
  const pair = await XenPair.started();
  const map = pair.rxq().maps[0]!;
  const sync = vi.spyOn(map, "sync");
  spoilRx(pair, (view) => view.setInt16(6, -1, true));
  await receive(pair, frame(100, 1, MAC));
  expect(sync.mock.calls.map(([op]) => op)).toEqual([SyncOp.POSTREAD, SyncOp.PREREAD]);
});

test("N32 on the wire: 256 reads outstanding, each answered by its tag, in whatever order", async () => {
  const [near, far] = loopbackPair();
  const owner = { batchApplied: () => {}, writableAgain: () => {}, closed: () => {} };
  const broken = (error: unknown): never => {
    throw error;
  };
  const asked: { tag: number; address: number }[] = [];
  const frontend = new RecordingSink();
  const device = new RecordingSink();
  frontend.read = ({ tag, address }) => void asked.push({ tag, address });
  const link = new Link(near, { ...owner, broken, sink: device }, silentLogger);
  const guest = new Link(far, { ...owner, broken, sink: frontend }, silentLogger);
  const memory = new LinkMemory(link, 1 << 20);
  device.readReply = (reply) => memory.readReply(reply);
  const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
  const reads = Promise.all(
    Array.from({ length: 300 }, (_, i) => memory.read(Space.GRANT, busAddress((16 + i) * PAGE), 4)),
  );
  while (asked.length < Limits.READS) await turn();
  for (let i = 0; i < 10; i++) await turn();
  expect(asked).toHaveLength(Limits.READS);
  let most = 0;
  for (let answered = 0; answered < 300; ) {
    // Answers the newest read first.
    const waiting = asked.splice(0).reverse();
    most = Math.max(most, waiting.length);
    for (const { tag, address } of waiting) {
      const bytes = new Uint8Array(4).fill((address / PAGE - 16) & 0xff);
      guest.writer.post("read_reply", { tag, status: 0, bytes });
      answered++;
    }
    guest.flush();
    for (let i = 0; i < 10; i++) await turn();
  }
  expect(most).toBe(Limits.READS);
  expect((await reads).map((bytes) => bytes[0])).toEqual(
    Array.from({ length: 300 }, (_, i) => i & 0xff),
  );
  link.close(CloseCode.NORMAL, "");
  guest.close(CloseCode.NORMAL, "");
});

test("N33 without a mac in its own directory netfront has the backend's", async () => {
  const pair = new XenPair();
  await pair.connect();
  const { store } = pair.machine;
  store.rm("/local/domain/1/device/vif/0/mac");
  await pair.start();
  expect([...pair.driver.ifnet.mac]).toEqual(MAC);
});

test("N33 with none in either the NIC does not come up, and says which key", async () => {
  const pair = new XenPair();
  await pair.connect();
  const { store } = pair.machine;
  store.rm("/local/domain/1/device/vif/0/mac");
  store.rm("/local/domain/0/backend/vif/1/0/mac");
  await expect(pair.attach()).rejects.toThrow("key mac of the NIC");
});
