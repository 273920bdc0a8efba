/**
 * Netmap receive on ENA, one test for each row: driver and device in one process. `npm run mutants`
 * breaks the source once for each row and requires that its test fails.
 */
import { expect, test, vi } from "vitest";
import { Errno } from "../../frontend/bus/errno.ts";
import { SyncOp } from "../../frontend/bus/map.ts";
import { MapRow } from "../../frontend/bus/map-row.ts";
import { freeRxBufs, refillRxBufs } from "../../frontend/ena/datapath-rx.ts";
import { IoSq } from "../../frontend/ena/memory.ts";
import { MAX_FRAMES_PER_SYNC, rxFrame, rxLoadDesc } from "../../frontend/ena/netmap-rx.ts";
import { allocRxSlot, freeRxSlot } from "../../frontend/ena/netmap-rx-slots.ts";
import { RxOwner } from "../../frontend/ena/rings.ts";
import { Ifcap } from "../../frontend/net/ifnet.ts";
import { NO_CLUSTER } from "../../frontend/net/mbuf.ts";
import type { NmPort } from "../../frontend/netmap/descriptor.ts";
import { Naf, Nkr, Ns, Poll, RingFlag, RingMode, Txrx } from "../../frontend/netmap/flags.ts";
import { NetmapRing } from "../../frontend/netmap/ring.ts";
import { RX_CDESC_SIZE, rxCdesc, rxDesc } from "../../shared/ena/io.ts";
import { ResetReason } from "../../shared/ena/registers.ts";
import { slotOf } from "../../shared/ring/index16.ts";
import { beyond, RecordType } from "../../shared/wire/records.ts";
import { takeAll, takeFrame } from "../support/netmap-frames.ts";
import {
  AWAY,
  MAC,
  NetmapPair,
  type NetmapPairOptions,
  numbered,
  SLOTS,
} from "../support/netmap-pair.ts";
import { buildPacket } from "../support/packets.ts";
import { sameBytes } from "../support/same.ts";

async function stage(
  options: NetmapPairOptions = {},
  name?: string,
): Promise<{ pair: NetmapPair; port: NmPort }> {
  const pair = new NetmapPair(options);
  const port = await pair.startOpen(name);
  pair.check();
  return { pair, port };
}

const frames = (from: number, count: number, length = 100): Uint8Array[] =>
  Array.from({ length: count }, (_, i) => numbered(from + i, length, MAC));

/** Changes the next completions of the device: `change` gets the view, an offset and a number. */
function spoil(pair: NetmapPair, change: (view: DataView, at: number, i: number) => void): void {
  let i = 0;
  pair.tamper = (act) => {
    if (act.kind === "write" && act.type === RecordType.ENA_RX_CDESC) {
      const { buffer, byteOffset, byteLength } = act.bytes;
      const view = new DataView(buffer, byteOffset, byteLength);
      for (let at = 0; at < act.bytes.length; at += RX_CDESC_SIZE) change(view, at, i++);
    }
    return [act];
  };
}
const REQ_ID = 6;

/** The bytes of a ring's header and slots. */
const seen = (ring: NetmapRing): Uint8Array => {
  const { buffer, byteOffset, byteLength } = ring.view;
  return new Uint8Array(buffer, byteOffset, byteLength).slice();
};

test("E1 netmap uses the ordinary ring initialisation: same commands, same descriptors", async () => {
  const { pair } = await stage();
  const snapshot = () => pair.nic.snapshot();
  await pair.run(pair.driver.down());
  const before = snapshot().counters.adminCommands;
  await pair.run(pair.driver.up());
  await pair.settle();
  const withNetmap = snapshot();

  const plain = new NetmapPair();
  await plain.start();
  await plain.run(plain.driver.down());
  const plainBefore = plain.nic.snapshot().counters.adminCommands;
  await plain.run(plain.driver.up());
  await plain.settle();
  const without = plain.nic.snapshot();

  expect(withNetmap.counters.adminCommands - before).toBe(
    without.counters.adminCommands - plainBefore,
  );
  expect(withNetmap.rx[0]).toEqual(without.rx[0]);
  expect(withNetmap.rx[0]!.buffers).toBe(SLOTS - 1);
});

test("E2 the netmap ring is reset when its rx ring is set up, once, and no other", async () => {
  const { pair } = await stage({ queues: 3 }, "netmap:ena0-1");
  const reset = vi.spyOn(pair.na, "reset");
  await pair.run(pair.driver.down());
  expect(reset).not.toHaveBeenCalled();
  await pair.run(pair.driver.up());
  const rx = reset.mock.calls.filter(([t]) => t === Txrx.RX);
  expect(rx).toEqual([[Txrx.RX, 1]]);
});

test("E3 refill in netmap mode takes slots and no mbufs", async () => {
  const { pair, port } = await stage();
  const take = vi.spyOn(pair.adapter.rxPool!, "take");
  expect(pair.counter("rx_mbufs_in_use")).toBe(0);
  await pair.arrive(...frames(0, 20));
  port.rxsync();
  takeAll(port, port.rxRing(0));
  port.rxsync();
  expect(pair.rx().sq.freeEntries()).toBe(0);
  expect(take).not.toHaveBeenCalled();
});

