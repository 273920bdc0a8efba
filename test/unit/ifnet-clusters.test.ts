import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { ClusterPool, NO_CLUSTER } from "../../frontend/net/clusters.ts";

test("clusters have their own bytes each, and no more are given out than the limit", () => {
  const pool = new ClusterPool(100, 130);
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

test.skipIf(process.platform !== "linux")(
  "case-W8 clusters that wait in rings cost no memory before they are written",
  () => {
    const kilobytes = (): number =>
      Number(/VmRSS:\s+(\d+)/.exec(readFileSync("/proc/self/status", "utf8"))![1]);
    const pool = new ClusterPool(2048, 200_000);
    const before = kilobytes();
    const taken = Array.from({ length: 100_000 }, () => pool.take());
    // They are 206 MB of addresses. The list of their numbers is less than 2 MB.
    expect(kilobytes() - before).toBeLessThan(40_000);
    for (const i of taken) pool.slab(i).fill(1, pool.offset(i), pool.offset(i) + 2048);
    expect(kilobytes() - before).toBeGreaterThan(190_000);
  },
);

test("the cluster that was given back last is used first", () => {
  const pool = new ClusterPool(64, 8);
  const [a, b] = [pool.take(), pool.take()];
  pool.give(a);
  pool.give(b);
  expect([pool.take(), pool.take(), pool.take()]).toEqual([b, a, 2]);
});

test("an mbuf has the first bytes of its cluster; its free gives both back, once", () => {
  const pool = new ClusterPool(64, 1);
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
