/** The list of mutants fits the source: an edit that no longer applies would prove nothing. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { mutants, SEED_TEST } from "../mutants/mutants.ts";
import { netfrontMutants } from "../mutants/netfront.ts";
import { survivors } from "../mutants/survivors.ts";

const root = join(import.meta.dirname, "../..");
const read = (file: string): string => readFileSync(join(root, file), "utf8");

test.each([...mutants, ...survivors, ...netfrontMutants])(
  "$row: its text stands in $file exactly once",
  ({ file, search, replace }) => {
    expect(read(file).split(search).length - 1).toBe(1);
    expect(replace).not.toBe(search);
  },
);

test("every netmap row has its mutant, and its test", () => {
  const rows = Array.from({ length: 34 }, (_, i) => `E${i + 1}`);
  expect(mutants.map(({ row }) => row)).toEqual(rows);
  const tests = read(SEED_TEST);
  for (const row of rows) expect(tests.includes(`"${row} `), row).toBe(true);
});

test("every other mutant has its test", () => {
  for (const { row, test: file = "" } of [...survivors, ...netfrontMutants]) {
    expect(read(file).includes(`"${row} `), row).toBe(true);
  }
});
