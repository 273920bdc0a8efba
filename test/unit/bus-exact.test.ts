/** The bus at the edges of its numbers: maps, windows, registers, reports, and what each holds. */
import { describe, expect, test } from "vitest";
import { Errno } from "../../frontend/bus/errno.ts";
import { GranuleAllocator } from "../../frontend/bus/granules.ts";
import { type DmaMap, SyncOp } from "../../frontend/bus/map.ts";
import { DmaMisuse } from "../../frontend/bus/misuse.ts";
import { PciFunction } from "../../frontend/bus/pci.ts";
import { DmaSpace } from "../../frontend/bus/space.ts";
import type { TagParams } from "../../frontend/bus/tag.ts";
import { silentLogger } from "../../shared/log.ts";
import { Limits } from "../../shared/wire/protocol.ts";
import { beyond, busAddress, RecordType, Space } from "../../shared/wire/records.ts";
import { FakeDeviceLink } from "../support/fake-device-link.ts";
import { misuse } from "../support/misuse.ts";
import { RecordingLog } from "../support/recording-log.ts";

const TWO_32 = 2 ** 32;

function setUp(log = silentLogger) {
  let time = 0;
  const space = new DmaSpace({ log, now: () => time });
  const link = new FakeDeviceLink();
  space.attachLink(link);
  const tagOf = (over: Partial<TagParams> = {}) =>
    space.createTag({
      name: "test",
      alignment: 1,
      boundary: 0,
      maxSize: 16_384,
      nSegments: 4,
      maxSegSize: 16_384,
      direction: "both",
      ...over,
    });
  const pass = (ms: number): void => {
    time += ms;
  };
  return { space, link, tagOf, pass };
}

const counting = (length: number): Uint8Array => Uint8Array.from({ length }, (_, i) => i & 0xff);

const places = (map: DmaMap): number[] =>
  Array.from(
    { length: map.segmentCount },
    (_, i) => map.segmentAddress(i) - map.current * TWO_32 - map.base,
  );

