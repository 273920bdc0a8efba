import { describe, expect, it } from "vitest";
import { FLAP_MOVES, FLAP_WINDOW_MS, Learned, MacTable } from "../../shared/net/mac-table.ts";

/** Address number n as [high, low]. */
const mac = (n: number): [number, number] => [0x0200 + Math.floor(n / 2 ** 32), n | 0];

describe("MacTable", () => {
  it("does not take a free slot for the all-zero address", () => {
    const table = new MacTable({ ageMs: 1e6, perPort: 10 });
    expect(table.lookup(0, 0, 0)).toBe(-1);
    table.learn(...mac(1), 2, 0);
    table.forget(...mac(1));
    for (let low = 0; low < 3; low++) expect(table.lookup(0, low, 0)).toBe(-1);
  });

  it("learns, finds, forgets by age on the clock it is given", () => {
    const table = new MacTable({ ageMs: 1000, perPort: 10 });
    expect(table.lookup(...mac(1), 0)).toBe(-1);
    expect(table.learn(...mac(1), 3, 0)).toBe(Learned.NEW);
    expect(table.learn(...mac(1), 3, 500)).toBe(Learned.KNOWN);
    expect(table.lookup(...mac(1), 1500)).toBe(3);
    expect(table.lookup(...mac(1), 1501)).toBe(-1);
    expect(table.entries(1501)).toEqual([]);
    expect(table.size).toBe(1);
    table.sweep(1501);
    expect([table.size, table.learnedBy(3), table.aged]).toEqual([0, 0, 1]);
    // Found by its next frame only after it is too old: new, not a move.
    table.learn(...mac(1), 3, 2000);
    expect(table.learn(...mac(1), 4, 4000)).toBe(Learned.NEW);
    expect([table.moves, table.learnedBy(3), table.learnedBy(4)]).toEqual([0, 0, 1]);
  });

  it("counts moves, names the port before, and damps flapping until it ends", () => {
    const table = new MacTable({ ageMs: 1e6, perPort: 10 });
    table.learn(...mac(1), 0, 0);
    for (let i = 1; i <= FLAP_MOVES; i++) {
      expect(table.learn(...mac(1), i % 2, i)).toBe(Learned.MOVED);
    }
    const there = FLAP_MOVES % 2;
    const other = 1 - there;
    expect(table.learn(...mac(1), other, 100)).toBe(Learned.DAMPED);
    expect(table.lookup(...mac(1), 100)).toBe(there);
    expect([table.moves, table.damped]).toEqual([FLAP_MOVES, 1]);
    expect(table.entries(100)).toMatchObject([
      { mac: "02:00:00:00:00:01", port: there, previousPort: other, moves: FLAP_MOVES },
    ]);
    expect([table.learnedBy(there), table.learnedBy(other)]).toEqual([1, 0]);
    expect(table.learn(...mac(1), other, FLAP_WINDOW_MS + 100)).toBe(Learned.MOVED);
  });

  it("keeps each port within its cap, by learning and by moving, and others untouched", () => {
    const table = new MacTable({ ageMs: 1e6, perPort: 4 });
    table.learn(...mac(1000), 1, 0);
    for (let i = 0; i < 5000; i++) {
      expect(table.learn(...mac(i), 0, 0)).toBe(i < 4 ? Learned.NEW : Learned.PORT_FULL);
      if (i === 500) i = 1000; // leave the victim's own address to the next line
    }
    expect(table.learn(...mac(1000), 0, 0)).toBe(Learned.PORT_FULL);
    expect([table.size, table.learnedBy(0), table.lookup(...mac(1000), 0)]).toEqual([5, 4, 1]);
  });

  it("holds as many as it may and no more, through every doubling", () => {
    const table = new MacTable({ ageMs: 1e6, perPort: 1e6, capacity: 3000, seed: 1 });
    let learned = 0;
    for (let i = 0; i < 4000; i++) {
      const result = table.learn(...mac(i * 0x1_0000_0001), i % 7, i);
      if (result === Learned.NEW) learned++;
      else expect(result).toBe(Learned.TABLE_FULL);
    }
    expect(learned).toBe(3000);
    expect(table.tableFull).toBe(1000);
    for (let i = 0; i < 3000; i++)
      expect(table.lookup(...mac(i * 0x1_0000_0001), 4000)).toBe(i % 7);
    table.forgetPort(3);
    expect(table.learnedBy(3)).toBe(0);
    expect(table.lookup(...mac(3 * 0x1_0000_0001), 4000)).toBe(-1);
    expect(table.lookup(...mac(4 * 0x1_0000_0001), 4000)).toBe(4);
  });

  it("pins static entries, which do not age, move or count", () => {
    const table = new MacTable({ ageMs: 1, perPort: 1 });
    table.learn(...mac(1), 0, 0);
    expect(table.addStatic(...mac(1), 5)).toBe(true);
    expect([table.learnedBy(0), table.learnedBy(5), table.size]).toEqual([0, 0, 1]);
    expect(table.learn(...mac(1), 0, 0)).toBe(Learned.STATIC);
    table.sweep(1e9);
    expect(table.lookup(...mac(1), 1e9)).toBe(5);
    table.forget(...mac(1));
    expect(table.lookup(...mac(1), 1e9)).toBe(-1);
    expect(table.size).toBe(0);
  });

  it("refuses what its full bucket can't take, evicting nobody", () => {
    // With 64 entries in 32 buckets of 8, one seed in a hundred or so overfills a bucket.
    let refused = 0;
    for (let n = 0; n < 2000 && refused === 0; n++) {
      const seed = Math.imul(n, 0x9e37_79b1);
      const table = new MacTable({ ageMs: 1e6, perPort: 1e6, capacity: 64, seed });
      const results = Array.from({ length: 64 }, (_, i) => table.learn(...mac(i), i, 0));
      refused = table.tableFull;
      for (let i = 0; i < 64; i++) {
        expect(table.lookup(...mac(i), 0)).toBe(results[i] === Learned.NEW ? i : -1);
      }
      expect(table.size).toBe(64 - refused);
    }
    expect(refused).toBeGreaterThan(0);
  });
});
