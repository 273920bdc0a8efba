/** Memory that the device may access, refused accesses, and coherent memory. */
import { describe, expect, it } from "vitest";
import { DmaMisuse } from "../../frontend/bus/misuse.ts";
import { DmaSpace } from "../../frontend/bus/space.ts";
import type { DmaDirection, TagParams } from "../../frontend/bus/tag.ts";
import { silentLogger } from "../../shared/log.ts";
import { FaultSeverity, Limits } from "../../shared/wire/protocol.ts";
import { beyond, busAddress, NO_ADDRESS, RecordType, Space } from "../../shared/wire/records.ts";
import { FakeDeviceLink } from "../support/fake-device-link.ts";

const TWO_32 = 2 ** 32;
const RAW = RecordType.RAW;
const src = Uint8Array.from({ length: 8192 }, (_, i) => (i % 251) + 1);

function setUp() {
  let time = 0;
  const space = new DmaSpace({ log: silentLogger, now: () => time });
  const link = new FakeDeviceLink();
  space.attachLink(link);
  const tagOf = (direction: DmaDirection, over: Partial<TagParams> = {}) =>
    space.createTag({
      name: direction,
      alignment: 1,
      boundary: 0,
      maxSize: 4096,
      nSegments: 4,
      maxSegSize: 4096,
      direction,
      ...over,
    });
  const pass = (ms: number) => {
    time += ms;
  };
  return { space, link, tagOf, pass };
}

const noFaults = {
  unmapped: 0,
  stale_generation: 0,
  direction: 0,
  range: 0,
  space: 0,
  unload_busy: 0,
  grant: 0,
};

describe("device write", () => {
  it("reaches a loaded buffer at its offset, and nothing beside it", () => {
    const { space, tagOf } = setUp();
    const map = tagOf("fromDevice").createMap();
    const buffer = new Uint8Array(256);
    map.load(buffer, 100, 50);
    expect(space.deviceWrite(Space.BUS, beyond(map.segmentAddress(0), 10), src, 7, 40)).toBe(true);
    const expected = new Uint8Array(256);
    expected.set(src.subarray(7, 47), 110);
    expect(buffer).toEqual(expected);
    expect(space.faults).toEqual(noFaults);
  });

  it("crosses a cut inside one buffer", () => {
    const { space, tagOf } = setUp();
    const map = tagOf("fromDevice", { maxSegSize: 100 }).createMap();
    const buffer = new Uint8Array(256);
    map.load(buffer, 0, 256);
    expect(space.deviceWrite(Space.BUS, beyond(map.segmentAddress(0), 90), src, 0, 120)).toBe(true);
    expect(buffer.subarray(90, 210)).toEqual(src.subarray(0, 120));
  });

  it("reaches the second buffer of a load", () => {
    const { space, tagOf } = setUp();
    const map = tagOf("fromDevice").createMap();
    const a = new Uint8Array(64);
    const b = new Uint8Array(64);
    map.loadPieces([a, b], [0, 32], [64, 32], 2);
    expect(space.deviceWrite(Space.BUS, beyond(map.segmentAddress(1), 2), src, 0, 30)).toBe(true);
    expect(b.subarray(34)).toEqual(src.subarray(0, 30));
    expect(a).toEqual(new Uint8Array(64));
  });

  it("never goes on from one buffer into the next", () => {
    const { space, tagOf } = setUp();
    const map = tagOf("fromDevice").createMap();
    const both = new Uint8Array(128);
    map.loadPieces([both, both], [0, 64], [64, 64], 2);
    expect(space.deviceWrite(Space.BUS, beyond(map.segmentAddress(0), 60), src, 0, 5)).toBe(false);
    expect(both).toEqual(new Uint8Array(128));
    expect(space.faults).toEqual({ ...noFaults, range: 1 });
  });

  it("of a whole number of pages does not touch the next map's pages", () => {
    const { space, tagOf } = setUp();
    const tag = tagOf("fromDevice");
    const buffer = new Uint8Array(4096);
    const maps = [tag.createMap(), tag.createMap()];
    for (const map of maps) map.load(buffer, 0, 4096);
    const end = beyond(maps[0]!.segmentAddress(0), 4096);
    expect(maps[1]!.segmentAddress(0)).toBeGreaterThan(end);
    expect(space.deviceWrite(Space.BUS, end, src, 0, 1)).toBe(false);
    expect(space.faults).toEqual({ ...noFaults, range: 1 });
  });
});

