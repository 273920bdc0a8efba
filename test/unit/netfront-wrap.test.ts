/** netfront's rings across the wrap of their indexes at 2^32, and across the sign bit. */
import { describe, expect, test, vi } from "vitest";
import { index32 } from "../../shared/ring/index32.ts";
import { frame, MAC, PEER } from "../support/nic-frames.ts";
import { XenPair } from "../support/pair.ts";
import { violations } from "../support/xen-invariants.ts";

const begin = vi.hoisted(() => ({ at: 0 }));

vi.mock("../../frontend/xen/memory.ts", async (original) => {
  const real = await original<typeof import("../../frontend/xen/memory.ts")>();
  type Arguments = ConstructorParameters<typeof real.FrontRing>;
  class Begun extends real.FrontRing {
    constructor(...[space, grants, domid, name, slotBytes, slotType]: Arguments) {
      super(space, grants, domid, name, slotBytes, slotType, index32(begin.at));
    }
  }
  return { ...real, FrontRing: Begun };
});

describe.each([
  ["2^32", 2 ** 32 - 300],
  ["2^31", 2 ** 31 - 300],
])("%s", (_, start) => {
  test("frames both ways, one by one and in bursts that fill the rings", async () => {
    begin.at = start;
    const pair = new XenPair();
    await pair.start();
    expect(pair.rxq().ring?.reqProdPvt).toBe((start + 256) >>> 0);
    let sent = 0;
    for (const burst of [1, 2, 100, 1, 150, 3, 150, 1]) {
      for (let i = 0; i < burst; i++, sent++) {
        expect(pair.send(frame(60 + (sent % 50), sent, PEER))).toBe(0);
        pair.inject(frame(61 + (sent % 50), sent, MAC));
      }
      pair.flushPort();
      await pair.settle();
      expect(violations(pair)).toEqual([]);
      expect(pair.info.broken).toBeUndefined();
    }
    const bytes = (all: readonly { bytes: Uint8Array }[]) => all.map((one) => one.bytes);
    const each = (make: (i: number) => Uint8Array) =>
      Array.from({ length: sent }, (_, i) => make(i));
    expect(bytes(pair.segment)).toEqual(each((i) => frame(60 + (i % 50), i, PEER)));
    expect(bytes(pair.inputs)).toEqual(each((i) => frame(61 + (i % 50), i, MAC)));
    expect(pair.outstanding).toBe(0);
    // Both indexes have passed the wrap.
    expect(pair.txq().ring?.rspCons).toBe((start + sent) >>> 0);
    expect(pair.rxq().ring?.rspCons).toBe((start + sent) >>> 0);
  });

  test("one response more than there were requests is found on both sides of it", async () => {
    for (const consumed of [299, 300, 301]) {
      begin.at = start;
      const pair = new XenPair();
      await pair.start();
      for (let i = 0; i < consumed; i++) {
        expect(pair.send(frame(60, i, PEER))).toBe(0);
        await pair.settle();
      }
      const { view } = pair.txq().ring!;
      view.setUint32(8, (start + consumed + 1) >>> 0, true);
      pair.driver.batchApplied();
      expect(pair.info.broken).toBe("TX_RESPONSES");
    }
  });
});
