/**
 * The driver's data path, by exact values: what it writes to the device for each packet, in which
 * order, and the counters that change.
 */
import { describe, expect, test, vi } from "vitest";
import { Errno } from "../../frontend/bus/errno.ts";
import { scheduleCleanup } from "../../frontend/ena/datapath.ts";
import { RxOwner, type RxRing, type TxRing } from "../../frontend/ena/rings.ts";
import { findFacts } from "../../frontend/net/facts.ts";
import { Ifcap, Iff } from "../../frontend/net/ifnet.ts";
import { Csum, HashType, type Mbuf, MbufPool, NO_CLUSTER } from "../../frontend/net/mbuf.ts";
import { viewOf } from "../../shared/bytes/words.ts";
import { TxOffload } from "../../shared/ena/features.ts";
import { DESC_SIZE, RX_CDESC_SIZE, TX_CDESC_SIZE, txDesc, txMeta } from "../../shared/ena/io.ts";
import { ResetReason } from "../../shared/ena/registers.ts";
import { RecordType } from "../../shared/wire/records.ts";
import { settle } from "../support/fake-host.ts";
import { arrive, arriving, bytesOf, frame, payload } from "../support/nic-frames.ts";
import { type Built, buildPacket } from "../support/packets.ts";
import { EnaPair, type EnaPairOptions } from "../support/pair.ts";
import { RecordingLog } from "../support/recording-log.ts";
import type { Act } from "../support/wire-acts.ts";

const MAC = [2, 0, 0, 0, 0, 1];
/** Completions that a cleanup handles in one turn: 8 rounds of 256. */
const RX_TURN = 8 * 256;
/** Value of the unmask register: no delay of frames, and one of 10 ms of Tx completions. */
const UNMASK = 0x4000_0000 | (30_000 << 15);

/** The smallest rings, so that a test can lap and fill them. */
const SIZE = 256;
const SMALL = { rxRingSize: SIZE, txRingSize: SIZE };

async function started(options: EnaPairOptions = {}): Promise<EnaPair> {
  const pair = new EnaPair({ ...options, driver: { ...SMALL, ...options.driver } });
  await pair.start();
  return pair;
}

const rxOf = (pair: EnaPair): RxRing => pair.driver.adapter.queues[0]!.rx;
const txOf = (pair: EnaPair): TxRing => pair.driver.adapter.queues[0]!.tx;

/** Changes each completion of the device, in order. */
function onCompletion(pair: EnaPair, change: (view: DataView, i: number) => void): void {
  let i = 0;
  pair.tamper = (act) => {
    if (act.kind === "write" && act.type === RecordType.ENA_RX_CDESC) {
      const { buffer, byteOffset, length } = act.bytes;
      for (let at = 0; at < length; at += RX_CDESC_SIZE) {
        change(new DataView(buffer, byteOffset + at, RX_CDESC_SIZE), i++);
      }
    }
    return [act];
  };
}

const LENGTH = 4;
const ID = 6;
const OFFSET = 14;

/** The driver's writes since the last call: registers by value, the others by length. */
function sent(pair: EnaPair): string[] {
  return pair.sent.splice(0).map((act) => {
    if (act.kind === "push" || act.kind === "write") return `${act.kind} ${act.bytes.length}`;
    if (act.kind !== "mmio_write") return act.kind;
    if (act.space !== 0) return `llq ${act.bytes.length} at ${act.address}`;
    const value = Buffer.from(act.bytes).readUInt32LE();
    return `register 0x${act.address.toString(16)} = 0x${value.toString(16)}`;
  });
}

/** Counters of a ring that are not 0. */
function counted(pair: EnaPair, ring: "tx_ring" | "rx_ring"): Record<string, number> {
  const tree = pair.driver.counters()["queue0"] as Record<string, Record<string, number>>;
  return Object.fromEntries(Object.entries(tree[ring]!).filter(([, n]) => n !== 0));
}

/** The device's state of the vector of queue pair 0. */
const vectorOf = (pair: EnaPair) => pair.nic.snapshot().interrupts[1]!;

const unmasks = (pair: EnaPair): number =>
  pair.counter("queue0", "tx_ring", "unmask_interrupt_num");

test("case-W8 the first fill goes in slices, and other events have their turn in between", async () => {
  const pair = new EnaPair({ queues: 2, driver: { rxRingSize: 4096 } });
  await pair.attach();
  let ms = 0;
  const now = vi.spyOn(performance, "now").mockImplementation(() => (ms += 100));
  // Doorbells of the Rx rings that were rung in one turn of the event loop, by value.
  const turns: number[][] = [];
  const up = pair.driver.up();
  let isUp = false;
  void up.then(() => {
    isUp = true;
  });
  while (!isUp) {
    pair.pump();
    await settle();
    const rung = pair.sent
      .splice(0)
      .flatMap((act) =>
        act.kind === "mmio_write" && [0x1008, 0x100c].includes(act.address)
          ? Buffer.from(act.bytes).readUInt32LE()
          : [],
      );
    if (rung.length > 0) turns.push(rung);
  }
  now.mockRestore();
  const fill = [512, 1024, 1536, 2048, 2560, 3072, 3584, 4095];
  expect(turns.flat()).toEqual([...fill, ...fill]);
  expect(Math.max(...turns.map((turn) => turn.length))).toBe(1);
});

describe("one packet", () => {
  test("out of host memory: bytes, descriptor, doorbell; its completion unmasks", async () => {
    const pair = await started({ device: { llq: false } });
    expect(sent(pair).at(-1)).toBe(`register 0x2000 = 0x${UNMASK.toString(16)}`);
    for (const doorbell of [1, 2]) {
      pair.send(frame(100));
      await pair.settle();
      expect(sent(pair)).toEqual([
        "push 100",
        "write 16",
        `register 0x1000 = 0x${doorbell}`,
        `register 0x2000 = 0x${UNMASK.toString(16)}`,
      ]);
    }
    expect(counted(pair, "tx_ring")).toEqual({
      count: 2,
      bytes: 200,
      doorbells: 2,
      unmask_interrupt_num: 3,
    });
    expect(pair.inputDones).toBe(0);
  });

  test("out of device memory: what is beyond 96 bytes, an entry, doorbell", async () => {
    const pair = await started();
    sent(pair);
    pair.send(frame(60), frame(40));
    await pair.settle();
    expect(sent(pair)).toEqual([
      "push 4",
      "llq 128 at 0",
      "register 0x1000 = 0x1",
      `register 0x2000 = 0x${UNMASK.toString(16)}`,
    ]);
    pair.send(frame(96));
    await pair.settle();
    expect(sent(pair).slice(0, 2)).toEqual(["llq 128 at 128", "register 0x1000 = 0x2"]);
    // The first header, which had more than one piece, was copied.
    expect(counted(pair, "tx_ring")).toEqual({
      count: 2,
      bytes: 196,
      doorbells: 2,
      llq_buffer_copy: 1,
      unmask_interrupt_num: 3,
    });
    expect(bytesOf(pair.segment)).toEqual([
      Uint8Array.from([...frame(60), ...frame(40)]),
      frame(96),
    ]);
  });

  test("in: counted once, announced once, no buffer given back yet", async () => {
    const pair = await started();
    sent(pair);
    await arrive(pair, arriving(60), arriving(61));
    expect(sent(pair)).toEqual([`register 0x2000 = 0x${UNMASK.toString(16)}`]);
    expect(pair.inputDones).toBe(1);
    expect(counted(pair, "rx_ring")).toEqual({ count: 2, bytes: 121 });
    expect(pair.driver.counters()["hw_stats"]).toMatchObject({ rx_packets: 2, rx_bytes: 121 });
    expect(pair.ifnet.counters).toMatchObject({ ipackets: 2, ibytes: 121 });
  });
});

