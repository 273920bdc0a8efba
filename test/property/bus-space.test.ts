/**
 * The bus against a model: random maps are created, loaded, unloaded and destroyed, while a device
 * reads and writes at addresses near every edge. The model is a plain list of the ranges mapped
 * now. After each step all memory equals the model's: a byte outside a loaded range never changes.
 */
import fc from "fast-check";
import { expect, it } from "vitest";
import type { CoherentMemory } from "../../frontend/bus/coherent.ts";
import { type DmaMap, SyncOp } from "../../frontend/bus/map.ts";
import type { MapRow } from "../../frontend/bus/map-row.ts";
import { DmaSpace } from "../../frontend/bus/space.ts";
import type { DmaDirection, DmaTag } from "../../frontend/bus/tag.ts";
import { silentLogger } from "../../shared/log.ts";
import { busAddress, Space } from "../../shared/wire/records.ts";
import { holds } from "../support/counts.ts";
import { FakeDeviceLink } from "../support/fake-device-link.ts";

const TWO_32 = 2 ** 32;
const MEMORY_BYTES = 8192;

/** A range that the device may access now: bus address, memory and offset, and direction. */
interface Range {
  address: number;
  length: number;
  memory: number;
  at: number;
  reads: boolean;
  writes: boolean;
}

interface Slot {
  map: DmaMap | undefined;
  ranges: Range[];
}

/** A row and, by map, what it has loaded. */
interface RowSlot {
  row: MapRow | undefined;
  ranges: (Range | undefined)[];
}
const ROW_MAPS = 3;
/** Maps of one granule each, and of two. */
const ROW_BYTES = [2000, 5000];

const tagSpecs: { direction: DmaDirection; alignment: number; boundary: number; seg: number }[] = [
  { direction: "both", alignment: 1, boundary: 0, seg: 8192 },
  { direction: "fromDevice", alignment: 64, boundary: 0, seg: 512 },
  { direction: "toDevice", alignment: 1, boundary: 1024, seg: 700 },
  { direction: "both", alignment: 256, boundary: 4096, seg: 4096 },
];

/** The state of one case: the bus, its memories, and the model of both. */
class World {
  readonly space = new DmaSpace({ log: silentLogger, now: () => 0 });
  readonly link = new FakeDeviceLink();
  readonly tags: DmaTag[];
  readonly rowTag: DmaTag;
  /** The last two are windows. */
  readonly memories: Uint8Array[];
  readonly model: Uint8Array[];
  readonly slots: Slot[] = Array.from({ length: 6 }, () => ({ map: undefined, ranges: [] }));
  readonly rows: RowSlot[] = ROW_BYTES.map(() => ({ row: undefined, ranges: [] }));
  readonly windows: CoherentMemory[];
  readonly windowRanges: Range[];
  /** Addresses that were valid at some time. */
  readonly known: number[] = [0];

  constructor() {
    this.space.attachLink(this.link);
    this.tags = tagSpecs.map((t, i) =>
      this.space.createTag({
        name: `tag ${i}`,
        alignment: t.alignment,
        boundary: t.boundary,
        maxSize: 6000,
        nSegments: 16,
        maxSegSize: t.seg,
        direction: t.direction,
      }),
    );
    this.rowTag = this.space.createTag({
      name: "row tag",
      alignment: 1,
      boundary: 0,
      maxSize: 6000,
      nSegments: 1,
      maxSegSize: 6000,
      direction: "fromDevice",
    });
    this.windows = [100, 4096].map((n) => this.space.allocCoherent(n, 1, "window"));
    const buffers = [new Uint8Array(MEMORY_BYTES), new Uint8Array(MEMORY_BYTES)];
    this.memories = [...buffers, ...this.windows.map((w) => w.bytes)];
    for (const [i, m] of this.memories.entries()) {
      for (let at = 0; at < m.length; at++) m[at] = (at * 7 + i) & 0xff;
    }
    this.model = this.memories.map((m) => m.slice());
    this.windowRanges = this.windows.map((w, i) => ({
      address: w.address,
      length: w.bytes.length,
      memory: 2 + i,
      at: 0,
      reads: true,
      writes: true,
    }));
    for (const r of this.windowRanges) this.known.push(r.address, r.address + r.length);
  }

  ranges(): Range[] {
    const rows = this.rows.flatMap(({ ranges }) => ranges.filter((r) => r !== undefined));
    return this.windowRanges.concat(this.slots.flatMap((s) => s.ranges)).concat(rows);
  }

  /** The range that holds the whole access, if any. */
  holding(address: number, length: number): Range | undefined {
    return this.ranges().find(
      (r) => address >= r.address && address + length <= r.address + r.length,
    );
  }

  check(): void {
    this.memories.forEach((m, i) => {
      if (Buffer.compare(m, this.model[i]!) !== 0)
        expect.fail(`memory ${i} is not as it should be`);
    });
  }
}

