import { expect, test } from "vitest";
import { MAX_FRAME_BYTES } from "../../shared/net/frame.ts";
import {
  ahead,
  FRAME_AT,
  HEADER_AT,
  SLOT_BYTES,
  SLOT_ROOM,
  TapRings,
  Word,
} from "../../shared/tap/rings.ts";
import { VNET_HEADER_BYTES } from "../../shared/tap/vnet-header.ts";

test("areas neither overlap nor leave the memory", () => {
  const rings = TapRings.allocate(4);
  const { memory, words, counts, errors, used, free, rxLength, txLength } = rings;
  const areas = [words, counts, errors, used, free, rxLength, txLength].map((area) => ({
    from: area.byteOffset,
    to: area.byteOffset + area.byteLength,
  }));
  for (let slot = 0; slot < 4; slot++) {
    for (const at of [rings.rxHeader(slot), rings.txHeader(slot)]) {
      areas.push({ from: at, to: at + SLOT_ROOM });
    }
  }
  areas.sort((a, b) => a.from - b.from);
  for (let i = 1; i < areas.length; i++) {
    expect(areas[i]!.from).toBeGreaterThanOrEqual(areas[i - 1]!.to);
  }
  expect(areas.at(-1)!.to).toBeLessThanOrEqual(memory.byteLength);
});

test("the longest frame leaves room in its slot, so that a cut-off one can be told", () => {
  expect(SLOT_ROOM).toBeGreaterThan(VNET_HEADER_BYTES + MAX_FRAME_BYTES);
  expect(HEADER_AT + SLOT_ROOM).toBe(SLOT_BYTES);
});

test("frames lie on 16-byte boundaries", () => {
  const rings = TapRings.allocate(2);
  for (const slot of [0, 1]) {
    expect((rings.rxHeader(slot) + VNET_HEADER_BYTES) % 16).toBe(0);
    expect((rings.txHeader(slot) + (FRAME_AT - HEADER_AT)) % 16).toBe(0);
  }
});

test("control words have cache lines of their own", () => {
  const lines = Object.values(Word).map((word) => word / 16);
  expect(new Set(lines).size).toBe(lines.length);
  expect(lines).toEqual(lines.map(Math.floor));
});

test("a fresh ring offers every receive slot once, and both sides see the same memory", () => {
  const rings = TapRings.allocate(8);
  const other = new TapRings(rings.memory, 8);
  expect(Atomics.load(other.words, Word.RX_FREE_PROD)).toBe(8);
  expect([...other.free].sort()).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
  rings.rxLength[3] = 77;
  expect(other.rxLength[3]).toBe(77);
  expect(other.txHeader(5)).toBe(rings.txHeader(5));
});

test("send slots repeat with the ring, across the wrap of the index", () => {
  const rings = TapRings.allocate(4);
  expect(rings.txHeader(6)).toBe(rings.txHeader(2));
  expect(rings.txHeader(-2)).toBe(rings.txHeader(2));
  expect(rings.txHeader(0x7fff_ffff)).toBe(rings.txHeader(3));
});

test.each([
  [0, 0, 0],
  [0x7fff_fffe, -0x7fff_fffe, 4],
  [-1, 3, 4],
  [0xffff_ffff | 0, 0, 1],
])("ahead(%i, %i) is %i", (from, to, expected) => {
  expect(ahead(from, to)).toBe(expected);
});

test.each([0, 3, 8192, 2.5, -4])("%d slots are refused", (slots) => {
  expect(() => TapRings.allocate(slots)).toThrow(RangeError);
});
