/**
 * Defects of the original ENA driver's netmap support, found by reading and by simulation, that
 * ours does not have. One test for each, named after the function and the defect.
 */
import { describe, expect, test, vi } from "vitest";
import { Errno } from "../../frontend/bus/errno.ts";
import { DmaMap } from "../../frontend/bus/map.ts";
import { interrupt, unmaskDue } from "../../frontend/ena/datapath.ts";
import { DeviceError } from "../../frontend/ena/device-error.ts";
import { allocRxSlot, freeRxSlot } from "../../frontend/ena/netmap-rx-slots.ts";
import type { NmPort } from "../../frontend/netmap/descriptor.ts";
import { Naf, Ns, Poll, RingMode } from "../../frontend/netmap/flags.ts";
import { viewOf } from "../../shared/bytes/words.ts";
import { RX_CDESC_SIZE, TX_CDESC_SIZE } from "../../shared/ena/io.ts";
import { ResetReason } from "../../shared/ena/registers.ts";
import { beyond, RecordType } from "../../shared/wire/records.ts";
import { putFrame, takeAll, takeFrame } from "../support/netmap-frames.ts";
import {
  AWAY,
  MAC,
  NetmapPair,
  type NetmapPairOptions,
  numbered,
  SLOTS,
} from "../support/netmap-pair.ts";
import { RecordingLog } from "../support/recording-log.ts";

async function stage(
  options: NetmapPairOptions = {},
): Promise<{ pair: NetmapPair; port: NmPort; before: Uint32Array }> {
  const pair = new NetmapPair(options);
  const port = await pair.startOpen();
  return { pair, port, before: pair.census() };
}

const out = (n: number, length = 100): Uint8Array => numbered(n, length, AWAY);
const into = (n: number, length = 100): Uint8Array => numbered(n, length, MAC);
const bytesOf = (frames: Uint8Array[]): Buffer[] => frames.map((f) => Buffer.from(f));
const sent = (pair: NetmapPair): Buffer[] => pair.segment.map((f) => Buffer.from(f.bytes));

/** Drops the device's tx completions. */
const swallowTx = (pair: NetmapPair): void => {
  pair.tamper = (act) =>
    act.kind === "write" && act.type === RecordType.ENA_TX_CDESC ? [] : [act];
};

/** Fills slots with one frame in pieces of these lengths; flags as given. */
function fill(port: NmPort, frame: Uint8Array, pieces: readonly number[]): void {
  const ring = port.txRing(0);
  let slot = ring.head;
  let at = 0;
  pieces.forEach((length, i) => {
    port.buffer(ring.bufIdx(slot)).set(frame.subarray(at, at + length));
    ring.setLen(slot, length);
    ring.setSlotFlags(slot, i < pieces.length - 1 ? Ns.MOREFRAG : 0);
    at += length;
    slot = ring.next(slot);
  });
  ring.advance(slot);
}

