import { availableParallelism } from "node:os";
import { defineConfig } from "vitest/config";

const second = 1000;
/** A soak runs the full counts, which take as long as they take. */
const soak = process.env["RINGWIRE_SOAK"] === "1";

function kinds(...names: string[]): string[] {
  return names.map((name) => `test/${name}/**/*.test.ts`);
}

export default defineConfig({
  test: {
    environment: "node",
    reporters: ["default", "./test/support/skip-reporter.ts"],
    teardownTimeout: 10 * second,
    setupFiles: ["./test/support/generators.ts"],
    projects: [
      {
        // Everything that stays inside its own process.
        extends: true,
        test: {
          name: "inside",
          include: kinds("unit", "golden", "contract", "property", "seed"),
          pool: "forks",
          maxWorkers: Math.max(2, availableParallelism()),
          testTimeout: soak ? 3600 * second : 60 * second,
          hookTimeout: 30 * second,
          sequence: { groupOrder: 0 },
        },
      },
      {
        // Real processes that share nothing: two files at a time.
        extends: true,
        test: {
          name: "beside",
          include: kinds("hostile", "interop"),
          pool: "forks",
          maxWorkers: 2,
          testTimeout: soak ? 3600 * second : 180 * second,
          hookTimeout: 60 * second,
          sequence: { groupOrder: 1 },
        },
      },
      {
        // Network namespaces, a whole machine's load, clocks: one file at a time, nothing beside it.
        extends: true,
        test: {
          name: "outside",
          include: kinds("scenario"),
          pool: "forks",
          fileParallelism: false,
          maxWorkers: 1,
          testTimeout: soak ? 3600 * second : 180 * second,
          hookTimeout: 60 * second,
          sequence: { groupOrder: 2 },
        },
      },
    ],
  },
});
