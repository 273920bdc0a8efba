/** The allocator of bus space. */
import { describe, expect, it } from "vitest";
import { GranuleAllocator } from "../../frontend/bus/granules.ts";

describe("granules", () => {
  it("never gives out granule 0", () => {
    const granules = new GranuleAllocator(8, 8);
    const taken = Array.from({ length: 7 }, () => granules.take(1)).sort((a, b) => a - b);
    expect(taken).toEqual([1, 2, 3, 4, 5, 6, 7]);
    expect(granules.take(1)).toBe(0);
  });

  it("uses again last what was given back last", () => {
    const granules = new GranuleAllocator(8, 8);
    const first = granules.take(1);
    granules.give(first, 1);
    const order = Array.from({ length: 7 }, () => granules.take(1));
    expect(order[0]).not.toBe(first);
    expect(order.at(-1)).toBe(first);
  });

  it("joins what is given back with its neighbours", () => {
    for (const order of [
      [0, 1, 2],
      [2, 1, 0],
      [0, 2, 1],
      [1, 0, 2],
    ]) {
      const granules = new GranuleAllocator(13, 13);
      const taken = [granules.take(4), granules.take(4), granules.take(4)];
      for (const i of order) granules.give(taken[i]!, 4);
      expect(granules.take(12)).toBe(1);
    }
  });

  it("keeps the alignment, and the gap in front of it usable", () => {
    const granules = new GranuleAllocator(32, 32);
    expect(granules.take(3, 16)).toBe(16);
    expect(granules.take(13)).toBe(19);
    expect(granules.take(15)).toBe(1);
    expect(granules.take(1)).toBe(0);
  });

  it("finds room that lies across the place where the search begins", () => {
    const granules = new GranuleAllocator(16, 16);
    granules.give(granules.take(4), 4);
    expect(granules.take(12)).toBe(1);
  });

  it("grows when nothing fits, up to its limit", () => {
    const granules = new GranuleAllocator(4, 64);
    expect(granules.take(40)).toBe(1);
    expect(granules.end).toBeLessThanOrEqual(64);
    expect(granules.take(40)).toBe(0);
    expect(granules.take(23)).toBe(41);
    expect(granules.end).toBe(64);
  });

  it("notices what is given back twice, or never was", () => {
    const granules = new GranuleAllocator(16, 16);
    const start = granules.take(4);
    granules.give(start, 4);
    expect(() => granules.give(start, 4)).toThrow("free already");
    expect(() => granules.give(0, 1)).toThrow("free already");
    expect(() => granules.give(14, 4)).toThrow("free already");
    expect(granules.inUse).toBe(0);
  });
});
