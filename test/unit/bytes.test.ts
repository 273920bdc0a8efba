/** Copies at every alignment, numbers at their limits, invalid layouts, hexdump. */
import { describe, expect, test } from "vitest";
import { hexdump } from "../../frontend/apps/pkt-gen/hexdump.ts";
import { allocate, arena } from "../../shared/bytes/arena.ts";
import { bit } from "../../shared/bytes/bits.ts";
import { copyBytes } from "../../shared/bytes/copy.ts";
import { maskInPlace } from "../../shared/bytes/mask.ts";
import { BufferPool } from "../../shared/bytes/pool.ts";
import {
  bits,
  cString,
  flag,
  i16,
  list,
  raw,
  struct,
  u8,
  u16,
  u32,
  u64,
} from "../../shared/bytes/struct.ts";
import { getU48, getU64, setU48, setU64 } from "../../shared/bytes/u64.ts";
import { sameBytes } from "../support/same.ts";

const JUNK = 0xa5;

describe("maskInPlace", () => {
  const KEY = 0xd4c3b281 | 0;
  const keyByte = (n: number): number => (KEY >>> (8 * (n & 3))) & 0xff;

  test.each([
    ["the arena", allocate],
    ["other memory", (bytes: number) => new Uint8Array(bytes)],
  ])("applies the key to every byte of the span and to no other, in %s", (name, make) => {
    const bytes = make(400);
    expect(bytes.buffer === arena).toBe(name === "the arena");
    for (let at = 0; at < 17; at++) {
      for (const length of [0, 1, 3, 4, 5, 15, 16, 17, 63, 64, 65, 79, 80, 81, 127, 255, 300]) {
        bytes.fill(JUNK);
        maskInPlace(bytes, at, length, KEY);
        const want = bytes.map((_, i) =>
          i >= at && i < at + length ? JUNK ^ keyByte(i - at) : JUNK,
        );
        sameBytes(bytes, want, `${length} bytes at ${at}`);
      }
    }
  });

  test("the zero key changes nothing", () => {
    const bytes = new Uint8Array(100).fill(JUNK);
    maskInPlace(bytes, 0, 100, 0);
    sameBytes(bytes, new Uint8Array(100).fill(JUNK));
  });

  test("buffers of the arena do not overlap", () => {
    const [one, two] = [allocate(100).fill(1), allocate(100).fill(2)];
    expect([one.at(-1), two[0]]).toEqual([1, 2]);
  });

  test("what does not fit into the arena is a plain buffer", () => {
    const bytes = allocate(64 << 20);
    expect([bytes.byteLength, bytes.buffer === arena]).toEqual([64 << 20, false]);
  });
});

describe("BufferPool", () => {
  test("keeps all buffers of the arena, and a few others", () => {
    const pool = new BufferPool(100, 1);
    const buffers = Array.from({ length: 3 }, () => pool.get());
    for (const { release } of buffers) release();
    const again = Array.from({ length: 3 }, () => pool.get());
    const isKept = again.map((buffer) => buffers.includes(buffer));
    expect(isKept).toEqual([true, true, true].map((_, i) => i === 0 || arena !== undefined));
  });
});

