/** The phase cursor: laps, both wraps, and two ends that meet through a ring of bytes. */
import { describe, expect, test } from "vitest";
import { isPowerOfTwo, PhaseCursor } from "../../shared/ring/phase.ts";

const DEPTHS = [2, 4, 8, 65536];

describe("PhaseCursor", () => {
  test.each(DEPTHS)("depth %i: begins at slot 0 with phase 1, toggles at each wrap", (depth) => {
    const cursor = new PhaseCursor(depth);
    for (let lap = 0; lap < 3; lap++) {
      for (let slot = 0; slot < depth; slot++) {
        if (cursor.slot !== slot || cursor.phase !== (lap % 2 === 0 ? 1 : 0)) {
          expect([lap, cursor.slot, cursor.phase]).toEqual([lap, slot, lap % 2 === 0 ? 1 : 0]);
        }
        cursor.next();
      }
    }
    expect(cursor.slot).toBe(0);
    expect(cursor.phase).toBe(0);
  });

  test.each([2, 4, 8])("depth %i: the head's own wrap at 2^16 is no special place", (depth) => {
    const cursor = new PhaseCursor(depth, 2 ** 16 - 3);
    const plain = new PhaseCursor(depth);
    for (let n = 0; n < 2 ** 16 - 3; n++) plain.next();
    for (let n = 0; n < 4 * depth; n++) {
      expect([cursor.head, cursor.slot, cursor.phase]).toEqual([
        plain.head,
        plain.slot,
        plain.phase,
      ]);
      cursor.next();
      plain.next();
    }
    expect(cursor.head).toBe(4 * depth - 3);
  });

  test.each([2, 4, 8])("depth %i: skip is next, many times", (depth) => {
    for (const start of [0, depth - 1, 2 ** 16 - 1]) {
      for (let count = 0; count <= 3 * depth; count++) {
        const skipped = new PhaseCursor(depth, start);
        const stepped = new PhaseCursor(depth, start);
        skipped.skip(count);
        for (let n = 0; n < count; n++) stepped.next();
        expect([skipped.head, skipped.phase]).toEqual([stepped.head, stepped.phase]);
      }
    }
  });

  test.each([2, 4, 8])("depth %i: a consumer sees exactly what a producer has stamped", (depth) => {
    const ring = new Uint8Array(depth);
    const producer = new PhaseCursor(depth);
    const consumer = new PhaseCursor(depth);
    const ready = (): number => {
      let n = 0;
      while (n < depth && ring[consumer.slot] === consumer.phase) {
        consumer.next();
        n++;
      }
      return n;
    };
    for (let round = 0; round < 5 * depth; round++) {
      const count = round % (depth + 1);
      for (let n = 0; n < count; n++) {
        ring[producer.slot] = producer.phase;
        producer.next();
      }
      expect(ready()).toBe(count);
    }
  });

  test.each([0, 3, -4, 1.5, Number.NaN, 2 ** 17])("depth %d is refused", (depth) => {
    expect(() => new PhaseCursor(depth)).toThrow(RangeError);
  });

  test("powers of two", () => {
    const powers = [1, 2, 1024, 2 ** 31];
    expect(powers.filter(isPowerOfTwo)).toEqual(powers);
    const others = [0, -2, 3, 6, 1.5, 2 ** 32, Number.NaN, Number.POSITIVE_INFINITY];
    expect(others.filter(isPowerOfTwo)).toEqual([]);
  });
});
