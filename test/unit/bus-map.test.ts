/** Tags and maps: accepted loads, places of segments, bytes that sync sends, errors of misuse. */
import { describe, expect, it } from "vitest";
import { Errno } from "../../frontend/bus/errno.ts";
import { type DmaMap, SyncOp } from "../../frontend/bus/map.ts";
import type { MisuseCode } from "../../frontend/bus/misuse.ts";
import { DmaSpace } from "../../frontend/bus/space.ts";
import type { TagParams } from "../../frontend/bus/tag.ts";
import { silentLogger } from "../../shared/log.ts";
import { RecordType } from "../../shared/wire/records.ts";
import { FakeDeviceLink } from "../support/fake-device-link.ts";
import { misuse as codeOf } from "../support/misuse.ts";

const TWO_32 = 2 ** 32;

function setUp(over: Partial<TagParams> = {}) {
  const space = new DmaSpace({ log: silentLogger });
  const link = new FakeDeviceLink();
  space.attachLink(link);
  const tag = space.createTag({
    name: "test",
    alignment: 1,
    boundary: 0,
    maxSize: 16384,
    nSegments: 8,
    maxSegSize: 16384,
    direction: "both",
    ...over,
  });
  return { space, link, tag, map: tag.createMap() };
}

const counting = (length: number): Uint8Array => Uint8Array.from({ length }, (_, i) => i & 0xff);

const segments = (map: DmaMap): number[] =>
  Array.from({ length: map.segmentCount }, (_, i) => map.segmentLength(i));

/** The text of every misuse names the tag. */
const misuse = (act: () => unknown): string => codeOf(act, "test");

