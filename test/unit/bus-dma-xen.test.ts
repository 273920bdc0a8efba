/** bus_dma(9) for Xen: tags, immediate and deferred loads, pushes, unload while in use. */

import { describe, expect, it, test } from "vitest";
import { Errno } from "../../frontend/bus/errno.ts";
import {
  BUS_DMA_NOWAIT,
  BUS_DMA_XEN_DOMID_SHIFT,
  BUS_DMA_XEN_PREALLOC_REFS,
  BUS_DMA_XEN_RO,
  createXenTag,
  DmaLockOp,
  getXenDmaTag,
  SyncOp,
  type XenDmaMap,
  type XenDmaTag,
  type XenTagParams,
} from "../../frontend/xen/bus-dma-xen/index.ts";
import { Space } from "../../shared/wire/records.ts";
import { grantAddress, grantRef } from "../../shared/xen/grant.ts";
import { GrantStage, type GrantStageOptions, nextTurn } from "../support/grant-stage.ts";
import { misuse as codeOf } from "../support/misuse.ts";

const PAGE = 4096;
/** Free references of a table of one frame. */
const ONE_FRAME = 504;

function setUp(over: Partial<XenTagParams> = {}, options: GrantStageOptions = { maxFrames: 1 }) {
  const stage = new GrantStage(options);
  const locks: DmaLockOp[] = [];
  const root = getXenDmaTag(stage.space, stage.grants);
  const tag = made(
    createXenTag(root, {
      name: "test",
      alignment: 1,
      boundary: PAGE,
      maxSize: 4 * PAGE,
      nSegments: 4,
      maxSegSize: PAGE,
      direction: "both",
      flags: 0,
      lock: (op) => locks.push(op),
      ...over,
    }),
  );
  return { stage, root, tag, locks, grants: stage.grants };
}

function made<T extends object>(result: T | number): T {
  if (typeof result === "number") return expect.fail(`errno ${result}`);
  return result;
}

const preallocated = (tag: XenDmaTag): XenDmaMap => made(tag.createMap(BUS_DMA_XEN_PREALLOC_REFS));
const plain = (tag: XenDmaTag): XenDmaMap => made(tag.createMap(0));

/** Allocates all references but `left`; returns them. */
function drain({ grants }: GrantStage, left: number): number[] {
  const taken = [];
  while (grants.availableCount > left) taken.push(grants.allocGrantReference());
  return taken;
}

const counting = (length: number): Uint8Array => Uint8Array.from({ length }, (_, i) => i & 0xff);
const ignore = (): void => {};
const refsOf = (map: XenDmaMap): number[] =>
  Array.from({ length: map.segmentCount }, (_, i) => map.gref(i));

/** The text of every misuse names the tag. */
const misuse = (act: () => unknown): string => codeOf(act, "test");

describe("tags", () => {
  it("take the domain from bits 31..16 of their flags", () => {
    const { tag } = setUp({ flags: 0x7fef << BUS_DMA_XEN_DOMID_SHIFT });
    expect(tag.domid).toBe(0x7fef);
    expect(setUp({ flags: (0xffff << BUS_DMA_XEN_DOMID_SHIFT) >>> 0 }).tag.domid).toBe(0xffff);
  });

  it.each([
    [{ maxSegSize: PAGE + 1 }, Errno.EINVAL],
    [{ maxSegSize: 2 * PAGE }, Errno.EINVAL],
    [{ flags: 1 }, Errno.EINVAL],
    [{ flags: (5 << BUS_DMA_XEN_DOMID_SHIFT) | BUS_DMA_XEN_PREALLOC_REFS }, Errno.EINVAL],
  ])("%o is refused", (over, errno) => {
    const { root, tag } = setUp();
    expect(createXenTag(root, { ...tag.params, ...over })).toBe(errno);
  });

  it.each([PAGE, PAGE - 1, 512])("segments of at most %i bytes are fine", (maxSegSize) => {
    const { root, tag } = setUp();
    made(createXenTag(root, { ...tag.params, maxSegSize }));
  });

  it("made below a tag keep its boundary", () => {
    const { tag: parent } = setUp({ boundary: 1024 });
    const child = made(createXenTag(parent, { ...parent.params, boundary: 0 }));
    const map = plain(child);
    expect(map.load(counting(1500), 0, 1500, ignore, 0, BUS_DMA_NOWAIT)).toBe(0);
    expect([map.segmentLength(0), map.segmentLength(1)]).toEqual([1024, 476]);
  });

  it("go after their last map, once", () => {
    const { tag } = setUp();
    const map = plain(tag);
    expect(tag.maps).toBe(1);
    expect(misuse(() => tag.destroy())).toBe("TAG_IN_USE");
    map.destroy();
    tag.destroy();
    expect(misuse(() => tag.destroy())).toBe("TAG_DESTROYED");
    expect(misuse(() => tag.createMap(0))).toBe("TAG_DESTROYED");
  });
});

