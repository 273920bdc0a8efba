import { describe, expect, test } from "vitest";
import { cpuNsOf, rssBytesOf, switchesOf } from "../bench/processor.ts";
import { quantile, ratioOf, Samples } from "../bench/stats.ts";

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
