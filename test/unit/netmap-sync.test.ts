/**
 * Prologues, reinit and finalize: values that an application may write, and the handling of others.
 */
import { beforeEach, describe, expect, test, vi } from "vitest";
import { type NmPort, nmOpen } from "../../frontend/netmap/descriptor.ts";
import { Ns, Poll, RingFlag } from "../../frontend/netmap/flags.ts";
import type { Kring } from "../../frontend/netmap/kring.ts";
import { Netmap } from "../../frontend/netmap/netmap.ts";
import { ringReinit, rxsyncPrologue, txsyncPrologue } from "../../frontend/netmap/sync.ts";
import { FakeNic } from "../support/fake-netmap-adapter.ts";
import { ethernet, putFrame, takeAll } from "../support/netmap-frames.ts";

const N = 8;
const sizes = {
  ifs: { count: 10, bytes: 1024 },
  rings: { count: 20, bytes: 4096 },
  buffers: { count: 200, bytes: 2048 },
};

let nic: FakeNic;
let port: NmPort;
let tx: Kring;
let rx: Kring;

beforeEach(async () => {
  const netmap = new Netmap({ memory: sizes });
  nic = new FakeNic(netmap, { txSlots: N, rxSlots: N });
  port = await nmOpen("netmap:fake0", { netmap });
  tx = nic.na.txRings[0]!;
  rx = nic.na.rxRings[0]!;
});

/** Whether b lies in the cyclic range [a, c] of a ring. */
const between = (a: number, b: number, c: number): boolean => (b - a + N) % N <= (c - a + N) % N;

describe("prologues", () => {
  test("tx: accepted exactly when rhead <= head <= cur <= rtail, cyclic, for every state", () => {
    const ring = port.txRing(0);
    for (let rhead = 0; rhead < N; rhead++) {
      for (let rtail = 0; rtail < N; rtail++) {
        for (let head = 0; head < N; head++) {
          for (let cur = 0; cur < N; cur++) {
            tx.rhead = rhead;
            tx.rtail = rtail;
            tx.nrHwcur = rhead;
            tx.nrHwtail = rtail;
            ring.head = head;
            ring.cur = cur;
            ring.tail = rtail;
            const ok = between(rhead, head, rtail) && between(head, cur, rtail);
            const got = txsyncPrologue(tx, ring);
            expect(got, `rh ${rhead} rt ${rtail} h ${head} c ${cur}`).toBe(ok ? head : N);
            expect(tx.rhead).toBe(ok ? head : rhead);
          }
        }
      }
    }
  });

  test("rx: accepted exactly when hwcur <= head <= cur <= hwtail; rhead is stored regardless", () => {
    const ring = port.rxRing(0);
    for (let hwcur = 0; hwcur < N; hwcur++) {
      for (let hwtail = 0; hwtail < N; hwtail++) {
        for (let head = 0; head < N; head++) {
          for (let cur = 0; cur < N; cur++) {
            rx.nrHwcur = hwcur;
            rx.nrHwtail = hwtail;
            rx.rtail = hwtail;
            ring.head = head;
            ring.cur = cur;
            ring.tail = hwtail;
            const ok = between(hwcur, head, hwtail) && between(head, cur, hwtail);
            const got = rxsyncPrologue(rx, ring);
            expect(got, `hc ${hwcur} ht ${hwtail} h ${head} c ${cur}`).toBe(ok ? head : N);
            expect([rx.rhead, rx.rcur]).toEqual([head, cur]);
          }
        }
      }
    }
  });

  test("a tail that the application overwrote is put right and is no error", () => {
    const ring = port.txRing(0);
    ring.tail = 3;
    expect(txsyncPrologue(tx, ring)).toBe(0);
    expect(ring.tail).toBe(N - 1);
    const rring = port.rxRing(0);
    rring.tail = 77;
    expect(rxsyncPrologue(rx, rring)).toBe(0);
    expect(rring.tail).toBe(0);
  });

  test.each([0xffff_ffff, 0x8000_0000, N, N + 1])("head %i outside the ring fails", (wild) => {
    const ring = port.txRing(0);
    ring.head = wild;
    ring.cur = wild;
    expect(txsyncPrologue(tx, ring)).toBeGreaterThanOrEqual(N);
    const rring = port.rxRing(0);
    rring.head = wild;
    rring.cur = wild;
    expect(rxsyncPrologue(rx, rring)).toBeGreaterThanOrEqual(N);
  });
});

