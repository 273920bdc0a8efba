/** Index arithmetic, starting just short of every wrap and around the sign bit. */
import { describe, expect, test } from "vitest";
import * as i16 from "../../shared/ring/index16.ts";
import * as i32 from "../../shared/ring/index32.ts";

const TWO_16 = 2 ** 16;
const TWO_32 = 2 ** 32;
const STEPS = [0, 1, 2, 3, 7, 8, 255];
const DEPTHS = [2, 4, 8];

describe("index16", () => {
  const starts = [0, 1, 2 ** 15 - 2, 2 ** 15 - 1, 2 ** 15, TWO_16 - 3, TWO_16 - 2, TWO_16 - 1];

  test.each(starts)("from %i: advance and distance agree across the wrap", (start) => {
    const from = i16.index16(start);
    for (const by of STEPS) {
      const to = i16.advance(from, by);
      expect(to).toBe((start + by) % TWO_16);
      expect(i16.distance(from, to)).toBe(by);
      expect(i16.distance(to, from)).toBe((TWO_16 - by) % TWO_16);
    }
  });

  test.each(DEPTHS)("depth %i: slots follow each other across 2^16", (depth) => {
    let i = i16.index16(TWO_16 - depth - 1);
    for (let n = 0; n < 3 * depth; n++) {
      expect(i16.slotOf(i, depth)).toBe((TWO_16 - depth - 1 + n) % depth);
      i = i16.advance(i, 1);
    }
  });

  test("what a register delivers is folded", () => {
    expect(i16.index16(0x1_2345)).toBe(0x2345);
    expect(i16.index16(-1)).toBe(0xffff);
  });
});

describe("index32", () => {
  const starts = [0, 1, 2 ** 31 - 2, 2 ** 31 - 1, 2 ** 31, TWO_32 - 3, TWO_32 - 2, TWO_32 - 1];

  test.each(starts)("from %i: advance and distance agree across the wrap", (start) => {
    const from = i32.index32(start);
    for (const by of STEPS) {
      const to = i32.advance(from, by);
      expect(to).toBe((start + by) % TWO_32);
      expect(to).toBeGreaterThanOrEqual(0);
      expect(i32.distance(from, to)).toBe(by);
      expect(i32.distance(to, from)).toBe((TWO_32 - by) % TWO_32);
    }
  });

  test.each(DEPTHS)("depth %i: slots follow each other across 2^31 and 2^32", (depth) => {
    for (const wrap of [2 ** 31, TWO_32]) {
      let i = i32.index32(wrap - depth - 1);
      for (let n = 0; n < 3 * depth; n++) {
        expect(i32.slotOf(i, depth)).toBe((wrap - depth - 1 + n) % depth);
        i = i32.advance(i, 1);
      }
    }
  });

  test.each(starts)("from %i: an event is passed only when it lies in (before, after]", (start) => {
    const before = i32.index32(start);
    const after = i32.advance(before, 3);
    const asked = [-1, 0, 1, 2, 3, 4].map((n) => i32.advance(before, n));
    expect(asked.map((event) => i32.passed(event, before, after))).toEqual([
      false,
      false,
      true,
      true,
      true,
      false,
    ]);
  });

  test.each(starts)("from %i: publishing nothing passes no event", (start) => {
    const here = i32.index32(start);
    for (const n of [-1, 0, 1]) expect(i32.passed(i32.advance(here, n), here, here)).toBe(false);
  });
});

test("requests and room of a shared ring are unsigned, as in ring.h", () => {
  const { index32, unconsumedRequests, freeRequests, requestProdOverflow } = i32;
  const look = (prod: number, cons: number, rsp: number): number =>
    unconsumedRequests(4, index32(prod), index32(cons), index32(rsp));
  expect([look(3, 0, 0), look(9, 0, 0), look(-1, 0, 0), look(6, 3, 0)]).toEqual([3, 4, 4, 1]);
  expect([look(2, -1, -2), look(4, 4, 0), look(13, 10, 0)]).toEqual([3, 0, 3]);
  expect([
    freeRequests(4, index32(1), index32(-1)),
    freeRequests(4, index32(3), index32(-1)),
  ]).toEqual([2, 0]);
  const over = (prod: number) => requestProdOverflow(4, index32(prod), index32(-2));
  expect([over(-2), over(2), over(3), over(-3)]).toEqual([false, false, true, true]);
});