test("E4 mbuf or slot: by capability, ring mode and native adapter", async () => {
  const { pair, port } = await stage();
  const ring = port.rxRing(0);
  let n = 0;
  /** Brings the rings down and up, and returns who gets the next frame. */
  const receiver = async (): Promise<string> => {
    await pair.run(pair.driver.down());
    await pair.run(pair.driver.up());
    await pair.settle();
    const [frame] = frames(n++, 1);
    pair.inputs.length = 0;
    await pair.arrive(frame!);
    if (pair.inputs.length > 0) {
      expect(pair.inputs.map(({ bytes }) => bytes)).toEqual([frame]);
      return "stack";
    }
    port.rxsync();
    expect(takeAll(port, ring)).toEqual([Buffer.from(frame!)]);
    port.rxsync();
    return "application";
  };
  expect(await receiver()).toBe("application");
  pair.driver.ifnet.capEnable &= ~Ifcap.NETMAP;
  expect(await receiver()).toBe("stack");
  pair.driver.ifnet.capEnable |= Ifcap.NETMAP;
  expect(await receiver()).toBe("application");
  pair.rxKring().nrMode = RingMode.OFF;
  expect(await receiver()).toBe("stack");
  pair.rxKring().nrMode = RingMode.ON;
  pair.na.flags &= ~Naf.NATIVE;
  expect(await receiver()).toBe("stack");
  pair.na.flags |= Naf.NATIVE;
  expect(await receiver()).toBe("application");
});

test("E5 one refill for both: 10,000 frames out of order stay in order, no buffer is lost", async () => {
  const { pair, port } = await stage({ device: { completionOrder: "shuffle", seed: 7 } });
  const ring = port.rxRing(0);
  const before = pair.census();
  const first = Array.from({ length: SLOTS - 1 }, (_, i) => pair.rx().netmapBufIdx[i]);
  const expected: Uint8Array[] = [];
  const got: Uint8Array[] = [];
  for (let n = 0; n < 10_000; n += 100) {
    const some = frames(n, 100);
    expected.push(...some);
    await pair.arrive(...some);
    port.rxsync();
    got.push(...takeAll(port, ring));
    port.rxsync();
    pair.check();
  }
  expect(got.length).toBe(10_000);
  for (const [i, f] of got.entries()) sameBytes(f, expected[i]!, `frame ${i}`);
  expect(pair.census()).toEqual(before);
  // The device used the buffers out of order, so other ids hold them now.
  expect(Array.from({ length: SLOTS - 1 }, (_, i) => pair.rx().netmapBufIdx[i])).not.toEqual(first);
});

/** An open ring with some released slots that are not given to the device yet. */
async function withRoom(count: number): Promise<{ pair: NetmapPair; port: NmPort; id: number }> {
  const { pair, port } = await stage();
  await pair.arrive(...frames(0, count));
  port.rxsync();
  takeAll(port, port.rxRing(0));
  pair.rxKring().rhead = port.rxRing(0).head;
  const ring = pair.rx();
  return { pair, port, id: ring.freeIds[ring.nextToUse]! };
}

test("E6 a buffer for the device takes one slot, the next one", async () => {
  const { pair, port } = await stage();
  const ring = port.rxRing(0);
  /** Numbers of the slots with a buffer; the device has all others. */
  const full = (): number[] =>
    Array.from({ length: SLOTS }, (_, i) => i).filter((i) => ring.bufIdx(i) !== 0);
  const posted = () => pair.nic.snapshot().rx[0]!.buffers;
  expect([full(), posted()]).toEqual([[SLOTS - 1], SLOTS - 1]);
  await pair.arrive(...frames(0, 3));
  port.rxsync();
  expect([full(), posted()]).toEqual([[0, 1, 2, SLOTS - 1], SLOTS - 1 - 3]);
  takeAll(port, ring);
  port.rxsync();
  await pair.settle();
  expect([full(), posted()]).toEqual([[2], SLOTS - 1]);
  const more = frames(3, SLOTS - 1);
  await pair.arrive(...more);
  port.rxsync();
  expect(takeAll(port, ring)).toEqual(more.map((f) => Buffer.from(f)));
});

test("E7 the netmap ring is found by the queue's number", async () => {
  const pair = new NetmapPair({ queues: 4 });
  await pair.start();
  const flows = await pair.flows(2);
  const port = await pair.open();
  await pair.arrive(...flows[2]!);
  port.rxsync();
  expect([0, 1, 2, 3].map((q) => port.rxRing(q).space)).toEqual([0, 0, 2, 0]);
  expect(takeAll(port, port.rxRing(2))).toEqual(flows[2]!.map((f) => Buffer.from(f)));
});

test("E8 partial opening: rings that are not open keep mbufs, and their slots are not touched", async () => {
  const { pair } = await stage({ queues: 2 }, "netmap:ena0-1");
  const [closed, open] = [pair.rx(0), pair.rx(1)];
  expect(pair.rxKring(0).ring).toBeUndefined();
  expect(closed.clusters.filter((cluster) => cluster !== NO_CLUSTER).length).toBe(SLOTS - 1);
  expect(closed.netmapBufIdx.filter((i) => i !== 0)).toHaveLength(0);
  expect(open.clusters.every((cluster) => cluster === NO_CLUSTER)).toBe(true);
  expect(open.nicSlots).toBe(SLOTS - 1);

  const id = closed.freeIds[closed.nextToUse]!;
  const before = [closed.nicCur, closed.nicSlots, closed.maps.isLoaded(id)];
  expect(allocRxSlot(pair.adapter, closed, id)).toBe(Errno.EFAULT);
  expect([closed.nicCur, closed.nicSlots, closed.maps.isLoaded(id)]).toEqual(before);
  expect(closed.netmapBufIdx[id]).toBe(0);
});

