/**
 * Defects of the original bus_dma for Xen (prati0100/freebsd: sys/x86/xen/busdma_xen.c), found by
 * reading, that ours does not have. One test for each, named after the defect.
 */

import { expect, test } from "vitest";
import { Errno } from "../../frontend/bus/errno.ts";
import {
  BUS_DMA_NOWAIT,
  BUS_DMA_XEN_PREALLOC_REFS,
  BUS_DMA_XEN_RO,
  createXenTag,
  DmaLockOp,
  getXenDmaTag,
  type XenDmaMap,
  type XenDmaTag,
  type XenTagParams,
} from "../../frontend/xen/bus-dma-xen/index.ts";
import { busAddress, Space } from "../../shared/wire/records.ts";
import { grantRef } from "../../shared/xen/grant.ts";
import { GrantStage, nextTurn } from "../support/grant-stage.ts";

const PAGE = 4096;
/** Free references of a table of one frame. */
const ONE_FRAME = 504;

const PARAMS: XenTagParams = {
  name: "test",
  alignment: 1,
  boundary: PAGE,
  maxSize: 4 * PAGE,
  nSegments: 4,
  maxSegSize: PAGE,
  direction: "both",
  flags: 0,
  lock: () => {},
};

function made<T extends object>(result: T | number): T {
  if (typeof result === "number") return expect.fail(`errno ${result}`);
  return result;
}

/** A tag; the test holds all references but `left`. */
function stageWith(left: number, over: Partial<XenTagParams> = {}) {
  const stage = new GrantStage({ maxFrames: 1 });
  const { grants } = stage;
  const root = getXenDmaTag(stage.space, grants);
  const tag = made(createXenTag(root, { ...PARAMS, ...over }));
  const taken: number[] = [];
  while (grants.freeCount > left) taken.push(grants.allocGrantReference());
  const giveBack = (count: number): void => {
    for (const r of taken.splice(0, count)) grants.freeGrantReference(grantRef(r));
  };
  return { stage, grants, root, tag, giveBack };
}

const plain = (tag: XenDmaTag): XenDmaMap => made(tag.createMap(0));
const ignore = (): void => {};
const bytes = (pages: number): Uint8Array => new Uint8Array(pages * PAGE).fill(0x11);
const load = (map: XenDmaMap, pages: number, flags: number): number =>
  map.load(bytes(pages), 0, pages * PAGE, ignore, 0, flags);
const refsOf = (map: XenDmaMap): number[] =>
  Array.from({ length: map.segmentCount }, (_, i) => map.gref(i));

/** Expects that the device was granted the pages of the map's segments, in order. */
function expectGranted(stage: GrantStage, map: XenDmaMap, segments: number): void {
  stage.grants.post();
  expect(map.segmentCount).toBe(segments);
  for (let i = 0; i < segments; i++) {
    const entry = stage.device.entries.get(map.gref(i));
    expect(entry?.frame).toBe(Math.floor(map.segmentAddress(i) / PAGE) % 2 ** 32);
  }
}

test("nrefs counted before the references are there: unload ends references of others", () => {
  const { stage, grants, tag, giveBack } = stageWith(4);
  const other = plain(tag);
  expect(load(other, 3, BUS_DMA_NOWAIT)).toBe(0);
  const map = plain(tag);
  expect(load(map, 4, 0)).toBe(Errno.EINPROGRESS);
  expect(map.unload()).toBe(0);
  expect([grants.liveCount, grants.freeCount]).toEqual([3, 1]);
  expectGranted(stage, other, 3);
  giveBack(3);
  expect(load(map, 4, BUS_DMA_NOWAIT)).toBe(0);
  expectGranted(stage, map, 4);
});

test("nrefs kept after a load that failed: the next load's references belong to wrong segments", () => {
  const { stage, grants, tag, giveBack } = stageWith(1);
  const map = plain(tag);
  expect(load(map, 2, BUS_DMA_NOWAIT)).toBe(Errno.ENOSPC);
  expect(load(map, 2, BUS_DMA_NOWAIT)).toBe(Errno.ENOSPC);
  giveBack(3);
  expect(load(map, 4, BUS_DMA_NOWAIT)).toBe(0);
  expectGranted(stage, map, 4);
  expect(map.unload()).toBe(0);
  expect([grants.liveCount, grants.freeCount]).toEqual([0, 4]);
});

test("sleepable kept after a load that failed: the next NOWAIT load waits", () => {
  const { tag } = stageWith(1);
  const map = plain(tag);
  const five = [1, 2, 3, 4, 5].map(() => new Uint8Array(8));
  expect(map.loadPieces(five, [0, 0, 0, 0, 0], [8, 8, 8, 8, 8], 5, ignore, 0, 0)).toBe(Errno.EFBIG);
  expect(load(map, 2, BUS_DMA_NOWAIT)).toBe(Errno.ENOSPC);
  expect(map.loading).toBe(false);
});