describe("maps", () => {
  it("have a reference for each segment when asked to preallocate, until they are destroyed", () => {
    const { tag, grants } = setUp();
    const map = preallocated(tag);
    expect(grants.freeCount).toBe(ONE_FRAME - 4);
    const buffer = counting(100);
    map.load(buffer, 0, 100, ignore, 0, BUS_DMA_NOWAIT);
    const reference = map.gref(0);
    expect(map.unload()).toBe(0);
    map.load(buffer, 0, 100, ignore, 0, BUS_DMA_NOWAIT);
    expect(map.gref(0)).toBe(reference);
    map.unload();
    expect(grants.freeCount).toBe(ONE_FRAME - 4);
    map.destroy();
    expect(grants.freeCount).toBe(ONE_FRAME);
  });

  it("are not made without their references, and take none then", () => {
    const { stage, tag, grants } = setUp();
    drain(stage, 3);
    expect(tag.createMap(BUS_DMA_XEN_PREALLOC_REFS)).toBe(Errno.ENOSPC);
    expect([grants.freeCount, tag.maps]).toEqual([3, 0]);
    plain(tag).destroy();
    tag.destroy();
  });

  it("are not made without bus space, and take no references then", () => {
    const { stage, tag, grants } = setUp();
    const { granules } = stage.space;
    for (let n = 1 << 19; n > 0; n = n >> 1) while (granules.take(n) !== 0);
    expect(tag.createMap(BUS_DMA_XEN_PREALLOC_REFS)).toBe(Errno.ENOMEM);
    expect([grants.freeCount, tag.maps]).toEqual([ONE_FRAME, 0]);
  });

  it("with flags that mean nothing are not made", () => {
    expect(setUp().tag.createMap(1)).toBe(Errno.EINVAL);
  });
});

