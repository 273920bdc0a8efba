/**
 * Reports the progress of a run of many files: one line at the start, then at most one every ten
 * seconds,
 *
 *   progress: 34 of 162 files, 2 min 10 s, 1 test failed
 */
import type { Reporter, TestModule } from "vitest/node";
import { slowness } from "./slowness.ts";

const EVERY_MS = 10_000;
/** A run of fewer files ends before a line would help. */
const MANY_FILES = 10;

export default class ProgressReporter implements Reporter {
  #files = 0;
  #done = 0;
  #failed = 0;
  #began = 0;
  #said = 0;

  onTestRunStart(specifications: readonly unknown[]): void {
    this.#files = specifications.length;
    this.#began = this.#said = performance.now();
    if (this.#files < MANY_FILES) return;
    const factor = slowness();
    const limits =
      factor > 1 ? `; the machine is busy: time limits ${factor.toFixed(1)} times` : "";
    console.log(`progress: ${this.#files} files of tests${limits}`);
  }

  onTestModuleEnd(module: TestModule): void {
    this.#done++;
    for (const _ of module.children.allTests("failed")) this.#failed++;
    const now = performance.now();
    if (this.#files < MANY_FILES || now - this.#said < EVERY_MS) return;
    this.#said = now;
    const tests = this.#failed === 1 ? "test" : "tests";
    const failed = this.#failed === 0 ? "" : `, ${this.#failed} ${tests} failed`;
    console.log(
      `progress: ${this.#done} of ${this.#files} files, ${time(now - this.#began)}${failed}`,
    );
  }
}

function time(ms: number): string {
  const seconds = Math.floor(ms / 1000);
  return `${Math.floor(seconds / 60)} min ${String(seconds % 60).padStart(2, "0")} s`;
}
