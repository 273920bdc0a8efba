/** The list of mutants fits the source: an edit that no longer applies would prove nothing. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { mutants, SEED_TEST } from "../mutants/mutants.ts";

const root = join(import.meta.dirname, "../..");
const read = (file: string): string => readFileSync(join(root, file), "utf8");

test.each(mutants)("$row: its text stands in $file exactly once", ({ file, search, replace }) => {
  expect(read(file).split(search).length - 1).toBe(1);
  expect(replace).not.toBe(search);
});

test("every row has its mutant, and its test", () => {
  const rows = Array.from({ length: 30 }, (_, i) => `E${i + 1}`);
  expect(mutants.map(({ row }) => row)).toEqual(rows);
  const tests = read(SEED_TEST);
  for (const row of rows) expect(tests.includes(`"${row} `), row).toBe(true);
});