describe("attach and register", () => {
  test.each([2049, 3000, 4096, 4097, 9000])(
    "attach: buffers of 2048 bytes and an MTU of %i are no contradiction",
    async (mtu) => {
      const { pair, port } = await stage({ mtu });
      const frame = into(1, mtu + 14);
      await pair.arrive(frame);
      port.rxsync();
      expect(takeAll(port, port.rxRing(0))).toEqual(bytesOf([frame]));
    },
  );

  test("reg: an MTU that no chain of buffers holds is refused, and changes nothing", async () => {
    const pair = new NetmapPair({ mtu: 9000, bufBytes: 256 });
    await pair.start();
    await expect(pair.open()).rejects.toThrow(/don't fit/);
    expect(pair.adapter.devStats.interface_down).toBe(0);
    await pair.arrive(into(1, 9000));
    expect(pair.inputs.length).toBe(1);
  });

  test("reg: when the interface can't come up, no ring stays in netmap mode", async () => {
    const pair = new NetmapPair({ queues: 2 });
    await pair.start();
    const setMtu = vi
      .spyOn(pair.adapter.com!, "setMtu")
      .mockRejectedValueOnce(new DeviceError(Errno.EIO));
    await expect(pair.open()).rejects.toThrow(/netmap mode/);
    expect(setMtu).toHaveBeenCalledTimes(1);
    await pair.settle();
    const modes = [...pair.na.rxRings, ...pair.na.txRings].map((k) => k.nrMode);
    expect(modes).toEqual(modes.map(() => RingMode.OFF));
    expect(pair.na.isOn).toBe(false);
    expect(pair.resets.at(-2)).toBe(ResetReason.DRIVER_INVALID_STATE);
    // The stack can use its interface again.
    await pair.arrive(into(1));
    expect(pair.inputs.length).toBe(1);
    expect(pair.send(out(2))).toBe(0);
    await pair.settle();
    expect(pair.segment.length).toBe(1);
    const port = await pair.open();
    await pair.arrive(into(3));
    port.rxsync();
    const got = port.rxRings().flatMap((ring) => takeAll(port, ring));
    expect(got).toEqual(bytesOf([into(3)]));
  });

  test("reg: a reset that was due is done, not forgotten", async () => {
    const pair = new NetmapPair();
    await pair.start();
    pair.adapter.requestReset(ResetReason.MISS_TX_CMPL);
    const port = await pair.open();
    expect(pair.resets).toContain(ResetReason.MISS_TX_CMPL);
    expect(pair.adapter.devStats.missing_tx_cmpl).toBe(1);
    await pair.arrive(into(1));
    port.rxsync();
    expect(takeAll(port, port.rxRing(0)).length).toBe(1);
  });

  test("ring_in_netmap: krings of an adapter that is not native are not ours", async () => {
    const { pair } = await stage();
    expect(pair.adapter.netmap?.hasRxRing(0)).toBe(true);
    pair.na.flags &= ~Naf.NATIVE;
    expect(pair.adapter.netmap?.hasRxRing(0)).toBe(false);
    pair.na.flags |= Naf.NATIVE;
  });
});

describe("receive", () => {
  test("alloc_rx_slot: the first fill after a reset takes no slot that is still unread", async () => {
    const { pair, port, before } = await stage();
    const ring = port.rxRing(0);
    await pair.arrive(...Array.from({ length: 200 }, (_, n) => into(n)));
    port.rxsync();
    await pair.run(pair.driver.down());
    await pair.run(pair.driver.up());
    await pair.settle();
    pair.check();
    expect(pair.rx().nicSlots).toBe(SLOTS - 1 - 200);
    expect(pair.rx().stats.refil_partial).toBe(0);
    expect(ring.space).toBe(200);
    await pair.arrive(...Array.from({ length: 55 }, (_, n) => into(200 + n)));
    port.rxsync();
    const all = takeAll(port, ring);
    expect(all).toEqual(Array.from({ length: 255 }, (_, n) => Buffer.from(into(n))));
    expect(pair.census()).toEqual(before);
  });

  test("free_rx_slot: a healthy ring is no reason to panic", async () => {
    const { pair } = await stage();
    for (let id = 0; id < SLOTS - 1; id++) freeRxSlot(pair.adapter, pair.rx(), id);
    expect(pair.rx().nicSlots).toBe(0);
  });

  test("rx_frame: data does not begin where the buffer does", async () => {
    const { pair, port } = await stage();
    const frame = into(1, 300);
    pair.tamper = (act) => {
      if (act.kind !== "write") return [act];
      if (act.type === RecordType.FRAME) return [{ ...act, address: beyond(act.address, 10) }];
      if (act.type === RecordType.ENA_RX_CDESC) act.bytes[14] = 10;
      return [act];
    };
    await pair.arrive(frame);
    port.rxsync();
    expect(takeAll(port, port.rxRing(0))).toEqual(bytesOf([frame]));
  });

  test("rx_load_desc: a repeated request id gives the application no buffer 0", async () => {
    const { pair, port, before } = await stage();
    let first = true;
    pair.tamper = (act) => {
      if (act.kind !== "write" || act.type !== RecordType.ENA_RX_CDESC) return [act];
      const view = new DataView(act.bytes.buffer, act.bytes.byteOffset);
      for (let at = 0; at < act.bytes.length; at += RX_CDESC_SIZE) {
        if (!first) view.setUint16(at + 6, 0, true);
        first = false;
      }
      return [act];
    };
    await pair.arrive(into(1), into(2));
    expect(pair.rxsync()).toBe(0);
    const ring = port.rxRing(0);
    expect([pair.rxKring().nrHwtail, pair.rx().stats.bad_req_id]).toEqual([1, 1]);
    expect(ring.bufIdx(0)).not.toBe(0);
    pair.check();
    pair.tamper = undefined;
    await pair.second();
    expect(pair.census()).toEqual(before);
  });

  test("rx_frame: an invalid packet is reported once, whatever the number of syncs", async () => {
    const log = new RecordingLog();
    const { pair } = await stage({ log });
    pair.tamper = (act) => {
      if (act.kind === "write" && act.type === RecordType.ENA_RX_CDESC) {
        viewOf(act.bytes).setUint16(6, 0xfff0, true);
      }
      return [act];
    };
    await pair.arrive(into(1));
    expect(pair.rxsync()).toBe(0);
    const before = log.warnings.length;
    expect([pair.rxsync(), pair.rxsync()]).toEqual([0, 0]);
    expect(log.warnings.slice(before)).toEqual([]);
    expect([pair.rxKring().nrHwtail, pair.rx().stats.bad_req_id]).toEqual([0, 1]);
  });

  test("rx_load_desc: what a user left in the flags of a slot is gone", async () => {
    const { pair, port } = await stage();
    const ring = port.rxRing(0);
    for (let i = 0; i < SLOTS; i++) ring.setSlotFlags(i, 0xffff);
    await pair.arrive(into(1));
    port.rxsync();
    expect(ring.slotFlags(0)).toBe(Ns.BUF_CHANGED);
  });

  test("rx_cleanup: a drained ring that is released as a whole is filled again", async () => {
    const { pair, port } = await stage();
    const ring = port.rxRing(0);
    for (let round = 0; round < 4; round++) {
      await pair.arrive(...Array.from({ length: SLOTS - 1 }, (_, n) => into(n)));
      port.rxsync();
      expect(pair.rx().nicSlots).toBe(0);
      expect(takeAll(port, ring).length).toBe(SLOTS - 1);
      port.rxsync();
      expect(pair.rx().nicSlots).toBe(SLOTS - 1);
    }
    expect(pair.rx().stats.refil_partial).toBe(0);
  });

  test("nr_hwcur: part of a drained ring may be released", async () => {
    const { pair, port } = await stage();
    const ring = port.rxRing(0);
    await pair.arrive(...Array.from({ length: SLOTS - 1 }, (_, n) => into(n)));
    port.rxsync();
    for (let n = 0; n < SLOTS - 1; n++) {
      expect(takeFrame(port, ring)).toEqual(Buffer.from(into(n)));
      expect(port.look(Poll.IN) & Poll.ERR).toBe(0);
    }
    expect(pair.na.counters.ringReinits).toBe(0);
    pair.check();
  });

  test("rxsync: an application that releases a slot without a buffer is told", async () => {
    const { pair, port } = await stage();
    const ring = port.rxRing(0);
    await pair.arrive(into(1), into(2));
    port.rxsync();
    const bufIdx = ring.bufIdx(0);
    ring.setBufIdx(0, 8192);
    ring.advance(2);
    expect(port.look(Poll.IN) & Poll.ERR).toBe(Poll.ERR);
    expect(pair.rx().stats.bad_slot).toBeGreaterThan(0);
    expect(pair.adapter.triggerReset).toBe(false);
    const id = pair.rx().freeIds[pair.rx().nextToUse]!;
    expect(pair.rx().maps.isLoaded(id)).toBe(false);
    ring.setBufIdx(0, bufIdx);
    expect(allocRxSlot(pair.adapter, pair.rx(), id)).toBe(0);
  });

  test("cleanup: after netmap took the interrupt the vector is unmasked", async () => {
    const { pair } = await stage();
    const before = pair.tx().stats.unmask_interrupt_num;
    interrupt(pair.adapter, pair.adapter.queues[0]!);
    unmaskDue(pair.adapter);
    expect(pair.tx().stats.unmask_interrupt_num).toBe(before + 1);
  });
});

describe("transmit", () => {
  test("tx_frame: the missing-completion watchdog covers netmap", async () => {
    const { pair, port, before } = await stage({ driver: { llq: true } });
    swallowTx(pair);
    const ring = port.txRing(0);
    for (let n = 0; n < 200; n++) expect(putFrame(port, ring, out(n))).toBe(true);
    port.txsync();
    expect(pair.tx().stamps.filter((s) => s !== 0).length).toBe(200);
    for (let i = 0; i < 9 && pair.adapter.devStats.total_resets === 0; i++) await pair.second();
    expect(pair.adapter.devStats.missing_tx_cmpl + pair.adapter.devStats.missing_intr).toBe(1);
    pair.tamper = undefined;
    await pair.second();
    pair.check();
    expect(pair.census()).toEqual(before);
    port.txsync();
    expect(ring.space).toBe(SLOTS - 1);
  });

  test("tx_frame: an application that does not ask for its completions causes no reset", async () => {
    const { pair, port, before } = await stage();
    const ring = port.txRing(0);
    for (let n = 0; n < 200; n++) expect(putFrame(port, ring, out(n))).toBe(true);
    port.txsync();
    for (let i = 0; i < 20; i++) await pair.second();
    expect(pair.adapter.devStats.total_resets).toBe(0);
    port.txsync();
    expect(ring.space).toBe(SLOTS - 1);
    expect(pair.census()).toEqual(before);
  });

  test("tx_frame: a ring full of few, long packets is watched too", async () => {
    const { pair, port } = await stage({ mtu: 9000 });
    swallowTx(pair);
    const ring = port.txRing(0);
    let n = 0;
    while (putFrame(port, ring, out(n++, 9000))) port.txsync();
    expect(n).toBeLessThan(60);
    // Syncs of the application don't count as a sign of life of the device.
    for (let i = 0; i < 12 && pair.adapter.devStats.total_resets === 0; i++) {
      port.txsync();
      await pair.second();
      port.txsync();
    }
    expect(pair.adapter.devStats.total_resets).toBe(1);
  });

  test.each([
    ["too many slots", Array.from({ length: 20 }, () => 50)],
    ["no bytes at all", [0]],
  ])("tx_frame: a packet with %s does not block those behind it", async (_, pieces) => {
    const { pair, port, before } = await stage();
    expect(putFrame(port, port.txRing(0), out(1))).toBe(true);
    fill(port, out(2, 1000), pieces);
    expect(putFrame(port, port.txRing(0), out(3))).toBe(true);
    expect(port.look(Poll.OUT) & Poll.ERR).toBe(0);
    await pair.settle();
    port.txsync();
    expect(sent(pair)).toEqual(bytesOf([out(1), out(3)]));
    expect(pair.tx().stats.bad_packet).toBe(1);
    expect(pair.adapter.ifnet.counters).toMatchObject({ opackets: 2, oerrors: 1 });
    expect(port.txRing(0).space).toBe(SLOTS - 1);
    pair.check();
    expect(pair.census()).toEqual(before);
  });

  test("count_slots: NS_MOREFRAG on the last released slot waits for the rest", async () => {
    const { pair, port } = await stage();
    const ring = port.txRing(0);
    const frame = out(1, 300);
    const later = out(9, 200);
    // The slot after the packet is not released, so its content must not matter.
    fill(port, frame, [100, 100, 100]);
    ring.head = 1;
    ring.cur = 1;
    port.txsync();
    await pair.settle();
    expect(sent(pair)).toEqual([]);
    expect(pair.txKring().nrHwcur).toBe(0);
    ring.advance(3);
    expect(putFrame(port, ring, later)).toBe(true);
    port.txsync();
    await pair.settle();
    expect(sent(pair)).toEqual(bytesOf([frame, later]));
  });

  test("count_slots: a ring in which every slot goes on is no endless loop", async () => {
    const { pair, port, before } = await stage();
    const ring = port.txRing(0);
    for (let i = 0; i < SLOTS; i++) {
      ring.setLen(i, 60);
      ring.setSlotFlags(i, Ns.MOREFRAG);
    }
    ring.advance(SLOTS - 1);
    port.txsync();
    expect(pair.tx().stats.bad_packet).toBe(1);
    expect(ring.space).toBe(SLOTS - 1);
    // The packet's last slot belongs to it, and is not sent either.
    ring.setSlotFlags(ring.head, 0);
    ring.advance(ring.next(ring.head));
    expect(putFrame(port, ring, out(5))).toBe(true);
    port.txsync();
    await pair.settle();
    expect(sent(pair)).toEqual(bytesOf([out(5)]));
    expect(pair.tx().stats.bad_packet).toBe(1);
    expect(pair.census()).toEqual(before);
  });

  test("packet_len: more than 65535 bytes are no short packet", async () => {
    const { pair, port } = await stage({ bufBytes: 4096 });
    fill(
      port,
      out(1, 17 * 4096),
      Array.from({ length: 17 }, () => 4096),
    );
    const before = port.txRing(0).head;
    expect(before).toBe(17);
    port.txsync();
    await pair.settle();
    port.txsync();
    // The frame is sent whole or not at all: the device or the driver refuses it.
    expect(pair.segment.filter((f) => f.bytes.length !== 17 * 4096)).toEqual([]);
    expect(port.txRing(0).space).toBe(SLOTS - 1);
    pair.check();
  });

  test.each([
    [[1, 1, 1, 97]],
    [[14, 20, 8, 58]],
    [[40, 60]],
    [[10, 0, 5, 0, 85]],
    [[96, 4]],
    [[100]],
    [[3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 70]],
  ])(
    "copy_data: a header over slots of %j bytes is gathered piece behind piece",
    async (pieces) => {
      const { pair, port, before } = await stage();
      expect(pair.tx().sq.llq).toBeDefined();
      const frame = out(
        1,
        pieces.reduce((a, b) => a + b),
      );
      fill(port, frame, pieces);
      port.txsync();
      await pair.settle();
      expect(sent(pair)).toEqual(bytesOf([frame]));
      // There are fewer maps than slots: the slots whose bytes went into the header come back too.
      port.txsync();
      pair.check();
      expect(pair.census()).toEqual(before);
      expect(port.txRing(0).space).toBe(SLOTS - 1);
      expect(pair.tx().stats.llq_buffer_copy).toBe(pieces[0]! < 96 ? 1 : 0);
    },
  );

  test.each([
    ["0", 0],
    ["1, which is reserved too", 1],
    ["one beyond the pool", 8192],
    ["the largest", 0xffff_ffff],
  ])("map_single_slot: buffer %s is no buffer", async (_, bufIdx) => {
    const { pair, port } = await stage();
    const ring = port.txRing(0);
    const own = ring.bufIdx(0);
    expect(putFrame(port, ring, out(1))).toBe(true);
    expect(putFrame(port, ring, out(2))).toBe(true);
    ring.setBufIdx(0, bufIdx);
    port.txsync();
    await pair.settle();
    port.txsync();
    expect(sent(pair)).toEqual(bytesOf([out(2)]));
    expect(pair.tx().stats.bad_packet).toBe(1);
    // The application gets back the buffers that it gave.
    const all = Array.from({ length: SLOTS }, (__, i) => ring.bufIdx(i));
    expect(all.filter((i) => i === bufIdx).length).toBe(1);
    expect(all).not.toContain(own);
  });

  test("map_single_slot: a length beyond the buffer shows no neighbour's bytes", async () => {
    const { pair, port } = await stage();
    const ring = port.txRing(0);
    expect(putFrame(port, ring, out(1))).toBe(true);
    ring.setLen(0, 2049);
    port.txsync();
    await pair.settle();
    expect(pair.segment).toEqual([]);
    expect(pair.tx().stats.bad_packet).toBe(1);
  });

  test("unmap_last_socket_chain: a packet that has to wait keeps its slots and flags", async () => {
    const { pair, port, before } = await stage({ mtu: 9000, device: { llq: false } });
    const ring = port.txRing(0);
    const frames = Array.from({ length: 40 }, (_, n) => out(n, 9000));
    for (const f of frames) expect(putFrame(port, ring, f)).toBe(true);
    // The queue has no room for the last frames.
    const space = vi.spyOn(pair.tx().sq, "hasSpace");
    let left = 30;
    space.mockImplementation(() => left-- > 0);
    port.txsync();
    space.mockRestore();
    const at = pair.txKring().nrHwcur;
    expect(at).toBe(30 * 5);
    expect([0, 1, 2, 3, 4].map((i) => ring.slotFlags(at + i))).toEqual([
      Ns.MOREFRAG,
      Ns.MOREFRAG,
      Ns.MOREFRAG,
      Ns.MOREFRAG,
      0,
    ]);
    pair.check();
    port.txsync();
    await pair.settle();
    port.txsync();
    expect(sent(pair)).toEqual(bytesOf(frames));
    expect(pair.census()).toEqual(before);
  });

  test("map failure: the packet is dropped whole, with its slots", async () => {
    const { pair, port, before } = await stage();
    vi.spyOn(DmaMap.prototype, "loadPieces").mockReturnValueOnce(27);
    for (const n of [1, 2]) expect(putFrame(port, port.txRing(0), out(n, 500), 200)).toBe(true);
    port.txsync();
    vi.restoreAllMocks();
    await pair.settle();
    port.txsync();
    expect(sent(pair)).toEqual(bytesOf([out(2, 500)]));
    expect(pair.tx().stats.dma_mapping_err).toBe(1);
    expect(pair.census()).toEqual(before);
    pair.check();
  });

  test("tx_clean_one: a repeated completion frees no id a second time", async () => {
    const { pair, port, before } = await stage();
    let id = -1;
    pair.tamper = (act) => {
      if (act.kind !== "write" || act.type !== RecordType.ENA_TX_CDESC) return [act];
      const view = new DataView(act.bytes.buffer, act.bytes.byteOffset);
      for (let at = 0; at < act.bytes.length; at += TX_CDESC_SIZE) {
        if (id < 0) id = view.getUint16(at, true);
        view.setUint16(at, id, true);
      }
      return [act];
    };
    for (let n = 0; n < 5; n++) expect(putFrame(port, port.txRing(0), out(n))).toBe(true);
    port.txsync();
    await pair.settle();
    const used = pair.tx().nextToUse;
    expect(pair.txsync()).toBe(0);
    expect(pair.tx().nextToUse).toBe(used - 1);
    expect([pair.tx().stats.bad_req_id, pair.adapter.resetReason]).toEqual([
      1,
      ResetReason.INV_TX_REQ_ID,
    ]);
    pair.txsync();
    expect(pair.tx().stats.bad_req_id).toBe(1);
    pair.check();
    pair.tamper = undefined;
    await pair.second();
    pair.check();
    expect(pair.census()).toEqual(before);
    expect(putFrame(port, port.txRing(0), out(9))).toBe(true);
    port.txsync();
    await pair.settle();
    expect(sent(pair).at(-1)).toEqual(Buffer.from(out(9)));
  });

  test("tx_clean_one: ids go round the whole ring, none is issued twice", async () => {
    const { pair, port } = await stage({ device: { completionOrder: "shuffle", seed: 3 } });
    const ring = port.txRing(0);
    let n = 0;
    for (let round = 0; round < 30; round++) {
      for (let i = 0; i < 50; i++) expect(putFrame(port, ring, out(n++))).toBe(true);
      port.txsync();
      const inFlight = pair.tx().slots!.used.filter((u) => u > 0).length;
      expect(inFlight).toBe(50);
      await pair.settle();
      port.txsync();
      expect(new Set(pair.tx().freeIds).size).toBe(SLOTS);
      pair.check();
    }
    expect(sent(pair)).toEqual(Array.from({ length: n }, (_, i) => Buffer.from(out(i))));
  });

  test("free_tx_resources: packets in flight give their buffers back at down", async () => {
    const { pair, port, before } = await stage();
    swallowTx(pair);
    for (let n = 0; n < 77; n++) expect(putFrame(port, port.txRing(0), out(n))).toBe(true);
    port.txsync();
    expect(pair.tx().slots!.slotsOut).toBe(77);
    const { stats } = pair.tx();
    await pair.run(pair.driver.down());
    pair.check();
    expect(pair.census()).toEqual(before);
    expect(stats.dropped_down).toBe(77);
    await pair.run(pair.driver.up());
    await pair.settle();
    port.txsync();
    expect(port.txRing(0).space).toBe(SLOTS - 1);
  });

  test("reset: what was released in part is not sent as a packet of its own afterwards", async () => {
    const { pair, port } = await stage();
    const ring = port.txRing(0);
    fill(port, out(1, 300), [100, 100, 100]);
    ring.head = 2;
    ring.cur = 2;
    port.txsync();
    await pair.run(pair.driver.down());
    await pair.run(pair.driver.up());
    await pair.settle();
    ring.setSlotFlags(2, 0);
    ring.advance(3);
    expect(putFrame(port, ring, out(2))).toBe(true);
    port.txsync();
    await pair.settle();
    expect(sent(pair)).toEqual(bytesOf([out(2)]));
  });

  test("txsync: a head that goes back over slots in flight is refused", async () => {
    const { pair, port, before } = await stage();
    swallowTx(pair);
    const ring = port.txRing(0);
    for (let n = 0; n < 10; n++) expect(putFrame(port, ring, out(n))).toBe(true);
    port.txsync();
    ring.advance(5);
    expect(port.look(Poll.OUT) & Poll.ERR).toBe(Poll.ERR);
    expect(port.look(Poll.OUT) & Poll.ERR).toBe(Poll.ERR);
    pair.check();
    pair.tamper = undefined;
    await pair.run(pair.driver.down());
    expect(pair.census()).toEqual(before);
  });
});
