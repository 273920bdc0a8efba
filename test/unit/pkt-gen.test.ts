/** pkt-gen's parts: frames, accounting of numbers, histogram, report lines. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Counts } from "../../frontend/apps/app.ts";
import { parseEndpoints } from "../../frontend/apps/pkt-gen/endpoints.ts";
import { DelayHistogram } from "../../frontend/apps/pkt-gen/histogram.ts";
import { type FrameOptions, UdpFrames } from "../../frontend/apps/pkt-gen/packet.ts";
import { SequenceLog } from "../../frontend/apps/pkt-gen/sequence.ts";
import { Reporter, totalText, unitText } from "../../frontend/apps/report.ts";
import { verifyL3 } from "../../shared/net/checksum.ts";
import { Frame } from "../../shared/net/frame.ts";
import { Headers } from "../../shared/net/headers.ts";
import { plainSum, pseudoHeader } from "../support/packets.ts";

const OPTIONS: FrameOptions = {
  lengthMin: 60,
  lengthMax: 60,
  src: parseEndpoints("10.0.0.1"),
  dst: parseEndpoints("10.1.0.1"),
  srcMac: Uint8Array.of(2, 0, 0, 0, 0, 1),
  dstMac: new Uint8Array(6).fill(0xff),
  randomSrc: false,
  randomDst: false,
};

/** The fields that an independent parser finds in a frame. */
function judge(bytes: Uint8Array, length: number) {
  const frame = new Frame();
  const headers = new Headers();
  frame.push(bytes, 0, length);
  const isWhole = headers.parse(frame);
  const { l3Offset, l4Offset, l3End } = headers;
  const packet = bytes.subarray(0, l3End);
  const l4 = plainSum(pseudoHeader(packet, l3Offset, l4Offset, 17), packet.subarray(l4Offset));
  return { isWhole, l3: verifyL3(headers), l4 };
}

const GOOD = { isWhole: true, l3: true, l4: 0xffff };

describe("frames", () => {
  it("have both checksums right, whatever changes in them", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 60, max: 9014 }),
        fc.array(fc.integer({ min: 0, max: 0xffff_ffff }), { minLength: 3, maxLength: 3 }),
        fc.boolean(),
        (length, [seq = 0, seconds = 0, nanoseconds = 0], random) => {
          const frames = new UdpFrames(
            { ...OPTIONS, lengthMin: length, lengthMax: length, randomSrc: random },
            true,
          );
          Object.assign(frames, { seq, seconds, nanoseconds });
          expect(judge(frames.bytes, frames.next())).toEqual(GOOD);
        },
      ),
    );
  });

  it("walk the sources, then the destinations, and begin again", () => {
    const frames = new UdpFrames(
      {
        ...OPTIONS,
        src: parseEndpoints("10.0.0.1:7-10.0.0.2:8"),
        dst: parseEndpoints("10.1.0.1:9-10.1.0.1:10"),
      },
      false,
    );
    const view = new DataView(frames.bytes.buffer);
    const seen = Array.from({ length: 9 }, () => {
      expect(judge(frames.bytes, frames.next())).toEqual(GOOD);
      return [view.getUint8(29), view.getUint16(34), view.getUint16(36)].join();
    });
    expect(seen).toEqual([
      ...["1,7,9", "1,8,9", "2,7,9", "2,8,9"],
      ...["1,7,10", "1,8,10", "2,7,10", "2,8,10", "1,7,9"],
    ]);
  });

  it("are the same, and said to be, only when nothing changes", () => {
    expect(new UdpFrames(OPTIONS, false).isSame).toBe(true);
    expect(new UdpFrames(OPTIONS, true).isSame).toBe(false);
    expect(new UdpFrames({ ...OPTIONS, lengthMax: 61 }, false).isSame).toBe(false);
    expect(new UdpFrames({ ...OPTIONS, randomDst: true }, false).isSame).toBe(false);
  });
});