test("E9 an available slot is taken from the ring", async () => {
  const { pair, port, id } = await withRoom(2);
  const ring = pair.rx();
  const slot = ring.nicCur;
  expect(port.rxRing(0).bufIdx(slot)).not.toBe(0);
  expect(allocRxSlot(pair.adapter, ring, id)).toBe(0);
  expect(port.rxRing(0).bufIdx(slot)).toBe(0);
  expect(ring.nicCur).toBe((slot + 1) % SLOTS);
});

test("E10 no slot available: ENOMEM and nothing changed; one slot always stays with nobody", async () => {
  const { pair, port, id } = await withRoom(1);
  const ring = pair.rx();
  const spare = allocRxSlot(pair.adapter, ring, id);
  expect(spare).toBe(0);
  // One id is left, and the device has all others.
  const other = ring.freeIds[(ring.nextToUse + 1) % SLOTS]!;
  const before = [ring.nicCur, ring.nicSlots, seen(port.rxRing(0))];
  expect(allocRxSlot(pair.adapter, ring, other)).toBe(Errno.ENOMEM);
  expect([ring.nicCur, ring.nicSlots, seen(port.rxRing(0))]).toEqual(before);
  expect(ring.maps.isLoaded(other)).toBe(false);

  const doorbell = vi.spyOn(IoSq.prototype, "ring");
  expect(refillRxBufs(pair.adapter, ring, 2)).toBe(1);
  expect(ring.stats.refil_partial).toBe(1);
  expect(doorbell).toHaveBeenCalledTimes(1);
  expect(refillRxBufs(pair.adapter, ring, 2)).toBe(0);
  expect(ring.stats.refil_partial).toBe(2);
  expect(doorbell).toHaveBeenCalledTimes(1);
  doorbell.mockRestore();
});

test("E11 the slot's buffer is mapped for the device; a failure leaves the slot as it was", async () => {
  const { pair, port, id } = await withRoom(2);
  const ring = pair.rx();
  const { memory } = pair.na;
  const { maps } = ring;
  const slots = port.rxRing(0);
  const bufIdx = slots.bufIdx(ring.nicCur);
  const before = [ring.nicCur, ring.nicSlots, seen(slots)];
  const load = vi.spyOn(maps, "load").mockReturnValueOnce(Errno.EINVAL);
  expect(allocRxSlot(pair.adapter, ring, id)).toBe(Errno.EFAULT);
  expect([ring.nicCur, ring.nicSlots, seen(slots)]).toEqual(before);
  expect([ring.netmapBufIdx[id], ring.stats.dma_mapping_err]).toEqual([0, 1]);

  const sync = vi.spyOn(maps, "sync");
  expect(allocRxSlot(pair.adapter, ring, id)).toBe(0);
  const [, bytes, ...where] = load.mock.lastCall!;
  // toHaveBeenCalledWith would compare the whole memory byte by byte.
  expect(bytes).toBe(memory.bytes);
  expect(where).toEqual([memory.bufferAt(bufIdx), 2048]);
  expect(sync.mock.calls).toEqual([[id, SyncOp.PREREAD]]);
  expect(maps.isLoaded(id)).toBe(true);
});

test("E12 the buffer's index is in the rx record", async () => {
  const { pair, port, id } = await withRoom(2);
  const bufIdx = port.rxRing(0).bufIdx(pair.rx().nicCur);
  expect(allocRxSlot(pair.adapter, pair.rx(), id)).toBe(0);
  expect(pair.rx().netmapBufIdx[id]).toBe(bufIdx);
});

test("E13 address and length reach the rx descriptor", async () => {
  const { pair, id } = await withRoom(2);
  const ring = pair.rx();
  const at = slotOf(ring.sq.cursor.head, ring.size) * 16;
  expect(refillRxBufs(pair.adapter, ring, 1)).toBe(1);
  expect(rxDesc.address(ring.sq.view, at)).toBe(ring.maps.address(id));
  expect(rxDesc.length(ring.sq.view, at)).toBe(2048);
  expect(rxDesc.reqId(ring.sq.view, at)).toBe(id);
  expect([ring.length[id], ring.owner[id]]).toEqual([2048, RxOwner.DEVICE]);
  pair.check();
});

test("E14 a buffer that was taken and not used is kept", async () => {
  const { pair, port, id } = await withRoom(3);
  const ring = pair.rx();
  expect(allocRxSlot(pair.adapter, ring, id)).toBe(0);
  const before = [ring.nicCur, ring.nicSlots, ring.netmapBufIdx[id], seen(port.rxRing(0))];
  expect(allocRxSlot(pair.adapter, ring, id)).toBe(0);
  expect([ring.nicCur, ring.nicSlots, ring.netmapBufIdx[id], seen(port.rxRing(0))]).toEqual(before);
});

