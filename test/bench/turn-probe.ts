/**
 * Loaded into the device by --import. Measures the longest turn of each thread's event loop as
 * processor time, which other processes do not change. A timer runs each TICK_MS. The processor time
 * between two of its runs is at most one turn and TICK_MS. Each thread appends lines "at longest" to
 * a file of its own in the folder RINGWIRE_TURNS; `at` is the time since the epoch, both are in ms.
 */
import { appendFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { threadId } from "node:worker_threads";

const TICK_MS = 2;
const REPORT_MS = 100;

const folder = process.env["RINGWIRE_TURNS"];
if (folder !== undefined) {
  const file = join(folder, String(threadId));
  const spentMs = (): number => {
    const { user, system } = process.threadCpuUsage();
    return (user + system) / 1000;
  };
  let before = spentMs();
  let longest = 0;
  let reportedAt = performance.now();
  setInterval(() => {
    longest = Math.max(longest, spentMs() - before);
    if (performance.now() - reportedAt > REPORT_MS) {
      appendFileSync(file, `${Date.now()} ${longest.toFixed(2)}\n`);
      reportedAt = performance.now();
      longest = 0;
    }
    before = spentMs();
  }, TICK_MS).unref();
}
