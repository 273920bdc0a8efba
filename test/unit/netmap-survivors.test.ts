/**
 * Edits of netmap and of the ENA driver that no test noticed at first. Each test is named after its
 * edit in test/mutants/survivors.ts.
 */
import { expect, test, vi } from "vitest";
import { SyncOp } from "../../frontend/bus/map.ts";
import { RxError, rxPkt } from "../../frontend/ena/datapath-rx.ts";
import { RxOwner } from "../../frontend/ena/rings.ts";
import { type NmPort, nmOpen } from "../../frontend/netmap/descriptor.ts";
import { Ns, Poll } from "../../frontend/netmap/flags.ts";
import { Netmap } from "../../frontend/netmap/netmap.ts";
import type { NetmapRing } from "../../frontend/netmap/ring.ts";
import { RX_CDESC_SIZE } from "../../shared/ena/io.ts";
import { ResetReason } from "../../shared/ena/registers.ts";
import { RecordType } from "../../shared/wire/records.ts";
import { FakeNic } from "../support/fake-netmap-adapter.ts";
import { putFrame, takeAll, takeFrame } from "../support/netmap-frames.ts";
import {
  AWAY,
  MAC,
  NetmapPair,
  type NetmapPairOptions,
  numbered,
  SLOTS,
} from "../support/netmap-pair.ts";

async function stage(options: NetmapPairOptions = {}): Promise<{ pair: NetmapPair; port: NmPort }> {
  const pair = new NetmapPair(options);
  const port = await pair.startOpen();
  return { pair, port };
}

const into = (n: number, length = 100): Uint8Array => numbered(n, length, MAC);
const out = (n: number, length = 100): Uint8Array => numbered(n, length, AWAY);

/** Changes each rx completion of the device. */
function spoilRx(pair: NetmapPair, change: (view: DataView, at: number, i: number) => void): void {
  let i = 0;
  pair.tamper = (act) => {
    if (act.kind === "write" && act.type === RecordType.ENA_RX_CDESC) {
      const { buffer, byteOffset, byteLength } = act.bytes;
      const view = new DataView(buffer, byteOffset, byteLength);
      for (let at = 0; at < byteLength; at += RX_CDESC_SIZE) change(view, at, i++);
    }
    return [act];
  };
}

/** Fills slots of these lengths as one packet, which continues after them with `more`. */
function putSlots(ring: NetmapRing, lengths: readonly number[], more = false): void {
  let slot = ring.head;
  for (const [i, length] of lengths.entries()) {
    ring.setLen(slot, length);
    ring.setSlotFlags(slot, i < lengths.length - 1 || more ? Ns.MOREFRAG : 0);
    slot = ring.next(slot);
  }
  ring.advance(slot);
}

test("mutant-M2 frames that stay unread over many laps of the ring are no error", async () => {
  const { pair, port } = await stage();
  const ring = port.rxRing(0);
  let next = 0;
  let expected = 0;
  for (let round = 0; round < 60; round++) {
    const some = Array.from({ length: 20 }, () => into(next++));
    await pair.arrive(...some);
    expect(port.look(Poll.IN)).toBe(Poll.IN);
    while (ring.space > 7) {
      if (Buffer.compare(takeFrame(port, ring)!, into(expected++)) !== 0) throw new Error("order");
    }
  }
  expect(takeAll(port, ring).length).toBe(next - expected);
  expect(pair.na.counters.ringReinits).toBe(0);
  pair.check();
});

test("mutant-M3 who waits for room in a full tx ring is woken by a reset", async () => {
  const { pair, port } = await stage();
  pair.tamper = (act) =>
    act.kind === "write" && act.type === RecordType.ENA_TX_CDESC ? [] : [act];
  const ring = port.txRing(0);
  for (let n = 0; putFrame(port, ring, out(n)); n++);
  port.txsync();
  expect(ring.space).toBe(0);
  let woken = 0;
  void port.poll(Poll.OUT, -1).then((events) => (woken = events));
  await pair.settle();
  expect(woken).toBe(0);
  await pair.run(pair.driver.down());
  await pair.run(pair.driver.up());
  await pair.settle();
  expect(woken).toBe(Poll.OUT);
  expect(ring.space).toBe(SLOTS - 1);
});

