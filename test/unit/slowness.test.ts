import { mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { availableParallelism, tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { NODE, ROOT, run } from "../support/process.ts";
import { isTooSlow, slowness, WaitedTooLong } from "../support/slowness.ts";

describe("ux-P9 time limits", () => {
  it("grow with the measured speed, with the load of a core, and by hand", () => {
    const cores = availableParallelism();
    expect(slowness({}, 0)).toBe(1);
    expect(slowness({ RINGWIRE_TEST_MEASURED: "0.50" }, 0)).toBe(1);
    expect(slowness({ RINGWIRE_TEST_MEASURED: "2.50" }, 0)).toBe(2.5);
    expect(slowness({ RINGWIRE_TEST_MEASURED: "2.50" }, 10 * cores)).toBe(10);
    expect(slowness({ RINGWIRE_TEST_MEASURED: "2.50", RINGWIRE_TEST_SLOW: "4" }, 99 * cores)).toBe(
      4,
    );
    expect(slowness({}, 1e6)).toBe(50);
  });

  it("are told from wrong results by name, message or cause", () => {
    expect(isTooSlow(new WaitedTooLong(5, "a frame"))).toBe(true);
    expect(isTooSlow({ message: "Test timed out in 60000ms." })).toBe(true);
    expect(isTooSlow({ message: "Hook timed out in 30000ms." })).toBe(true);
    expect(isTooSlow({ message: "Property failed", cause: new WaitedTooLong(5, "x") })).toBe(true);
    expect(isTooSlow({ name: "AssertionError", message: "expected 1 to be 2" })).toBe(false);
    expect(isTooSlow({ message: "x", cause: "y" })).toBe(false);
  });
});

const TESTS = `import { beforeAll, describe, expect, it } from "vitest";
const never = new Promise(() => {});
it("is right", () => {});
it("is wrong", () => expect(1).toBe(2));
it("is too slow", () => never);
describe("whose hook is too slow", () => {
  beforeAll(() => never);
  it("is skipped", () => {});
});
`;

describe("ux-P9 the summary of a run", () => {
  it("says what was too slow apart from what is wrong, and keeps its last line", async () => {
    const folder = mkdtempSync(join(tmpdir(), "ringwire-slowness-"));
    try {
      symlinkSync(join(ROOT, "node_modules"), join(folder, "node_modules"));
      writeFileSync(join(folder, "made.test.ts"), TESTS);
      const config = `import { defineConfig } from "vitest/config";
        export default defineConfig({ test: {
          root: ${JSON.stringify(folder)}, testTimeout: 100, hookTimeout: 100,
          reporters: [${JSON.stringify(join(ROOT, "test/support/skip-reporter.ts"))}],
        } });`;
      writeFileSync(join(folder, "vitest.config.ts"), config);
      const vitest = join(ROOT, "node_modules/vitest/vitest.mjs");
      const child = await run([NODE, vitest, "run", "--config", join(folder, "vitest.config.ts")], {
        env: { RINGWIRE_STRICT_SKIPS: "0", CI: "", RINGWIRE_TEST_SLOW: "3" },
      });

      expect(child.exit?.code).toBe(1);
      expect(child.stdout.trimEnd().split("\n").slice(-2)).toEqual([
        expect.stringMatching(
          /^2 of 3 failed by running out of time, 1 by a wrong result\. .*=12\.$/,
        ),
        "1 passed, 3 failed, 1 skipped",
      ]);
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });
});