test("E15 freeRxSlot unmaps the buffer and returns it to the ring", async () => {
  const { pair, port } = await stage();
  const ring = pair.rx();
  const slots = port.rxRing(0);
  const id = 17;
  const bufIdx = ring.netmapBufIdx[id]!;
  const slot = ring.nicCur - 1;
  slots.setSlotFlags(slot, Ns.MOREFRAG);
  freeRxSlot(pair.adapter, ring, id);
  expect(ring.maps.isLoaded(id)).toBe(false);
  expect([slots.bufIdx(slot), slots.slotFlags(slot)]).toEqual([bufIdx, Ns.BUF_CHANGED]);
  expect([ring.netmapBufIdx[id], ring.nicCur, ring.nicSlots]).toEqual([0, slot, SLOTS - 2]);
  pair.check();
});

test("E16 no more comes back than was taken, and an occupied slot is not overwritten: asserted", async () => {
  const { pair, port } = await stage();
  const ring = pair.rx();
  const slots = port.rxRing(0);
  slots.setBufIdx(ring.nicCur - 1, 77);
  expect(() => freeRxSlot(pair.adapter, ring, 5)).toThrow(/already has buffer 77/);
  expect(slots.bufIdx(ring.nicCur - 1)).toBe(77);
  expect(ring.netmapBufIdx[5]).not.toBe(0);
  slots.setBufIdx(ring.nicCur - 1, 0);
  // A healthy, open ring raises no assertion.
  for (let id = 0; id < SLOTS - 1; id++) freeRxSlot(pair.adapter, ring, id);
  expect(ring.nicSlots).toBe(0);
  expect(() => freeRxSlot(pair.adapter, ring, 5)).toThrow(/untaken/);
});

test("E17 rxsync puts packets into the ring and passes them by moving its pointers", async () => {
  const { pair, port } = await stage();
  const sent = [...frames(0, 3, 60), ...frames(3, 2, 1514)];
  const ring = port.rxRing(0);
  await pair.arrive(...sent);
  expect(ring.tail).toBe(0);
  port.rxsync();
  expect([ring.head, ring.tail]).toEqual([0, 5]);
  expect([0, 1, 2, 3, 4].map((i) => ring.len(i))).toEqual([60, 60, 60, 1514, 1514]);
  expect(takeAll(port, ring)).toEqual(sent.map((f) => Buffer.from(f)));
});

test("E18 rxsync is rxFrames, then rxCleanup", async () => {
  const { pair, port } = await stage();
  await pair.arrive(...frames(0, 2));
  port.rxsync();
  takeAll(port, port.rxRing(0));
  await pair.arrive(...frames(2, 3));
  const trace: string[] = [];
  const unload = vi.spyOn(MapRow.prototype, "unload").mockImplementation(function (
    this: MapRow,
    i,
  ) {
    trace.push("take");
    unload.mockRestore();
    this.unload(i);
  });
  const publish = vi.spyOn(IoSq.prototype, "ring").mockImplementation(function (this: IoSq) {
    trace.push("refill");
    publish.mockRestore();
    this.ring();
  });
  port.rxsync();
  expect(trace).toEqual(["take", "refill"]);
  vi.restoreAllMocks();
});

test.each([
  ["a request id beyond the ring", ResetReason.INV_RX_REQ_ID, "bad_req_id"],
  ["a request id that the device does not hold", ResetReason.INV_RX_REQ_ID, "bad_req_id"],
  ["a packet that does not begin", ResetReason.RX_DESCRIPTOR_MALFORMED, "bad_desc"],
  ["more descriptors than a packet has", ResetReason.TOO_MANY_RX_DESCS, "bad_desc_num"],
] as const)(
  "E19 an error that a reset repairs: rxsync is 0 (%s)",
  async (what, reason, counter) => {
    const { pair, port } = await stage();
    const before = pair.census();
    const ring = port.rxRing(0);
    await pair.arrive(...frames(0, 2));
    const clear = (bit: number) => (view: DataView, at: number) =>
      view.setUint32(at, view.getUint32(at, true) & ~(1 << bit), true);
    spoil(pair, (view, at, i) => {
      if (what.includes("beyond")) view.setUint16(at + REQ_ID, SLOTS, true);
      // The first frame completed id 0, whose buffer the application has now.
      else if (what.includes("hold")) view.setUint16(at + REQ_ID, pair.rx().freeIds[0]!, true);
      else if (what.includes("begin")) clear(26)(view, at);
      else {
        clear(27)(view, at);
        if (i > 0) clear(26)(view, at);
      }
    });
    await pair.arrive(...frames(2, 30));
    pair.tamper = undefined;
    expect(pair.rxsync()).toBe(0);
    expect(pair.adapter.triggerReset).toBe(true);
    expect(pair.adapter.resetReason).toBe(reason);
    expect(pair.rx().stats[counter]).toBe(1);
    expect(pair.rxsync()).toBe(0);
    expect(pair.rx().stats[counter]).toBe(1);
    expect(port.look(Poll.IN)).toBe(Poll.IN);
    expect(takeAll(port, ring)).toEqual(frames(0, 2).map((f) => Buffer.from(f)));
    pair.check();
    await pair.second();
    expect(pair.resets.filter((r) => r !== ResetReason.NORMAL)).toEqual([reason]);
    await pair.arrive(...frames(50, 5));
    expect(port.look(Poll.IN)).toBe(Poll.IN);
    expect(takeAll(port, ring)).toEqual(frames(50, 5).map((f) => Buffer.from(f)));
    expect(pair.census()).toEqual(before);
  },
);

