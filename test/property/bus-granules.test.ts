/** The allocator against a set of taken granules: no overlap, no leak, whatever the order. */
import fc from "fast-check";
import { expect, it } from "vitest";
import { GranuleAllocator } from "../../frontend/bus/granules.ts";
import { holds } from "../support/counts.ts";

it("random takes and gives never overlap and never leak", () => {
  const step = fc.record({
    take: fc.boolean(),
    count: fc.integer({ min: 1, max: 9 }),
    align: fc.constantFrom(1, 1, 1, 2, 8),
    which: fc.nat(),
  });
  holds(
    fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
      const granules = new GranuleAllocator(16, 128);
      const taken: { start: number; count: number }[] = [];
      const owned = new Set<number>();
      for (const s of steps) {
        if (s.take) {
          const start = granules.take(s.count, s.align);
          if (start === 0) continue;
          expect(start % s.align).toBe(0);
          expect(start + s.count).toBeLessThanOrEqual(granules.end);
          for (let g = start; g < start + s.count; g++) {
            expect(owned.has(g)).toBe(false);
            owned.add(g);
          }
          taken.push({ start, count: s.count });
        } else if (taken.length > 0) {
          const [gone] = taken.splice(s.which % taken.length, 1);
          granules.give(gone!.start, gone!.count);
          for (let g = gone!.start; g < gone!.start + gone!.count; g++) owned.delete(g);
        }
        expect(granules.inUse).toBe(owned.size);
      }
      for (const { start, count } of taken) granules.give(start, count);
      expect(granules.inUse).toBe(0);
    }),
    { numRuns: 300 },
  );
});

it("100,000 creations and destructions of maps leave nothing behind", async () => {
  const { DmaSpace } = await import("../../frontend/bus/space.ts");
  const { silentLogger } = await import("../../shared/log.ts");
  const space = new DmaSpace({ log: silentLogger });
  const tags = [2048, 9216, 65536].map((maxSize) =>
    space.createTag({
      name: `tag ${maxSize}`,
      alignment: 1,
      boundary: 0,
      maxSize,
      nSegments: 2,
      maxSegSize: maxSize,
      direction: "both",
    }),
  );
  const alive = Array.from({ length: 300 }, (_, i) => tags[i % 3]!.createMap());
  const end = space.granules.end;
  for (let i = 0; i < 100_000; i++) {
    const slot = (i * 7919) % alive.length;
    alive[slot]!.destroy();
    alive[slot] = tags[(i * 31) % 3]!.createMap();
  }
  for (const map of alive) map.destroy();
  for (const tag of tags) tag.destroy();
  expect(space.granules.inUse).toBe(0);
  // The space never exceeds twice the 300 maps' size, however often maps are created and destroyed.
  expect(space.granules.end).toBeLessThanOrEqual(2 * end);
});