describe("interrupts", () => {
  /** Delivers `beyond` frames more than a turn handles, up to the end of that turn. */
  function flood(pair: EnaPair, beyond: number): void {
    for (let i = 0; i < RX_TURN + beyond; i++) pair.inject(arriving(60));
    pair.flushPort();
    pair.pump();
  }

  const LONG = { driver: { rxRingSize: 4096 } };

  test("what is beyond a turn's budget is handled in the next, and the vector stays masked", async () => {
    const pair = await started(LONG);
    for (const round of [1, 2]) {
      const before = [pair.inputs.length, unmasks(pair)] as const;
      flood(pair, 52);
      expect([pair.inputs.length, unmasks(pair)]).toEqual([before[0] + RX_TURN, before[1]]);
      await pair.settle();
      expect([pair.inputs.length, unmasks(pair)]).toEqual([
        before[0] + RX_TURN + 52,
        before[1] + 1,
      ]);
      expect(pair.inputDones).toBe(2 * round);
    }
  });

  test("a turn that was asked for twice runs once", async () => {
    const pair = await started(LONG);
    const [queue] = pair.driver.adapter.queues;
    flood(pair, 10);
    expect(queue!.tx.cleanupPending).toBe(true);
    scheduleCleanup(pair.driver.adapter, queue!);
    const before = unmasks(pair);
    await pair.settle();
    expect(unmasks(pair)).toBe(before + 1);
    expect(queue!.tx.cleanupPending).toBe(false);
  });

  test("none is handled while a reset is due", async () => {
    const pair = await started();
    pair.driver.adapter.requestReset(ResetReason.OS_TRIGGER);
    const before = unmasks(pair);
    await arrive(pair, arriving(60));
    expect([pair.inputs.length, unmasks(pair)]).toEqual([0, before]);
    expect(rxOf(pair).firstInterrupt).toBe(false);
  });

  test("a stack that asks for a reset gets no more packets, and nothing is unmasked", async () => {
    const pair = await started(LONG);
    const before = unmasks(pair);
    pair.onInput = (m) => {
      m.free();
      pair.driver.adapter.requestReset(ResetReason.OS_TRIGGER);
    };
    flood(pair, 0);
    expect([pair.inputs.length, unmasks(pair)]).toEqual([256, before]);
  });

  test("nor after the last packet there was", async () => {
    const pair = await started();
    const before = unmasks(pair);
    pair.onInput = (m) => {
      m.free();
      pair.driver.adapter.requestReset(ResetReason.OS_TRIGGER);
    };
    await arrive(pair, arriving(60));
    expect([pair.inputs.length, unmasks(pair)]).toEqual([1, before]);
  });

  /** A frame arrives, in a batch of its own. */
  function arriveNow(pair: EnaPair): void {
    pair.inject(arriving(60));
    pair.flushPort();
    pair.pumpUp();
  }

  test("a completion that comes while the vector is masked is handled with its batch", async () => {
    const pair = await started();
    expect(vectorOf(pair)).toMatchObject({ raised: 0, armed: true, pending: false });
    // The first has an interrupt. Its unmask has not left when the others come, so they have none.
    for (const frames of [1, 2, 3]) {
      arriveNow(pair);
      expect(pair.inputs.length).toBe(frames);
    }
    expect(vectorOf(pair)).toMatchObject({ raised: 1, armed: false, pending: true });
  });

  test("the same holds while the unmask is on its way", async () => {
    const pair = await started();
    const before = unmasks(pair);
    arriveNow(pair);
    pair.session.link?.flush();
    expect([pair.toDevice.length, unmasks(pair)]).toEqual([1, before + 1]);
    arriveNow(pair);
    expect(pair.inputs.length).toBe(2);
    await pair.settle();
    // The device owed an interrupt for the second frame. It finds nothing to do.
    expect([pair.inputs.length, vectorOf(pair).raised]).toEqual([2, 2]);
  });

  test("an unmask waits for a message, and one message carries one", async () => {
    const pair = await started();
    sent(pair);
    arriveNow(pair);
    pair.clock.turn();
    expect(pair.toDevice).toEqual([]);
    pair.send(frame(60));
    pair.send(frame(60));
    pair.clock.turn();
    expect(pair.toDevice.length).toBe(1);
    expect(sent(pair).filter((write) => write.startsWith("register 0x2000"))).toEqual([
      `register 0x2000 = 0x${(UNMASK >>> 0).toString(16)}`,
    ]);
  });

  test("a vector with polled completions is unmasked at the next tick, not before", async () => {
    const pair = await started();
    arriveNow(pair);
    arriveNow(pair);
    const before = unmasks(pair);
    for (let i = 0; i < 5; i++) pair.send(frame(60));
    pair.pumpDown();
    expect([unmasks(pair), vectorOf(pair).raised]).toEqual([before, 1]);
    await pair.second();
    expect(vectorOf(pair)).toMatchObject({ raised: 2, armed: true, pending: false });
    arriveNow(pair);
    expect([pair.inputs.length, vectorOf(pair).raised]).toEqual([3, 3]);
  });

  test("the first interrupt of a queue pair is noted for both of its rings", async () => {
    const pair = await started();
    const [{ tx, rx }] = pair.driver.adapter.queues as [(typeof pair.driver.adapter.queues)[0]];
    expect([tx.firstInterrupt, rx.firstInterrupt]).toEqual([false, false]);
    pair.post({ kind: "interrupt", vector: 1 });
    await pair.settle();
    expect([tx.firstInterrupt, rx.firstInterrupt]).toEqual([true, true]);
  });
});

