/**
 * Prints the last line of a test run: `N passed, N failed, N skipped`. A line before it reports how
 * many failures only ran out of time, which means a slow machine and not a wrong result.
 *
 * With CI=true or RINGWIRE_STRICT_SKIPS=1 a skipped test counts as failed unless test/skips.json
 * names it, `"<file> > <full name>": "<reason>"`. An entry that fits no test of a file that ran
 * counts as failed too, so that the list holds no outdated entries.
 */
import { readFileSync, writeSync } from "node:fs";
import type { Reporter, SerializedError, TestModule, TestRunEndReason } from "vitest/node";
import { isTooSlow, type ReportedError, slowness } from "./slowness.ts";

const SKIPS = new URL("../skips.json", import.meta.url);
const STDOUT = 1;

export default class SkipReporter implements Reporter {
  readonly #strict =
    process.env["RINGWIRE_STRICT_SKIPS"] === "1" || /^(true|1)$/.test(process.env["CI"] ?? "");
  #line = "";
  #tooSlow = "";

  onInit(): void {
    // Printed at exit, so that no output of vitest follows.
    process.once("exit", () => {
      if (this.#line !== "") writeSync(STDOUT, `${this.#tooSlow}${this.#line}\n`);
    });
  }

  onTestRunEnd(
    modules: readonly TestModule[],
    unhandled: readonly SerializedError[],
    reason: TestRunEndReason,
  ): void {
    const run = count(modules);
    const listed = JSON.parse(readFileSync(SKIPS, "utf8")) as Record<string, unknown>;
    const unlisted = this.#strict ? unlistedSkips(run, listed) : [];
    const complaints = this.#strict ? [...unlisted, ...wrongEntries(run, listed)] : [];
    for (const complaint of complaints) console.error(`skips: ${complaint}`);

    let failed = run.failed + unhandled.length + complaints.length;
    if (reason !== "passed" && failed === 0) failed = 1;
    if (failed > 0) process.exitCode = 1;

    const skipped = run.skipped.size - unlisted.length;
    this.#tooSlow = tooSlowLine(run.tooSlow, failed);
    this.#line = `${run.passed} passed, ${failed} failed, ${skipped} skipped`;
  }
}

class Run {
  passed = 0;
  /** Failed tests, and suites and files that failed outside of any test. */
  failed = 0;
  /** Of these, the failures that ran out of time and have no other error. */
  tooSlow = 0;
  readonly skipped = new Map<string, string | undefined>();
  readonly names = new Set<string>();
  readonly files = new Set<string>();
}

function count(modules: readonly TestModule[]): Run {
  const run = new Run();
  for (const module of modules) {
    run.files.add(module.relativeModuleId);
    fail(run, module.errors());
    for (const suite of module.children.allSuites()) fail(run, suite.errors());
    for (const test of module.children.allTests()) {
      const name = `${module.relativeModuleId} > ${test.fullName}`;
      const result = test.result();
      run.names.add(name);
      if (result.state === "passed") run.passed++;
      else if (result.state === "skipped") run.skipped.set(name, result.note);
      else if (result.errors?.length) fail(run, result.errors);
      else run.failed++;
    }
  }
  return run;
}

/** Counts one failure, unless there is no error. */
function fail(run: Run, errors: readonly ReportedError[]): void {
  if (errors.length === 0) return;
  run.failed++;
  if (errors.every(isTooSlow)) run.tooSlow++;
}

/** The line about failures by time-out; empty when there are none. */
function tooSlowLine(tooSlow: number, failed: number): string {
  if (tooSlow === 0) return "";
  const again = Math.ceil(slowness() * 4);
  return (
    `${tooSlow} of ${failed} failed by running out of time, ${failed - tooSlow} by a wrong result. ` +
    "Out of time means that the machine was too slow or too busy, or that something hangs: " +
    `run those again with RINGWIRE_TEST_SLOW=${again}.\n`
  );
}

/** One sentence for each skipped test that the list does not name. */
function unlistedSkips(run: Run, listed: Record<string, unknown>): string[] {
  const unlisted = [...run.skipped].filter(([name]) => listed[name] === undefined);
  return unlisted.map(([name, note]) => {
    const why = note === undefined ? "" : ` (${note})`;
    return `skipped, and not in test/skips.json: ${name}${why}`;
  });
}

/** One sentence for each entry of the list that gives no reason or fits no test. */
function wrongEntries(run: Run, listed: Record<string, unknown>): string[] {
  return Object.entries(listed).flatMap(([name, reason]) => {
    const file = name.split(" > ", 1)[0]!;
    if (typeof reason !== "string" || reason.trim() === "") {
      return `no reason given in test/skips.json: ${name}`;
    }
    const isStale = run.files.has(file) && !run.names.has(name);
    return isStale ? `test/skips.json names a test that does not exist: ${name}` : [];
  });
}
