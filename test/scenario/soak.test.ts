/**
 * Frames at full speed between pairs of frontends, beside random floods, pauses, kills and broken
 * lines. RINGWIRE_SOAK=1 runs 10^8 frames, RINGWIRE_SOAK_FRAMES another number. RINGWIRE_SEED repeats
 * the order of the trouble.
 */
import { expect, it } from "vitest";
import { SOAK } from "../support/counts.ts";
import { Random, seedOfRun } from "../support/random.ts";
import { dropsOf, type Sample, Soak, type SoakTimes, TROUBLES } from "../support/soak.ts";

const FRAMES = Number(process.env["RINGWIRE_SOAK_FRAMES"] ?? (SOAK ? 1e8 : 1e4));
const TIMES: SoakTimes = SOAK
  ? { calmMs: 500, floodMs: [500, 5000], pausesMs: [100, 500, 1500, 3000, 6000] }
  : { rate: 5000, calmMs: 50, floodMs: [300, 300], pausesMs: [300] };
/** Growth of the device after the first fifth: the collector's freedom, and buffers that pools keep. */
const GROWTH_MIB = 64;
const REPORT_MS = 30_000;

const random = new Random(seedOfRun());

/** Highest memory in the first fifth of the frames, and after it. */
function memory(samples: readonly Sample[], frames: number): { first: number; later: number } {
  const highest = (of: (sample: Sample) => boolean) =>
    Math.max(0, ...samples.filter(of).map(({ rssMiB }) => rssMiB));
  return {
    first: highest((sample) => sample.frames <= frames / 5),
    later: highest((sample) => sample.frames > frames / 5),
  };
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
  const { first: before, later } = memory(soak.samples, soak.frames);
  if (SOAK) {
    const drops = dropsOf(await soak.device.status());
    console.log(JSON.stringify({ drops, ends: soak.ends, logged: soak.logged, before, later }));
    expect(later).toBeLessThanOrEqual(before + GROWTH_MIB);
  }
  expect(soak.frames).toBeGreaterThanOrEqual(FRAMES);
});