interface Step {
  what: "create" | "load" | "unload" | "sync" | "destroy" | "row" | "write" | "read";
  slot: number;
  tag: number;
  pieces: { memory: number; at: number; length: number }[];
  /** An access: a known address, an offset from it, and a generation relative to its own. */
  known: number;
  beside: number;
  otherGeneration: number;
  length: number;
  space: number;
}

const step: fc.Arbitrary<Step> = fc.record({
  what: fc.constantFrom<Step["what"][]>(
    ...(["create", "load", "load", "unload", "sync", "destroy"] as const),
    ...(["row", "row", "row"] as const),
    ...(["write", "write", "write", "write", "read", "read"] as const),
  ),
  slot: fc.nat(5),
  tag: fc.nat(3),
  pieces: fc.array(
    fc.record({
      memory: fc.nat(1),
      at: fc.nat(MEMORY_BYTES - 2500),
      length: fc.oneof(fc.nat(2500), fc.constantFrom(0, 1, 64, 1024, 2048)),
    }),
    { minLength: 1, maxLength: 4 },
  ),
  known: fc.nat(),
  beside: fc.oneof(fc.integer({ min: -3, max: 3 }), fc.integer({ min: -4096, max: 4096 })),
  otherGeneration: fc.oneof(
    { weight: 6, arbitrary: fc.constant(0) },
    fc.integer({ min: -2, max: 2 }),
  ),
  length: fc.oneof(fc.integer({ min: 1, max: 8 }), fc.integer({ min: 1, max: 5000 })),
  space: fc.oneof({ weight: 15, arbitrary: fc.constant<number>(Space.BUS) }, fc.constant(1)),
});

const source = Uint8Array.from({ length: 5000 }, (_, i) => (i * 13 + 5) & 0xff);

function apply(w: World, s: Step): void {
  const slot = w.slots[s.slot]!;
  const map = slot.map;
  switch (s.what) {
    case "create":
      if (map === undefined) slot.map = w.tags[s.tag]!.createMap();
      return;
    case "load":
      if (map !== undefined && !map.loaded) load(w, slot, map, s.pieces);
      return;
    case "unload":
      if (map?.loaded) {
        map.unload();
        slot.ranges = [];
      }
      return;
    case "sync":
      if (map?.loaded && map.deviceMayRead) sync(w, slot, map);
      return;
    case "destroy":
      if (map !== undefined && !map.loaded) {
        map.destroy();
        slot.map = undefined;
      }
      return;
    case "row":
      applyToRow(w, s);
      return;
    default:
      access(w, s);
  }
}

/** Creates a row, loads one of its maps or unloads it, or destroys a row that has nothing loaded. */
function applyToRow(w: World, s: Step): void {
  const most = ROW_BYTES[s.tag & 1]!;
  const slot = w.rows[s.tag & 1]!;
  if (slot.row === undefined) {
    slot.row = w.rowTag.createRow(ROW_MAPS, most);
    slot.ranges = new Array(ROW_MAPS).fill(undefined);
    return;
  }
  const { row, ranges } = slot;
  const i = s.slot % ROW_MAPS;
  if (s.beside === 0 && ranges.every((r) => r === undefined)) {
    row.destroy();
    slot.row = undefined;
    return;
  }
  if (ranges[i] !== undefined) {
    row.unload(i);
    ranges[i] = undefined;
  } else {
    const { memory, at, length } = s.pieces[0]!;
    const error = row.load(i, w.memories[memory]!, at, length);
    expect(error === 0).toBe(length > 0 && length <= most);
    if (error !== 0) return;
    const address = row.address(i);
    ranges[i] = { address, length, memory, at, reads: false, writes: true };
    w.known.push(address, address + length);
  }
  expect(row.isLoaded(i)).toBe(ranges[i] !== undefined);
}

function load(w: World, slot: Slot, map: DmaMap, pieces: Step["pieces"]): void {
  const error = map.loadPieces(
    pieces.map((p) => w.memories[p.memory]!),
    pieces.map((p) => p.at),
    pieces.map((p) => p.length),
    pieces.length,
  );
  const total = pieces.reduce((sum, p) => sum + p.length, 0);
  if (total === 0 || total > 6000) {
    expect(error).not.toBe(0);
    return;
  }
  expect(error).toBe(0);
  const { alignment, boundary, maxSegSize } = map.tag.params;
  // Segments follow the pieces in order. Each piece is a range of its own; ranges that touch are
  // joined.
  let segment = 0;
  for (const p of pieces) {
    let at = p.at;
    const end = p.at + p.length;
    while (at < end) {
      const address = map.segmentAddress(segment);
      const length = map.segmentLength(segment);
      expect(length).toBeGreaterThan(0);
      expect(length).toBeLessThanOrEqual(maxSegSize);
      if (at === p.at) expect(address % alignment).toBe(0);
      if (boundary !== 0) {
        const last = address + length - 1;
        expect(Math.floor(address / boundary)).toBe(Math.floor(last / boundary));
      }
      const before = slot.ranges.at(-1);
      if (at > p.at && before !== undefined) {
        expect(address).toBe(before.address + before.length);
        before.length += length;
      } else {
        const { deviceMayRead: reads, deviceMayWrite: writes } = map;
        if (before !== undefined) expect(address).toBeGreaterThan(before.address + before.length);
        slot.ranges.push({ address, length, memory: p.memory, at, reads, writes });
      }
      w.known.push(address, address + length);
      at += length;
      segment++;
    }
  }
  expect(segment).toBe(map.segmentCount);
}