test("E20 rxsync looks at the ring's consistency first", async () => {
  const { pair, port } = await stage();
  await pair.arrive(...frames(0, 2));
  const ring = port.rxRing(0);
  const head = pair.rx().cq.cursor.head;
  ring.head = SLOTS + 5;
  ring.cur = SLOTS + 5;
  pair.rxKring().rhead = SLOTS + 5;
  expect(pair.rxsync()).toBe(1);
  expect(pair.na.counters.ringReinits).toBe(1);
  expect(pair.rx().cq.cursor.head).toBe(head);
  expect([ring.head, ring.cur, ring.tail, pair.rxKring().rhead]).toEqual([0, 0, 0, 0]);
  port.rxsync();
  expect(takeAll(port, ring).length).toBe(2);
});

test("E21 the loop takes all frames that are there, and ends at its bound", async () => {
  const { pair, port } = await stage({ driver: { rxRingSize: 1024 } });
  const ring = port.rxRing(0);
  await pair.arrive(...frames(0, 500));
  expect(pair.rxsync()).toBe(0);
  expect(pair.rxKring().nrHwtail).toBe(500);
  port.rxsync();
  expect(takeAll(port, ring).length).toBe(500);
  // More frames than the ring holds at once, with syncs in between.
  const all: Uint8Array[] = [];
  for (let n = 0; n < 3000; n += 1000) {
    port.rxsync();
    await pair.arrive(...frames(n, 1000));
    port.rxsync();
    all.push(...takeAll(port, ring));
  }
  expect(all).toEqual(frames(0, 3000).map((f) => Buffer.from(f)));
  expect(MAX_FRAMES_PER_SYNC).toBe(16384);
  await endless(pair);
});

/** A device that never runs out of frames: the same completion and its buffer are there again. */
async function endless(pair: NetmapPair): Promise<void> {
  const ring = pair.rx();
  const slots = pair.rxKring().openRing;
  const { memory } = pair.na;
  await pair.arrive(...frames(0, 1));
  const { cursor, view } = ring.cq;
  const id = rxCdesc.reqId(view, cursor.slot * RX_CDESC_SIZE);
  const bufIdx = ring.netmapBufIdx[id]!;
  let taken = 0;
  vi.spyOn(cursor, "skip").mockImplementation(() => {
    taken++;
  });
  vi.spyOn(ring.sq, "freeEntries").mockReturnValue(0);
  Object.defineProperty(ring.cq, "cursor", {
    get: () => {
      if (ring.owner[id] !== RxOwner.DEVICE) {
        ring.owner[id] = RxOwner.DEVICE;
        ring.netmapBufIdx[id] = bufIdx;
        ring.nicSlots++;
        ring.maps.load(id, memory.bytes, memory.bufferAt(bufIdx), 2048);
        slots.setBufIdx(ring.nmSlot, 0);
      }
      // A loop without a bound ends here.
      if (taken > 2 * MAX_FRAMES_PER_SYNC) throw new Error("no end of frames");
      return cursor;
    },
  });
  expect(pair.rxsync()).toBe(0);
  expect(taken).toBe(MAX_FRAMES_PER_SYNC);
  vi.restoreAllMocks();
}

test("E22 nr_hwtail moves once, after all frames; the pending interrupt is over", async () => {
  const { pair, port } = await stage();
  const kring = pair.rxKring();
  await pair.arrive(...frames(0, 9));
  expect(kring.nrKflags & Nkr.PENDINTR).toBe(Nkr.PENDINTR);
  const tails: number[] = [];
  const setSlot = vi.spyOn(NetmapRing.prototype, "setSlot").mockImplementation(() => {
    tails.push(kring.nrHwtail);
  });
  port.rxsync();
  setSlot.mockRestore();
  expect(tails).toEqual(Array.from({ length: 9 }, () => 0));
  expect(kring.nrHwtail).toBe(9);
  expect(kring.nrKflags & Nkr.PENDINTR).toBe(0);
});

test("E23 a frame is one rxFrame, a descriptor one rxLoadDesc", async () => {
  const { pair } = await stage({ mtu: 9000 });
  const slots = pair.rxKring().openRing;
  const ring = pair.rx();
  const write = vi.spyOn(NetmapRing.prototype, "setSlot");
  await pair.arrive(numbered(0, 5000, MAC), numbered(1, 100, MAC), numbered(2, 9000, MAC));
  const counts: [boolean, number, number][] = [];
  for (let i = 0; i < 4; i++) {
    const before = write.mock.calls.length;
    const got = rxFrame(pair.adapter, ring, slots);
    counts.push([got, write.mock.calls.length - before, ring.stats.count]);
  }
  expect(counts).toEqual([
    [true, 3, 1],
    [true, 1, 2],
    [true, 5, 3],
    [false, 0, 3],
  ]);
  write.mockRestore();
  // A single descriptor moves the slot cursor by one and returns its bytes.
  ring.pktReqIds[0] = ring.netmapBufIdx.findIndex((i) => i !== 0);
  ring.pktLengths[0] = 321;
  const at = ring.nmSlot;
  expect(rxLoadDesc(pair.adapter, ring, slots, 0)).toBe(321);
  expect([ring.nmSlot, slots.len(at)]).toEqual([(at + 1) % SLOTS, 321]);
});