describe("load", () => {
  it("grants each segment: domain, mode and page as the tag and the flags say", () => {
    const { stage, tag, grants } = setUp({ flags: 7 << BUS_DMA_XEN_DOMID_SHIFT });
    const map = plain(tag);
    expect(map.load(counting(9000), 0, 9000, ignore, 0, BUS_DMA_NOWAIT | BUS_DMA_XEN_RO)).toBe(0);
    grants.post();
    expect([map.segmentCount, new Set(refsOf(map)).size]).toEqual([3, 3]);
    for (let i = 0; i < 3; i++) {
      const frame = Math.floor(map.segmentAddress(i) / PAGE) % 2 ** 32;
      expect(stage.device.entries.get(map.gref(i))).toMatchObject({ flags: 5, domid: 7, frame });
    }
    expect(stage.device.entries.size).toBe(3);
  });

  it("calls back with the argument, the map, and its segments granted", () => {
    const { tag, grants } = setUp();
    const map = plain(tag);
    const calls: unknown[] = [];
    const callback = (arg: string, m: XenDmaMap, nseg: number, error: number): void => {
      calls.push([arg, m === map, m.loaded, nseg, error, grants.liveCount]);
    };
    expect(map.load(counting(5000), 0, 5000, callback, "mine", BUS_DMA_NOWAIT)).toBe(0);
    expect(calls).toEqual([["mine", true, true, 2, 0, 2]]);
  });

  it("gives every buffer a page of its own, so that no page has two references", () => {
    const { tag } = setUp();
    const map = plain(tag);
    const pieces = [10, 0, 4096, 700].map(counting);
    const lengths = pieces.map((p) => p.length);
    expect(map.loadPieces(pieces, [0, 0, 0, 0], lengths, 4, ignore, 0, BUS_DMA_NOWAIT)).toBe(0);
    const pages = [0, 1, 2].map((i) => map.segmentAddress(i) / PAGE);
    expect(pages).toEqual(pages.map(Math.floor));
    expect(new Set(pages).size).toBe(3);
  });

  it.each([
    ["nothing", 0, BUS_DMA_NOWAIT, Errno.EINVAL],
    ["more than maxSize", 4 * PAGE + 1, BUS_DMA_NOWAIT, Errno.EINVAL],
    ["a flag that means nothing", 10, 2, Errno.EINVAL],
  ])("of %s is refused, granting nothing and calling nobody", (_, length, flags, errno) => {
    const { tag, grants } = setUp();
    const map = plain(tag);
    let called = 0;
    const error = map.load(counting(5 * PAGE), 0, length, () => called++, 0, flags);
    expect([error, called, grants.liveCount, grants.freeCount]).toEqual([errno, 0, 0, ONE_FRAME]);
    expect([map.loaded, map.loading]).toEqual([false, false]);
    map.destroy();
  });

  it.each([0, BUS_DMA_XEN_PREALLOC_REFS])(
    "of more segments than the tag has is EFBIG, map flags %i",
    (flags) => {
      const { tag, grants } = setUp();
      const map = made(tag.createMap(flags));
      const free = grants.freeCount;
      const five = [1, 2, 3, 4, 5].map(() => counting(8));
      const error = map.loadPieces(five, [0, 0, 0, 0, 0], [8, 8, 8, 8, 8], 5, ignore, 0, 1);
      expect([error, grants.liveCount, grants.freeCount]).toEqual([Errno.EFBIG, 0, free]);
      expect(map.load(counting(8), 0, 8, ignore, 0, BUS_DMA_NOWAIT)).toBe(0);
    },
  );

  it("read-only of memory that the device never reads makes no sense", () => {
    const { tag } = setUp({ direction: "fromDevice" });
    const flags = BUS_DMA_NOWAIT | BUS_DMA_XEN_RO;
    expect(plain(tag).load(counting(8), 0, 8, ignore, 0, flags)).toBe(Errno.EINVAL);
  });

  it("lets the device reach what was loaded, in its direction, and not a byte beside it", () => {
    const { stage, tag } = setUp();
    const memory = counting(3 * PAGE);
    const before = memory.slice();
    const map = plain(tag);
    map.load(memory, 100, 1000, ignore, 0, BUS_DMA_NOWAIT);
    expect(stage.read(map.gref(0), 0, 1000)).toEqual(before.subarray(100, 1100));
    expect(stage.write(map.gref(0), 999, Uint8Array.of(0xee))).toBe(true);
    before[1099] = 0xee;
    expect(memory).toEqual(before);
    // XSA-403: the rest of the granted page can't be written.
    expect(stage.write(map.gref(0), 1000, Uint8Array.of(0xee))).toBe(false);
    expect(stage.read(map.gref(0), 999, 2)).toBe(1);
    expect(stage.read(map.gref(0), 2000, 100)).toBe(1);
    expect(memory).toEqual(before);
  });

  it("lets the device reach nothing by bus address", () => {
    const { stage, tag } = setUp();
    const memory = counting(PAGE);
    const before = memory.slice();
    const map = plain(tag);
    map.load(memory, 0, PAGE, ignore, 0, BUS_DMA_NOWAIT);
    const address = map.segmentAddress(0);
    expect(stage.space.deviceWrite(Space.BUS, address, Uint8Array.of(1), 0, 1)).toBe(false);
    expect(stage.space.deviceRead(Space.BUS, address, 1)).toBeUndefined();
    expect(memory).toEqual(before);
    expect(stage.device.of("fault").map(({ code, text }) => [code, text.slice(0, 12)])).toEqual([
      ["DMA_SPACE", "device write"],
      ["DMA_SPACE", "device read "],
    ]);
  });

  it("XSA-403: of two buffers, the reference of one never leads to the other", () => {
    const { stage, tag } = setUp();
    const [mine, neighbour] = [counting(64), counting(64)];
    const map = plain(tag);
    map.loadPieces([mine, neighbour], [0, 0], [64, 64], 2, ignore, 0, BUS_DMA_NOWAIT);
    for (let offset = 64; offset < PAGE; offset += 64) {
      expect(stage.read(map.gref(0), offset, 1)).toBe(1);
    }
  });

  it("of a loaded or destroyed map is a misuse, and changes nothing", () => {
    const { tag, grants } = setUp();
    const map = plain(tag);
    map.load(counting(8), 0, 8, ignore, 0, BUS_DMA_NOWAIT);
    expect(misuse(() => map.load(counting(8), 0, 8, ignore, 0, BUS_DMA_NOWAIT))).toBe("MAP_LOADED");
    expect(misuse(() => map.destroy())).toBe("MAP_LOADED");
    expect([grants.liveCount, grants.freeCount]).toEqual([1, ONE_FRAME - 1]);
    map.unload();
    expect(misuse(() => map.unload())).toBe("MAP_NOT_LOADED");
    map.destroy();
    expect(misuse(() => map.load(counting(8), 0, 8, ignore, 0, BUS_DMA_NOWAIT))).toBe(
      "MAP_DESTROYED",
    );
    expect(misuse(() => map.destroy())).toBe("MAP_DESTROYED");
  });

  it("beyond the buffer's end is a misuse that leaves the map idle", () => {
    const { tag, grants } = setUp();
    const map = plain(tag);
    expect(misuse(() => map.load(counting(8), 4, 8, ignore, 0, BUS_DMA_NOWAIT))).toBe("LOAD_RANGE");
    expect([map.loaded, grants.liveCount]).toEqual([false, 0]);
    map.destroy();
  });

  it("that could have to wait needs a lock", () => {
    const { tag } = setUp();
    const { lock: _, ...params } = tag.params;
    const lockless = made(createXenTag(tag, params));
    const buffer = counting(8);
    expect(misuse(() => plain(lockless).load(buffer, 0, 8, ignore, 0, 0))).toBe("TAG_PARAMS");
    // A map with references of its own never waits.
    expect(preallocated(lockless).load(buffer, 0, 8, ignore, 0, 0)).toBe(0);
  });
});