describe("ring reinit", () => {
  test("head outside the ring: all three go back, and 1 is returned", () => {
    const ring = port.txRing(0);
    putFrame(port, ring, ethernet(1, 2));
    port.txsync();
    ring.head = 99;
    expect(ringReinit(tx)).toBe(1);
    expect([ring.head, ring.cur, ring.tail]).toEqual([1, 1, 0]);
    expect([tx.rhead, tx.rcur, tx.rtail]).toEqual([1, 1, 0]);
    expect(nic.na.counters.ringReinits).toBe(1);
  });

  test("wrong but inside the ring: taken as it is, and 0 is returned", () => {
    const ring = port.txRing(0);
    ring.head = 5;
    ring.cur = 2;
    expect(ringReinit(tx)).toBe(0);
    expect([ring.head, ring.cur, ring.tail]).toEqual([5, 2, N - 1]);
    expect([tx.rhead, tx.rcur, tx.rtail]).toEqual([5, 2, N - 1]);
  });

  test("every slot is looked at: bad indexes become 0 and empty, long lengths become 0", () => {
    const ring = port.txRing(0);
    const good = ring.bufIdx(3);
    ring.setSlot(0, 1, 60, 0);
    ring.setSlot(1, 200, 60, 0);
    ring.setSlot(2, 0xffff_ffff, 60, 0);
    ring.setSlot(3, good, 2049, 0);
    ring.setSlot(4, 199, 2048, 0);
    ringReinit(tx);
    const seen = [0, 1, 2, 3, 4].map((i) => [ring.bufIdx(i), ring.len(i)]);
    expect(seen).toEqual([
      [0, 0],
      [0, 0],
      [0, 0],
      [good, 0],
      [199, 2048],
    ]);
  });
});