test("E24 NS_MOREFRAG on all slots of a packet but the last", async () => {
  const { pair, port } = await stage({ mtu: 9000 });
  const ring = port.rxRing(0);
  // Flags that an application left in a slot have no meaning.
  for (let i = 0; i < SLOTS; i++) ring.setSlotFlags(i, Ns.FORWARD | Ns.REPORT | Ns.MOREFRAG);
  const big = numbered(0, 5000, MAC);
  await pair.arrive(big, numbered(1, 60, MAC));
  port.rxsync();
  expect([0, 1, 2, 3].map((i) => ring.slotFlags(i))).toEqual([
    Ns.MOREFRAG | Ns.BUF_CHANGED,
    Ns.MOREFRAG | Ns.BUF_CHANGED,
    Ns.BUF_CHANGED,
    Ns.BUF_CHANGED,
  ]);
  expect([0, 1, 2, 3].map((i) => ring.len(i))).toEqual([2048, 2048, 904, 60]);
  expect(takeFrame(port, ring)).toEqual(Buffer.from(big));
});

test.each([0, 1, 2])(
  "E25 a wrong req_id in segment %i of three: nothing of the packet is visible",
  async (bad) => {
    const { pair, port } = await stage({ mtu: 9000 });
    const ring = port.rxRing(0);
    const before = pair.census();
    spoil(pair, (view, at, i) => {
      // A packet of one segment, then one of three.
      if (i === 1 + bad) view.setUint16(at + REQ_ID, 0xfff0, true);
    });
    const slotBytes = seen(ring);
    await pair.arrive(numbered(0, 700, MAC), numbered(1, 5000, MAC), numbered(2, 60, MAC));
    pair.tamper = undefined;
    expect(pair.rxsync()).toBe(0);
    expect(pair.rxKring().nrHwtail).toBe(1);
    expect(seen(ring).subarray(256 + 16)).toEqual(slotBytes.subarray(256 + 16));
    expect([pair.rx().stats.bad_req_id, pair.adapter.resetReason]).toEqual([
      1,
      ResetReason.INV_RX_REQ_ID,
    ]);
    pair.check();
    port.rxsync();
    expect(takeAll(port, ring)).toEqual([Buffer.from(numbered(0, 700, MAC))]);
    await pair.second();
    expect(pair.census()).toEqual(before);
    pair.check();
  },
);

test("E26 a received packet is counted, a bad one is not", async () => {
  const { pair } = await stage({ mtu: 9000 });
  const counts = () => {
    const { stats } = pair.rx();
    const { hwStats, ifnet } = pair.adapter;
    const { ipackets, ibytes } = ifnet.counters;
    return [stats.count, stats.bytes, hwStats.rx_packets, hwStats.rx_bytes, ipackets, ibytes];
  };
  const start = counts();
  await pair.arrive(numbered(0, 60, MAC), numbered(1, 5001, MAC));
  pair.rxsync();
  const moved = counts().map((n, i) => n - start[i]!);
  expect(moved).toEqual([2, 5061, 2, 5061, 2, 5061]);
  spoil(pair, (view, at) => view.setUint16(at + REQ_ID, 0xfff0, true));
  await pair.arrive(numbered(2, 5001, MAC));
  pair.rxsync();
  expect(counts().map((n, i) => n - start[i]!)).toEqual(moved);
});

test("E27 rxCleanup gives the device exactly what was released", async () => {
  const { pair, port } = await stage();
  const ring = port.rxRing(0);
  const rx = pair.rx();
  const posted = (): number => SLOTS - 1 - rx.sq.freeEntries();
  const doorbell = vi.spyOn(rx.sq, "ring");
  await pair.arrive(...frames(0, 40));
  port.rxsync();
  // No slot was released, so nothing is posted and no doorbell rings.
  expect([posted(), doorbell.mock.calls.length]).toEqual([SLOTS - 1 - 40, 0]);
  for (const k of [1, 7, 12]) {
    const before = posted();
    for (let i = 0; i < k; i++) takeFrame(port, ring);
    port.rxsync();
    expect(posted()).toBe(before + k);
    pair.check();
  }
  expect(doorbell).toHaveBeenCalledTimes(3);
  takeAll(port, ring);
  port.rxsync();

  // The device has no buffer left; then all slots are released at once.
  await pair.arrive(...frames(100, SLOTS - 1));
  port.rxsync();
  expect([ring.space, posted()]).toEqual([SLOTS - 1, 0]);
  expect(takeAll(port, ring).length).toBe(SLOTS - 1);
  port.rxsync();
  expect(posted()).toBe(SLOTS - 1);
  expect(rx.stats.refil_partial).toBe(0);

  // The application releases nothing: no frame up to tail is lost.
  const shown: Uint8Array[] = [];
  for (let n = 0; n < 10 * SLOTS; n += 64) {
    for (const frame of frames(1000 + n, 64))
      if (pair.inject(frame) === undefined) shown.push(frame);
    pair.flushPort();
    await pair.settle();
    port.rxsync();
  }
  expect(shown.length).toBe(SLOTS - 1);
  expect(takeAll(port, ring)).toEqual(shown.map((f) => Buffer.from(f)));
  pair.check();
});

