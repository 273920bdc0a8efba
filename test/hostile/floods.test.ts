/**
 * Floods of test/support/floods.ts, one after the other, beside the neighbours. `npm run bench --
 * neighbours http` measures rates and latencies; here nothing may be lost or stay behind.
 */
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { cases } from "../support/counts.ts";
import { FLOOD_NAMES, type FloodName } from "../support/floods.ts";
import { HostileStage } from "../support/hostile-stage.ts";
import { NODE, ROOT, sleep, start } from "../support/process.ts";
import { Random, seedOfRun } from "../support/random.ts";

const FLOOD_MS = 500;
const WORKER = join(ROOT, "test/support/flood-worker.ts");
/** The device may hold 142 MiB for it, within its budget; the stage allows hardly more. */
const HOLDS_MEMORY: FloodName = "unfinished-messages";

let stage: HostileStage;

beforeAll(async () => {
  stage = await HostileStage.openMixed();
});

afterAll(async () => {
  await stage.close();
});

/** Other floods in each run, all in a soak. */
function chosen(): FloodName[] {
  const random = new Random(seedOfRun());
  const names = FLOOD_NAMES.filter((name) => name !== HOLDS_MEMORY);
  const count = cases(names.length);
  return Array.from({ length: count }, () => names.splice(random.below(names.length), 1)[0]!);
}

it.each(chosen())("a flood of %s leaves the neighbours whole", async (name) => {
  const argv = ["nice", "-n", "15", NODE, "--no-warnings", WORKER, String(stage.port), name];
  const flood = start(argv);
  await flood.waitForJson((line) => line["flooding"] === true);
  await sleep(FLOOD_MS);
  await flood.stop();
  await stage.unharmed();
  expect(flood.stderr).toBe("");
});