test("mutant-M5 a ring that was somebody's own can be opened again while another is open", async () => {
  const netmap = new Netmap();
  const nic = new FakeNic(netmap, { txRings: 2, rxRings: 2 });
  const other = await nmOpen("netmap:fake0-1", { netmap });
  const own = await nmOpen("netmap:fake0-0/x", { netmap });
  await expect(nmOpen("netmap:fake0-0", { netmap })).rejects.toThrow();
  await own.close();
  const again = await nmOpen("netmap:fake0-0", { netmap });
  await again.close();
  await other.close();
  expect(nic.na.activeFds).toBe(0);
});

test("mutant-M6 a poll that finds frames gives released slots back too", async () => {
  const netmap = new Netmap();
  const nic = new FakeNic(netmap);
  const port = await nmOpen("netmap:fake0", { netmap });
  const ring = port.rxRing(0);
  for (let n = 0; n < 10; n++) nic.inject(0, into(n));
  expect(port.look(Poll.IN)).toBe(Poll.IN);
  expect(ring.space).toBe(7);
  ring.advance(4);
  // Four slots are released, and waiting frames fill them.
  expect(port.look(Poll.IN)).toBe(Poll.IN);
  port.rxsync();
  expect(ring.space).toBe(6);
  await port.close();
});

test.each([1, 10, 255])(
  "mutant-M7 an rx offset of %i that leads beyond the first buffer is malformed",
  async (offset) => {
    const { pair, port } = await stage();
    spoilRx(pair, (view, at) => {
      view.setUint8(at + 14, offset);
      view.setUint16(at + 4, 2048 - offset + 1, true);
    });
    await pair.arrive(into(0));
    expect(pair.rxsync()).toBe(0);
    expect(pair.adapter.resetReason).toBe(ResetReason.RX_DESCRIPTOR_MALFORMED);
    expect(port.rxRing(0).isEmpty).toBe(true);

    const exact = await stage();
    spoilRx(exact.pair, (view, at) => {
      view.setUint8(at + 14, offset);
      view.setUint16(at + 4, 2048 - offset, true);
    });
    await exact.pair.arrive(into(0));
    exact.port.rxsync();
    expect(exact.port.rxRing(0).len(0)).toBe(2048 - offset);
  },
);

test.each([7, 17])(
  "mutant-M8 bit %i of an rx completion must be zero where the device promises it",
  async (bit) => {
    const spoil = (view: DataView, at: number): void =>
      view.setUint32(at, view.getUint32(at, true) | (1 << bit), true);
    const { pair, port } = await stage();
    spoilRx(pair, spoil);
    await pair.arrive(into(0));
    expect(pair.rxsync()).toBe(0);
    expect(pair.adapter.resetReason).toBe(ResetReason.RX_DESCRIPTOR_MALFORMED);
    expect(pair.rx().stats.bad_desc).toBe(1);
    expect(port.rxRing(0).isEmpty).toBe(true);

    // A device without this feature may use the bit.
    const plain = await stage();
    vi.spyOn(plain.pair.adapter.com!, "has").mockReturnValue(false);
    spoilRx(plain.pair, spoil);
    await plain.pair.arrive(into(0));
    plain.port.rxsync();
    expect(takeAll(plain.port, plain.port.rxRing(0)).length).toBe(1);
    expect(plain.pair.adapter.triggerReset).toBe(false);
  },
);

test("mutant-M10 the meta descriptor of a device without a cache needs room as well", async () => {
  const { pair, port } = await stage({
    driver: { llq: true },
    device: { disableMetaCaching: true },
    mtu: 9000,
  });
  const { sq, stats } = pair.tx();
  const perEntry = sq.llq!.descsPerEntry;
  const free = vi.spyOn(sq, "freeEntries");
  // These slots fill an entry, and the meta descriptor needs one more entry.
  putSlots(port.txRing(0), new Array<number>(perEntry - 1).fill(100));
  free.mockReturnValue(3);
  port.txsync();
  expect([stats.count, stats.prepare_ctx_err]).toEqual([0, 1]);
  free.mockReturnValue(4);
  port.txsync();
  expect(stats.count).toBe(1);
  free.mockRestore();
});