describe("without references", () => {
  it("a load with NOWAIT is ENOSPC, and the map is idle", () => {
    const { stage, tag, grants } = setUp();
    const taken = drain(stage, 1);
    const map = plain(tag);
    const buffer = counting(5000);
    expect(map.load(buffer, 0, 5000, ignore, 0, BUS_DMA_NOWAIT)).toBe(Errno.ENOSPC);
    expect([map.loaded, map.loading, map.segmentCount]).toEqual([false, false, 0]);
    expect([grants.liveCount, grants.freeCount]).toEqual([0, 1]);
    grants.freeGrantReference(grantRef(taken.pop()!));
    expect(map.load(buffer, 0, 5000, ignore, 0, BUS_DMA_NOWAIT)).toBe(0);
  });

  it("another load waits, and calls back under the lock once there are enough", async () => {
    const { stage, tag, grants, locks } = setUp();
    const taken = drain(stage, 1);
    const map = plain(tag);
    const calls: unknown[] = [];
    const callback = (arg: string, m: XenDmaMap, nseg: number, error: number): void => {
      calls.push([arg, m === map, nseg, error, [...locks], grants.liveCount]);
    };
    expect(map.load(counting(5000), 0, 5000, callback, "x", BUS_DMA_XEN_RO)).toBe(
      Errno.EINPROGRESS,
    );
    expect([map.loading, map.loaded, map.segmentCount]).toEqual([true, false, 0]);
    expect(misuse(() => map.gref(0))).toBe("SEGMENT_INDEX");
    expect(misuse(() => map.sync(SyncOp.PREWRITE))).toBe("MAP_NOT_LOADED");
    grants.freeGrantReference(grantRef(taken.pop()!));
    expect(calls).toEqual([]);
    await nextTurn();
    expect(calls).toEqual([["x", true, 2, 0, [DmaLockOp.LOCK], 2]]);
    expect(locks).toEqual([DmaLockOp.LOCK, DmaLockOp.UNLOCK]);
    grants.post();
    for (const r of refsOf(map)) expect(stage.device.entries.get(r)?.flags).toBe(5);
    expect(stage.read(map.gref(1), 0, 3)).toEqual(counting(5000).subarray(PAGE, PAGE + 3));
    expect(map.unload()).toBe(0);
    expect(grants.freeCount).toBe(2);
  });

  it("loads that wait are served in order", async () => {
    const { stage, tag, grants } = setUp();
    const taken = drain(stage, 0);
    const order: string[] = [];
    const sizes = [4 * PAGE, 10, 10];
    const maps = sizes.map(() => plain(tag));
    for (const [i, map] of maps.entries()) {
      const note = (name: string): void => void order.push(name);
      expect(map.load(counting(sizes[i]!), 0, sizes[i]!, note, `map ${i}`, 0)).toBe(
        Errno.EINPROGRESS,
      );
    }
    for (let i = 0; i < 5; i++) {
      grants.freeGrantReference(grantRef(taken.pop()!));
      await nextTurn();
    }
    await nextTurn();
    expect(order).toEqual(["map 0", "map 1"]);
    expect(maps.map((m) => m.loaded)).toEqual([true, true, false]);
  });

  it("unloading a load that waits cancels it: no callback, nothing granted, nothing lost", async () => {
    const { stage, tag, grants, locks } = setUp();
    const taken = drain(stage, 0);
    const map = plain(tag);
    let called = 0;
    map.load(counting(8), 0, 8, () => called++, 0, 0);
    expect(misuse(() => map.destroy())).toBe("MAP_LOADED");
    expect(misuse(() => map.load(counting(8), 0, 8, ignore, 0, 0))).toBe("MAP_LOADED");
    expect(map.unload()).toBe(0);
    for (const r of taken) grants.freeGrantReference(grantRef(r));
    await nextTurn();
    expect([called, locks.length, grants.liveCount, grants.freeCount]).toEqual([
      0,
      0,
      0,
      ONE_FRAME,
    ]);
    map.destroy();
    tag.destroy();
  });

  it("nobody waits for more than there can ever be", () => {
    const many = { maxSize: 600 * PAGE, nSegments: 600 };
    const { tag } = setUp(many);
    const map = plain(tag);
    expect(map.load(counting(600 * PAGE), 0, 600 * PAGE, ignore, 0, 0)).toBe(Errno.ENOSPC);
    expect(map.loading).toBe(false);
  });

  it("a callback that throws leaves the map loaded", () => {
    const { stage, tag, locks } = setUp();
    const map = plain(tag);
    expect(() =>
      map.load(
        counting(8),
        0,
        8,
        () => {
          throw new Error("mine");
        },
        0,
        BUS_DMA_NOWAIT,
      ),
    ).toThrow("mine");
    expect([map.loaded, map.unload(), stage.grants.freeCount]).toEqual([true, 0, ONE_FRAME]);
    expect(locks).toEqual([]);
  });
});