describe("sync calls", () => {
  test("fault-C19 txsync of a wrong ring repairs it, reports nothing, and does not reach the driver", () => {
    const ring = port.txRing(0);
    const before = nic.syncs.tx;
    ring.head = 1000;
    expect(port.txsync()).toBe(true);
    expect(nic.syncs.tx).toBe(before);
    expect(ring.head).toBe(0);
  });

  test("fault-C19 rxsync of a wrong ring repairs it and syncs all the same", () => {
    const ring = port.rxRing(0);
    nic.inject(0, ethernet(1, 2));
    ring.head = 1000;
    expect(port.rxsync()).toBe(true);
    expect(ring.head).toBe(0);
    expect(ring.tail).toBe(1);
  });

  test("poll reports what the sync calls do not", () => {
    port.txRing(0).head = 1000;
    // The ring had room before the error, so poll reports both.
    expect(port.look(Poll.OUT)).toBe(Poll.OUT | Poll.ERR);
    expect(port.look(Poll.OUT)).toBe(Poll.OUT);
    port.rxRing(0).head = 1000;
    expect(port.look(Poll.IN) & Poll.ERR).toBe(Poll.ERR);
    nic.syncError = 5;
    expect(port.look(Poll.IN)).toBe(Poll.ERR);
  });

  test("poll syncs a full tx ring twice, because the first sync may have made room", () => {
    const ring = port.txRing(0);
    while (putFrame(port, ring, ethernet(1, 2)));
    // The driver finds completions only after it has sent everything.
    const sync = tx.nmSync;
    let syncs = 0;
    tx.nmSync = (kring, flags) => {
      const tail = kring.nrHwtail;
      const error = sync(kring, flags);
      if (++syncs === 1) kring.nrHwtail = tail;
      return error;
    };
    expect(port.look(Poll.OUT)).toBe(Poll.OUT);
    expect([syncs, ring.space]).toEqual([2, N - 1]);
  });

  test.each([
    ["sync call", () => port.txsync(), true],
    ["poll", () => port.look(Poll.IN), 0],
  ] as const)("a %s within the sync of a ring passes it over", (_, again, answer) => {
    const sync = tx.nmSync;
    const answers: unknown[] = [];
    tx.nmSync = (kring, flags) => {
      if (answers.length < 2) answers.push(again());
      return sync(kring, flags);
    };
    for (let frames = 1; frames <= 2; frames++) {
      putFrame(port, port.txRing(0), ethernet(1, 2));
      const before = nic.syncs.tx;
      expect(port.txsync()).toBe(true);
      expect([nic.syncs.tx - before, nic.sent[0]!.length]).toEqual([1, frames]);
    }
    expect(answers).toEqual([answer, answer]);
  });

  test("a driver's error leaves tail where it was", () => {
    nic.inject(0, ethernet(1, 2));
    nic.syncError = 5;
    port.rxsync();
    expect(port.rxRing(0).tail).toBe(0);
    nic.syncError = 0;
    port.rxsync();
    expect(port.rxRing(0).tail).toBe(1);
  });

  test("one slot always stays empty: N - 1 frames each way", () => {
    const ring = port.txRing(0);
    let filled = 0;
    while (putFrame(port, ring, ethernet(1, 2))) filled++;
    expect(filled).toBe(N - 1);
    for (let i = 0; i < 20; i++) nic.inject(0, ethernet(1, 2));
    port.rxsync();
    expect(port.rxRing(0).space).toBe(N - 1);
  });

  test("a tx ring is pending until netmap has returned every slot", () => {
    const ring = port.txRing(0);
    expect(ring.isTxPending).toBe(false);
    putFrame(port, ring, ethernet(1, 2));
    expect(ring.isTxPending).toBe(true);
    port.txsync();
    expect(ring.isTxPending).toBe(false);
  });

  test("cur ahead of head holds frames and still waits for new ones", () => {
    const ring = port.rxRing(0);
    nic.inject(0, ethernet(1, 2));
    nic.inject(0, ethernet(1, 3));
    port.rxsync();
    ring.cur = ring.tail;
    expect(port.look(Poll.IN)).toBe(0);
    nic.inject(0, ethernet(1, 4));
    expect(port.look(Poll.IN)).toBe(Poll.IN);
    expect(takeAll(port, ring)).toHaveLength(3);
  });

  test.each([0, RingFlag.TIMESTAMP])("ts is the time of the rxsync, ring flags %i", (flags) => {
    const ring = port.rxRing(0);
    ring.flags = flags;
    for (const sync of [() => port.rxsync(), () => port.look(Poll.IN)]) {
      ring.timestampUs = 0;
      const before = Date.now() * 1000;
      sync();
      expect(ring.timestampUs).toBeGreaterThanOrEqual(before);
      expect(ring.timestampUs).toBeLessThan((Date.now() + 1) * 1000);
    }
  });

  test("fault-K6: ts has microseconds, and a wall clock that is set is followed", () => {
    const ring = port.rxRing(0);
    const stamps = Array.from({ length: 1000 }, () => {
      port.rxsync();
      return ring.timestampUs;
    });
    expect(stamps.filter((us) => us % 1000 !== 0).length).toBeGreaterThan(900);
    expect(stamps).toEqual([...stamps].sort((a, b) => a - b));
    const now = vi.spyOn(Date, "now");
    const day = 86_400_000;
    for (const wall of [Date.now() + day, Date.now() - day]) {
      now.mockReturnValue(wall);
      port.rxsync();
      expect(Math.floor(ring.timestampUs / 1000)).toBe(wall);
    }
    now.mockRestore();
    port.rxsync();
    expect(Math.abs(ring.timestampUs / 1000 - Date.now())).toBeLessThan(day / 2);
  });

  test("packets of several slots cross whole, both ways", () => {
    const frame = ethernet(1, 2, 5000);
    expect(putFrame(port, port.txRing(0), frame)).toBe(true);
    port.txsync();
    expect(nic.sent[0]).toEqual([Buffer.from(frame)]);
    nic.inject(0, frame);
    port.rxsync();
    const ring = port.rxRing(0);
    expect([0, 1, 2].map((i) => ring.slotFlags(i) & Ns.MOREFRAG)).toEqual([32, 32, 0]);
    expect(takeAll(port, ring)).toEqual([Buffer.from(frame)]);
  });
});