test("refs array has max_segments: a deferred load of as many has one for each", async () => {
  const { stage, tag, giveBack } = stageWith(0);
  const map = plain(tag);
  expect(load(map, 4, 0)).toBe(Errno.EINPROGRESS);
  giveBack(4);
  await nextTurn();
  expect(new Set(refsOf(map)).size).toBe(4);
  expectGranted(stage, map, 4);
});

test("prealloc map loaded with more segments than it has references: only an assertion", () => {
  const { grants, tag } = stageWith(ONE_FRAME);
  const map = made(tag.createMap(BUS_DMA_XEN_PREALLOC_REFS));
  const six = Array.from({ length: 6 }, () => new Uint8Array(8));
  const at = [0, 0, 0, 0, 0, 0];
  const error = map.loadPieces(six, at, [8, 8, 8, 8, 8, 8], 6, ignore, 0, BUS_DMA_NOWAIT);
  expect([error, grants.liveCount, map.loaded]).toEqual([Errno.EFBIG, 0, false]);
  map.destroy();
  expect(grants.freeCount).toBe(ONE_FRAME);
});

test("free callback under a non-recursive lock: it runs where nobody holds the lock", async () => {
  let held = false;
  const lock = (op: DmaLockOp): void => {
    if (held === (op === DmaLockOp.LOCK)) throw new Error("locked twice, or unlocked twice");
    held = op === DmaLockOp.LOCK;
  };
  const { tag } = stageWith(2, { lock });
  const [holder, waiter] = [plain(tag), plain(tag)];
  expect(load(holder, 2, BUS_DMA_NOWAIT)).toBe(0);
  let inLock: boolean | undefined;
  const note = (): void => {
    inLock = held;
  };
  expect(waiter.load(bytes(2), 0, 2 * PAGE, note, 0, 0)).toBe(Errno.EINPROGRESS);
  // The owner of the lock frees references while it holds the lock.
  lock(DmaLockOp.LOCK);
  expect(holder.unload()).toBe(0);
  expect(inLock).toBeUndefined();
  lock(DmaLockOp.UNLOCK);
  await nextTurn();
  expect([inLock, held, waiter.loaded]).toEqual([true, false, true]);
});

test("default lock function: a deferred load would panic long after the mistake", () => {
  const { root } = stageWith(1);
  const { lock: _, ...lockless } = PARAMS;
  const map = plain(made(createXenTag(root, lockless)));
  // The load throws although a reference is free, so that the mistake is always found.
  expect(() => load(map, 1, 0)).toThrow("test map 0: a load may have to wait");
  expect(load(map, 1, BUS_DMA_NOWAIT)).toBe(0);
});

test("unload of a deferred load: the callback comes all the same, faults, and leaks", async () => {
  const { grants, tag, giveBack } = stageWith(0);
  const map = plain(tag);
  let called = 0;
  expect(map.load(bytes(2), 0, 2 * PAGE, () => called++, 0, 0)).toBe(Errno.EINPROGRESS);
  // The references are free now, and the callback is scheduled already.
  giveBack(2);
  expect(map.unload()).toBe(0);
  map.destroy();
  await nextTurn();
  expect([called, grants.liveCount, grants.freeCount]).toEqual([0, 0, 2]);
});

test("free callback asserts that its references are there: others may be quicker", async () => {
  const { grants, tag, giveBack } = stageWith(0);
  const [waiter, quick] = [plain(tag), plain(tag)];
  expect(load(waiter, 2, 0)).toBe(Errno.EINPROGRESS);
  giveBack(2);
  expect(load(quick, 1, BUS_DMA_NOWAIT)).toBe(0);
  await nextTurn();
  expect([waiter.loading, grants.freeCount]).toEqual([true, 1]);
  expect(quick.unload()).toBe(0);
  await nextTurn();
  expect([waiter.loaded, grants.freeCount]).toEqual([true, 0]);
});

test("segments of a deferred load are overwritten by another load on the tag", async () => {
  const { stage, tag, giveBack } = stageWith(1);
  const waiter = plain(tag);
  expect(load(waiter, 3, 0)).toBe(Errno.EINPROGRESS);
  const other = plain(tag);
  expect(load(other, 1, BUS_DMA_NOWAIT)).toBe(0);
  giveBack(3);
  await nextTurn();
  expectGranted(stage, waiter, 3);
  expectGranted(stage, other, 1);
  expect(new Set([...refsOf(waiter), ...refsOf(other)]).size).toBe(4);
});

test("a middle part of a load defers: all of it does, and is granted at once", async () => {
  const { stage, grants, tag, giveBack } = stageWith(2);
  const map = plain(tag);
  const pieces = [bytes(1), bytes(2), bytes(1)];
  const lengths = pieces.map((p) => p.length);
  expect(map.loadPieces(pieces, [0, 0, 0], lengths, 3, ignore, 0, 0)).toBe(Errno.EINPROGRESS);
  expect([grants.liveCount, grants.freeCount]).toEqual([0, 2]);
  giveBack(2);
  await nextTurn();
  expectGranted(stage, map, 4);
});