describe("the account of numbers", () => {
  const count = (numbers: readonly number[]) => {
    const log = new SequenceLog();
    for (const n of numbers) log.saw(n >>> 0);
    return log.report();
  };

  it("agrees with a set, in any order, with repetitions, across the wrap", () => {
    fc.assert(
      fc.property(
        fc.constantFrom(0, 0x7fff_ff00, 0xffff_ff00),
        fc.array(fc.integer({ min: 0, max: 600 }), { minLength: 1, maxLength: 800 }),
        (start, offsets) => {
          const first = offsets[0]!;
          const known = new Set<number>();
          let [highest, duplicate, stale, late] = [first, 0, 0, 0];
          for (const n of offsets) {
            if (n < first) stale++;
            else if (known.has(n)) duplicate++;
            else {
              if (n < highest) late++;
              known.add(n);
              highest = Math.max(highest, n);
            }
          }
          expect(count(offsets.map((n) => start + n))).toMatchObject({
            first: (start + first) >>> 0,
            highest: (start + highest) >>> 0,
            unique: known.size,
            missing: highest - first + 1 - known.size,
            duplicate,
            stale,
            late,
          });
        },
      ),
    );
  });

  it("survives a gap wider than its window", () => {
    const far = 1 << 20;
    expect(count([0, 1, far, far + 1, 5])).toMatchObject({
      unique: 4,
      missing: far - 2,
      stale: 1,
      duplicate: 0,
    });
  });
});

describe("the histogram", () => {
  it("knows quantiles to a sixteenth, and counts every delay once", () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 1, max: 2 ** 40 }), { minLength: 1, maxLength: 300 }),
        (delays) => {
          const histogram = new DelayHistogram();
          for (const ns of delays) histogram.add(ns);
          const report = histogram.report();
          const sorted = delays.toSorted((a, b) => a - b);
          expect(report.octaves.reduce((n, [, some]) => n + some, 0)).toBe(delays.length);
          expect([report.minNs, report.maxNs]).toEqual([sorted[0], sorted.at(-1)]);
          for (const [q, ns] of [
            [0.5, report.p50Ns],
            [0.99, report.p99Ns],
          ] as const) {
            const exact = sorted[Math.ceil(q * sorted.length) - 1]!;
            expect(Math.abs(ns - exact)).toBeLessThanOrEqual(exact / 16 + 1);
          }
        },
      ),
    );
  });
});

describe("the lines", () => {
  it("are those of netmap's pkt-gen", () => {
    const counts = new Counts();
    const style = { plain: false, averages: false, framing: false };
    const reporter = new Reporter([counts], style);
    counts.add(500, 30_000);
    counts.add(250, 15_000);
    const text = reporter.rateText(reporter.rate());
    expect(text).toMatch(
      /^[\d.]+ [KMG]?pps \(750\.000 pkts [\d.]+ [KMG]?bps in \d+ usec\) 375\.00 avg_batch 99999 min_space$/,
    );
    const total = {
      ...{ packets: 1000, bytes: 60_000, events: 2, seconds: 1, packetsPerSecond: 1000 },
      ...{ bitsPerSecond: 480_000, averageBatch: 500, drops: 0, errors: 0 },
    };
    expect(totalText("Sent", total, style)).toEqual([
      "Sent 1000 packets 60000 bytes 2 events 60 bytes each in 1.00 seconds.",
      "Speed: 1.000 Kpps Bandwidth: 480.000 Kbps (raw 672.000 Kbps). Average batch: 500.00 pkts",
    ]);
    expect(totalText("Sent", { ...total, packets: 0 }, style)).toEqual(["Sent nothing."]);
  });

  it("have plain numbers when asked", () => {
    expect([unitText(907_878, false), unitText(907_878, true)]).toEqual([
      "907.878 K",
      "907878.000 ",
    ]);
  });
});