describe("receive", () => {
  test("a packet of several buffers is one chain; an empty one in its middle is given back", async () => {
    const pair = await started({ mtu: 9000 });
    const held = pair.counter("rx_mbufs_in_use");
    const bytes = arriving(9000);
    await arrive(pair, bytes);
    onCompletion(pair, (view, i) => {
      if (i === 1) view.setUint16(LENGTH, 0, true);
    });
    await arrive(pair, bytes);
    expect(pair.inputs).toMatchObject([
      { pieces: 3, pktLength: 9000, bytes },
      { pieces: 2, bytes: Uint8Array.from([...bytes.slice(0, 4096), ...bytes.slice(8192)]) },
    ]);
    expect(counted(pair, "rx_ring")).toEqual({ count: 2, bytes: 9000 + 9000 - 4096 });
    expect(pair.counter("rx_mbufs_in_use")).toBe(held - 6);
  });

  test("the offset of a packet's first completion counts, and no other", async () => {
    const pair = await started({ mtu: 9000 });
    const bytes = arriving(9000);
    onCompletion(pair, (view, i) => {
      view.setUint8(OFFSET, 4 + i);
      if (i === 0) view.setUint16(LENGTH, 4092, true);
    });
    await arrive(pair, bytes);
    expect(bytesOf(pair.inputs)).toEqual([bytes.slice(4)]);
  });

  test.each([
    { what: "up to the last byte of its buffer", offset: 48, length: 2000, ok: true },
    { what: "one byte beyond it", offset: 49, length: 2000, ok: false },
    { what: "of one byte", offset: 0, length: 1, ok: true },
    { what: "of none", offset: 0, length: 0, ok: false },
  ])("a packet $what", async ({ offset, length, ok }) => {
    const pair = await started({ mtu: 1900 });
    const posted = pair.counter("rx_mbufs_in_use");
    onCompletion(pair, (view) => {
      view.setUint8(OFFSET, offset);
      view.setUint16(LENGTH, length, true);
    });
    await arrive(pair, arriving(1000));
    expect(pair.inputs.map(({ pktLength }) => pktLength)).toEqual(ok ? [length] : []);
    expect(counted(pair, "rx_ring")).toEqual(ok ? { count: 1, bytes: length } : { bad_desc: 1 });
    expect(pair.counter("rx_mbufs_in_use")).toBe(posted - (ok ? 1 : 0));
    expect(pair.driver.adapter.resetReason).toBe(
      ok ? ResetReason.NORMAL : ResetReason.RX_DESCRIPTOR_MALFORMED,
    );
  });

  test.each([
    { what: "first beyond the ring", id: SIZE, at: 0 },
    { what: "last beyond the ring", id: SIZE, at: 2 },
    { what: "last the same as the first", id: 0, at: 2 },
    { what: "of a buffer that is not posted", id: SIZE - 1, at: 1 },
  ])("a packet whose ids are wrong, $what, takes no buffer", async ({ id, at }) => {
    const pair = await started({ mtu: 9000 });
    const rx = rxOf(pair);
    onCompletion(pair, (view, i) => {
      if (i === at) view.setUint16(ID, id, true);
    });
    await arrive(pair, arriving(9000));
    expect(pair.inputs).toEqual([]);
    expect([...rx.owner]).toEqual([...new Array(SIZE - 1).fill(RxOwner.DEVICE), RxOwner.NONE]);
    expect([rx.cq.cursor.head, rx.sq.freeEntries(), rx.nextToUse]).toEqual([0, 0, SIZE - 1]);
    expect(counted(pair, "rx_ring")).toEqual({ bad_req_id: 1 });
    expect(pair.driver.adapter.resetReason).toBe(ResetReason.INV_RX_REQ_ID);
  });

  test.each([7, 17])("bit %i of a completion must be 0, for a device that says so", async (bit) => {
    for (const matters of [true, false]) {
      const pair = await started();
      if (!matters) vi.spyOn(pair.driver.adapter.com!, "has").mockReturnValue(false);
      onCompletion(pair, (view) =>
        view.setUint32(0, (view.getUint32(0, true) | (1 << bit)) >>> 0, true),
      );
      await arrive(pair, arriving(60));
      expect(pair.inputs.length).toBe(matters ? 0 : 1);
      expect(counted(pair, "rx_ring")["bad_desc"]).toBe(matters ? 1 : undefined);
    }
  });

  test("buffers go back in one doorbell, when more than an eighth of the ring is free", async () => {
    const pair = await started();
    const registers = (): string[] => sent(pair).filter((s) => !s.startsWith("register 0x2000"));
    sent(pair);
    await arrive(pair, ...Array.from({ length: 32 }, () => arriving(60)));
    expect([registers(), rxOf(pair).sq.freeEntries()]).toEqual([[], 32]);
    await arrive(pair, arriving(60));
    // One entry before the end of the ring, and 32 from its beginning.
    expect(registers()).toEqual(["write 16", "write 512", "register 0x1004 = 0x120"]);
    expect([rxOf(pair).sq.freeEntries(), rxOf(pair).nextToUse]).toEqual([0, SIZE - 1]);
    expect(counted(pair, "rx_ring")).toEqual({ count: 33, bytes: 33 * 60 });
  });

  test("in a long ring, when more than 256 are free", async () => {
    const pair = await started({ driver: { rxRingSize: 4096 } });
    const free = () => rxOf(pair).sq.freeEntries();
    await arrive(pair, ...Array.from({ length: 256 }, () => arriving(60)));
    expect(free()).toBe(256);
    await arrive(pair, arriving(60));
    expect(free()).toBe(0);
  });

  test("without buffers a refill posts what there is, and rings only for that", async () => {
    const pair = await started();
    const pool = pair.driver.adapter.rxPool!;
    const take = pool.take.bind(pool);
    let left = 10;
    pool.take = () => (left-- > 0 ? take() : NO_CLUSTER);
    sent(pair);
    await arrive(pair, ...Array.from({ length: 40 }, () => arriving(60)));
    expect(sent(pair).filter((s) => s.startsWith("register 0x1004"))).toEqual([
      "register 0x1004 = 0x109",
    ]);
    await arrive(pair, arriving(60), arriving(60), arriving(60));
    expect(sent(pair).filter((s) => s.startsWith("register 0x1004"))).toEqual([]);
    expect(counted(pair, "rx_ring")).toEqual({
      count: 43,
      bytes: 43 * 60,
      mbuf_alloc_fail: 2,
      refil_partial: 2,
    });
    left = 1;
    await arrive(pair, arriving(60));
    expect(sent(pair).filter((s) => s.startsWith("register 0x1004"))).toEqual([
      "register 0x1004 = 0x10a",
    ]);
    pool.take = take;
    await arrive(pair, arriving(60));
    expect(rxOf(pair).sq.freeEntries()).toBe(0);
    expect(pair.counter("queue0", "rx_ring", "refil_partial")).toBe(3);
  });

  test("a first fill that finds too few buffers is told, and no other", async () => {
    const lines = async (buffers: number): Promise<string[]> => {
      const { take } = MbufPool.prototype;
      let left = buffers;
      vi.spyOn(MbufPool.prototype, "take").mockImplementation(function (this: MbufPool) {
        return left-- > 0 ? take.call(this) : NO_CLUSTER;
      });
      const log = new RecordingLog();
      const pair = await started({ log });
      vi.restoreAllMocks();
      expect(rxOf(pair).maps.busy.filter((busy) => busy === 1).length).toBe(buffers);
      return log.warnings.filter((line) => line.startsWith("rx ring"));
    };
    expect(await lines(SIZE - 1)).toEqual([]);
    expect(await lines(SIZE - 2)).toEqual(["rx ring partly filled"]);
  });

  test("a buffer that can't be mapped goes back to the pool", async () => {
    const pair = await started();
    const { maps } = rxOf(pair);
    maps.load = () => Errno.EINVAL;
    const posted = pair.counter("rx_mbufs_in_use");
    await arrive(pair, ...Array.from({ length: 33 }, () => arriving(60)));
    expect(counted(pair, "rx_ring")).toMatchObject({ dma_mapping_err: 1, refil_partial: 1 });
    expect(pair.counter("rx_mbufs_in_use")).toBe(posted - 33);
  });

  test("a stack that takes the interface down gets no more of the burst", async () => {
    const pair = await started();
    pair.onInput = (m) => {
      m.free();
      pair.ifnet.flags &= ~Iff.DRV_RUNNING;
    };
    await arrive(pair, arriving(60), arriving(61));
    expect(pair.inputs.length).toBe(1);
    expect(counted(pair, "rx_ring")).toEqual({ count: 1, bytes: 60 });
  });

  test("laps of the smallest rings, both ways", async () => {
    const pair = await started();
    for (let round = 0; round < 6; round++) {
      const lengths = Array.from({ length: 200 }, (_, i) => 60 + i);
      for (const length of lengths) expect(pair.send(frame(length, round))).toBe(0);
      await arrive(pair, ...lengths.map((length) => arriving(length, round)));
      expect(bytesOf(pair.segment.splice(0))).toEqual(lengths.map((n) => frame(n, round)));
      expect(bytesOf(pair.inputs.splice(0))).toEqual(lengths.map((n) => arriving(n, round)));
      expect(txOf(pair).sq.freeEntries()).toBe(SIZE - 1);
    }
    expect(pair.faults).toEqual([]);
    expect([...txOf(pair).freeIds].sort((a, b) => a - b)).toEqual(
      Array.from({ length: SIZE }, (_, id) => id),
    );
  });

  test("laps in which the device uses buffers and completes packets in any order", async () => {
    const pair = await started({ device: { completionOrder: "shuffle" } });
    for (let round = 0; round < 5; round++) {
      const lengths = Array.from({ length: 100 }, (_, i) => 60 + i);
      for (const length of lengths) expect(pair.send(frame(length, round))).toBe(0);
      await arrive(pair, ...lengths.map((length) => arriving(length, round)));
      expect(bytesOf(pair.segment.splice(0))).toEqual(lengths.map((n) => frame(n, round)));
      expect(bytesOf(pair.inputs.splice(0))).toEqual(lengths.map((n) => arriving(n, round)));
    }
    expect(pair.faults).toEqual([]);
    await pair.down();
    expect(pair.held()).toEqual({ mbufs: 0, rxMbufs: 0, pushedBytes: 0, pushes: 0 });
  });

  test("laps of packets in three buffers, some across the end of the ring", async () => {
    const pair = await started({ mtu: 9000 });
    for (let round = 0; round < 12; round++) {
      const lengths = Array.from({ length: 15 }, (_, i) => 9000 + (i & 7));
      await arrive(pair, ...lengths.map((length) => arriving(length, round)));
      expect(bytesOf(pair.inputs.splice(0))).toEqual(lengths.map((n) => arriving(n, round)));
    }
    expect(counted(pair, "rx_ring")["count"]).toBe(180);
    expect(pair.faults).toEqual([]);
  });

  const segment = (i: number): Uint8Array =>
    buildPacket({ payload: payload(1000), sequence: 5000 + i * 1000, df: true, destination: MAC })
      .bytes;
  const udp = buildPacket({ payload: payload(20), protocol: 17, destination: MAC }).bytes;

  test("a frame that can't be parsed ends a merge, a datagram goes by it", async () => {
    const pair = await started();
    const inject = (bytes: Uint8Array) => pair.inject(bytes, { csumValid: true });
    for (const bytes of [segment(0), segment(1), udp, arriving(60), segment(2)]) inject(bytes);
    pair.flushPort();
    await pair.settle();
    expect(pair.inputs.map(({ pktLength }) => pktLength)).toEqual([62, 54 + 2000, 60, 54 + 1000]);
    expect(counted(pair, "rx_ring")).toMatchObject({ count: 5, lro_queued: 1, lro_flushed: 1 });
  });

  test("nothing is merged whose checksum nobody checked, or with merging off", async () => {
    const pair = await started();
    for (const [csumValid, on] of [
      [false, true],
      [true, false],
    ] as const) {
      if (!on) pair.ifnet.capEnable &= ~Ifcap.LRO;
      for (const i of [0, 1]) pair.inject(segment(i), { csumValid });
      pair.flushPort();
      await pair.settle();
      expect(bytesOf(pair.inputs.splice(0))).toEqual([segment(0), segment(1)]);
    }
  });

  test("what is being merged reaches the stack before a reset for a bad completion", async () => {
    const pair = await started();
    pair.inject(segment(0), { csumValid: true });
    pair.inject(segment(1), { csumValid: true });
    onCompletion(pair, (view, i) => {
      if (i === 1) view.setUint16(ID, 999, true);
    });
    pair.flushPort();
    pair.pump();
    expect(pair.inputs.map(({ pktLength }) => pktLength)).toEqual([54 + 1000]);
  });

  test("what was being merged when the stack took the interface down still reaches it", async () => {
    const pair = await started();
    pair.onInput = (m) => {
      m.free();
      pair.ifnet.flags &= ~Iff.DRV_RUNNING;
    };
    for (const bytes of [segment(0), udp, segment(1)]) pair.inject(bytes, { csumValid: true });
    pair.flushPort();
    await pair.settle();
    expect(pair.inputs.length).toBe(1);
    await pair.down();
    expect(pair.inputs.map(({ pktLength }) => pktLength)).toEqual([62, 54 + 1000]);
    expect(pair.held()).toMatchObject({ rxMbufs: 0 });
  });

  test("checksums are looked at while either capability is on", async () => {
    const pair = await started();
    pair.ifnet.capEnable &= ~Ifcap.LRO;
    const both = Ifcap.RXCSUM | Ifcap.RXCSUM_IPV6;
    for (const on of [both, Ifcap.RXCSUM, Ifcap.RXCSUM_IPV6, 0]) {
      pair.ifnet.capEnable = (pair.ifnet.capEnable & ~both) | on;
      pair.inject(segment(0), { csumValid: true });
      pair.flushPort();
      await pair.settle();
    }
    expect(pair.inputs.map(({ csumFlags }) => csumFlags !== 0)).toEqual([true, true, true, false]);
    expect(pair.counter("queue0", "rx_ring", "csum_good")).toBe(3);
  });

  test("without RSS the flow of a packet is its queue", async () => {
    const pair = await started({ queues: 2 });
    await arrive(
      pair,
      ...Array.from(
        { length: 20 },
        (_, i) =>
          buildPacket({ sourcePort: 1000 + i, protocol: 17, destination: MAC, payload: payload(9) })
            .bytes,
      ),
    );
    const hashed = pair.inputs.splice(0);
    expect(new Set(hashed.map(({ flowId }) => flowId)).size).toBe(20);
    expect(hashed.every(({ hashType }) => hashType === HashType.RSS_UDP_IPV4)).toBe(true);
    pair.driver.adapter.rssActive = false;
    await arrive(pair, ...hashed.map(({ bytes }) => bytes));
    const counts = [0, 1].map((q) => pair.counter(`queue${q}`, "rx_ring", "count") / 2);
    expect([0, 1].map((q) => pair.inputs.filter(({ flowId }) => flowId === q).length)).toEqual(
      counts,
    );
    expect(pair.inputs.map(({ hashType }) => hashType)).toEqual(new Array(20).fill(HashType.NONE));
  });

  test("a tap sees each packet once, with its ring, before the stack does", async () => {
    const pair = await started();
    const seen: [string, number][] = [];
    pair.ifnet.bpf = {
      input: (m, queue) => void seen.push([`in ${m.pktLength}`, queue]),
      output: (m, queue) => void seen.push([`out ${m.pktLength}`, queue]),
    };
    pair.onInput = (m) => {
      seen.push(["stack", m.pktLength]);
      m.free();
    };
    pair.send(frame(61));
    await arrive(pair, arriving(60));
    expect(seen).toEqual([
      ["out 61", 0],
      ["in 60", 0],
      ["stack", 60],
    ]);
  });
});

