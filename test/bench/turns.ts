/** Reads what turn-probe.ts wrote. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

/** The reports of all threads: lines "at longest". */
export const turnsIn = (folder: string): string[] =>
  readdirSync(folder).map((name) => readFileSync(join(folder, name), "utf8"));

/** The longest turn that a thread reported between two times since the epoch, in ms. */
export function longestTurnMs(reports: readonly string[], from: number, to: number): number {
  let longest = 0;
  for (const line of reports.join("\n").split("\n")) {
    const [at = 0, ms = 0] = line.split(" ").map(Number);
    if (at >= from && at <= to) longest = Math.max(longest, ms);
  }
  return longest;
}