describe("load", () => {
  it("makes one segment of one buffer, in generation 1", () => {
    const { map } = setUp();
    expect(map.load(counting(100), 10, 50)).toBe(0);
    expect(map.loaded).toBe(true);
    expect(segments(map)).toEqual([50]);
    expect(Math.floor(map.segmentAddress(0) / TWO_32)).toBe(1);
    expect(map.segmentAddress(0) % TWO_32).toBe(map.base);
  });

  it("gives every load another generation, and skips 0 at the wrap", () => {
    const { map } = setUp();
    const bytes = counting(16);
    let before = 0;
    for (let i = 0; i < 0x10003; i++) {
      map.load(bytes, 0, 16);
      const generation = Math.floor(map.segmentAddress(0) / TWO_32);
      if (generation === 0 || generation === before || generation > 0xffff) {
        expect.fail(`generation ${generation} after ${before}`);
      }
      before = generation;
      map.unload();
    }
    expect(before).toBe(4);
  });

  it("goes on counting generations where a destroyed map left off, also when the space grows", () => {
    const { space, tag, map } = setUp();
    const bytes = counting(16);
    for (let i = 0; i < 5; i++) {
      if (map.loaded) map.unload();
      map.load(bytes, 0, 16);
    }
    const old = map.segmentAddress(0);
    map.unload();
    map.destroy();
    // The next-fit search returns to the same place once all others are used.
    const end = space.granules.end;
    space.createTag({ ...tag.params, maxSize: end * 4096 }).createMap();
    expect(space.granules.end).toBeGreaterThan(end);
    const taken = new Map<number, DmaMap>();
    while (!taken.has(map.base)) {
      const next = tag.createMap();
      taken.set(next.base, next);
    }
    const again = taken.get(map.base)!;
    again.load(bytes, 0, 16);
    expect(again.segmentAddress(0)).toBe(old + TWO_32);
  });

  it("cuts at maxSegSize", () => {
    const { map } = setUp({ maxSegSize: 1000 });
    expect(map.load(counting(2500), 0, 2500)).toBe(0);
    expect(segments(map)).toEqual([1000, 1000, 500]);
    expect(map.segmentAddress(1)).toBe(map.segmentAddress(0) + 1000);
  });

  it("cuts at the boundary", () => {
    const { map } = setUp({ boundary: 4096 });
    expect(map.load(counting(9000), 0, 9000)).toBe(0);
    expect(segments(map)).toEqual([4096, 4096, 808]);
  });

  it("moves a piece that fits between boundaries up to the next one", () => {
    const { map } = setUp({ boundary: 4096, nSegments: 2 });
    const a = counting(3000);
    expect(map.loadPieces([a, a], [0, 0], [3000, 3000], 2)).toBe(0);
    expect(segments(map)).toEqual([3000, 3000]);
    expect(map.segmentAddress(1) % 4096).toBe(0);
  });

  it("has room for pieces that all move up to a boundary", () => {
    const { map } = setUp({ boundary: 4096 });
    const a = counting(2049);
    expect(map.loadPieces(Array(7).fill(a), Array(7).fill(0), Array(7).fill(2049), 7)).toBe(0);
    expect(segments(map)).toEqual(Array(7).fill(2049));
    for (let i = 0; i < 7; i++) expect(map.segmentAddress(i) % 4096).toBe(0);
  });

  it("is cut by a wide boundary no more often than it must, wherever the map lies", () => {
    const { tag } = setUp({ boundary: 65536, maxSize: 100_000, maxSegSize: 65536, nSegments: 2 });
    for (let i = 0; i < 10; i++) {
      const map = tag.createMap();
      expect(map.load(counting(100_000), 0, 100_000)).toBe(0);
      expect(segments(map)).toEqual([65536, 34464]);
    }
  });

  it("begins every piece at the alignment", () => {
    const { map } = setUp({ alignment: 512, maxSegSize: 1024 });
    const a = counting(2000);
    expect(map.loadPieces([a, a, a], [1, 2, 3], [700, 1500, 1], 3)).toBe(0);
    expect(segments(map)).toEqual([700, 1024, 476, 1]);
    for (let i = 0; i < 4; i++) expect(map.segmentAddress(i) % 512).toBe(0);
  });

  it("passes over empty pieces", () => {
    const { map } = setUp({ nSegments: 2 });
    const a = counting(64);
    expect(map.loadPieces([a, a, a, a], [0, 64, 10, 0], [10, 0, 20, 0], 4)).toBe(0);
    expect(segments(map)).toEqual([10, 20]);
  });

  it("fills everything that the tag promises", () => {
    const { map } = setUp({ alignment: 4096, boundary: 4096, maxSegSize: 4096 });
    const a = counting(2048);
    expect(map.loadPieces(Array(8).fill(a), Array(8).fill(0), Array(8).fill(2048), 8)).toBe(0);
    expect(segments(map)).toEqual(Array(8).fill(2048));
  });

  it.each([
    ["more segments than allowed", [16384], Errno.EFBIG, { maxSegSize: 1024, nSegments: 15 }],
    ["more pieces than allowed", [1, 1, 1], Errno.EFBIG, { nSegments: 2 }],
    ["more bytes than maxSize", [1001], Errno.EINVAL, { maxSize: 1000 }],
    ["more bytes than maxSize in pieces", [500, 501], Errno.EINVAL, { maxSize: 1000 }],
    ["no bytes", [0], Errno.EINVAL, {}],
    ["no pieces", [], Errno.EINVAL, {}],
  ] as const)("refuses %s and stays unloaded", (_, lengths, errno, over) => {
    const { map } = setUp(over);
    const buffers = lengths.map((n) => counting(n));
    expect(
      map.loadPieces(
        buffers,
        lengths.map(() => 0),
        lengths,
        lengths.length,
      ),
    ).toBe(errno);
    expect(map.loaded).toBe(false);
    expect(map.segmentCount).toBe(0);
    expect(map.load(counting(8), 0, 8)).toBe(0);
  });
});

describe("sync", () => {
  it("PREWRITE pushes each segment", () => {
    const { map, link } = setUp({ maxSegSize: 100 });
    const bytes = counting(256);
    map.loadPieces([bytes, bytes], [0, 200], [150, 20], 2);
    map.sync(SyncOp.PREWRITE);
    const pushes = link.of("push");
    expect(pushes.map((p) => p.address)).toEqual([0, 1, 2].map((i) => map.segmentAddress(i)));
    expect(pushes.map((p) => p.type)).toEqual(Array(3).fill(RecordType.FRAME));
    expect(pushes.map((p) => [...p.bytes])).toEqual([
      [...bytes.subarray(0, 100)],
      [...bytes.subarray(100, 150)],
      [...bytes.subarray(200, 220)],
    ]);
  });

  it("the other three send nothing", () => {
    const { map, link } = setUp();
    map.load(counting(64), 0, 64);
    for (const op of [SyncOp.PREREAD, SyncOp.POSTREAD, SyncOp.POSTWRITE]) map.sync(op);
    expect(link.of("push")).toEqual([]);
  });

  it("sends nothing while no device is there", () => {
    const { space, map, link } = setUp();
    map.load(counting(64), 0, 64);
    space.detachLink();
    map.sync(SyncOp.PREWRITE);
    expect(link.of("push")).toEqual([]);
  });
});