describe("a refused access", () => {
  const loaded = (direction: DmaDirection = "both") => {
    const all = setUp();
    const map = all.tagOf(direction).createMap();
    const buffer = new Uint8Array(64).fill(0xa5);
    map.load(buffer, 0, 64);
    return { ...all, map, buffer, address: map.segmentAddress(0) };
  };
  type Loaded = ReturnType<typeof loaded>;

  it.each<[keyof typeof noFaults, string, (s: Loaded) => [number, number]]>([
    ["unmapped", "address 0", () => [0, 4]],
    ["unmapped", "no generation where a map is", (s) => [s.map.base, 4]],
    ["unmapped", "a place beyond all that is used", () => [TWO_32 - 4096, 4]],
    ["unmapped", "a generation and no map", (s) => [s.address + 64 * 4096, 4]],
    ["unmapped", "the top of 48 bits", () => [Limits.ADDRESS, 1]],
    ["stale_generation", "the generation before", (s) => [s.address - TWO_32 + 2 * TWO_32, 4]],
    ["range", "one byte too many", (s) => [s.address, 65]],
    ["range", "the byte behind", (s) => [s.address + 64, 1]],
    ["range", "more than any buffer", (s) => [s.address, 2 ** 40]],
    ["range", "more than 48 bits", () => [2 ** 48, 4]],
    ["range", "no address at all", () => [Number.POSITIVE_INFINITY, 4]],
    ["range", "not a number", () => [Number.NaN, 4]],
    ["range", "a negative address", () => [-4096, 4]],
    ["range", "a negative length", (s) => [s.address + 8, -1]],
    ["range", "a fraction", (s) => [s.address + 0.5, 64]],
  ])("%s: %s", (name, _, at) => {
    const s = loaded();
    const [address, length] = at(s);
    expect(s.space.deviceWrite(Space.BUS, busAddress(address), src, 0, length)).toBe(false);
    expect(s.space.deviceRead(Space.BUS, busAddress(address), length)).toBeUndefined();
    expect(s.space.faults).toEqual({ ...noFaults, [name]: 2 });
    expect(s.buffer).toEqual(new Uint8Array(64).fill(0xa5));
  });

  it("direction: writing what the device may only read", () => {
    const s = loaded("toDevice");
    expect(s.space.deviceWrite(Space.BUS, s.address, src, 0, 4)).toBe(false);
    expect(s.space.faults).toEqual({ ...noFaults, direction: 1 });
    expect(s.buffer).toEqual(new Uint8Array(64).fill(0xa5));
    expect(s.space.deviceRead(Space.BUS, s.address, 64)?.buffer).toBe(s.buffer);
  });

  it("direction: reading what the device may only write", () => {
    const s = loaded("fromDevice");
    expect(s.space.deviceRead(Space.BUS, s.address, 4)).toBeUndefined();
    expect(s.space.faults).toEqual({ ...noFaults, direction: 1 });
    expect(s.space.deviceWrite(Space.BUS, s.address, src, 0, 64)).toBe(true);
  });

  it("space: not the bus", () => {
    const s = loaded();
    expect(s.space.deviceWrite(Space.GRANT, s.address, src, 0, 4)).toBe(false);
    expect(s.space.deviceRead(7, s.address, 4)).toBeUndefined();
    expect(s.space.faults).toEqual({ ...noFaults, space: 2 });
    expect(s.buffer).toEqual(new Uint8Array(64).fill(0xa5));
  });

  it("unmapped after unload, stale after the next load, in a different buffer", () => {
    const s = loaded();
    s.map.unload();
    expect(s.space.deviceWrite(Space.BUS, s.address, src, 0, 4)).toBe(false);
    expect(s.space.faults).toEqual({ ...noFaults, unmapped: 1 });
    // The address without a generation is refused too: no map has generation 0.
    expect(s.space.deviceWrite(Space.BUS, busAddress(s.map.base), src, 0, 4)).toBe(false);
    expect(s.space.faults).toEqual({ ...noFaults, unmapped: 2 });
    const other = new Uint8Array(64);
    s.map.load(other, 0, 64);
    expect(s.space.deviceWrite(Space.BUS, s.address, src, 0, 4)).toBe(false);
    expect(s.space.faults).toEqual({ ...noFaults, unmapped: 2, stale_generation: 1 });
    expect(other).toEqual(new Uint8Array(64));
  });

  it("is told to the device as a note with code, space and address", () => {
    const s = loaded();
    s.space.deviceWrite(Space.BUS, s.address, src, 0, 65);
    const faults = s.link.of("fault");
    expect(faults).toHaveLength(1);
    expect(faults[0]).toMatchObject({
      severity: FaultSeverity.NOTE,
      code: "DMA_RANGE",
      space: Space.BUS,
      address: s.address,
    });
    expect(faults[0]!.text).toContain("65 bytes");
  });

  it("an address that no fault can carry is told as 0", () => {
    const s = loaded();
    s.space.deviceWrite(Space.BUS, busAddress(Number.POSITIVE_INFINITY), src, 0, 4);
    expect(s.link.of("fault")[0]).toMatchObject({ code: "DMA_RANGE", address: 0 });
  });

  it("is told ten times a second for each name, then summed up", () => {
    const s = loaded();
    for (let i = 0; i < 25; i++) s.space.deviceWrite(Space.BUS, NO_ADDRESS, src, 0, 1);
    s.space.deviceWrite(Space.BUS, s.address, src, 0, 65);
    expect(s.link.of("fault").map((f) => f.code)).toEqual([
      ...Array(10).fill("DMA_UNMAPPED"),
      "DMA_RANGE",
    ]);
    expect(s.space.faults).toEqual({ ...noFaults, unmapped: 25, range: 1 });

    s.link.posted.length = 0;
    s.pass(999);
    s.space.tick();
    expect(s.link.of("fault")).toEqual([]);
    s.pass(1);
    s.space.tick();
    s.space.tick();
    expect(s.link.of("fault").map((f) => f.text)).toEqual(["15 more accesses refused: unmapped"]);
  });

  it("the next second's first refusal brings the summary of the last one", () => {
    const s = loaded();
    for (let i = 0; i < 12; i++) s.space.deviceRead(Space.BUS, NO_ADDRESS, 1);
    s.link.posted.length = 0;
    s.pass(1000);
    s.space.deviceRead(Space.BUS, NO_ADDRESS, 1);
    expect(s.link.of("fault").map((f) => f.text.slice(0, 11))).toEqual([
      "2 more acce",
      "device read",
    ]);
  });
});