describe("maps", () => {
  test.each([1, 2])("hold nothing of a load of %i pieces after its end", (pieces) => {
    const { tagOf } = setUp();
    const map = tagOf().createMap();
    const buffers = Array.from({ length: pieces }, () => counting(100));
    const load = () => map.loadPieces(buffers, [10, 10], [50, 50], pieces);
    expect(load()).toBe(0);
    expect([map.pieceBuffer, map.pieceAt, map.pieceLength]).toEqual([buffers[0], 10, 50]);
    expect(map.pieceMemory(0)).toBe(buffers[0]);
    map.unload();
    expect([map.pieceBuffer.length, map.pieceLength, map.segmentCount]).toEqual([0, 0, 0]);
    for (let i = 0; i < pieces; i++) expect(map.pieceMemory(i).length).toBe(0);
    expect(map.pieceHolding(0, 1)).toBe(-1);
    expect(load()).toBe(0);
    expect(map.segmentCount).toBe(pieces);
  });

  test("a load that fails half-way holds nothing, and the next one is as if it were the first", () => {
    const { tagOf } = setUp();
    const map = tagOf({ nSegments: 2, maxSegSize: 100 }).createMap();
    const bytes = counting(300);
    expect(map.loadPieces([bytes, bytes], [0, 0], [100, 200], 2)).toBe(Errno.EFBIG);
    expect([map.loaded, map.segmentCount, map.pieceMemory(0).length]).toEqual([false, 0, 0]);
    expect(map.loadPieces([bytes, bytes, bytes], [0, 0, 0], [9, 9, 9], 3)).toBe(Errno.EFBIG);
    expect(map.segmentCount).toBe(0);
    expect(misuse(() => map.loadPieces([bytes, bytes], [0, 299], [10, 2], 2))).toBe("LOAD_RANGE");
    expect([map.segmentCount, map.pieceMemory(0).length]).toEqual([0, 0]);
    expect(map.loadPieces([bytes, bytes], [0, 299], [10, 1], 2)).toBe(0);
    expect(map.segmentCount).toBe(2);
  });

  test("one piece up to the longest of both, from any byte to the buffer's last", () => {
    const { tagOf } = setUp();
    const map = tagOf({ maxSize: 150, maxSegSize: 100 }).createMap();
    const bytes = counting(200);
    for (const [at, length, result, segments] of [
      [0, 100, 0, [100]],
      [100, 100, 0, [100]],
      [50, 101, 0, [100, 1]],
      [50, 150, 0, [100, 50]],
      [0, 151, Errno.EINVAL, []],
      [0, 0, Errno.EINVAL, []],
    ] as const) {
      expect(map.load(bytes, at, length)).toBe(result);
      expect(places(map).map((_, i) => map.segmentLength(i))).toEqual([...segments]);
      if (result === 0) map.unload();
    }
    expect(misuse(() => map.load(bytes, 101, 100))).toBe("LOAD_RANGE");
  });

  test("pieces lie a byte apart at least, and up to a boundary only where they must", () => {
    const { tagOf } = setUp();
    const apart = tagOf({ alignment: 64 }).createMap();
    const bytes = counting(8192);
    apart.loadPieces([bytes, bytes, bytes], [0, 0, 0], [64, 63, 1], 3);
    expect(places(apart)).toEqual([0, 128, 192]);
    const bound = tagOf({ boundary: 4096 }).createMap();
    expect(bound.base % 4096).toBe(0);
    // The second piece ends just before the boundary, or is moved to it.
    const guard = bound.tag.pieceAlignment;
    const first = 4096 - guard - 1000;
    bound.loadPieces([bytes, bytes], [0, 0], [first - 1, 1000], 2);
    const [, second] = places(bound);
    expect([second! % guard, second! + 1000 <= 4096]).toEqual([0, true]);
    bound.unload();
    bound.loadPieces([bytes, bytes], [0, 0], [3500, 1000], 2);
    expect(places(bound)).toEqual([0, 4096]);
    bound.unload();
    // As long as the boundary is wide: not cut.
    bound.loadPieces([bytes, bytes], [0, 0], [10, 4096], 2);
    expect(places(bound)).toEqual([0, 4096]);
    bound.unload();
    // A byte more must be cut, so it begins where it can.
    bound.loadPieces([bytes, bytes], [0, 0], [10, 4097], 2);
    expect(
      places(bound)
        .slice(1)
        .map((_, i) => bound.segmentLength(i + 1))
        .reduce((a, b) => a + b),
    ).toBe(4097);
    expect(places(bound)[1]).toBeLessThan(4096);
  });

  test("a range belongs to the piece that holds all of it", () => {
    const { tagOf } = setUp();
    const map = tagOf().createMap();
    const bytes = counting(1000);
    map.loadPieces([bytes, bytes], [100, 500], [50, 60], 2);
    const [first, second] = places(map) as [number, number];
    const held = [
      [first, 50],
      [first, 51],
      [first + 49, 1],
      [first + 50, 1],
      [second - 1, 1],
      [second, 60],
      [second + 1, 60],
    ].map(([place, length]) => map.pieceHolding(place!, length!));
    expect(held).toEqual([0, -1, 0, -1, -1, 1, -1]);
    expect([map.pieceOffset(0, first + 7), map.pieceOffset(1, second + 7)]).toEqual([107, 507]);
  });

  test("a busy unload says how many bytes were loaded, and from where", () => {
    const { link, tagOf } = setUp();
    const map = tagOf().createMap();
    const bytes = counting(100);
    map.loadPieces([bytes, bytes], [0, 0], [30, 40], 2);
    const address = map.segmentAddress(0);
    map.busy = true;
    map.unload();
    expect(link.of("fault")).toMatchObject([{ code: "DMA_UNLOAD_BUSY", address }]);
    expect(link.of("fault")[0]!.text).toContain(`70 bytes at 0x${address.toString(16)}`);
    expect(map.busy).toBe(false);
  });

  test.each([
    ["toDevice", SyncOp.PREREAD, "SYNC_DIRECTION"],
    ["toDevice", SyncOp.POSTREAD, "SYNC_DIRECTION"],
    ["toDevice", SyncOp.PREWRITE, "nothing thrown"],
    ["toDevice", SyncOp.POSTWRITE, "nothing thrown"],
    ["fromDevice", SyncOp.PREREAD, "nothing thrown"],
    ["fromDevice", SyncOp.POSTREAD, "nothing thrown"],
    ["fromDevice", SyncOp.PREWRITE, "SYNC_DIRECTION"],
    ["fromDevice", SyncOp.POSTWRITE, "SYNC_DIRECTION"],
    ["both", 0, "SYNC_OP"],
    ["both", 16, "SYNC_OP"],
    ["both", 15, "nothing thrown"],
  ] as const)("%s, sync %i: %s", (direction, op, code) => {
    const { tagOf } = setUp();
    const map = tagOf({ direction }).createMap();
    map.load(counting(10), 0, 10);
    expect(misuse(() => map.sync(op as SyncOp))).toBe(code);
  });

  test("a destroyed map leaves its addresses to nobody, then to the next map", () => {
    const { space, link, tagOf } = setUp();
    const tag = tagOf();
    const map = tag.createMap();
    map.load(counting(10), 0, 10);
    const old = map.segmentAddress(0);
    map.unload();
    expect(tag.maps).toBe(1);
    map.destroy();
    expect([tag.maps, space.granules.inUse]).toEqual([0, 0]);
    expect(space.deviceWrite(Space.BUS, old, counting(4), 0, 4)).toBe(false);
    // A generation that never was.
    expect(space.deviceWrite(Space.BUS, beyond(old, TWO_32), counting(4), 0, 4)).toBe(false);
    expect(link.of("fault").map(({ code }) => code)).toEqual(["DMA_UNMAPPED", "DMA_UNMAPPED"]);
    expect(tag.createMap().name).toBe("test map 1");
    tag.createMap();
    expect(misuse(() => tag.destroy())).toBe("TAG_IN_USE");
  });
});

