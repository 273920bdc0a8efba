import fc from "fast-check";
import { expect, test } from "vitest";
import { IdSet, RxIds } from "../../device/ena/request-ids.ts";
import { holds } from "../support/counts.ts";

test("case-W1 a set of ids holds each of 65,536 apart from its neighbours", () => {
  const set = new IdSet();
  for (const id of [0, 31, 32, 1024, 65_535]) set.add(id);
  expect(set.list()).toEqual([0, 31, 32, 1024, 65_535]);
  expect([1, 30, 33, 65_534].filter((id) => set.has(id))).toEqual([]);
  set.delete(31);
  set.delete(65_535);
  expect(set.list()).toEqual([0, 32, 1024]);
});

test("case-W1 receive ids agree with a model that keeps a number for each id, and fit their bound", () => {
  // An id is free for descriptors from the tail position at its completion on.
  const step = fc.record({
    kind: fc.constantFrom("announce" as const, "take" as const, "complete" as const),
    id: fc.oneof(fc.nat(3), fc.constantFrom(65_535, 4096, 40), fc.nat(0xffff)),
    pick: fc.nat(64),
    repeat: fc.integer({ min: 1, max: 8 }),
  });
  holds(
    fc.property(
      fc.constantFrom(2, 4, 16),
      fc.integer({ min: 1, max: 35 }),
      fc.array(step, { maxLength: 200 }),
      (depth, pool, steps) => {
        const ids = new RxIds(depth + pool);
        /** Ids announced but not taken, and ids taken but not completed. */
        const ring: number[] = [];
        const held: number[] = [];
        const freeFrom = new Map<number, number>();
        let taken = 0;
        let told = false;
        let same = true;
        for (const { kind, id, pick, repeat } of steps) {
          for (let i = 0; i < repeat; i++) {
            if (kind === "announce" && ring.length < depth) ring.push(id);
            else if (kind === "take" && ring.length > 0 && held.length < pool) {
              const next = ring.shift()!;
              const free = taken >= (freeFrom.get(next) ?? 0);
              const found = ids.take(next);
              // The first id that is used twice is found. After that the model knows more than our
              // bounded table.
              if (!told) same &&= found === free;
              told ||= !free;
              taken++;
              freeFrom.set(next, Number.POSITIVE_INFINITY);
              held.push(next);
            } else if (kind === "complete" && held.length > 0) {
              const [done] = held.splice(pick % held.length, 1);
              ids.complete(done!, ring.length);
              freeFrom.set(done!, taken + ring.length);
            }
          }
        }
        return same;
      },
    ),
    { numRuns: 2000 },
  );
});

test("case-W1 32-bit counts of descriptors wrap without a false report", () => {
  // The state after 2^32 - 2 descriptors.
  const ids = new RxIds(8, 0xffff_fffe);
  const free: boolean[] = [];
  for (let i = 0; i < 6; i++) {
    free.push(ids.take(7));
    ids.complete(7, 0);
  }
  expect(free).toEqual([true, true, true, true, true, true]);
  ids.take(7);
  ids.complete(7, 1);
  // This descriptor was announced before the completion, so the id still belonged to the device.
  expect(ids.take(7)).toBe(false);

  // The id is free from a position after the wrap; this descriptor is before it.
  const across = new RxIds(8, 0xffff_fffe);
  across.take(7);
  across.complete(7, 3);
  expect(across.take(7)).toBe(false);
});