test("mutant-M11 the rest of a dropped packet is no packet after down and up", async () => {
  const { pair, port } = await stage({ mtu: 9000 });
  const ring = port.txRing(0);
  putSlots(ring, [100, 5000], true);
  port.txsync();
  expect(pair.tx().stats.bad_packet).toBe(1);
  await pair.run(pair.driver.down());
  await pair.run(pair.driver.up());
  await pair.settle();
  putSlots(ring, [200, 300]);
  expect(putFrame(port, ring, out(7))).toBe(true);
  port.txsync();
  await pair.settle();
  expect(pair.segment.map((f) => Buffer.from(f.bytes))).toEqual([Buffer.from(out(7))]);
});

test("mutant-M13 the offset of the first buffer moves no byte of the second", async () => {
  const { pair, port } = await stage({ mtu: 9000 });
  const frame = into(0, 3000);
  spoilRx(pair, (view, at, i) => {
    view.setUint8(at + 14, 64);
    if (i === 0) view.setUint16(at + 4, 2048 - 64, true);
  });
  await pair.arrive(frame);
  port.rxsync();
  const got = takeAll(port, port.rxRing(0))[0]!;
  expect(got).toEqual(Buffer.from(frame.subarray(64)));
});

test("mutant-M17 a received buffer is synced before the application has it", async () => {
  const { pair, port } = await stage();
  await pair.arrive(into(0));
  const id = pair.rx().owner.indexOf(RxOwner.DEVICE);
  const synced: number[] = [];
  const { maps } = pair.rx();
  const { sync } = maps;
  vi.spyOn(maps, "sync").mockImplementation((i, op) => {
    synced.push(op);
    // No frame is visible yet.
    expect(port.rxRing(0).isEmpty).toBe(true);
    sync.call(maps, i, op);
  });
  port.rxsync();
  expect(id).toBeGreaterThanOrEqual(0);
  expect(synced.filter((op) => op === SyncOp.POSTREAD).length).toBe(1);
  vi.restoreAllMocks();
});

test("mutant-M18 buffers of a packet that is refused stay the device's", async () => {
  const { pair } = await stage({ mtu: 9000 });
  const ring = pair.rx();
  spoilRx(pair, (view, at, i) => {
    if (i === 2) view.setUint16(at + 6, 0xfff0, true);
  });
  await pair.arrive(into(0, 5000));
  expect(rxPkt(pair.adapter, ring)).toBe(RxError.BAD_REQ_ID);
  expect(ring.owner).not.toContain(RxOwner.TAKEN);
  const owners = Array.from(ring.pktReqIds.subarray(0, 2), (id) => ring.owner[id]);
  expect(owners).toEqual([RxOwner.DEVICE, RxOwner.DEVICE]);
  expect(rxPkt(pair.adapter, ring)).toBe(RxError.BAD_REQ_ID);
});

test.each([
  // A doorbell after 4, 8 and 10 packets of one entry each.
  ["netmap", 3],
  // The stack's driver assumes two entries for each packet: after 3, 6, 9 and 10.
  ["stack", 4],
] as const)(
  "mutant-M19 a device that limits bursts gets a doorbell before the limit, %s",
  async (who, doorbells) => {
    const pair = new NetmapPair({ driver: { llq: true } });
    await pair.start();
    const port = who === "netmap" ? await pair.open() : undefined;
    const { sq, stats } = pair.tx();
    const limit = 4;
    Object.defineProperty(sq, "llq", { value: { ...sq.llq, maxEntriesInBurst: limit } });
    sq.entriesInBurstLeft = limit;
    const before = stats.doorbells;
    const frames = Array.from({ length: 10 }, (_, n) => out(n, 60));
    if (port === undefined) {
      const batch = frames.map((frame) => pair.mbuf(frame));
      expect(pair.driver.ifnet.transmit(batch, batch.length)).toBe(batch.length);
    } else {
      for (const frame of frames) expect(putFrame(port, port.txRing(0), frame)).toBe(true);
      port.txsync();
    }
    await pair.settle();
    expect(stats.doorbells - before).toBe(doorbells);
    expect(pair.segment.length).toBe(10);
  },
);
