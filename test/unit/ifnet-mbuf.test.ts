/** Mbufs: pool, chains, external storage. */
import { describe, expect, it } from "vitest";
import { Csum, Mbuf, MbufPool, mCopyData, mLength, NO_CLUSTER } from "../../frontend/net/mbuf.ts";
import { NODE, run } from "../support/process.ts";

const MBUF = new URL("../../frontend/net/mbuf.ts", import.meta.url).href;

/** Appends `tail` to the chain of `head`. */
function append(head: Mbuf, tail: Mbuf): void {
  let last = head;
  while (last.next !== undefined) last = last.next;
  last.next = tail;
  head.pktLength += tail.length;
}

/** A chain of mbufs that hold 0, 1, 2 ... cut into these lengths, two bytes into each buffer. */
function chainOf(pool: MbufPool, lengths: readonly number[]): Mbuf {
  let value = 0;
  const all = lengths.map((length) => {
    const m = pool.get()!;
    m.at += 2;
    m.length = length;
    for (let i = 0; i < length; i++) m.buffer[m.at + i] = value++;
    m.pktLength = length;
    return m;
  });
  const head = all[0]!;
  for (const m of all.slice(1)) append(head, m);
  return head;
}

describe("pool", () => {
  it("hands out up to its limit, and takes back chains", () => {
    const pool = new MbufPool(64, 3);
    const head = chainOf(pool, [1, 2, 3]);
    expect(pool.inUse).toBe(3);
    expect(pool.get()).toBeUndefined();
    head.free();
    expect(pool.inUse).toBe(0);
    expect(new Set([pool.get(), pool.get(), pool.get()]).size).toBe(3);
    expect(pool.get()).toBeUndefined();
  });

  it("hands out nothing of the last packet", () => {
    const pool = new MbufPool(64, 1);
    const m = pool.get()!;
    const fresh = { ...m };
    Object.assign(m, {
      at: 9,
      length: 9,
      pktLength: 9,
      csumFlags: Csum.IP_TSO,
      csumStart: 14,
      csumOffset: 16,
      tsoSegsz: 1448,
      headerLength: 54,
      isIp6: true,
      gsoEcn: true,
      flowId: 7,
      hashType: 0x82,
      frameId: 5,
    });
    m.free();
    expect({ ...pool.get() }).toEqual(fresh);
  });

  it("throws on a second free", () => {
    const pool = new MbufPool(64, 2);
    const m = pool.get()!;
    m.free();
    expect(() => m.free()).toThrow("freed twice");
    expect(pool.inUse).toBe(0);
  });
});

describe("clusters", () => {
  it("have their own bytes each, and no more are given out than the limit", () => {
    const pool = new MbufPool(100, 130);
    const taken = Array.from({ length: 130 }, () => pool.take());
    expect(new Set(taken).size).toBe(130);
    expect([pool.take(), pool.inUse]).toEqual([NO_CLUSTER, 130]);
    for (const i of taken) pool.slab(i).fill(i, pool.offset(i), pool.offset(i) + 100);
    const wrong = taken.filter((i) => {
      const bytes = pool.slab(i).subarray(pool.offset(i), pool.offset(i) + 100);
      return bytes.length !== 100 || bytes.some((byte) => byte !== i);
    });
    expect(wrong).toEqual([]);
  });

  it.skipIf(process.platform !== "linux")(
    "case-W8 clusters that wait in rings cost no memory before they are written",
    async () => {
      // In a process of its own: here, memory of other tests becomes free meanwhile.
      const program = `
        const { readFileSync } = await import("node:fs");
        const { MbufPool } = await import(${JSON.stringify(MBUF)});
        const kilobytes = () =>
          Number(/^Rss:\\s+(\\d+)/m.exec(readFileSync("/proc/self/smaps_rollup", "utf8"))[1]);
        const pool = new MbufPool(2048, 200_000);
        const before = kilobytes();
        const taken = Array.from({ length: 100_000 }, () => pool.take());
        const waiting = kilobytes();
        for (const i of taken) pool.slab(i).fill(1, pool.offset(i), pool.offset(i) + 2048);
        console.log(JSON.stringify([waiting - before, kilobytes() - waiting]));`;
      const child = await run([NODE, "--input-type=module", "-e", program]);
      const [waiting, written] = JSON.parse(child.stdout) as [number, number];
      // They are 206 MB of addresses. The list of their numbers is less than 2 MB.
      expect(waiting).toBeLessThan(40_000);
      expect(written).toBeGreaterThan(150_000);
    },
  );

  it("are used last in, first out", () => {
    const pool = new MbufPool(64, 8);
    const [a, b] = [pool.take(), pool.take()];
    pool.give(a);
    pool.give(b);
    expect([pool.take(), pool.take(), pool.take()]).toEqual([b, a, 2]);
  });

  it("get an mbuf for their first bytes, whose free gives both back, once", () => {
    const pool = new MbufPool(64, 1);
    const cluster = pool.take();
    const m = pool.mbuf(cluster, 60);
    m.csumFlags = 1;
    expect(m).toMatchObject({ at: pool.offset(cluster), length: 60, pktLength: 60, freed: false });
    expect(m.buffer).toBe(pool.slab(cluster));
    m.free();
    expect(pool.inUse).toBe(0);
    expect(() => m.free()).toThrow(/freed twice/);
    const again = pool.mbuf(pool.take(), 10);
    expect(again).toBe(m);
    expect(again).toMatchObject({ length: 10, csumFlags: 0, freed: false });
  });
});

describe("chain", () => {
  it("freeOne returns the rest", () => {
    const pool = new MbufPool(64, 2);
    const head = chainOf(pool, [4, 4]);
    const rest = head.freeOne();
    expect(pool.inUse).toBe(1);
    expect(rest?.length).toBe(4);
  });

  it("copies any range across its pieces", () => {
    const pool = new MbufPool(64, 8);
    const m = chainOf(pool, [3, 0, 5, 1, 10]);
    expect([mLength(m), m.pktLength]).toEqual([19, 19]);
    for (let from = 0; from <= 19; from++) {
      for (let length = 0; from + length <= 19; length++) {
        const out = new Uint8Array(24).fill(0xa5);
        mCopyData(m, from, length, out, 2);
        const expected = new Uint8Array(24).fill(0xa5);
        for (let i = 0; i < length; i++) expected[2 + i] = from + i;
        expect(out).toEqual(expected);
      }
    }
    expect(() => mCopyData(m, 10, 10, new Uint8Array(24), 0)).toThrow("beyond the end");
  });
});

describe("external storage", () => {
  it("goes back through its hook, once, and may be attached anew", () => {
    const released: number[] = [];
    const storage = Uint8Array.from([1, 2, 3, 4]);
    const m = new Mbuf();
    m.cookie = 17;
    m.attach(storage, 1, 3, (gone) => released.push(gone.cookie));
    expect([m.pktLength, m.length, m.at]).toEqual([3, 3, 1]);
    m.free();
    expect(released).toEqual([17]);
    expect(() => m.free()).toThrow("freed twice");
    m.attach(storage, 0, 4, m.release);
    m.free();
    expect(released).toEqual([17, 17]);
  });

  it("mixes with pool mbufs in one chain", () => {
    const pool = new MbufPool(64, 1);
    let released = 0;
    const head = chainOf(pool, [4]);
    const tail = new Mbuf();
    tail.attach(new Uint8Array(8), 0, 8, () => released++);
    append(head, tail);
    expect(head.pktLength).toBe(12);
    head.free();
    expect([pool.inUse, released]).toEqual([0, 1]);
  });
});
