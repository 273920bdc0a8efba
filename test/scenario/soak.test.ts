/**
 * Frames at full speed between pairs of frontends, beside random floods, pauses, kills and broken
 * lines. RINGWIRE_SOAK=1 runs 10^8 frames, RINGWIRE_TEST_FRAMES another number. RINGWIRE_SEED repeats
 * the order of the trouble.
 */
import { expect, it } from "vitest";
import { SOAK } from "../support/counts.ts";
import { Random, seedOfRun } from "../support/random.ts";
import { dropsOf, type Sample, Soak, type SoakTimes, TROUBLES } from "../support/soak.ts";

const FRAMES = Number(process.env["RINGWIRE_TEST_FRAMES"] ?? (SOAK ? 1e8 : 2000));
const TIMES: SoakTimes = SOAK
  ? { calmMs: 500, floodMs: [500, 5000], pausesMs: [100, 500, 1500, 3000, 6000] }
  : { rate: 1000, calmMs: 50, floodMs: [300, 300], pausesMs: [300] };
/**
 * Growth of the device from the first fifth of the frames to any later one, by their medians: the
 * collector's freedom, and buffers that pools keep. A flood that holds memory has single peaks.
 */
const GROWTH_MIB = 64;
const REPORT_MS = 30_000;

const random = new Random(seedOfRun());

/** Memory of the device (MiB) in each fifth of the frames: the median of its rounds. */
function memory(samples: readonly Sample[], frames: number): number[] {
  return [1, 2, 3, 4, 5].map((fifth) => {
    const isIn = (sample: Sample) => Math.ceil((5 * sample.frames) / frames) === fifth;
    const sizes = samples.filter(isIn).map(({ rssMiB }) => rssMiB);
    return sizes.toSorted((a, b) => a - b)[sizes.length >> 1] ?? 0;
  });
}

it(`frames beside random trouble are all accounted for (RINGWIRE_SEED=${random.seed})`, async () => {
  await using soak = await Soak.start(random, TIMES);
  // Each trouble once, then at random.
  const first = [...TROUBLES];
  const begun = performance.now();
  let reported = begun;
  while (first.length > 0 || soak.frames < FRAMES) {
    await soak.round(first.pop() ?? random.pick(TROUBLES));
    if (!SOAK || performance.now() - reported < REPORT_MS) continue;
    reported = performance.now();
    const seconds = Math.round((reported - begun) / 1000);
    console.log(JSON.stringify({ seconds, ...soak.samples.at(-1), ...soak.done }));
  }
  if (SOAK) {
    const [before, ...later] = memory(soak.samples, soak.frames);
    const drops = dropsOf(await soak.device.status());
    const { ends, logged, done } = soak;
    console.log(JSON.stringify({ drops, ends, logged, done, rssMiB: [before, ...later] }));
    expect(Math.max(...later)).toBeLessThanOrEqual(before! + GROWTH_MIB);
  }
  expect(soak.frames).toBeGreaterThanOrEqual(FRAMES);
});
