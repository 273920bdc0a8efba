/** Rows of the netfront checklist about bus_dma for Xen, tested through its public header. */
import { expect, test } from "vitest";
import { Errno } from "../../frontend/bus/errno.ts";
import {
  BUS_DMA_NOWAIT,
  BUS_DMA_XEN_DOMID_SHIFT,
  BUS_DMA_XEN_PREALLOC_REFS,
  BUS_DMA_XEN_RO,
  createXenTag,
  DmaLockOp,
  getXenDmaTag,
  type XenDmaMap,
  type XenDmaTag,
} from "../../frontend/xen/bus-dma-xen/index.ts";
import { grantRef } from "../../shared/xen/grant.ts";
import { GrantStage, nextTurn } from "../support/grant-stage.ts";

const PAGE = 4096;
/** Free references of a table of one frame. */
const ONE_FRAME = 504;
const DOMID = 3;

function setUp(nSegments: number, onLock: (op: DmaLockOp) => void = () => {}) {
  const stage = new GrantStage({ maxFrames: 1 });
  const locks: DmaLockOp[] = [];
  const tag = createXenTag(getXenDmaTag(stage.space, stage.grants), {
    name: "seed",
    alignment: 1,
    boundary: PAGE,
    maxSize: nSegments * PAGE,
    nSegments,
    maxSegSize: PAGE,
    direction: "both",
    flags: DOMID << BUS_DMA_XEN_DOMID_SHIFT,
    lock: (op) => {
      locks.push(op);
      onLock(op);
    },
  });
  if (typeof tag === "number") return expect.fail(`createXenTag: ${tag}`);
  return { stage, grants: stage.grants, tag, locks };
}

function create(tag: XenDmaTag, flags: number): XenDmaMap {
  const map = tag.createMap(flags);
  return typeof map === "number" ? expect.fail(`createMap: ${map}`) : map;
}

const ignore = (): void => {};
const page = new Uint8Array(PAGE);

test.each([
  ["read-write", 0, 1],
  ["read-only", BUS_DMA_XEN_RO, 5],
])("N9 bus_dmamap_load equals granting foreign access: %s", (_, mode, flags) => {
  const { stage, grants, tag } = setUp(1);
  const map = create(tag, BUS_DMA_XEN_PREALLOC_REFS);
  grants.post();
  expect(stage.device.entries.size).toBe(0);
  expect(map.load(page, 0, PAGE, ignore, 0, BUS_DMA_NOWAIT | mode)).toBe(0);
  grants.post();
  const frame = Math.floor(map.segmentAddress(0) / PAGE) % 2 ** 32;
  expect([...stage.device.entries]).toEqual([
    [map.gref(0), { flags, domid: DOMID, frame, pageOff: 0, length: 0 }],
  ]);
});

test("N10 bus_dmamap_unload equals ending access, and the map keeps its reference", () => {
  const { stage, grants, tag } = setUp(1);
  const map = create(tag, BUS_DMA_XEN_PREALLOC_REFS);
  map.load(page, 0, PAGE, ignore, 0, BUS_DMA_NOWAIT);
  const reference = map.gref(0);
  grants.post();
  expect(map.unload()).toBe(0);
  grants.post();
  expect([stage.device.entries.size, grants.liveCount]).toEqual([0, 0]);
  expect(stage.read(reference, 0, 1)).toBe(1);
  expect(grants.freeCount).toBe(ONE_FRAME - 1);
  map.load(page, 0, PAGE, ignore, 0, BUS_DMA_NOWAIT);
  expect(map.gref(0)).toBe(reference);
});

test("N11 bus_dmamap_destroy equals freeing the references", () => {
  const { grants, tag } = setUp(2);
  const maps = Array.from({ length: 257 }, (_, i) =>
    create(tag, i < 200 ? BUS_DMA_XEN_PREALLOC_REFS : 0),
  );
  expect(grants.freeCount).toBe(ONE_FRAME - 400);
  for (const map of maps) map.load(page, 0, PAGE, ignore, 0, BUS_DMA_NOWAIT);
  for (const map of maps) map.unload();
  for (const map of maps) map.destroy();
  tag.destroy();
  expect([grants.freeCount, grants.liveCount, tag.maps]).toEqual([ONE_FRAME, 0, 0]);
});

test("N28 a shortage of references: NOWAIT fails, another load completes after a release", async () => {
  const { grants, tag, locks } = setUp(2);
  const taken: number[] = [];
  while (grants.freeCount > 1) taken.push(grants.allocGrantReference());
  const two = new Uint8Array(2 * PAGE);
  const [now, later] = [create(tag, 0), create(tag, 0)];
  let called = 0;
  const count = (): void => {
    called++;
  };
  expect(now.load(two, 0, 2 * PAGE, count, 0, BUS_DMA_NOWAIT)).toBe(Errno.ENOSPC);
  expect([now.loaded, now.loading, grants.freeCount]).toEqual([false, false, 1]);
  expect(later.load(two, 0, 2 * PAGE, count, 0, 0)).toBe(Errno.EINPROGRESS);
  await nextTurn();
  expect([called, later.loaded]).toEqual([0, false]);
  grants.freeGrantReference(grantRef(taken.pop()!));
  await nextTurn();
  expect([called, later.loaded, grants.liveCount, grants.freeCount]).toEqual([1, true, 2, 0]);
  expect(locks).toEqual([DmaLockOp.LOCK, DmaLockOp.UNLOCK]);
});

test("N34 a deferred load is granted first, then its callback runs under the tag's lock", async () => {
  const order: string[] = [];
  const { grants, tag } = setUp(1, (op) => {
    order.push(`${op === DmaLockOp.LOCK ? "lock" : "unlock"} ${grants.liveCount}`);
  });
  const taken: number[] = [];
  while (grants.freeCount > 0) taken.push(grants.allocGrantReference());
  const map = create(tag, 0);
  const note = (): void => void order.push("callback");
  expect(map.load(new Uint8Array(PAGE), 0, PAGE, note, 0, 0)).toBe(Errno.EINPROGRESS);
  grants.freeGrantReference(grantRef(taken.pop()!));
  await nextTurn();
  expect(order).toEqual(["lock 1", "callback", "unlock 1"]);
});