test("E28 rings in netmap mode and rings of the stack work side by side", async () => {
  const pair = new NetmapPair({ queues: 4 });
  await pair.start();
  const flows = await pair.flows(3);
  const ports = [await pair.open("netmap:ena0-1"), await pair.open("netmap:ena0-3")];
  pair.inputs.length = 0;
  for (const flow of flows) await pair.arrive(...flow);
  for (const port of ports) port.rxsync();
  expect(takeAll(ports[0]!, ports[0]!.rxRing(1))).toEqual(flows[1]!.map((f) => Buffer.from(f)));
  expect(takeAll(ports[1]!, ports[1]!.rxRing(3))).toEqual(flows[3]!.map((f) => Buffer.from(f)));
  expect(pair.inputs.map((i) => Buffer.from(i.bytes))).toEqual(
    [...flows[0]!, ...flows[2]!].map((f) => Buffer.from(f)),
  );
  // Packets of the stack arrive on the rings that belong to the stack.
  for (let sourcePort = 0; sourcePort < 40; sourcePort++) {
    expect(pair.send(buildPacket({ protocol: 17, sourcePort, destination: AWAY }).bytes)).toBe(0);
  }
  await pair.settle();
  expect(pair.segment.length).toBe(40);
  expect([1, 3].map((q) => pair.tx(q).stats.count)).toEqual([0, 0]);
  expect(pair.outstanding).toBe(0);
  pair.check();
});

test("E29 reset, down and up keep the buffers, and unread frames stay unread", async () => {
  const { pair, port } = await stage({ device: { completionOrder: "shuffle" } });
  const ring = port.rxRing(0);
  const before = pair.census();
  let next = 0;
  const unread: Buffer[] = [];
  const got: Uint8Array[] = [];
  for (let round = 0; round < 60; round++) {
    const some = frames(next, 1 + ((round * 7) % 23));
    next += some.length;
    pair.pump();
    // The device drops a frame without a buffer; all others must arrive.
    for (const frame of some) {
      if (pair.inject(frame) === undefined) unread.push(Buffer.from(frame));
    }
    pair.flushPort();
    await pair.settle();
    port.rxsync();
    for (let i = 0; i < round % 11; i++) {
      const frame = takeFrame(port, ring);
      if (frame !== undefined) got.push(frame);
    }
    if (round % 4 === 0) {
      await pair.run(pair.driver.down());
      pair.check();
      await pair.run(pair.driver.up());
      await pair.settle();
    } else if (round % 4 === 2) {
      pair.nic.levers.requestReset();
      await pair.settle();
      await pair.second();
    }
    pair.check();
    expect(pair.census()).toEqual(before);
  }
  got.push(...takeAll(port, ring));
  expect(got).toEqual(unread);
  expect(got.length).toBeGreaterThan(300);
});

test("E30 link or interface down: rxsync returns 0 and nothing moves", async () => {
  const { pair, port } = await stage();
  const ring = port.rxRing(0);
  await pair.arrive(...frames(0, 3));
  const head = pair.rx().cq.cursor.head;
  pair.adapter.linkUp = false;
  expect(pair.rxsync()).toBe(0);
  expect([pair.rxKring().nrHwtail, pair.rx().cq.cursor.head]).toEqual([0, head]);
  pair.adapter.linkUp = true;
  await pair.run(pair.driver.down());
  expect(pair.adapter.queues.length).toBe(0);
  expect(pair.rxsync()).toBe(0);
  expect(port.look(Poll.IN)).toBe(0);
  expect(pair.rxKring().nrHwtail).toBe(0);
  await pair.run(pair.driver.up());
  await pair.settle();
  await pair.arrive(...frames(5, 2));
  port.rxsync();
  expect(takeAll(port, ring)).toEqual(frames(5, 2).map((f) => Buffer.from(f)));
});

test("E16 the assertion holds in the product, and an application's mistake is none of ours", async () => {
  const { pair, port } = await stage();
  const ring = pair.rx();
  const slots = port.rxRing(0);
  const { lim } = slots;
  const before = pair.census();
  // The application writes into slots that the driver owns.
  slots.setBufIdx((ring.nicCur + lim) % SLOTS, 77);
  slots.setBufIdx(0, 78);
  await pair.arrive(...frames(0, 1));
  port.rxsync();
  await pair.run(pair.driver.down());
  expect(pair.counter("queue0", "rx_ring", "bad_slot")).toBe(2);
  expect(pair.census()).toEqual(before);
  await pair.run(pair.driver.up());
  await pair.settle();

  // The driver's state is wrong: a slot that should be empty has a buffer, which would be lost.
  const again = pair.rx();
  await pair.arrive(...frames(1, 1));
  again.nmSlot = (again.nicCur + 1) % SLOTS;
  again.pktReqIds[0] = again.netmapBufIdx.findIndex((index) => index !== 0);
  expect(() => rxLoadDesc(pair.adapter, again, slots, 0)).toThrow(/already has buffer/);
  again.nicCur = (again.nicCur + 1) % SLOTS;
  expect(() => freeRxBufs(pair.adapter, again)).toThrow(/already has buffer/);
});

/**
 * Makes the device leave `offset` bytes free in the next packet's first buffer, and fill the rest.
 */
