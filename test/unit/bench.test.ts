import { describe, expect, test } from "vitest";
import { cpuNsOf, rssBytesOf, switchesOf } from "../bench/processor.ts";
import { quantile, ratioOf, Samples } from "../bench/stats.ts";
import { longestTurnMs } from "../bench/turns.ts";

describe("statistics of the bench", () => {
  test("a quantile lies between its neighbours, and none is NaN", () => {
    expect(quantile([4, 1, 3, 2], 0.5)).toBe(2.5);
    expect(quantile([4, 1, 3, 2], 1)).toBe(4);
    expect(quantile([], 0.5)).toBeNaN();
  });

  test("a ratio compares values of the same round", () => {
    // The second round met a busy machine, which doubles both.
    const ratio = ratioOf(new Samples([10, 20, 11]), new Samples([5, 10, 5.5]));
    expect(ratio.values).toEqual([2, 2, 2]);
  });

  test("there is no ratio when one side missed a round", () => {
    expect(ratioOf(new Samples([10, 20]), new Samples([5])).count).toBe(0);
    expect(ratioOf(undefined, new Samples([5])).count).toBe(0);
  });
});

test("the longest turn is that of any thread, within the time of the flood", () => {
  const main = "1000 2.50\n1100 90.00\n1200 7.25\n";
  const worker = "1150 3.00\n1250 12.00\n";
  expect(longestTurnMs([main, worker], 1120, 1300)).toBe(12);
  expect(longestTurnMs([main, worker], 1120, 1210)).toBe(7.25);
  expect(longestTurnMs([""], 0, 9999)).toBe(0);
});

describe("what /proc says", () => {
  test("schedstat begins with the time on a processor", () => {
    expect(cpuNsOf("182176376 167304056 677\n")).toBe(182_176_376);
    expect(cpuNsOf("")).toBe(0);
  });

  test("both kinds of context switches count", () => {
    const status = "Name:\tnode\nvoluntary_ctxt_switches:\t520\nnonvoluntary_ctxt_switches:\t157\n";
    expect(switchesOf(status)).toBe(677);
    expect(switchesOf("")).toBe(0);
  });

  test("resident memory is in kB, and an ended process has none", () => {
    expect(rssBytesOf("Name:\tnode\nVmRSS:\t    1024 kB\n")).toBe(1 << 20);
    expect(rssBytesOf("Name:\tnode\n")).toBe(0);
  });
});