describe("sync", () => {
  it("PREWRITE pushes every segment under its reference, in the granted page", () => {
    const { stage, tag } = setUp();
    const [a, b] = [counting(5000), counting(300)];
    const map = plain(tag);
    map.loadPieces([a, b], [0, 100], [5000, 200], 2, ignore, 0, BUS_DMA_NOWAIT);
    map.sync(SyncOp.PREWRITE | SyncOp.PREREAD);
    const space = Space.GRANT;
    expect(map.gref(1)).toBe(map.gref(0) + 1);
    // Pages of consecutive references are one record.
    expect(stage.device.of("push")).toMatchObject([
      { space, address: grantAddress(map.gref(0), 0), bytes: a },
      { space, address: grantAddress(map.gref(2), 0), bytes: b.slice(100) },
    ]);
  });

  it("cuts segments smaller than a page at their offset in the page", () => {
    const { stage, tag } = setUp({ maxSegSize: 1500, maxSize: 6000 });
    const a = counting(6000);
    const map = plain(tag);
    expect(map.load(a, 0, 5000, ignore, 0, BUS_DMA_NOWAIT)).toBe(0);
    map.sync(SyncOp.PREWRITE);
    const pushed = stage.device.of("push").map((p) => [p.address % PAGE, p.bytes.length]);
    expect(pushed).toEqual([
      [0, 1500],
      [1500, 1500],
      [3000, 1096 + 904],
    ]);
    expect(Buffer.concat(stage.device.of("push").map((p) => p.bytes))).toEqual(
      Buffer.from(a.subarray(0, 5000)),
    );
  });

  it.each([SyncOp.PREREAD, SyncOp.POSTREAD, SyncOp.POSTWRITE])("%i pushes nothing", (op) => {
    const { stage, tag } = setUp();
    const map = plain(tag);
    map.load(counting(8), 0, 8, ignore, 0, BUS_DMA_NOWAIT);
    map.sync(op);
    expect(stage.device.of("push")).toEqual([]);
  });

  it.each([
    ["fromDevice", SyncOp.PREWRITE, "SYNC_DIRECTION"],
    ["fromDevice", SyncOp.PREWRITE | SyncOp.PREREAD, "SYNC_DIRECTION"],
    ["toDevice", SyncOp.PREREAD, "SYNC_DIRECTION"],
    ["both", 0, "SYNC_OP"],
    ["both", 16, "SYNC_OP"],
  ] as const)("of a %s map, kind %i: %s", (direction, op, code) => {
    const { stage, tag } = setUp({ direction });
    const map = plain(tag);
    map.load(counting(8), 0, 8, ignore, 0, BUS_DMA_NOWAIT);
    expect(misuse(() => map.sync(op))).toBe(code);
    expect(stage.device.of("push")).toEqual([]);
  });

  it("without a link goes nowhere", () => {
    const { stage, tag } = setUp();
    const map = plain(tag);
    map.load(counting(8), 0, 8, ignore, 0, BUS_DMA_NOWAIT);
    stage.space.detachLink();
    map.sync(SyncOp.PREWRITE);
    expect(stage.device.of("push")).toEqual([]);
  });
});