test("references of the parts before the one that fails are lost", () => {
  const { grants, tag } = stageWith(ONE_FRAME);
  const map = plain(tag);
  const pieces = [bytes(2), bytes(2), bytes(1)];
  const lengths = [2 * PAGE, 2 * PAGE, 1];
  const error = map.loadPieces(pieces, [0, 0, 0], lengths, 3, ignore, 0, BUS_DMA_NOWAIT);
  expect(error).not.toBe(0);
  expect([grants.liveCount, grants.freeCount]).toEqual([0, ONE_FRAME]);
  map.destroy();
});

test.each([0, BUS_DMA_XEN_PREALLOC_REFS])(
  "unload loses that a reference is still in use: the buffer is used again, map flags %i",
  (flags) => {
    const { stage, grants, tag } = stageWith(ONE_FRAME);
    const map = made(tag.createMap(flags));
    const memory = bytes(2);
    map.load(memory, 0, 2 * PAGE, ignore, 0, BUS_DMA_NOWAIT);
    const [first, second] = refsOf(map);
    stage.use(second!, 1);
    expect(map.unload()).toBe(Errno.EBUSY);
    // Both segments stay granted: the device reads them, and the map can't be loaded again.
    expect(stage.read(first!, 0, 1)).toEqual(Uint8Array.of(0x11));
    expect(grants.liveCount).toBe(2);
    expect(() => load(map, 1, BUS_DMA_NOWAIT)).toThrow("loaded while loaded");
  },
);

test("destroy of a preallocated map that is loaded: the machine map goes, its grants stay", () => {
  const { stage, grants, tag } = stageWith(ONE_FRAME);
  const map = made(tag.createMap(BUS_DMA_XEN_PREALLOC_REFS));
  load(map, 1, BUS_DMA_NOWAIT);
  expect(() => map.destroy()).toThrow("destroyed while loaded");
  expect(stage.read(map.gref(0), 0, 1)).toEqual(Uint8Array.of(0x11));
  map.unload();
  map.destroy();
  expect([grants.liveCount, grants.freeCount]).toEqual([0, ONE_FRAME]);
});

test("load of a loaded map adds to it", () => {
  const { stage, grants, tag } = stageWith(ONE_FRAME);
  const map = plain(tag);
  load(map, 1, BUS_DMA_NOWAIT);
  expect(() => load(map, 1, BUS_DMA_NOWAIT)).toThrow("loaded while loaded");
  expectGranted(stage, map, 1);
  expect([map.unload(), grants.freeCount]).toEqual([0, ONE_FRAME]);
});

test("create that fails halfway: neither references nor a map are left", () => {
  const { stage, grants, tag } = stageWith(3);
  const granules = stage.space.granules.inUse;
  expect(tag.createMap(BUS_DMA_XEN_PREALLOC_REFS)).toBe(Errno.ENOSPC);
  expect([grants.freeCount, stage.space.granules.inUse]).toEqual([3, granules]);
  tag.destroy();
});

test("references in place of addresses: segments say where the bytes are, gref what is granted", () => {
  const { stage, tag } = stageWith(ONE_FRAME);
  const map = plain(tag);
  const seen: number[][] = [];
  const note = (_: number, m: XenDmaMap, nseg: number): void => {
    for (let i = 0; i < nseg; i++) seen.push([m.segmentAddress(i), m.gref(i)]);
  };
  map.load(bytes(2), 0, 2 * PAGE, note, 0, BUS_DMA_NOWAIT);
  stage.grants.post();
  for (const [, reference] of seen) expect(stage.read(reference!, 0, PAGE)).toEqual(bytes(1));
  // A bus without grants uses addresses.
  stage.space.grants = undefined;
  for (const [address] of seen) {
    expect(address! % PAGE).toBe(0);
    const span = stage.space.deviceRead(Space.BUS, busAddress(address!), PAGE);
    expect(span?.length).toBe(PAGE);
  }
  expect(seen.length).toBe(2);
});

test("maxsegsz compared the wrong way round: whole pages are fine, more is not", () => {
  const { root } = stageWith(ONE_FRAME);
  made(createXenTag(root, { ...PARAMS, maxSegSize: PAGE }));
  expect(createXenTag(root, { ...PARAMS, maxSegSize: PAGE + 1 })).toBe(Errno.EINVAL);
});

test("every bit above NOWAIT goes into the grant: unknown ones are refused", () => {
  const { stage, grants, tag } = stageWith(ONE_FRAME);
  const map = plain(tag);
  for (let bit = 1; bit < 32; bit++) {
    if (1 << bit === BUS_DMA_XEN_RO) continue;
    expect(load(map, 1, (1 << bit) | BUS_DMA_NOWAIT)).toBe(Errno.EINVAL);
  }
  expect(grants.liveCount).toBe(0);
  expect(load(map, 1, BUS_DMA_NOWAIT | BUS_DMA_XEN_RO)).toBe(0);
  grants.post();
  expect(stage.device.entries.get(map.gref(0))?.flags).toBe(5);
});