describe("transmit", () => {
  /** The descriptors that the driver published since the last call. */
  function descriptors(pair: EnaPair): string[] {
    return pair.sent.splice(0).flatMap((act) => {
      if (act.kind !== "write" || act.type !== RecordType.ENA_TX_DESC) return [];
      const { buffer, byteOffset, length } = act.bytes;
      return Array.from({ length: length / DESC_SIZE }, (_, i) =>
        descriptor(new DataView(buffer, byteOffset + i * DESC_SIZE, DESC_SIZE)),
      );
    });
  }

  function descriptor(view: DataView): string {
    const lenCtrl = txDesc.lenCtrl(view, 0);
    const ends = `${txDesc.firstOf(lenCtrl) ? " first" : ""}${txDesc.lastOf(lenCtrl) ? " last" : ""}`;
    if (txDesc.isMetaOf(lenCtrl)) {
      const at = `${txMeta.l3HdrLen(view, 0)} at ${txMeta.l3HdrOffset(view, 0)}`;
      return `meta${ends}: mss ${txMeta.mss(view, 0)}, l3 ${at}, l4 ${txMeta.l4HdrLenWords(view, 0)}`;
    }
    // Without the low bits of the request id.
    const offload = (txDesc.metaCtrl(view, 0) & 0x3f_ffff).toString(16);
    const report = txDesc.compReqOf(lenCtrl) ? " report" : "";
    return `${txDesc.lengthOf(lenCtrl)}${ends}${report} 0x${offload}`;
  }

  const HOST = { device: { llq: false } };
  const tcp = buildPacket({ payload: payload(1000), checksum: "partial" });
  const tcp6 = buildPacket({ payload: payload(1000), checksum: "partial", v6: true });
  const df = buildPacket({ payload: payload(100), checksum: "partial", df: true });
  const udp = buildPacket({ payload: payload(100), checksum: "partial", protocol: 17 });
  const udp6 = buildPacket({ payload: payload(100), checksum: "partial", protocol: 17, v6: true });
  const tagged = buildPacket({ payload: payload(100), checksum: "partial", tags: [[0x8100, 5]] });
  const options = buildPacket({
    payload: payload(1000),
    checksum: "partial",
    ipOptions: new Uint8Array(8).fill(1),
    tcpOptions: new Uint8Array(12).fill(1),
  });

  const asks = (pair: EnaPair, built: Built, flags: number, mss = 0): Mbuf => {
    const m = pair.mbuf(built.bytes);
    m.csumFlags = flags;
    m.tsoSegsz = mss;
    return m;
  };

  // Bits of the offload word: protocols 0x1f00 and 0xf, 0x10 don't fragment, 0x80 segment, 0x2000
  // checksum of IPv4, 0x4000 of TCP or UDP, 0x20000 the pseudo header is summed already.
  test.each([
    ["TCP over IPv4", tcp, Csum.IP_TCP, 0, "0x24c08", "mss 0, l3 20 at 14, l4 0"],
    ["the same, not to be fragmented", df, Csum.IP_TCP, 0, "0x24c18", "mss 0, l3 20 at 14, l4 0"],
    ["the same in a VLAN", tagged, Csum.IP_TCP, 0, "0x24c08", "mss 0, l3 20 at 18, l4 0"],
    ["with IPv4's checksum", tcp, Csum.IP | Csum.IP_TCP, 0, "0x26c08", "mss 0, l3 20 at 14, l4 0"],
    ["IPv4's checksum alone", tcp, Csum.IP, 0, "0x2008", "mss 0, l3 20 at 14, l4 0"],
    ["IPv4's checksum of IPv6", tcp6, Csum.IP, 0, "0x1b", "mss 0, l3 40 at 14, l4 0"],
    ["TCP over IPv6", tcp6, Csum.IP6_TCP, 0, "0x24c1b", "mss 0, l3 40 at 14, l4 0"],
    ["UDP over IPv4", udp, Csum.IP_UDP, 0, "0x24d08", "mss 0, l3 20 at 14, l4 0"],
    ["UDP over IPv6", udp6, Csum.IP6_UDP, 0, "0x24d1b", "mss 0, l3 40 at 14, l4 0"],
    ["TSO over IPv4", tcp, Csum.IP_TSO, 400, "0x6c88", "mss 400, l3 20 at 14, l4 5"],
    ["TSO over IPv6", tcp6, Csum.IP6_TSO, 400, "0x4c9b", "mss 400, l3 40 at 14, l4 5"],
    ["with options", options, Csum.IP_TSO, 0x3fff, "0x6c88", "mss 16383, l3 28 at 14, l4 8"],
  ] as [string, Built, number, number, string, string][])(
    "%s: offload bits, and meta descriptors of packets only whose facts are others",
    async (_, built, flags, mss, bits, meta) => {
      const pair = await started(HOST);
      const { length } = built.bytes;
      const plain = frame(60);
      descriptors(pair);
      for (let i = 0; i < 2; i++) expect(pair.sendMbuf(asks(pair, built, flags, mss))).toBe(0);
      expect(pair.send(plain)).toBe(0);
      expect(pair.sendMbuf(asks(pair, built, flags, mss))).toBe(0);
      expect(pair.sendMbuf(asks(pair, tcp6, Csum.IP6_TSO, 300))).toBe(0);
      expect(descriptors(pair)).toEqual([
        `meta first: ${meta}`,
        `${length} last report ${bits}`,
        `${length} first last report ${bits}`,
        "60 first last report 0x0",
        `${length} first last report ${bits}`,
        "meta first: mss 300, l3 40 at 14, l4 5",
        `${tcp6.bytes.length} last report 0x4c9b`,
      ]);
      await pair.settle();
      expect(pair.segment.length).toBe(5);
      expect(pair.faults).toEqual([]);
    },
  );

  test("a device that keeps no facts gets them with every packet, of a plain one too", async () => {
    const pair = await started({ device: { disableMetaCaching: true } });
    expect(pair.driver.adapter.com!.llq!.disableMetaCaching).toBe(true);
    pair.sent.length = 0;
    pair.send(frame(60));
    pair.sendMbuf(asks(pair, tcp, Csum.IP_TSO, 400));
    pair.sendMbuf(asks(pair, tcp, Csum.IP_TSO, 400));
    const entries = pair.sent.flatMap((act) =>
      act.kind === "mmio_write" && act.space === 2 ? [viewOf(act.bytes)] : [],
    );
    const [none, cut] = [
      "meta first: mss 0, l3 0 at 0, l4 0",
      "meta first: mss 400, l3 20 at 14, l4 5",
    ];
    expect(
      entries.map(({ buffer, byteOffset }) =>
        [0, 16].map((at) => descriptor(new DataView(buffer, byteOffset + at, DESC_SIZE))),
      ),
    ).toEqual([
      [none, "0 last report 0x0"],
      [cut, `${tcp.bytes.length - 96} last report 0x6c88`],
      [cut, `${tcp.bytes.length - 96} last report 0x6c88`],
    ]);
    await pair.settle();
    expect(pair.segment.length).toBe(3);
    expect(pair.faults).toEqual([]);
  });

  test.each([
    ["mss of 0", (m) => (m.tsoSegsz = 0)],
    ["mss beyond the field", (m) => (m.tsoSegsz = 0x4000)],
    ["no IP header", (m) => (m.l3Offset = 0)],
    ["IPv4 header too short", (m) => (m.csumStart = 14 + 19)],
    ["IP header beyond the field", (m) => (m.csumStart = 14 + 256)],
    ["TCP header shorter than any", (m) => (m.buffer[14 + 20 + 12] = 0x40)],
    ["nothing behind the headers", (m) => (m.length = m.pktLength = 54)],
    ["nothing of TCP", (m) => (m.length = m.pktLength = 34)],
    ["of the other family", (m) => (m.csumFlags = Csum.IP6_TSO)],
    ["IPv4 header too short for a checksum", (m) => (m.csumStart = 14 + 19), Csum.IP_TCP],
    ["IP header beyond the field for a checksum", (m) => (m.csumStart = 14 + 256), Csum.IP_TCP],
    ["nothing to sum", (m) => (m.length = m.pktLength = 34), Csum.IP_TCP],
  ] as [string, (m: Mbuf) => unknown, number?][])(
    "facts that can't be, %s",
    async (_, spoil, flags = Csum.IP_TSO) => {
      const pair = await started(HOST);
      const m = asks(pair, { ...tcp, bytes: tcp.bytes.slice() }, flags, 400);
      findFacts(m);
      spoil(m);
      expect(pair.ifnet.send(m)).toBe(0);
      await pair.settle();
      expect([pair.segment.length, pair.outstanding]).toEqual([0, 0]);
      expect(counted(pair, "tx_ring")).toEqual({ bad_offload: 1, unmask_interrupt_num: 1 });
      expect(pair.ifnet.counters).toMatchObject({ oerrors: 1, opackets: 0 });
    },
  );

  test.each([
    ["one byte behind the headers", Csum.IP_TSO, (m) => (m.length = m.pktLength = 55)],
    ["segments of one byte", Csum.IP_TSO, (m) => (m.tsoSegsz = 1)],
    ["one byte behind IP", Csum.IP_TCP, (m) => (m.length = m.pktLength = 35)],
    ["the longest IP header of the field", Csum.IP_TCP, (m) => (m.csumStart = 14 + 255)],
  ] as [string, number, (m: Mbuf) => unknown][])(
    "facts that just fit, %s",
    async (_, flags, change) => {
      const pair = await started(HOST);
      const m = asks(pair, tcp, flags, 400);
      findFacts(m);
      change(m);
      expect(pair.ifnet.send(m)).toBe(0);
      expect(counted(pair, "tx_ring")).toMatchObject({ count: 1 });
    },
  );

  test("the last of several pieces says so, and each is a push until the completion", async () => {
    const pair = await started(HOST);
    descriptors(pair);
    const { gate } = pair.driver.adapter;
    pair.send(frame(100), frame(60), frame(70));
    expect([gate.pushedBytes, gate.pushes]).toEqual([230, 3]);
    expect(txOf(pair).maps.filter(({ busy }) => busy)).toEqual([txOf(pair).maps[0]]);
    pair.send(frame(80));
    expect([gate.pushedBytes, gate.pushes]).toEqual([310, 4]);
    const further = pair.sent.flatMap((act) =>
      act.kind === "write" && act.bytes.length >= 2 * DESC_SIZE ? [viewOf(act.bytes)] : [],
    );
    expect(further.map((view) => [txDesc.reqId(view, 16), txDesc.headerLength(view, 16)])).toEqual([
      [0, 0],
    ]);
    expect(descriptors(pair)).toEqual([
      "100 first report 0x0",
      "60 0x0",
      "70 last 0x0",
      "80 first last report 0x0",
    ]);
    expect([...txOf(pair).entries.slice(0, 3)]).toEqual([3, 1, 0]);
    expect(txOf(pair).sq.freeEntries()).toBe(SIZE - 1 - 4);
    await pair.settle();
    expect([gate.pushedBytes, gate.pushes]).toEqual([0, 0]);
    expect(txOf(pair).sq.freeEntries()).toBe(SIZE - 1);
    expect(pair.driver.counters()["hw_stats"]).toMatchObject({ tx_packets: 2, tx_bytes: 310 });
  });

  test("a piece above 65535 bytes is two descriptors and two pushes", async () => {
    const pair = await started(HOST);
    const bytes = new Uint8Array(pair.ifnet.hwTsomax);
    bytes.set(buildPacket({ payload: payload(bytes.length - 54), checksum: "partial" }).bytes);
    const m = asks(pair, { ...tcp, bytes }, Csum.IP_TSO, 1400);
    descriptors(pair);
    expect(pair.sendMbuf(m)).toBe(0);
    expect(descriptors(pair)).toEqual([
      "meta first: mss 1400, l3 20 at 14, l4 5",
      "65535 report 0x6c88",
      `${bytes.length - 65_535} last 0x0`,
    ]);
    const { gate } = pair.driver.adapter;
    expect([gate.pushedBytes, gate.pushes]).toEqual([bytes.length, 2]);
    await pair.settle();
    expect([gate.pushedBytes, gate.pushes, txOf(pair).sq.freeEntries()]).toEqual([0, 0, SIZE - 1]);
  });

  test("the header is cut out of the pieces: no piece is left of one that is all header", async () => {
    const pair = await started();
    sent(pair);
    const pieces = [
      [96, 4],
      [95, 5],
      [40, 56, 10],
      [97, 3],
      [50, 46],
      [10, 20, 30],
    ];
    const pushes = pieces.map((sizes) => {
      const bytes = sizes.map((size) => frame(size));
      pair.send(...bytes);
      return sent(pair)
        .filter((s) => s.startsWith("push"))
        .join(", ");
    });
    expect(pushes).toEqual(["push 4", "push 4", "push 10", "push 1, push 3", "", ""]);
    expect(pair.driver.adapter.gate.pushedBytes).toBe(4 + 4 + 10 + 4);
    await pair.settle();
    expect(bytesOf(pair.segment)).toEqual(
      pieces.map((sizes) => Uint8Array.from(sizes.flatMap((size) => [...frame(size)]))),
    );
    expect(counted(pair, "tx_ring")).toMatchObject({ count: 6, llq_buffer_copy: 4 });
  });

  test("in device memory: two descriptors before the header, then eight an entry", async () => {
    const pair = await started();
    sent(pair);
    const entries = [1, 2, 3, 10, 11].map((pieces) => {
      // The header takes the first piece.
      pair.send(frame(96), ...Array.from({ length: pieces }, () => frame(20)));
      return sent(pair).filter((s) => !s.startsWith("push"));
    });
    expect(entries).toEqual([
      ["llq 128 at 0", "register 0x1000 = 0x1"],
      ["llq 128 at 128", "register 0x1000 = 0x2"],
      ["llq 128 at 256", "llq 128 at 384", "register 0x1000 = 0x4"],
      ["llq 128 at 512", "llq 128 at 640", "register 0x1000 = 0x6"],
      ["llq 128 at 768", "llq 128 at 896", "llq 128 at 1024", "register 0x1000 = 0x9"],
    ]);
    expect([...txOf(pair).entries.slice(0, 5)]).toEqual([1, 1, 2, 2, 3]);
    await pair.settle();
    expect(pair.segment.map(({ bytes }) => bytes.length)).toEqual([116, 136, 156, 296, 316]);
    expect(txOf(pair).sq.freeEntries()).toBe(SIZE - 1);
    expect(pair.faults).toEqual([]);
  });

  test.each([
    ["host", HOST, 1, (most: number) => most],
    ["device", {}, 1, (most: number) => Math.floor(most / 8) + 3],
  ] as const)(
    "a ring in %s memory stops while it has room for no largest packet",
    async (_, where, each, need) => {
      const pair = await started(where);
      const { maxTxSgl } = pair.driver.adapter;
      const stopsBelow = need(maxTxSgl + 2);
      let count = 0;
      while (pair.send(frame(60)) === 0) count++;
      expect(count).toBe((SIZE - stopsBelow) / each);
      expect(counted(pair, "tx_ring")).toMatchObject({ queue_stops: 1, refused_ring: 1, count });
      // A source that sends although the queue is stopped is refused, and the ring stays as it is.
      const tx = txOf(pair);
      tx.sq.ack(-tx.sq.freeEntries());
      tx.running = true;
      expect(pair.send(frame(60))).toBe(Errno.ENOBUFS);
      expect([tx.running, tx.stats.prepare_ctx_err, tx.stats.queue_stops]).toEqual([false, 1, 2]);
    },
  );

  test.each([20, 21])("a stopped ring with %i free entries goes on from 21", async (wanted) => {
    const pair = await started(HOST);
    const tx = txOf(pair);
    while (pair.send(frame(60)) === 0);
    let left = wanted - tx.sq.freeEntries();
    pair.tamper = (act) => {
      if (act.kind !== "write" || act.type !== RecordType.ENA_TX_CDESC) return [act];
      const kept = act.bytes.slice(0, left * TX_CDESC_SIZE);
      left -= kept.length / TX_CDESC_SIZE;
      return kept.length === 0 ? [] : [{ ...act, bytes: kept }];
    };
    await pair.settle();
    const goes = wanted === 21;
    expect([tx.sq.freeEntries(), tx.running]).toEqual([wanted, goes]);
    expect([tx.stats.queue_wakeups, pair.readyCalls]).toEqual(goes ? [1, 1] : [0, 0]);
  });

  test("the sum of the pseudo header stays only for a device that reads it, by family", async () => {
    const pair = await started(HOST);
    const { adapter } = pair.driver;
    const seen = [TxOffload.L4_IPV4_CSUM_PART, TxOffload.L4_IPV6_CSUM_PART].map((tx) => {
      adapter.offload = { ...adapter.offload, tx };
      descriptors(pair);
      pair.sendMbuf(asks(pair, udp, Csum.IP_UDP));
      pair.sendMbuf(asks(pair, udp6, Csum.IP6_UDP));
      return descriptors(pair).flatMap((d) => /0x.*/.exec(d) ?? []);
    });
    expect(seen.flat().map(String)).toEqual(["0x24d08", "0x4d1b", "0x4d08", "0x24d1b"]);
  });

  test("completions beyond one cleanup's 128 are consumed in the same turn", async () => {
    const pair = await started();
    for (let i = 0; i < 135; i++) expect(pair.send(frame(60, i))).toBe(0);
    const before = unmasks(pair);
    pair.clock.advance(500);
    pair.pump();
    expect([pair.outstanding, txOf(pair).nextToUse, unmasks(pair)]).toEqual([0, 0, before]);
    expect(txOf(pair).sq.freeEntries()).toBe(SIZE - 1);
    expect(txOf(pair).lastCleanup).toBe(pair.driver.adapter.clock());
    expect([...txOf(pair).stamps].every((stamp) => stamp === 0)).toBe(true);
  });

  test("entries come back 32 completions at a time, and at the end", async () => {
    const pair = await started(HOST);
    const { sq } = txOf(pair);
    const seen: number[] = [];
    for (let i = 0; i < 70; i++) {
      const m = pair.mbuf(frame(60, i));
      const { release } = m;
      m.release = (one) => {
        seen.push(sq.freeEntries());
        release?.(one);
      };
      pair.sendMbuf(m);
    }
    await pair.settle();
    const free = SIZE - 1 - 70;
    expect(seen).toEqual(Array.from({ length: 70 }, (_, i) => free + 32 * Math.floor(i / 32)));
    expect(sq.freeEntries()).toBe(SIZE - 1);
  });

  test("more than eight cleanups of 128 completions go on in the next turn", async () => {
    const pair = await started({ ...HOST, driver: { txRingSize: 2048 } });
    pair.tamper = (act) => (act.kind === "interrupt" ? [] : [act]);
    for (let i = 0; i < 1100; i++) expect(pair.send(frame(60, i))).toBe(0);
    await pair.settle();
    expect(pair.outstanding).toBe(1100);
    pair.tamper = undefined;
    pair.post({ kind: "interrupt", vector: 1 });
    pair.pump();
    expect(pair.outstanding).toBe(1100 - 8 * 128);
    await pair.settle();
    expect(pair.outstanding).toBe(0);
  });

  test("a completion that is late twice is missing twice, though its id is the same", async () => {
    const pair = await started();
    const missing = () => pair.counter("queue0", "tx_ring", "missing_tx_comp");
    for (const times of [1, 2]) {
      const late: Act[] = [];
      pair.tamper = (act) => {
        const isLate = act.kind === "write" && act.type === RecordType.ENA_TX_CDESC;
        if (isLate) late.push(act);
        return isLate ? [] : [act];
      };
      pair.send(frame(60));
      await pair.settle();
      for (let i = 0; i < 7; i++) await pair.second();
      expect(missing()).toBe(times);
      pair.tamper = undefined;
      for (const act of late) pair.post(act);
      await pair.settle();
      for (let i = 1; i < SIZE; i++) {
        pair.send(frame(60));
        if (i % 100 === 0) await pair.settle();
      }
      await pair.settle();
      expect([pair.outstanding, txOf(pair).nextToUse]).toEqual([0, 0]);
    }
    expect(pair.counter("total_resets")).toBe(0);
  });

  test.each([
    ["tx completion for an id beyond the ring", SIZE, 0],
    ["completion for a tx id that is not in flight", 7, 0],
    ["malformed tx completion", 0, 0x40],
  ])("the log says: %s", async (line, id, bits) => {
    const log = new RecordingLog();
    const pair = await started({ log });
    pair.tamper = (act) => {
      if (act.kind === "write" && act.type === RecordType.ENA_TX_CDESC) {
        viewOf(act.bytes).setUint16(0, id, true);
        act.bytes[3]! |= bits;
      }
      return [act];
    };
    pair.send(frame(60));
    await pair.settle();
    expect(log.errors).toEqual([line]);
    expect(pair.counter("queue0", "tx_ring", "bad_req_id")).toBe(bits === 0 ? 1 : 0);
    expect(pair.outstanding).toBe(1);
  });

  test("packets that the device has not reported when the interface goes down are counted", async () => {
    const pair = await started();
    for (let i = 0; i < 5; i++) pair.send(frame(200, i));
    expect([...txOf(pair).stamps.slice(0, 6)]).toEqual([
      ...new Array(5).fill(pair.driver.adapter.clock()),
      0,
    ]);
    pair.tamper = (act) =>
      act.kind === "write" && act.type === RecordType.ENA_TX_CDESC ? [] : [act];
    await pair.down();
    expect(counted(pair, "tx_ring")).toMatchObject({ count: 5, dropped_down: 5 });
    expect(pair.ifnet.counters).toMatchObject({ oqdrops: 5, oerrors: 0 });
    expect(pair.held()).toEqual({ mbufs: 0, rxMbufs: 0, pushedBytes: 0, pushes: 0 });
    expect(Object.values(pair.space.faults).every((n) => n === 0)).toBe(true);
    await pair.detach();
    const count = (kind: string): number => pair.sent.filter((act) => act.kind === kind).length;
    expect(count("end_window")).toBe(count("window"));
  });

  test("a packet that can't be mapped is dropped, and the next takes its id", async () => {
    const pair = await started(HOST);
    const [map] = txOf(pair).maps;
    const { loadPieces } = map!;
    map!.loadPieces = () => Errno.EFBIG;
    expect(pair.send(frame(60))).toBe(0);
    map!.loadPieces = loadPieces;
    expect(pair.send(frame(61))).toBe(0);
    await pair.settle();
    expect(bytesOf(pair.segment)).toEqual([frame(61)]);
    expect(counted(pair, "tx_ring")).toMatchObject({ count: 1, bytes: 61, dma_mapping_err: 1 });
    expect(pair.ifnet.counters.oerrors).toBe(1);
    expect(pair.outstanding).toBe(0);
  });

  test.each([6, 7])("bit %i of a completion must be 0, for a device that says so", async (bit) => {
    for (const matters of [true, false]) {
      const pair = await started();
      if (!matters) vi.spyOn(pair.driver.adapter.com!, "has").mockReturnValue(false);
      pair.tamper = (act) => {
        if (act.kind === "write" && act.type === RecordType.ENA_TX_CDESC) act.bytes[3]! |= 1 << bit;
        return [act];
      };
      pair.send(frame(60));
      await pair.settle();
      expect(pair.outstanding).toBe(matters ? 1 : 0);
      expect(pair.driver.adapter.resetReason).toBe(
        matters ? ResetReason.TX_DESCRIPTOR_MALFORMED : ResetReason.NORMAL,
      );
    }
  });
});