function offsetFirst(pair: NetmapPair, offset: number): void {
  let piece = 0;
  pair.tamper = (act) => {
    if (act.kind !== "write") return [act];
    if (act.type === RecordType.FRAME && piece++ === 0) {
      const room = Math.min(act.bytes.length, 2048 - offset);
      return [{ ...act, address: beyond(act.address, offset), bytes: act.bytes.subarray(0, room) }];
    }
    if (act.type === RecordType.ENA_RX_CDESC) {
      const view = new DataView(act.bytes.buffer, act.bytes.byteOffset, act.bytes.byteLength);
      for (let at = 0; at < act.bytes.length; at += RX_CDESC_SIZE) {
        // The offset in later completions has no meaning.
        act.bytes[at + OFFSET] = offset;
        if (rxCdesc.firstOf(rxCdesc.status(view, at)) === 1) {
          view.setUint16(at + LENGTH, Math.min(rxCdesc.length(view, at), 2048 - offset), true);
        }
      }
    }
    return [act];
  };
}
const LENGTH = 4;
const OFFSET = 14;

test.each([1, 10, 255])(
  "E32 an rx offset of %i bytes holds for the first descriptor of several, and for no other",
  async (offset) => {
    const { pair, port } = await stage({ mtu: 9000 });
    const big = numbered(0, 5000, MAC);
    offsetFirst(pair, offset);
    await pair.arrive(big);
    pair.tamper = undefined;
    port.rxsync();
    const ring = port.rxRing(0);
    expect([0, 1, 2].map((i) => ring.len(i))).toEqual([2048 - offset, 2048, 904]);
    expect(takeAll(port, ring)).toEqual([
      Buffer.concat([big.subarray(0, 2048 - offset), big.subarray(2048)]),
    ]);
    pair.check();
  },
);

test("E32 the same for the stack's mbufs", async () => {
  const pair = new NetmapPair({ mtu: 9000 });
  await pair.start();
  const big = numbered(0, 5000, MAC);
  const clusters: number[] = [];
  pair.tamper = (act) => {
    if (act.kind === "write" && act.type === RecordType.FRAME) clusters.push(act.bytes.length);
    return [act];
  };
  await pair.arrive(big);
  expect(pair.inputs.at(-1)?.bytes).toEqual(big);
  const first = clusters[0]!;
  const shift = 10;
  let piece = 0;
  pair.tamper = (act) => {
    if (act.kind !== "write") return [act];
    if (act.type === RecordType.FRAME && piece++ === 0) {
      return [
        {
          ...act,
          address: beyond(act.address, shift),
          bytes: act.bytes.subarray(0, first - shift),
        },
      ];
    }
    if (act.type === RecordType.ENA_RX_CDESC) {
      const view = new DataView(act.bytes.buffer, act.bytes.byteOffset, act.bytes.byteLength);
      view.setUint8(OFFSET, shift);
      view.setUint16(LENGTH, first - shift, true);
    }
    return [act];
  };
  await pair.arrive(big);
  expect(pair.inputs.at(-1)?.bytes).toEqual(
    new Uint8Array(Buffer.concat([big.subarray(0, first - shift), big.subarray(first)])),
  );
});

test("E33 every rxsync stamps ring->ts, in microseconds, whatever the ring's flags", async () => {
  const { pair, port } = await stage();
  const ring = port.rxRing(0);
  for (const flags of [0, RingFlag.TIMESTAMP]) {
    ring.flags = flags;
    for (const sync of [() => port.rxsync(), () => port.look(Poll.IN)]) {
      ring.timestampUs = 0;
      const before = Date.now() * 1000;
      await pair.arrive(...frames(0, 1));
      sync();
      expect(ring.timestampUs).toBeGreaterThanOrEqual(before);
      takeAll(port, ring);
    }
  }
});

test("E34 poll gives released slots back while other frames are still unread", async () => {
  const { pair, port } = await stage();
  const ring = port.rxRing(0);
  await pair.arrive(...frames(0, 20));
  port.rxsync();
  const held = pair.rx().nicSlots;
  ring.advance(10);
  expect(port.look(Poll.IN)).toBe(Poll.IN);
  expect(pair.rx().nicSlots).toBe(held + 10);
  // No slot is released and some are unread, so no sync is needed.
  const stamp = 1;
  ring.timestampUs = stamp;
  expect(port.look(Poll.IN)).toBe(Poll.IN);
  expect(ring.timestampUs).toBe(stamp);
});

test("E31 each rx buffer is synced for the CPU, then unloaded, then handed on", async () => {
  const { pair, port } = await stage({ mtu: 9000 });
  await pair.arrive(...frames(0, 1), numbered(1, 5000, MAC));
  const trace: string[] = [];
  const { sync, unload } = MapRow.prototype;
  const { setSlot } = NetmapRing.prototype;
  vi.spyOn(MapRow.prototype, "sync").mockImplementation(function (this: MapRow, i, op) {
    if (op === SyncOp.POSTREAD) trace.push("sync");
    sync.call(this, i, op);
  });
  vi.spyOn(MapRow.prototype, "unload").mockImplementation(function (this: MapRow, i) {
    trace.push("unload");
    unload.call(this, i);
  });
  vi.spyOn(NetmapRing.prototype, "setSlot").mockImplementation(function (
    this: NetmapRing,
    ...args: Parameters<NetmapRing["setSlot"]>
  ) {
    trace.push("slot");
    setSlot.apply(this, args);
  });
  pair.rxsync();
  vi.restoreAllMocks();
  const one = ["sync", "unload", "slot"];
  expect(trace).toEqual([...one, ...one, ...one, ...one]);
  port.rxsync();
  expect(takeAll(port, port.rxRing(0)).length).toBe(2);
});
