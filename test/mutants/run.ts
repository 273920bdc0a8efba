/**
 * npm run mutants: breaks a copy of the tree, one edit at a time, and runs the test that must
 * notice it. Prints a table; exits 1 when a mutant survives or an edit no longer fits.
 *
 *   npm run mutants              all
 *   npm run mutants -- E5 E27    those rows
 *   npm run mutants -- --fits    none: reports only the rows whose text or test is gone
 */
import { spawnSync } from "node:child_process";
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { dataPathMutants } from "./data-path.ts";
import { knownSurvivor, knownSurvivors } from "./known-survivors.ts";
import { type Mutant, mutants, SEED_TEST } from "./mutants.ts";
import { netfrontMutants } from "./netfront.ts";
import { type Edit, editsOf } from "./sites.ts";
import { survivors } from "./survivors.ts";
import { copyTree, ROOT } from "./tree-copy.ts";

/** The checklist of netmap has the rows E1 to E34. */
const NETMAP_ROWS = 34;

interface Outcome {
  readonly mutant: Mutant;
  readonly verdict: "red" | "SURVIVED" | "DOES NOT FIT" | "BROKEN";
}

/** The part of vitest's JSON report that this script reads. */
interface Report {
  readonly numPassedTests: number;
  readonly numFailedTests: number;
}

const all: readonly Mutant[] = [...mutants, ...survivors, ...netfrontMutants, ...dataPathMutants];

/** One sentence for each row that is stale or has no test, and for each stale known survivor. */
function misfits(): string[] {
  const read = (file: string): string => readFileSync(join(ROOT, file), "utf8");
  const lines = all.flatMap((mutant) => {
    const { row, file, search, replace } = mutant;
    const places = read(file).split(search).length - 1;
    return [
      ...(places === 1 ? [] : [`${row}: its text stands in ${file} ${places} times, not once`]),
      ...(search === replace ? [`${row}: changes nothing`] : []),
      ...(read(testOf(mutant)).includes(`"${row} `)
        ? []
        : [`${row}: ${testOf(mutant)} has no such test`]),
    ];
  });
  const edits = new Map<string, Edit[]>();
  for (const known of knownSurvivors) {
    const { file, inFunction, line } = known;
    const inFile = edits.get(file) ?? editsOf(file, read(file));
    edits.set(file, inFile);
    if (inFile.every((edit) => knownSurvivor(edit) !== known)) {
      lines.push(`known survivor: ${file} has no such edit in ${inFunction}: ${line}`);
    }
  }
  const rows = mutants.map(({ row }) => row);
  for (let i = 1; i <= NETMAP_ROWS; i++) {
    const count = rows.filter((row) => row === `E${i}`).length;
    if (count !== 1) lines.push(`E${i}: ${count} mutants, not one`);
  }
  return lines;
}

function main(): number {
  const rows = process.argv.slice(2);
  if (rows[0] === "--fits") {
    const lines = misfits();
    for (const line of lines) console.error(line);
    console.log(`${all.length} mutants, ${lines.length} misfits`);
    return lines.length === 0 ? 0 : 1;
  }
  const wanted = all.filter(({ row }) => rows.length === 0 || rows.includes(row));
  if (wanted.length === 0) {
    console.error(`no mutant of ${rows.join(", ")}`);
    return 2;
  }
  const copy = copyTree();
  try {
    for (const file of new Set(wanted.map(testOf))) {
      const sound = runTests(copy, file, "");
      if (sound === undefined || sound.numFailedTests > 0) {
        console.error(`${file} fails without any mutant`);
        return 1;
      }
    }
    const outcomes = wanted.map((mutant) => {
      const outcome = { mutant, verdict: tryOne(copy, mutant) };
      console.log(lineOf(outcome));
      return outcome;
    });
    const bad = outcomes.filter(({ verdict }) => verdict !== "red");
    console.log(`${outcomes.length} mutants, ${outcomes.length - bad.length} noticed`);
    return bad.length === 0 ? 0 : 1;
  } finally {
    rmSync(copy, { recursive: true, force: true });
  }
}

function tryOne(copy: string, mutant: Mutant): Outcome["verdict"] {
  const path = join(copy, mutant.file);
  const source = readFileSync(path, "utf8");
  if (source.split(mutant.search).length !== 2) return "DOES NOT FIT";
  writeFileSync(
    path,
    source.replace(mutant.search, () => mutant.replace),
  );
  try {
    // The name of a test in a block begins with the block's name.
    const report = runTests(copy, testOf(mutant), `(^| )${mutant.row} `);
    // The file must load: at least one test has to run before a failure proves anything.
    if (report === undefined || report.numPassedTests + report.numFailedTests === 0)
      return "BROKEN";
    return report.numFailedTests > 0 ? "red" : "SURVIVED";
  } finally {
    writeFileSync(path, source);
  }
}

const testOf = (mutant: Mutant): string => mutant.test ?? SEED_TEST;

/** Runs the tests of `file` whose name matches. Undefined when vitest ended without a report. */
function runTests(copy: string, file: string, name: string): Report | undefined {
  const out = join(copy, "report.json");
  rmSync(out, { force: true });
  const vitest = join(copy, "node_modules/vitest/vitest.mjs");
  const args = [vitest, "run", file, "--reporter=json", `--outputFile=${out}`];
  if (name !== "") args.push("-t", name);
  spawnSync(process.execPath, args, { cwd: copy, stdio: "ignore", timeout: 120_000 });
  try {
    return JSON.parse(readFileSync(out, "utf8")) as Report;
  } catch {
    return undefined;
  }
}

const lineOf = ({ mutant, verdict }: Outcome): string =>
  `${mutant.row.padEnd(10)} ${verdict.padEnd(13)} ${mutant.file.padEnd(30)} ${mutant.breaks}`;

process.exitCode = main();