describe("unload", () => {
  it("of one busy reference is EBUSY and changes nothing", () => {
    const { stage, tag, grants } = setUp();
    const map = plain(tag);
    map.load(counting(9000), 0, 9000, ignore, 0, BUS_DMA_NOWAIT);
    stage.use(map.gref(2), 1);
    expect(map.unload()).toBe(Errno.EBUSY);
    expect([map.loaded, map.segmentCount, grants.liveCount]).toEqual([true, 3, 3]);
    expect(misuse(() => map.destroy())).toBe("MAP_LOADED");
    expect(stage.read(map.gref(0), 5, 1)).toEqual(Uint8Array.of(5));
    stage.use(map.gref(2), -1);
    expect(map.unload()).toBe(0);
    expect([grants.liveCount, grants.freeCount]).toEqual([0, ONE_FRAME]);
  });

  it("while the device says that it uses the reference: the next load takes another", () => {
    const { stage, tag, grants } = setUp({ nSegments: 1 });
    const map = preallocated(tag);
    const available = grants.availableCount;
    const buffer = new Uint8Array(100).fill(0x11);
    expect(map.load(buffer, 0, 100, ignore, 0, BUS_DMA_NOWAIT)).toBe(0);
    const first = map.gref(0);
    expect(map.unload()).toBe(0);
    stage.use(first, 1, 1);
    expect(map.load(buffer, 0, 100, ignore, 0, BUS_DMA_NOWAIT)).toBe(0);
    expect(map.gref(0)).not.toBe(first);
    expect([grants.availableCount, grants.heldCount]).toEqual([available - 1, 1]);
    expect(stage.read(first, 0, 1)).toBe(1);
    expect(map.unload()).toBe(0);
    stage.use(first, -1, -1);
    expect([grants.availableCount, grants.heldCount]).toEqual([available, 0]);
  });

  it("while the device says so and no other reference is free: the next load is ENOSPC", () => {
    const { stage, tag } = setUp({ nSegments: 1 });
    const map = preallocated(tag);
    const buffer = new Uint8Array(100);
    map.load(buffer, 0, 100, ignore, 0, BUS_DMA_NOWAIT);
    const reference = map.gref(0);
    map.unload();
    stage.use(reference, 1, 0);
    drain(stage, 0);
    expect(map.load(buffer, 0, 100, ignore, 0, BUS_DMA_NOWAIT)).toBe(Errno.ENOSPC);
    expect(map.loaded).toBe(false);
    stage.use(reference, -1, 0);
    expect(map.load(buffer, 0, 100, ignore, 0, BUS_DMA_NOWAIT)).toBe(0);
    expect(map.gref(0)).toBe(reference);
  });

  it("ends access before the buffer can be used again", () => {
    const { stage, tag, grants } = setUp();
    const memory = counting(64);
    const map = plain(tag);
    map.load(memory, 0, 64, ignore, 0, BUS_DMA_NOWAIT);
    const reference = map.gref(0);
    map.unload();
    expect(stage.write(reference, 0, Uint8Array.of(0xee))).toBe(false);
    expect(memory).toEqual(counting(64));
    grants.post();
    expect(stage.device.order).toEqual(["grant 1", "end 1"]);
  });
});