describe("misuse", () => {
  const bytes = counting(64);

  it.each<[MisuseCode, string, (s: ReturnType<typeof setUp>) => unknown]>([
    ["MAP_NOT_LOADED", "unload", ({ map }) => map.unload()],
    ["MAP_NOT_LOADED", "sync", ({ map }) => map.sync(SyncOp.PREREAD)],
    ["SEGMENT_INDEX", "segmentAddress", ({ map }) => map.segmentAddress(0)],
    ["SEGMENT_INDEX", "segmentLength", ({ map }) => map.segmentLength(0)],
    ["TAG_IN_USE", "destroy of a tag with maps", ({ tag }) => tag.destroy()],
    ["LOAD_RANGE", "load past the end", ({ map }) => map.load(bytes, 60, 5)],
    ["LOAD_RANGE", "load before the start", ({ map }) => map.load(bytes, -1, 5)],
    ["LOAD_RANGE", "load of a negative length", ({ map }) => map.load(bytes, 5, -1)],
    ["LOAD_RANGE", "load of no number", ({ map }) => map.load(bytes, Number.NaN, 5)],
  ])("%s: %s while not loaded", (code, _, act) => {
    expect(misuse(() => act(setUp()))).toBe(code);
  });

  it.each<[MisuseCode, string, (map: DmaMap) => unknown]>([
    ["MAP_LOADED", "load", (map) => map.load(bytes, 0, 1)],
    ["MAP_LOADED", "destroy", (map) => map.destroy()],
    ["SYNC_OP", "sync of nothing", (map) => map.sync(0)],
    ["SYNC_OP", "sync of an unknown kind", (map) => map.sync(16)],
    ["SEGMENT_INDEX", "segment 1 of 1", (map) => map.segmentAddress(1)],
    ["SEGMENT_INDEX", "segment -1", (map) => map.segmentLength(-1)],
  ])("%s: %s while loaded", (code, _, act) => {
    const { map } = setUp();
    map.load(bytes, 0, 64);
    expect(misuse(() => act(map))).toBe(code);
    expect(map.loaded).toBe(true);
  });

  it.each<[MisuseCode, string, (s: ReturnType<typeof setUp>) => unknown]>([
    ["MAP_DESTROYED", "map destroyed twice", ({ map }) => map.destroy()],
    ["MAP_DESTROYED", "destroyed map loaded", ({ map }) => map.load(bytes, 0, 1)],
  ])("%s: %s", (code, _, act) => {
    const all = setUp();
    all.map.destroy();
    expect(misuse(() => act(all))).toBe(code);
  });

  it("TAG_DESTROYED: a destroyed tag is used", () => {
    const { tag, map } = setUp();
    map.destroy();
    tag.destroy();
    expect(misuse(() => tag.destroy())).toBe("TAG_DESTROYED");
    expect(misuse(() => tag.createMap())).toBe("TAG_DESTROYED");
  });

  it.each([
    ["toDevice", SyncOp.PREREAD],
    ["toDevice", SyncOp.POSTREAD],
    ["toDevice", SyncOp.PREREAD | SyncOp.PREWRITE],
    ["fromDevice", SyncOp.PREWRITE],
    ["fromDevice", SyncOp.POSTWRITE],
  ] as const)("SYNC_DIRECTION: a %s tag, op %d", (direction, op) => {
    const { map, link } = setUp({ direction });
    map.load(bytes, 0, 64);
    expect(misuse(() => map.sync(op))).toBe("SYNC_DIRECTION");
    expect(link.of("push")).toEqual([]);
  });

  it.each<Partial<TagParams>>([
    { alignment: 0 },
    { alignment: 3 },
    { boundary: 1000 },
    { maxSize: 0 },
    { maxSize: 1.5 },
    { nSegments: 0 },
    { maxSegSize: -1 },
    { maxSegSize: 1000, alignment: 16 },
    { boundary: 8, alignment: 16 },
  ])("TAG_PARAMS: %j", (over) => {
    expect(misuse(() => setUp(over))).toBe("TAG_PARAMS");
  });

  it("a load that throws leaves the map unloaded and usable", () => {
    const { map } = setUp();
    expect(misuse(() => map.loadPieces([bytes, bytes], [0, 0], [10, 65], 2))).toBe("LOAD_RANGE");
    expect(map.loaded).toBe(false);
    expect(map.load(bytes, 0, 64)).toBe(0);
    expect(segments(map)).toEqual([64]);
  });
});