/** Expects that PREWRITE pushes the bytes of memory, at the device's addresses. */
function sync(w: World, slot: Slot, map: DmaMap): void {
  w.link.posted.length = 0;
  map.sync(SyncOp.PREWRITE);
  const pushes = w.link.of("push");
  expect(pushes).toHaveLength(map.segmentCount);
  for (const p of pushes) {
    const r = slot.ranges.find(
      (x) => p.address >= x.address && p.address + p.bytes.length <= x.address + x.length,
    )!;
    const at = r.at + p.address - r.address;
    expect(Buffer.compare(p.bytes, w.model[r.memory]!.subarray(at, at + p.bytes.length))).toBe(0);
  }
}

function access(w: World, s: Step): void {
  const near = w.known[s.known % w.known.length]!;
  const address = busAddress(near + s.beside + s.otherGeneration * TWO_32);
  const range = s.space === Space.BUS ? w.holding(address, s.length) : undefined;
  const refused = () => Object.values(w.space.faults).reduce((a, b) => a + b, 0);
  const before = refused();
  if (s.what === "write") {
    const may = range?.writes === true;
    const done = w.space.deviceWrite(s.space, address, source, 0, s.length);
    expect(done).toBe(may);
    if (may && range !== undefined) {
      const at = range.at + address - range.address;
      w.model[range.memory]!.set(source.subarray(0, s.length), at);
    }
    expect(refused()).toBe(before + (may ? 0 : 1));
    return;
  }
  const may = range?.reads === true;
  const span = w.space.deviceRead(s.space, address, s.length);
  expect(span !== undefined).toBe(may);
  if (span !== undefined && range !== undefined) {
    expect(span.buffer).toBe(w.memories[range.memory]);
    expect(span.at).toBe(range.at + address - range.address);
    expect(span.length).toBe(s.length);
  }
  expect(refused()).toBe(before + (may ? 0 : 1));
}

it("memory changes only where a loaded range lets the device write", () => {
  holds(
    fc.property(fc.array(step, { minLength: 20, maxLength: 120 }), (steps) => {
      const w = new World();
      // Each case begins with some loaded maps, so that short cases pass the first checks.
      for (let i = 0; i < 3; i++) apply(w, { ...steps[i]!, what: "create", slot: i, tag: i });
      for (let i = 0; i < 3; i++) apply(w, { ...steps[i]!, what: "load", slot: i });
      for (const s of steps) {
        apply(w, s);
        w.check();
      }
    }),
    { numRuns: 400 },
  );
});

it("nothing that a device sends makes an access throw", () => {
  const address = fc.oneof(
    fc.record({ at: fc.oneof(fc.double(), fc.maxSafeNat()), inMap: fc.constant(false) }),
    fc.record({ at: fc.integer({ min: -2048, max: 6144 }), inMap: fc.constant(true) }),
    fc.record({
      at: fc.constantFrom(0, 2 ** 32, 2 ** 48 - 1, 2 ** 48, Number.POSITIVE_INFINITY),
      inMap: fc.constant(false),
    }),
  );
  holds(
    fc.property(address, fc.nat(5000), fc.nat(3), ({ at, inMap }, length, space) => {
      const w = new World();
      const slot = w.slots[0]!;
      slot.map = w.tags[0]!.createMap();
      load(w, slot, slot.map, [{ memory: 0, at: 0, length: 4096 }]);
      const place = busAddress(inMap ? slot.map.segmentAddress(0) + at : at);
      const range = space === Space.BUS ? w.holding(place, length) : undefined;
      const may = Number.isSafeInteger(place) && range !== undefined;
      expect(w.space.deviceWrite(space, place, source, 0, length)).toBe(may);
      if (may) {
        w.model[range.memory]!.set(source.subarray(0, length), range.at + place - range.address);
      }
      expect(w.space.deviceRead(space, place, length) !== undefined).toBe(may);
      w.check();
    }),
    { numRuns: 1500 },
  );
});
