/** V8 reports an unknown option on stderr and goes on, so a renamed one would be lost silently. */
import { execFileSync } from "node:child_process";
import process from "node:process";
import { expect, test, vi } from "vitest";

const set = vi.hoisted(() => vi.fn<(flag: string) => void>());
vi.mock("node:v8", () => ({ setFlagsFromString: set }));

// Another file of this worker may have loaded the module with the real node:v8.
vi.resetModules();
const { keepCollectionsShort, tuneV8 } = await import("../../cli/common/compiler.ts");

test("this Node knows the options of V8 that the command sets", () => {
  tuneV8();
  keepCollectionsShort();
  const known = execFileSync(process.execPath, ["--v8-options"], { encoding: "utf8" });
  const names = set.mock.calls.map(([flag]) => /^--(?:no-)?([a-z-]+)(?:=\d+)?$/.exec(flag)?.[1]);
  expect(names).toHaveLength(5);
  for (const name of names) expect(known).toContain(`  --${name} `);
});