describe("after a device reset", () => {
  it("late accesses are counted and not told for one second", () => {
    const { space, link, tagOf, pass } = setUp();
    const map = tagOf("both").createMap();
    const buffer = new Uint8Array(64);
    map.load(buffer, 0, 64);
    const old = map.segmentAddress(0);
    space.onDeviceReset();
    map.unload();
    space.deviceWrite(Space.BUS, old, src, 0, 4);
    map.load(buffer, 0, 64);
    space.deviceWrite(Space.BUS, old, src, 0, 4);
    expect(space.faults).toEqual({ ...noFaults, unmapped: 1, stale_generation: 1 });
    expect(link.of("fault")).toEqual([]);
    expect(buffer).toEqual(new Uint8Array(64));

    pass(1000);
    space.deviceWrite(Space.BUS, old, src, 0, 4);
    expect(link.of("fault").map((f) => f.code)).toEqual(["DMA_STALE_GENERATION"]);
  });

  it("an access to what never was is told all the same", () => {
    const { space, link } = setUp();
    space.onDeviceReset();
    space.deviceWrite(Space.BUS, busAddress(5 * TWO_32 + 4096), src, 0, 4);
    space.deviceWrite(Space.BUS, busAddress(4096), src, 0, 4);
    expect(link.of("fault").map((f) => f.code)).toEqual(["DMA_UNMAPPED", "DMA_UNMAPPED"]);
  });
});

describe("unload while a descriptor names the map", () => {
  it("is a named fault, and unloads", () => {
    const { space, link, tagOf } = setUp();
    const map = tagOf("both").createMap();
    map.load(new Uint8Array(64), 0, 64);
    map.busy = true;
    map.unload();
    expect(map.loaded).toBe(false);
    expect(map.busy).toBe(false);
    expect(space.faults).toEqual({ ...noFaults, unload_busy: 1 });
    expect(link.of("fault").map((f) => f.code)).toEqual(["DMA_UNLOAD_BUSY"]);
  });
});