describe("quarantine", () => {
  it("XSA-396: a busy map keeps buffers and references, and its tag may go before it", () => {
    const { stage, tag, grants } = setUp();
    const memory = counting(9000);
    const map = preallocated(tag);
    map.load(memory, 0, 9000, ignore, 0, BUS_DMA_NOWAIT);
    const references = refsOf(map);
    const [first, busy] = [references[0]!, references[1]!];
    stage.use(busy, 0, 2);
    expect(map.unload()).toBe(Errno.EBUSY);
    let released = 0;
    map.quarantine(() => released++);
    expect([tag.maps, grants.quarantined, grants.liveCount]).toEqual([0, 1, 1]);
    expect(grants.freeCount).toBe(ONE_FRAME - 1);
    tag.destroy();
    expect(misuse(() => map.unload())).toBe("MAP_NOT_LOADED");
    expect(misuse(() => map.load(memory, 0, 8, ignore, 0, BUS_DMA_NOWAIT))).toBe("MAP_DESTROYED");
    expect(stage.write(first, 0, Uint8Array.of(0xee))).toBe(false);
    expect(stage.write(busy, 0, Uint8Array.of(0xee))).toBe(true);
    expect(memory[PAGE]).toBe(0xee);
    stage.use(busy, 0, -1);
    expect(released).toBe(0);
    const granules = stage.space.granules.inUse;
    stage.use(busy, 0, -1);
    expect([released, grants.quarantined, grants.freeCount]).toEqual([1, 0, ONE_FRAME]);
    expect(stage.write(busy, 0, Uint8Array.of(0xdd))).toBe(false);
    expect(stage.space.granules.inUse).toBeLessThan(granules);
  });

  it("ends with the link, and at once where nothing is busy", () => {
    const { stage, tag, grants } = setUp();
    const [a, b] = [plain(tag), preallocated(tag)];
    a.load(counting(8), 0, 8, ignore, 0, BUS_DMA_NOWAIT);
    b.load(counting(8), 0, 8, ignore, 0, BUS_DMA_NOWAIT);
    stage.use(b.gref(0), 1);
    const released: string[] = [];
    a.quarantine(() => released.push("a"));
    b.quarantine(() => released.push("b"));
    expect(released).toEqual(["a"]);
    stage.reconnect();
    expect(released).toEqual(["a", "b"]);
    expect([grants.freeCount, grants.liveCount, tag.maps]).toEqual([ONE_FRAME, 0, 0]);
    tag.destroy();
  });

  it("of a map that is not loaded is a misuse", () => {
    const { tag } = setUp();
    const map = plain(tag);
    expect(misuse(() => map.quarantine())).toBe("MAP_NOT_LOADED");
  });
});

test("a new link is told the references of what is loaded, and nothing is busy", () => {
  const { stage, tag } = setUp();
  const map = plain(tag);
  map.load(counting(9000), 0, 9000, ignore, 0, BUS_DMA_NOWAIT);
  stage.use(map.gref(0), 1);
  stage.reconnect();
  expect([...stage.device.entries.keys()].sort()).toEqual(refsOf(map).sort());
  expect(map.unload()).toBe(0);
});