describe("copyBytes", () => {
  const lengths = [0, 1, 3, 7, 8, 9, 15, 16, 23, 24, 25, 31, 60, 256, 1514];
  const source = Uint8Array.from({ length: 2048 }, (_, i) => (i * 7 + 1) & 0xff);

  test("every short length between the same two arrays, which are used again and again", () => {
    const from = source.subarray(3);
    const to = new Uint8Array(300);
    for (let length = 0; length <= 200; length++) {
      to.fill(JUNK);
      const want = to.slice();
      want.set(from.subarray(length, 2 * length), 7);
      copyBytes(from, length, to, 7, length);
      sameBytes(to, want, `${length} bytes`);
    }
  });

  test.each(lengths)(
    "%i bytes at every alignment, between Buffers, arrays and shared memory",
    (length) => {
      for (let srcAt = 0; srcAt < 8; srcAt++) {
        for (let dstAt = 0; dstAt < 8; dstAt++) {
          const want = new Uint8Array(2048).fill(JUNK);
          want.set(source.subarray(srcAt + 5, srcAt + 5 + length), dstAt + 3);
          for (const memory of [new ArrayBuffer(2060), new SharedArrayBuffer(2060)]) {
            const dst = new Uint8Array(memory, dstAt, 2048).fill(JUNK);
            const from = srcAt % 2 === 0 ? source : Buffer.from(source.buffer, 0, 2048);
            copyBytes(from, srcAt + 5, dst, dstAt + 3, length);
            expect(Buffer.compare(dst, want)).toBe(0);
          }
        }
      }
    },
  );

  test("long copies inside the arena, out of it and into it, of arrays used in turns", () => {
    const inside = [allocate(2048), allocate(2048)];
    const outside = [new Uint8Array(2048), new Uint8Array(2048)];
    inside[0]!.set(source);
    outside[0]!.set(source);
    for (const froms of [inside, outside]) {
      for (const tos of [inside, outside]) {
        for (let turn = 0; turn < 4; turn++) {
          const to = tos[1]!;
          to.fill(JUNK);
          const want = to.slice();
          want.set(source.subarray(turn, turn + 1448), 9);
          copyBytes(froms[0]!, turn, to, 9, 1448);
          sameBytes(to, want, `turn ${turn}`);
        }
      }
    }
  });

  test.each([
    ["source too short", 6, 0, 5],
    ["destination too short", 0, 6, 5],
    ["negative source", -1, 0, 1],
    ["negative destination", 0, -1, 1],
    ["negative length", 4, 4, -1],
    ["not a number", Number.NaN, 0, 1],
  ])("%s: throws, and copies nothing", (_, srcAt, dstAt, length) => {
    for (const stretch of [1, 8]) {
      const dst = new Uint8Array(10 * stretch).fill(JUNK);
      const src = new Uint8Array(10 * stretch);
      expect(() => copyBytes(src, srcAt * stretch, dst, dstAt * stretch, length * stretch)).toThrow(
        RangeError,
      );
      sameBytes(dst, new Uint8Array(10 * stretch).fill(JUNK));
    }
  });

  test("a span of 0 bytes at the very end is fine", () => {
    expect(() => copyBytes(new Uint8Array(4), 4, new Uint8Array(2), 2, 0)).not.toThrow();
  });
});

describe("64 and 48 bits as numbers", () => {
  test.each([
    [0, "0000000000000000"],
    [1, "0100000000000000"],
    [0x7fff_ffff, "ffffff7f00000000"],
    [0x8000_0000, "0000008000000000"],
    [0xffff_ffff, "ffffffff00000000"],
    [2 ** 32, "0000000001000000"],
    [0x0012_3456_89ab_cdef, "efcdab8956341200"],
    [Number.MAX_SAFE_INTEGER, "ffffffffffff1f00"],
    [Number.POSITIVE_INFINITY, "ffffffffffffffff"],
  ])("%d", (value, hex) => {
    const bytes = new Uint8Array(8).fill(JUNK);
    const view = new DataView(bytes.buffer);
    setU64(view, 0, value);
    expect(Buffer.from(bytes).toString("hex")).toBe(hex);
    expect(getU64(view, 0)).toBe(value);
  });

  test("2^53 is the first that reads as Infinity", () => {
    const view = new DataView(Uint8Array.from(Buffer.from("0000000000002000", "hex")).buffer);
    expect(getU64(view, 0)).toBe(Number.POSITIVE_INFINITY);
  });

  test.each([
    [0, "000000000000"],
    [0xffff_ffff, "ffffffff0000"],
    [0xa1b2_c3d4_e5f6, "f6e5d4c3b2a1"],
    [2 ** 48 - 1, "ffffffffffff"],
  ])("48 bits: %d takes six bytes and no more", (value, hex) => {
    const bytes = new Uint8Array(8).fill(JUNK);
    const view = new DataView(bytes.buffer);
    setU48(view, 1, value);
    expect(Buffer.from(bytes).toString("hex")).toBe(`a5${hex}a5`);
    expect(getU48(view, 1)).toBe(value);
  });

  test("bits come as 0 or 1, the sign bit too", () => {
    expect([bit(0x8000_0001, 0), bit(0x8000_0001, 1), bit(0x8000_0001, 31)]).toEqual([1, 0, 1]);
  });
});