describe("coherent memory", () => {
  it("is a window, zeroed, aligned, in generation 0", () => {
    const { space, link } = setUp();
    for (const alignment of [1, 64, 4096, 65536]) {
      const memory = space.allocCoherent(4096, alignment, "ring");
      expect(memory.address % alignment).toBe(0);
      expect(memory.address).toBeLessThan(TWO_32);
      expect(memory.bytes).toEqual(new Uint8Array(4096));
      expect(link.windows.find(memory.address, 4096)?.bytes).toEqual(new Uint8Array(4096));
    }
  });

  it("publish posts exactly those bytes", () => {
    const { space, link } = setUp();
    const memory = space.allocCoherent(256, 64, "ring");
    memory.bytes.fill(1);
    memory.publish(16, 8, RecordType.ENA_AQ);
    memory.publish(20, 0, RecordType.ENA_AQ);
    expect(link.of("write")).toEqual([
      {
        kind: "write",
        space: Space.BUS,
        address: memory.address + 16,
        type: RecordType.ENA_AQ,
        bytes: new Uint8Array(8).fill(1),
      },
    ]);
  });

  it("the device reads and writes inside it, and not beside it", () => {
    const { space } = setUp();
    const memory = space.allocCoherent(100, 1, "ring");
    expect(space.deviceWrite(Space.BUS, beyond(memory.address, 98), src, 0, 2)).toBe(true);
    expect([...memory.bytes.subarray(97)]).toEqual([0, 1, 2]);
    const span = space.deviceRead(Space.BUS, memory.address, 100)!;
    expect(span).toEqual({ buffer: memory.bytes, at: 0, length: 100 });
    expect(space.deviceWrite(Space.BUS, beyond(memory.address, 99), src, 0, 2)).toBe(false);
    expect(space.deviceRead(Space.BUS, beyond(memory.address, 100), 1)).toBeUndefined();
    expect(space.faults).toEqual({ ...noFaults, range: 2 });
  });

  it("of whole pages does not end where the next begins", () => {
    const { space } = setUp();
    const [first, second] = [4096, 4096].map((n) => space.allocCoherent(n, 1, "ring"));
    expect(second!.address).toBeGreaterThan(first!.address + 4096);
    expect(space.deviceWrite(Space.BUS, beyond(first!.address, 4096), src, 0, 1)).toBe(false);
    expect(space.faults).toEqual({ ...noFaults, range: 1 });
  });

  it("is out of reach once freed, and its place is not the next one given out", () => {
    const { space, link } = setUp();
    const memory = space.allocCoherent(4096, 1, "ring");
    memory.free();
    expect(link.of("end_window").map((e) => e.address)).toEqual([memory.address]);
    expect(space.deviceWrite(Space.BUS, memory.address, src, 0, 1)).toBe(false);
    expect(space.faults).toEqual({ ...noFaults, unmapped: 1 });
    expect(space.allocCoherent(4096, 1, "ring").address).not.toBe(memory.address);
  });

  it("misuse names the memory", () => {
    const { space } = setUp();
    const memory = space.allocCoherent(256, 1, "admin sq");
    const codeOf = (act: () => unknown): string => {
      try {
        act();
      } catch (error) {
        if (error instanceof DmaMisuse && error.message.includes("admin sq")) return error.code;
        throw error;
      }
      return "nothing thrown";
    };
    expect(codeOf(() => memory.publish(250, 7, RAW))).toBe("PUBLISH_RANGE");
    expect(codeOf(() => memory.publish(-1, 7, RAW))).toBe("PUBLISH_RANGE");
    expect(codeOf(() => memory.publish(1, -1, RAW))).toBe("PUBLISH_RANGE");
    expect(codeOf(() => space.allocCoherent(0, 1, "admin sq"))).toBe("COHERENT_PARAMS");
    expect(codeOf(() => space.allocCoherent(Limits.WINDOW_BYTES + 1, 1, "admin sq"))).toBe(
      "COHERENT_PARAMS",
    );
    expect(codeOf(() => space.allocCoherent(8, 24, "admin sq"))).toBe("COHERENT_PARAMS");
    memory.free();
    expect(codeOf(() => memory.free())).toBe("COHERENT_FREED");
    expect(codeOf(() => memory.publish(0, 1, RAW))).toBe("COHERENT_FREED");
  });

  it("stops at what a link carries, and goes on when some is freed", () => {
    const { space } = setUp();
    const all = Array.from({ length: Limits.WINDOWS }, () => space.allocCoherent(8, 1, "ring"));
    expect(() => space.allocCoherent(8, 1, "ring")).toThrow("no more windows");
    all[3]!.free();
    expect(space.allocCoherent(8, 1, "ring").bytes).toHaveLength(8);
  });

  it("is told to the next device with its contents, when it has any", () => {
    const { space, link } = setUp();
    const blank = space.allocCoherent(64, 1, "blank");
    const used = space.allocCoherent(64, 1, "used");
    const gone = space.allocCoherent(64, 1, "gone");
    used.bytes[5] = 9;
    space.detachLink();
    expect(space.link).toBeUndefined();
    gone.free();
    used.publish(5, 1, RAW);
    expect(link.of("write")).toEqual([]);

    const next = new FakeDeviceLink();
    space.attachLink(next);
    expect(next.windows.all.map((w) => w.address)).toEqual([blank.address, used.address]);
    expect(next.windows.find(used.address, 64)?.bytes).toEqual(used.bytes);
    expect(next.of("write")).toHaveLength(1);
  });
});
