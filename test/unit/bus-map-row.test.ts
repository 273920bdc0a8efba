/** Rows of maps: loads, addresses, misuse, and what a device is told. */
import { describe, expect, test } from "vitest";
import { Errno } from "../../frontend/bus/errno.ts";
import { SyncOp } from "../../frontend/bus/map.ts";
import { DmaSpace } from "../../frontend/bus/space.ts";
import type { TagParams } from "../../frontend/bus/tag.ts";
import { silentLogger } from "../../shared/log.ts";
import { beyond, busAddress, Space } from "../../shared/wire/records.ts";
import { FakeDeviceLink } from "../support/fake-device-link.ts";
import { misuse } from "../support/misuse.ts";

const TWO_32 = 2 ** 32;

function setUp(over: Partial<TagParams> = {}, bytes = 2048, count = 4) {
  const space = new DmaSpace({ log: silentLogger, now: () => 0 });
  const link = new FakeDeviceLink();
  space.attachLink(link);
  const tag = space.createTag({
    name: "rx",
    alignment: 1,
    boundary: 0,
    maxSize: 16_384,
    nSegments: 1,
    maxSegSize: 16_384,
    direction: "fromDevice",
    ...over,
  });
  return { space, link, tag, row: tag.createRow(count, bytes) };
}

const bytes = Uint8Array.from({ length: 8192 }, (_, i) => i & 0xff);
const ONES = new Uint8Array(4096).fill(1);

describe("a row", () => {
  test.each([2048, 4096])("loads %i bytes, and no more, into each map", (most) => {
    const { space, row } = setUp({}, most);
    for (let i = 0; i < row.count; i++) {
      const memory = new Uint8Array(8192);
      expect(row.load(i, memory, 8192 - most, most)).toBe(0);
      const address = row.address(i);
      expect([row.isLoaded(i), Math.floor(address / TWO_32)]).toEqual([true, 1]);
      expect(space.deviceWrite(Space.BUS, address, ONES, 0, most)).toBe(true);
      expect(memory.findIndex((byte) => byte !== 0)).toBe(8192 - most);
      expect(space.deviceWrite(Space.BUS, beyond(address, 1), ONES, 0, most)).toBe(false);
      row.unload(i);
      expect([row.isLoaded(i), space.deviceWrite(Space.BUS, address, ONES, 0, 1)]).toEqual([
        false,
        false,
      ]);
    }
    expect(row.load(0, bytes, 0, most + 1)).toBe(Errno.EINVAL);
    expect(row.load(0, bytes, 0, 0)).toBe(Errno.EINVAL);
    expect(space.faults).toMatchObject({ range: 4, unmapped: 4 });
  });

  test("gives each load another generation, which continues with the next owner of the place", () => {
    const { space, tag, row } = setUp();
    for (let n = 1; n <= 3; n++) {
      row.load(1, bytes, 0, 100);
      expect(Math.floor(row.address(1) / TWO_32)).toBe(n);
      row.unload(1);
    }
    row.load(1, bytes, 0, 100);
    expect(space.deviceWrite(Space.BUS, busAddress(row.address(1) - TWO_32), ONES, 0, 1)).toBe(
      false,
    );
    expect(space.faults.stale_generation).toBe(1);
    const place = row.first + row.stride;
    row.unload(1);
    row.destroy();
    expect(space.lastGeneration(place, row.stride)).toBe(4);
    const next = tag.createRow(1, 100);
    next.destroy();
    expect(tag.maps).toBe(0);
  });

  test("a generation after 65535 is 1", () => {
    const { space, row } = setUp();
    space.loads.latest[row.first] = 0xffff;
    row.load(0, bytes, 0, 1);
    expect(Math.floor(row.address(0) / TWO_32)).toBe(1);
  });

  test("a device may not read it", () => {
    const { space, row } = setUp();
    row.load(0, bytes, 0, 100);
    expect(space.deviceRead(Space.BUS, row.address(0), 10)).toBeUndefined();
    expect(space.faults.direction).toBe(1);
  });

  test("an unload while a descriptor names the map is a fault with its name", () => {
    const { link, row } = setUp();
    row.load(2, bytes, 0, 100);
    const address = row.address(2);
    row.busy[2] = 1;
    row.unload(2);
    expect(row.busy[2]).toBe(0);
    const [fault] = link.of("fault");
    expect(fault).toMatchObject({ code: "DMA_UNLOAD_BUSY", address });
    expect(fault!.text).toContain("rx map 2 unloaded before its descriptor completed");
    expect(fault!.text).toContain("100 bytes");
  });

  test("misuse is named", () => {
    const { tag, row } = setUp();
    expect(misuse(() => row.unload(0))).toBe("MAP_NOT_LOADED");
    expect(misuse(() => row.address(0))).toBe("MAP_NOT_LOADED");
    expect(misuse(() => row.sync(0, SyncOp.PREREAD))).toBe("MAP_NOT_LOADED");
    expect(misuse(() => row.load(0, bytes, 8000, 193))).toBe("LOAD_RANGE");
    expect(misuse(() => row.load(0, bytes, -1, 10))).toBe("LOAD_RANGE");
    row.load(0, bytes, 8000, 192);
    expect(misuse(() => row.load(0, bytes, 0, 1))).toBe("MAP_LOADED");
    expect(misuse(() => row.sync(0, SyncOp.PREWRITE))).toBe("SYNC_DIRECTION");
    row.sync(0, SyncOp.POSTREAD);
    expect(misuse(() => row.destroy())).toBe("MAP_LOADED");
    expect(misuse(() => tag.destroy())).toBe("TAG_IN_USE");
    row.unload(0);
    row.destroy();
    expect(misuse(() => row.destroy())).toBe("MAP_DESTROYED");
    expect(misuse(() => row.load(0, bytes, 0, 1))).toBe("MAP_DESTROYED");
    tag.destroy();
    expect(misuse(() => tag.createRow(1, 1))).toBe("TAG_DESTROYED");
  });

  test.each([
    ["a tag that the device reads", { direction: "both" }, 100],
    ["a boundary", { boundary: 4096 }, 100],
    ["more bytes than a load of the tag", { maxSize: 1000 }, 1001],
    ["more bytes than a segment of the tag", { maxSegSize: 1000 }, 1001],
  ] as const)("is refused for %s", (_, over, most) => {
    const { tag } = setUp();
    const other = { ...tag.params, ...over };
    expect(misuse(() => setUp(other, most))).toBe("TAG_PARAMS");
  });

  test("starts each map at the alignment of the tag", () => {
    const { row } = setUp({ alignment: 16_384 }, 2048, 3);
    for (let i = 0; i < 3; i++) {
      row.load(i, bytes, 0, 10);
      expect(row.address(i) % 16_384).toBe(0);
    }
  });
});