describe("tags", () => {
  test.each([
    [{ maxSize: 2 ** 31, nSegments: 65_536, maxSegSize: 2 ** 31 }, true],
    [{ maxSize: 2 ** 31 + 1 }, false],
    [{ maxSize: 0 }, false],
    [{ maxSize: 1, maxSegSize: 1 }, true],
    [{ nSegments: 65_537 }, false],
    [{ nSegments: 0 }, false],
    [{ maxSegSize: 2 ** 31 + 1 }, false],
    [{ boundary: 3 }, false],
    [{ alignment: 0 }, false],
    [{ alignment: 64, maxSize: 100, maxSegSize: 100 }, true],
    [{ alignment: 64, maxSize: 101, maxSegSize: 100 }, false],
    [{ alignment: 64, maxSize: 256, maxSegSize: 128 }, true],
  ] as [Partial<TagParams>, boolean][])("parameters %j: %s", (params, ok) => {
    const { tagOf } = setUp();
    expect(misuse(() => tagOf(params))).toBe(ok ? "nothing thrown" : "TAG_PARAMS");
  });

  test("segments end at what a record carries, and at the boundary", () => {
    const { tagOf } = setUp();
    const sizes = [
      { maxSegSize: 2 ** 20 },
      { maxSegSize: 1000 },
      { boundary: 512 },
      { boundary: 2 ** 20, maxSegSize: 1000 },
    ].map((params) => tagOf(params).segmentBytes);
    expect(sizes).toEqual([Limits.RECORD_BYTES, 1000, 512, 1000]);
  });
});