describe("struct", () => {
  const WORD = u32(4);
  const sample = struct(32, {
    kind: u8(0),
    size: u16(2),
    low: bits(WORD, 0, 12),
    on: flag(WORD, 12),
    high: bits(WORD, 20, 12),
    total: u64(8),
    name: cString(16, 6),
    mac: raw(22, 4),
    pair: list(u8(26), 2, 2),
  });

  test("neighbours inside a word leave each other alone", () => {
    const view = new DataView(new ArrayBuffer(32));
    sample.write(view, 0, { low: 0xabc, on: true, high: 0xfed });
    expect(view.getUint32(4, true)).toBe(0xfed01abc);
    expect(sample.parse(view, 0)).toMatchObject({ low: 0xabc, on: true, high: 0xfed });
  });

  test("a bit field takes only its own bits of too large a number", () => {
    const view = new DataView(new ArrayBuffer(32));
    sample.write(view, 0, { low: 0xffff });
    expect(view.getUint32(4, true)).toBe(0xfff);
  });

  test("32 bits wide is not too wide", () => {
    const whole = struct(4, { all: bits(u32(0), 0, 32) });
    const view = new DataView(new ArrayBuffer(4));
    whole.write(view, 0, { all: 0xdead_beef });
    expect(whole.parse(view, 0)).toEqual({ all: 0xdead_beef });
  });

  test("patch sets what it is given and leaves every other byte", () => {
    const status = struct(8, { in: u32(0), status: i16(4) });
    const view = new DataView(new Uint8Array(10).fill(0xa5).buffer);
    status.patch(view, 1, { status: -3 });
    expect(Buffer.from(view.buffer).toString("hex")).toBe("a5a5a5a5a5fdffa5a5a5");
    expect(status.parse(view, 1)).toEqual({ in: 0xa5a5_a5a5, status: -3 });
  });

  test("text is cut to leave room for its end, raw bytes to their length", () => {
    const view = new DataView(new ArrayBuffer(32));
    sample.write(view, 0, { name: "FreeBSD", mac: Uint8Array.of(1, 2, 3, 4, 5), pair: [7, 8] });
    const value = sample.parse(view, 0);
    expect(value.name).toBe("FreeB");
    expect([...value.mac]).toEqual([1, 2, 3, 4]);
    expect(value.pair).toEqual([7, 8]);
  });

  test("text that fills its field without an end is read whole", () => {
    const view = new DataView(new Uint8Array(32).fill(0x41).buffer);
    expect(sample.parse(view, 0).name).toBe("AAAAAA");
  });

  test("what was parsed does not change with the memory it came from", () => {
    const view = new DataView(new ArrayBuffer(32));
    const { mac } = sample.parse(view, 0);
    view.setUint32(22, 0xffff_ffff);
    expect([...mac]).toEqual([0, 0, 0, 0]);
  });

  test("a layout with an overlap, or one that is too long, does not load", () => {
    expect(() => struct(4, { a: u16(0), b: u16(1) })).toThrow("b overlaps a");
    expect(() => struct(4, { a: bits(u8(0), 0, 4), b: bits(u8(0), 3, 2) })).toThrow("b overlaps a");
    expect(() => struct(4, { a: u32(1) })).toThrow("field a ends past the 4 bytes");
  });
});

describe("hexdump", () => {
  test("rows of sixteen, with text", () => {
    const bytes = Uint8Array.from({ length: 18 }, (_, i) => 0x38 + i * 5);
    expect(hexdump(bytes, 0x1000).split("\n")).toEqual([
      "00001000  38 3d 42 47 4c 51 56 5b  60 65 6a 6f 74 79 7e 83  |8=BGLQV[`ejoty~.|",
      `00001010  88 8d                    ${" ".repeat(23)}  |..|`,
    ]);
  });

  test("nothing gives nothing", () => expect(hexdump(new Uint8Array(0))).toBe(""));
});