describe("numbers outside a ring", () => {
  const LAST = N - 1;

  test.each(["nrHwcur", "nrHwtail", "rhead", "rtail"] as const)(
    "tx: the driver's %s may be the last slot and no further",
    (name) => {
      const ring = port.txRing(0);
      for (const value of [LAST, N]) {
        Object.assign(tx, { nrHwcur: 0, nrHwtail: LAST, rhead: 0, rtail: LAST, rcur: 0 });
        tx[name] = value;
        ring.head = name === "rhead" ? LAST : 0;
        ring.cur = ring.head;
        expect(txsyncPrologue(tx, ring)).toBe(value === N ? N : ring.head);
      }
    },
  );

  test.each(["nrHwcur", "nrHwtail"] as const)(
    "rx: the driver's %s may be the last slot and no further",
    (name) => {
      const ring = port.rxRing(0);
      for (const value of [LAST, N]) {
        Object.assign(rx, { nrHwcur: 0, nrHwtail: LAST });
        rx[name] = value;
        ring.head = name === "nrHwcur" ? LAST : 0;
        ring.cur = ring.head;
        expect(rxsyncPrologue(rx, ring)).toBe(value === N ? N : ring.head);
      }
    },
  );

  test("an application's tail is put right", () => {
    const [txRing, rxRing] = [port.txRing(0), port.rxRing(0)];
    Object.assign(tx, { nrHwcur: 0, nrHwtail: 5, rhead: 0, rtail: 5 });
    txRing.tail = 3;
    expect([txsyncPrologue(tx, txRing), txRing.tail]).toEqual([0, 5]);
    Object.assign(rx, { nrHwcur: 0, nrHwtail: 4, rtail: 4 });
    rxRing.tail = 6;
    expect([rxsyncPrologue(rx, rxRing), rxRing.tail]).toEqual([0, 4]);
  });

  test.each([
    ["head", LAST, 0],
    ["head", N, 1],
    ["cur", LAST, 0],
    ["cur", N, 1],
    ["tail", LAST, 0],
    ["tail", N, 1],
  ] as const)("reinit: %s at %i answers %i", (name, value, answer) => {
    const ring = port.txRing(0);
    Object.assign(tx, { nrHwcur: 2, nrHwtail: 6 });
    ring.head = 3;
    ring.cur = 4;
    ring.tail = 5;
    ring[name] = value;
    const kept = [ring.head, ring.cur, ring.tail];
    expect(ringReinit(tx)).toBe(answer);
    const now = answer === 0 ? kept : [2, 2, 6];
    expect([ring.head, ring.cur, ring.tail]).toEqual(now);
    expect([tx.rhead, tx.rcur, tx.rtail]).toEqual(now);
  });

  test("reinit looks at every slot: its first and last, buffers from 2 on, lengths up to a buffer", () => {
    const ring = port.txRing(0);
    const { memory } = tx.na;
    const indexes = [0, 1, 2, memory.objTotal - 1, memory.objTotal, 5, 6, 1];
    const lengths = [9, 9, 9, 9, 9, memory.bufSize, memory.bufSize + 1, 9];
    for (let i = 0; i < N; i++) {
      ring.setBufIdx(i, indexes[i]!);
      ring.setLen(i, lengths[i]!);
    }
    const before = tx.na.counters.ringReinits;
    ringReinit(tx);
    expect(tx.na.counters.ringReinits).toBe(before + 1);
    expect(Array.from({ length: N }, (_, i) => [ring.bufIdx(i), ring.len(i)])).toEqual([
      [0, 0],
      [0, 0],
      [2, 9],
      [memory.objTotal - 1, 9],
      [0, 0],
      [5, memory.bufSize],
      [6, 0],
      [0, 0],
    ]);
  });
});