describe("windows", () => {
  test("of a byte up to the longest", () => {
    const { space } = setUp();
    const alloc = (bytes: number, alignment = 1) => space.allocCoherent(bytes, alignment, "w");
    expect(misuse(() => alloc(0))).toBe("COHERENT_PARAMS");
    expect(misuse(() => alloc(1.5))).toBe("COHERENT_PARAMS");
    expect(misuse(() => alloc(Limits.WINDOW_BYTES + 1))).toBe("COHERENT_PARAMS");
    expect(misuse(() => alloc(8, 3))).toBe("COHERENT_PARAMS");
    const [small, large] = [alloc(1), alloc(Limits.WINDOW_BYTES)];
    expect([small.bytes.length, large.bytes.length]).toEqual([1, Limits.WINDOW_BYTES]);
    expect(small.view.buffer).toBe(small.bytes.buffer);
    expect(alloc(8, 65_536).address % 65_536).toBe(0);
  });

  test("as many bytes as a link carries, and again what was freed", () => {
    const { space } = setUp();
    const most = Limits.WINDOWS_BYTES / Limits.WINDOW_BYTES;
    const alloc = () => space.allocCoherent(Limits.WINDOW_BYTES, 1, "w");
    // Nothing is touched, so nothing of this memory exists.
    const all = Array.from({ length: most }, alloc);
    const inUse = space.granules.inUse;
    expect(() => space.allocCoherent(1, 1, "w")).toThrow("no more windows");
    for (let round = 0; round < 2; round++) {
      all.pop()!.free();
      expect(space.granules.inUse).toBe((inUse / most) * (most - 1));
      all.push(alloc());
      expect(space.granules.inUse).toBe(inUse);
      expect(() => alloc()).toThrow("no more windows");
    }
  });

  test("a space without room for one says so, and has none more than before", () => {
    const { space, link } = setUp();
    const { granules } = space;
    const take = granules.take.bind(granules);
    granules.take = () => 0;
    expect(() => space.allocCoherent(8, 1, "w")).toThrow("no bus space for 8 bytes");
    granules.take = take;
    expect(link.of("window")).toEqual([]);
    expect(space.allocCoherent(8, 1, "w").bytes.length).toBe(8);
  });

  test("are the device's to read and write, to their last byte, wherever they lie", () => {
    const { space } = setUp();
    const windows = Array.from({ length: 40 }, () => space.allocCoherent(4096, 4096, "w"));
    for (const [i, window] of windows.entries()) {
      const { address } = window;
      const last = beyond(address, 4095);
      expect(space.deviceWrite(Space.BUS, last, Uint8Array.of(i + 1), 0, 1)).toBe(true);
      expect(window.bytes[4095]).toBe(i + 1);
      expect(space.deviceRead(Space.BUS, last, 1)).toMatchObject({ at: 4095, length: 1 });
      expect(space.deviceRead(Space.BUS, last, 2)).toBe(undefined);
      expect(space.deviceRead(Space.BUS, beyond(address, 4096), 1)).toBe(undefined);
    }
    const [first] = windows;
    first!.free();
    expect(space.deviceRead(Space.BUS, first!.address, 1)).toBe(undefined);
    expect(space.refusal).toBe(1);
  });

  test("a link that comes is asked to send, one that is gone hears of nothing", () => {
    const { space, link } = setUp();
    expect(link.flushes).toBe(1);
    space.detachLink();
    link.posted.length = 0;
    space.deviceRead(Space.BUS, busAddress(0), 1);
    expect(link.posted).toEqual([]);
    expect(space.faults.unmapped).toBe(1);
  });
});

describe("granules", () => {
  test("begin with two at least, and grow to twice as many or to what is asked for", () => {
    const small = new GranuleAllocator(1, 100);
    expect([small.end, small.take(1), small.end]).toEqual([2, 1, 2]);
    expect([small.take(1), small.end]).toEqual([2, 4]);
    expect(small.take(20)).not.toBe(0);
    expect(small.end).toBe(4 + 21);
    expect(new GranuleAllocator().end).toBe(4096);
    const limited = new GranuleAllocator(2, 5);
    expect([limited.take(4), limited.take(1), limited.end]).toEqual([1, 0, 5]);
  });

  test("an aligned place may begin with the last granule that is free", () => {
    const granules = new GranuleAllocator(16, 16);
    expect([granules.take(3), granules.take(4, 4), granules.take(4, 8)]).toEqual([1, 4, 8]);
    expect([granules.take(4, 4), granules.take(1)]).toEqual([12, 0]);
    granules.give(8, 4);
    expect([granules.take(5), granules.take(4, 8), granules.inUse]).toEqual([0, 8, 15]);
  });
});

