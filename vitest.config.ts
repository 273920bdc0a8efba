import { availableParallelism } from "node:os";
import { defineConfig } from "vitest/config";
import { measureSlowness } from "./test/support/slowness.ts";
import type { TimeLimits } from "./test/support/time-limits.ts";

const second = 1000;
/** A soak runs the full counts, which take as long as they take. */
const soak = process.env["RINGWIRE_SOAK"] === "1";

// Before any worker starts: they inherit what is measured here.
const factor = measureSlowness();

function kinds(...names: string[]): string[] {
  return names.map((name) => `test/${name}/**/*.test.ts`);
}

/** They measure what a line or a machine carries, or fill it: one file at a time, nothing beside it. */
const ALONE = [
  ...["accounting", "device-restart", "file-limit", "silent-host", "slow-line"],
  ...["three-hosts", "traffic"],
].map((name) => `test/scenario/${name}.test.ts`);

/** They put a module of their own in the place of one of ours. */
const MOCKING = ["test/unit/netfront-wrap.test.ts"];

/** What both projects share that stay inside their own process. */
const inside = () =>
  ({
    pool: "forks",
    maxWorkers: Math.max(2, availableParallelism()),
    provide: { limits: limits(60, 30) },
    sequence: { groupOrder: 0 },
  }) as const;

/** On the idle machine; test/support/time-limits.ts makes of it what a file gets. */
function limits(testSeconds: number, hookSeconds: number): TimeLimits {
  return { test: soak ? 3600 * second : testSeconds * second, hook: hookSeconds * second };
}

export default defineConfig({
  test: {
    environment: "node",
    reporters: [
      "default",
      "./test/support/progress-reporter.ts",
      "./test/support/skip-reporter.ts",
    ],
    teardownTimeout: 10 * second * factor,
    setupFiles: [
      "./test/support/generators.ts",
      "./test/support/sender-check.ts",
      "./test/support/time-limits.ts",
    ],
    projects: [
      {
        // Everything that stays inside its own process.
        extends: true,
        test: {
          name: "inside",
          include: kinds("unit", "golden", "contract", "property", "seed"),
          exclude: MOCKING,
          ...inside(),
          // Files of a worker share its modules: loading them anew took a third of the time.
          isolate: false,
          restoreMocks: true,
        },
      },
      { extends: true, test: { name: "mocking", include: MOCKING, ...inside() } },
      {
        // Real processes that share nothing. They wait more than they work.
        extends: true,
        test: {
          name: "beside",
          include: kinds("hostile", "interop", "scenario"),
          exclude: ALONE,
          pool: "forks",
          maxWorkers: 2 * Math.max(2, availableParallelism()),
          provide: { limits: limits(180, 60) },
          sequence: { groupOrder: 1 },
        },
      },
      {
        extends: true,
        test: {
          name: "outside",
          include: ALONE,
          pool: "forks",
          fileParallelism: false,
          maxWorkers: 1,
          provide: { limits: limits(180, 60) },
          sequence: { groupOrder: 2 },
        },
      },
    ],
  },
});
