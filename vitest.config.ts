import { availableParallelism } from "node:os";
import { defineConfig } from "vitest/config";
import { BaseSequencer, type TestSpecification } from "vitest/node";
import { measureSlowness } from "./test/support/slowness.ts";
import type { TimeLimits } from "./test/support/time-limits.ts";

const second = 1000;
/** A soak runs the full counts, without a time limit that matters. */
const soak = process.env["RINGWIRE_SOAK"] === "1";

// Measured before any worker starts, because the workers inherit the result.
const factor = measureSlowness();

function kinds(...names: string[]): string[] {
  return names.map((name) => `test/${name}/**/*.test.ts`);
}

/** The longest files. They begin first, so that none of them runs on alone at the end. */
const LONG = [
  ...["hostile/ena-queues", "hostile/rogue-backend", "scenario/netmap-pkt-gen", "scenario/migrate"],
  ...["scenario/traffic", "scenario/slow-line", "interop/package", "scenario/cli-process"],
  ...["scenario/capture", "scenario/netmap-kernel", "hostile/bytes", "hostile/http"],
  ...["scenario/lab-class", "scenario/lab-examples", "hostile/locked-floods"],
];

/** The files that wait on processes begin first, the longest before the others. */
class Sequencer extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const place = ({ project, moduleId }: TestSpecification): number => {
      const long = LONG.findIndex((name) => moduleId.endsWith(`/test/${name}.test.ts`));
      if (long >= 0) return long;
      return LONG.length + ["beside", "portable", "mocking", "inside"].indexOf(project.name);
    };
    // A stable sort: files of the same place keep the order of vitest, by size.
    return (await super.sort(files)).sort((a, b) => place(a) - place(b));
  }
}

/** Files that mock a module of the product. */
const MOCKING = ["test/unit/netfront-wrap.test.ts"];

/** Files with processes wait more than they work, so there are more workers than cores. */
const maxWorkers = 2 * Math.max(2, availableParallelism());
/** Settings of the two projects whose tests stay inside their own process. */
const inside = () => ({ pool: "forks", maxWorkers, provide: { limits: limits(60, 30) } }) as const;

/** Limits on the idle machine; test/support/time-limits.ts multiplies them for each file. */
function limits(testSeconds: number, hookSeconds: number): TimeLimits {
  return { test: soak ? 3600 * second : testSeconds * second, hook: hookSeconds * second };
}

/**
 * Files that run once more without the reactor: libuv waits for their sockets. The check leaves out
 * those that say more about what lies above the transport.
 */
const PORTABLE = {
  contract: ["*"],
  hostile: soak ? ["*"] : ["bytes", "fairness", "floods", "handshake", "unfinished", "websocket"],
  scenario: [
    ...["accounting", "device-restart", "lost-links", "tap-kernel"],
    ...(soak ? ["capture", "connect-cycles", "migrate", "slow-line", "tap", "traffic"] : []),
  ],
};

export default defineConfig({
  test: {
    environment: "node",
    reporters: [
      "default",
      "./test/support/progress-reporter.ts",
      "./test/support/skip-reporter.ts",
    ],
    teardownTimeout: 10 * second * factor,
    globalSetup: ["./test/support/compile-cache.ts"],
    setupFiles: [
      "./test/support/disposable-stacks.ts",
      "./test/support/generators.ts",
      "./test/support/sender-check.ts",
      "./test/support/time-limits.ts",
    ],
    sequence: { sequencer: Sequencer },
    projects: [
      {
        // Tests that stay inside their own process.
        extends: true,
        test: {
          name: "inside",
          include: kinds("unit", "golden", "contract", "property", "seed"),
          exclude: MOCKING,
          ...inside(),
          // Files of a worker share its modules, because loading them again took a third of the time.
          isolate: false,
          restoreMocks: true,
        },
      },
      { extends: true, test: { name: "mocking", include: MOCKING, ...inside() } },
      {
        // Tests with real processes, which share nothing with other files.
        extends: true,
        test: {
          name: "beside",
          include: kinds("hostile", "interop", "scenario"),
          pool: "forks",
          maxWorkers,
          provide: { limits: limits(180, 60) },
        },
      },
      {
        extends: true,
        test: {
          name: "portable",
          include: Object.entries(PORTABLE).flatMap(([folder, names]) =>
            names.map((name) => `test/${folder}/${name}.test.ts`),
          ),
          pool: "forks",
          maxWorkers,
          env: { RINGWIRE_REACTOR: "0" },
          provide: { limits: limits(180, 60) },
        },
      },
    ],
  },
});