describe("registers", () => {
  function pci(hasBar2 = true) {
    const { space, link } = setUp();
    const made = new PciFunction(space);
    made.hasBar2 = hasBar2;
    return { made, link };
  }

  test("a write has 32 bits, whatever number it is given, and leaves in this turn", () => {
    const { made, link } = pci();
    const flushes = link.flushes;
    for (const value of [0xa1b2_c3d4, -1, 2 ** 32 + 5]) made.write32(0, 8, value);
    expect(link.of("mmio_write").map(({ bytes }) => Buffer.from(bytes).toString("hex"))).toEqual([
      "d4c3b2a1",
      "ffffffff",
      "05000000",
    ]);
    expect(link.flushes).toBe(flushes + 3);
  });

  test.each([
    [0, 0, 4, true],
    [0, -1, 4, false],
    [0, Limits.BAR_OFFSET - 4, 4, true],
    [0, Limits.BAR_OFFSET - 3, 4, false],
    [1, 0, 4, false],
    [2, 0, 1, true],
    [2, 0, 0, false],
  ])("BAR %i offset %i, %i bytes: %s", async (bar, offset, length, ok) => {
    const { made } = pci();
    const bytes = new Uint8Array(length);
    const code = ok ? "nothing thrown" : "REGISTER_PARAMS";
    expect(misuse(() => made.writeMemory(bar, offset, RecordType.RAW, bytes))).toBe(code);
    if (length !== 4) return;
    expect(misuse(() => made.write32(bar, offset, 1))).toBe(code);
    const read = made.read32(bar, offset);
    if (ok) expect(await read).toBe(0);
    else await expect(read).rejects.toBeInstanceOf(DmaMisuse);
  });

  test("BAR 2 is there only when the device says so; vectors have numbers", () => {
    const { made } = pci(false);
    expect(misuse(() => made.write32(2, 0, 1))).toBe("REGISTER_PARAMS");
    const codes = [0, Limits.VECTORS - 1, Limits.VECTORS, -1, 0.5].map((vector) =>
      misuse(() => made.setVectorHandler(vector, () => {})),
    );
    expect(codes).toEqual([
      "nothing thrown",
      "nothing thrown",
      "REGISTER_PARAMS",
      "REGISTER_PARAMS",
      "REGISTER_PARAMS",
    ]);
  });
});

test("a refusal is told to the device and to the log, with the address if it is one", () => {
  const log = new RecordingLog();
  const { space, link, pass } = setUp(log);
  const told: object[] = [];
  Object.assign(log, { warn: (fields: object, message: string) => told.push([fields, message]) });
  for (let i = 0; i < 12; i++) space.deviceRead(Space.BUS, busAddress(0x4000), 8);
  space.deviceRead(Space.BUS, busAddress(Number.NaN), 8);
  expect(told.length).toBe(11);
  expect([told[0], told[10]]).toEqual([
    [
      { fault: "DMA_UNMAPPED", space: Space.BUS, address: "0x4000" },
      "device read refused, 8 bytes at 0x4000: unmapped",
    ],
    [
      { fault: "DMA_RANGE", space: Space.BUS, address: "NaN" },
      "device read refused, 8 bytes at NaN: range",
    ],
  ]);
  link.posted.length = 0;
  pass(1000);
  space.tick();
  expect(link.of("fault")).toMatchObject([
    { text: "2 more accesses refused: unmapped", space: 0, address: 0 },
  ]);
  expect(told.length).toBe(12);
});
