import { describe, expect, test } from "vitest";
import { compareText, differences } from "../bench/compare.ts";
import { type Figures, fromJson, toJson } from "../bench/figures.ts";
import { Histogram } from "../bench/histogram.ts";
import { cpuNsOf, rssBytesOf, switchesOf } from "../bench/processor.ts";
import { reportText } from "../bench/report.ts";
import { quantile, ratioOf, Samples } from "../bench/stats.ts";
import { svgText } from "../bench/svg.ts";
import { tableText } from "../bench/table.ts";
import { longestTurnMs } from "../bench/turns.ts";
import { BASE, Outcome, type Outcomes } from "../bench/variant.ts";
import { compareSamples, judgeRatios } from "../bench/verdict.ts";

/** Rows by name, each metric with its rounds. */
function outcomesOf(rows: Record<string, Record<string, number[]>>): Outcomes {
  const outcomes = new Map<string, Outcome>();
  for (const [name, metrics] of Object.entries(rows)) {
    const outcome = new Outcome();
    for (const [metric, values] of Object.entries(metrics)) {
      for (const value of values) outcome.add({ [metric]: value });
    }
    outcomes.set(name, outcome);
  }
  return outcomes;
}

function figuresOf(outcomes: Outcomes): Figures {
  const machine = {
    cpu: "a <CPU>",
    cores: 2,
    memoryBytes: 2 ** 33,
    kernel: "6",
    node: "24",
    load: 1,
  };
  const run = { rounds: 3, slices: 1, seconds: 2, ringSize: 4096, zeroMask: false, nice: 15 };
  return { machine, options: run, outcomes };
}

const TAP = {
  "tap/ena": { pingP50Us: [600, 1200, 610], tcpBitsPerSecond: [2e9, 1e9, 2.1e9] },
  [`${BASE}tap/ena`]: { pingP50Us: [1200, 2400, 1220], tcpBitsPerSecond: [1e9, 1.1e9, 1e9] },
  "ring/60": { framesPerSecond: [3e5, 1.5e5, 3e5], cpuSecondsPerMFrames: [4, 4.1, 4] },
  "limit/60x64": { framesPerSecond: [6e6, 3e6, 6e6] },
  "tap/vde2": { pingP50Us: [200, 400, 200] },
  "tap/vtun": { tcpBitsPerSecond: [5e8, 2.5e8, 5e8] },
};

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

describe("a verdict", () => {
  const verdict = (metric: string, before: number[], now: number[]) =>
    compareSamples(metric, new Samples(before), new Samples(now));

  test("is better or worse only when the rounds do not overlap", () => {
    expect(verdict("pingP50Us", [10, 11, 12], [7, 8, 9])).toBe("better");
    expect(verdict("pingP50Us", [10, 11, 12], [13, 14, 15])).toBe("worse");
    expect(verdict("pingP50Us", [10, 11, 12], [7, 8, 10])).toBe("same");
  });

  test("knows of which metrics more is better", () => {
    for (const metric of ["tcpBitsPerSecond", "framesPerSecond", "rateRatio"]) {
      expect(verdict(metric, [1, 1, 1], [2, 2, 2])).toBe("better");
    }
    for (const metric of ["rssBytes", "tcpCpuSecondsPerGB", "p99Ratio", "linksLost"]) {
      expect(verdict(metric, [1, 1, 1], [2, 2, 2])).toBe("worse");
    }
    expect(verdict("drop_queue_full", [1, 1, 1], [2, 2, 2])).toBe("changed");
  });

  test("forgives an outlier among many rounds, and needs three", () => {
    expect(
      verdict("rssBytes", [10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 1], [5, 5, 5, 5, 5, 5]),
    ).toBe("better");
    expect(verdict("rssBytes", [10, 10], [5, 5, 5])).toBe("few rounds");
  });

  test("of ratios to the base needs all rounds on one side of 1", () => {
    expect(judgeRatios("pingP50Us", new Samples([0.5, 0.9, 0.99]))).toBe("better");
    expect(judgeRatios("pingP50Us", new Samples([0.5, 0.9, 1.01]))).toBe("same");
    expect(judgeRatios("tcpBitsPerSecond", new Samples([0.5, 0.9, 0.8]))).toBe("worse");
  });
});

describe("a distribution", () => {
  test("survives its plain form, and two add up", () => {
    const one = Histogram.of([1, 100, 100, 5000, 0.2]);
    const copy = Histogram.from(JSON.parse(JSON.stringify(one)));
    expect(copy).toEqual(one);
    copy.merge(one);
    expect(copy.total).toBe(10);
    expect(copy.cumulative().at(-1)?.[1]).toBe(1);
  });

  test("has a bar for each half octave, and shows a single value", () => {
    const many = Histogram.of([...new Array<number>(1000).fill(33), 70, 1e6]);
    expect(many.bars(5, 8)).toBe("█ ▁  ▁");
  });
});

describe("a run", () => {
  const outcomes = outcomesOf(TAP);

  test("survives its file", () => {
    outcomes.get("tap/ena")!.add({ pingUs: Histogram.of([600, 700]) });
    const { outcomes: read, ...rest } = fromJson(toJson(figuresOf(outcomes)));
    expect(read).toEqual(outcomes);
    expect(rest).toEqual({ ...figuresOf(outcomes), outcomes: undefined });
    expect(() => fromJson("{}")).toThrow(/no figures/);
  });

  test("prints each figure, and ratios with a verdict", () => {
    const text = reportText(figuresOf(outcomes));
    expect(text).toMatch(/pingP50Us +610 ±97 +1\.22 k ±97/);
    expect(text).toMatch(/tap\/ena \/ base +pingP50Us +0\.500 +0\.500 to 0\.500 +better/);
    expect(text).toMatch(/tap\/ena \/ base +tcpBitsPerSecond .* same/);
    expect(text).toMatch(/tap\/ena \/ tap\/vde2 +pingP50Us +3\.00/);
    expect(text).toMatch(/tap\/ena pingUs +\| .*█/);
  });

  test("prints tables for the README", () => {
    const table = tableText(figuresOf(outcomes));
    expect(table).toContain("| ping each 4 ms, median | 610 µs, 3.0 × `vde2` | – |");
    expect(table).toContain("| TCP, one stream, there | 2.00 Gbit/s, 4.0 × `vtun` | – |");
    expect(table).toContain(
      "| ring to ring, 60 bytes | 300 k frames/s, 4.0 µs each, 0.050 × limit | – |",
    );
    expect(table).not.toContain("NaN");
  });

  test("is drawn, with its texts escaped", () => {
    const svg = svgText(figuresOf(outcomes));
    expect(svg).toContain("a &#60;CPU&#62;");
    expect(svg).toContain("tap: pingP50Us");
    expect(svg).not.toContain("NaN");
  });

  test("is compared with an earlier one, figures and ratios", () => {
    const now = outcomesOf({ ...TAP, "tap/ena": { pingP50Us: [300, 310, 305] } });
    const verdicts = Object.fromEntries(
      differences(outcomes, now).map(({ name, verdict }) => [name, verdict]),
    );
    expect(verdicts).toMatchObject({
      "tap/ena pingP50Us": "better",
      "tap/ena / tap/vde2 pingP50Us": "better",
      "tap/vtun tcpBitsPerSecond": "same",
    });
    expect(verdicts).not.toHaveProperty("tap/ena tcpBitsPerSecond");
    expect(compareText(outcomes, now)).toMatch(/^better +tap\/ena pingP50Us +0\.50/);
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
