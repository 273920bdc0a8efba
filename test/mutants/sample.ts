/**
 * npm run mutants:sample: a random sample of small edits of the product, and whether any test
 * notices them. An edit that no test notices is a survivor: it needs a test, or an entry with a
 * reason in known-survivors.ts.
 *
 *   npm run mutants:sample                                  600 edits, 75 in each area
 *   npm run mutants:sample -- --area grants --count 60      one area
 *   npm run mutants:sample -- --seed 7 --minutes 30         the same edits again, for half an hour
 *   npm run mutants:sample -- --out FILE                    every verdict as JSON
 *
 * The tests of an edit are those that import its file, directly or not, the nearest first. Tests
 * that noticed an earlier edit of the same file run before them. Each edit is tried in a copy of
 * the tree.
 */
import { type ChildProcess, fork } from "node:child_process";
import { existsSync, globSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { dirname, join, normalize } from "node:path";
import { parseArgs } from "node:util";
import { Random, seedOfRun } from "../support/random.ts";
import { AREAS } from "./areas.ts";
import { knownSurvivor } from "./known-survivors.ts";
import { cpuSecondsOf } from "./processor-time.ts";
import type { RunReply, RunRequest } from "./sample-worker.ts";
import { type Edit, editsOf } from "./sites.ts";
import { copyTree, ROOT } from "./tree-copy.ts";

const WORKER = join(import.meta.dirname, "sample-worker.ts");
const KINDS = ["unit", "golden", "contract", "seed", "property"];
/** Most CPU seconds of tests for one edit, as measured without any edit. */
const MOST_SECONDS = 20;
/** CPU seconds of the first, short round, in which most edits are noticed. */
const FIRST_SECONDS = 4;
/** A round is endless when it uses this many times its processor time without an edit. */
const PATIENCE = 5;
/** Looks, one a second, in which a round has to use some processor time; otherwise it hangs. */
const IDLE_LOOKS = 20;
const IDLE_CPU_SECONDS = 0.1;

/** An edit that the sample drew in an area. */
interface Drawn extends Edit {
  readonly area: string;
}

interface Verdict extends Drawn {
  readonly verdict: "noticed" | "endless" | "survived" | "known";
  readonly by?: string;
}

const { values } = parseArgs({
  options: {
    seed: { type: "string" },
    area: { type: "string", multiple: true },
    count: { type: "string", default: "75" },
    minutes: { type: "string", default: "90" },
    workers: { type: "string", default: "2" },
    out: { type: "string" },
  },
});

async function main(): Promise<number> {
  const seed = values.seed === undefined ? seedOfRun() : Number(values.seed);
  const areas = values.area ?? Object.keys(AREAS);
  const end = Date.now() + Number(values.minutes) * 60_000;
  const random = new Random(seed);
  console.log(`seed ${seed}: ${values.count} edits in each of ${areas.join(", ")}`);
  const count = Number(values.count);
  const samples = areas.map((area) => sample(area, count, random));
  // The areas take turns, so that a run that ends early has tried edits of every area.
  const edits = Array.from({ length: count }, (_, i) =>
    samples.flatMap((some) => some.slice(i, i + 1)),
  ).flat();

  const tests = new Tests();
  const verdicts: Verdict[] = [];
  const queue = [...edits];
  const copies = Array.from({ length: Number(values.workers) }, () => new Copy());
  try {
    await Promise.all(
      copies.map(async (copy) => {
        for (let edit = queue.shift(); edit !== undefined; edit = queue.shift()) {
          if (Date.now() > end) return;
          const verdict =
            knownSurvivor(edit) !== undefined
              ? ({ ...edit, verdict: "known" } as const)
              : await tryOne(copy, tests, edit);
          verdicts.push(verdict);
          console.log(lineOf(verdict, verdicts.length, edits.length));
          if (values.out !== undefined)
            writeFileSync(values.out, JSON.stringify(verdicts, null, 1));
        }
      }),
    );
  } finally {
    for (const copy of copies) copy.remove();
  }
  return summary(areas, verdicts, edits.length);
}

/** Chooses `count` different edits in an area's files. Every place has the same chance. */
function sample(area: string, count: number, random: Random): Drawn[] {
  const paths = AREAS[area];
  if (paths === undefined) throw new Error(`no area ${area}: ${Object.keys(AREAS).join(", ")}`);
  const files = paths.flatMap((path) =>
    statSync(join(ROOT, path)).isDirectory()
      ? globSync(`${path}/**/*.ts`, { cwd: ROOT }).sort()
      : [path],
  );
  const all = files.flatMap((file) => {
    const source = readFileSync(join(ROOT, file), "utf8");
    return editsOf(file, source).map((edit) => ({ area, ...edit }));
  });
  const chosen: Drawn[] = [];
  while (chosen.length < count && all.length > 0) {
    chosen.push(...all.splice(random.below(all.length), 1));
  }
  return chosen;
}

/** A copy of the tree in which one edit at a time is made. */
class Copy {
  readonly folder = copyTree();
  #worker: ChildProcess | undefined;

  /**
   * Runs tests after a change of `changed`. Returns undefined when the time ran out; the worker has
   * been ended then, and the next run starts a new one.
   */
  async run(
    files: readonly string[],
    changed: string,
    seconds: number,
  ): Promise<RunReply | undefined> {
    this.#worker ??= await this.#start();
    const worker = this.#worker;
    const reply = answer(worker, 10 + seconds * PATIENCE);
    worker.send({ files, changed } satisfies RunRequest);
    const result = await reply;
    if (result === undefined) this.#end();
    return result;
  }

  async #start(): Promise<ChildProcess> {
    const worker = fork(WORKER, [this.folder], {
      cwd: this.folder,
      stdio: ["ignore", "ignore", "ignore", "ipc"],
      detached: true,
      env: { ...process.env, RINGWIRE_TEST_SLOW: "6" },
    });
    if ((await answer(worker, 60)) === undefined) throw new Error("vitest does not start");
    return worker;
  }

  /** Ends the worker and the processes that it started. */
  #end(): void {
    const pid = this.#worker?.pid;
    this.#worker = undefined;
    if (pid === undefined) return;
    try {
      process.kill(-pid, "SIGKILL");
    } catch {
      // It has already ended.
    }
  }

  remove(): void {
    this.#end();
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/**
 * The next message of a worker. Undefined when the worker ends first, when it and its children have
 * used `cpuSeconds` of processor time, or when they use none: then their test waits for an event
 * that the edit has prevented. A machine that is busy with other work only slows a run.
 */
function answer(worker: ChildProcess, cpuSeconds: number): Promise<RunReply | undefined> {
  const limit = cpuSecondsOf(worker.pid!) + cpuSeconds;
  let looks: number[] = [];
  return new Promise((resolve) => {
    const finish = (reply: RunReply | undefined): void => {
      clearInterval(timer);
      worker.off("message", finish).off("exit", gone);
      resolve(reply);
    };
    const gone = (): void => finish(undefined);
    const timer = setInterval(() => {
      const used = cpuSecondsOf(worker.pid!);
      looks = [...looks, used].slice(-IDLE_LOOKS);
      const isIdle = looks.length === IDLE_LOOKS && used - looks[0]! < IDLE_CPU_SECONDS;
      if (used > limit || isIdle) finish(undefined);
    }, 1000);
    worker.on("message", finish).on("exit", gone);
  });
}

const testFiles = (): string[] =>
  globSync(`test/{${KINDS.join(",")}}/**/*.test.ts`, { cwd: ROOT }).sort();

const importsOf = new Map<string, string[]>();
/**
 * Files of the product that `test` imports, directly or not, with the number of imports between.
 */
function distances(test: string): Map<string, number> {
  const found = new Map([[test, 0]]);
  for (const [file, steps] of found) {
    for (const next of imports(file)) if (!found.has(next)) found.set(next, steps + 1);
  }
  return found;
}

function imports(file: string): string[] {
  let known = importsOf.get(file);
  if (known === undefined) {
    const text = readFileSync(join(ROOT, file), "utf8");
    known = [...text.matchAll(/(?:from|import|import\()\s*"(\.[^"]+\.ts)"/g)]
      .map(([, path]) => normalize(join(dirname(file), path!)))
      .filter((path) => existsSync(join(ROOT, path)));
    importsOf.set(file, known);
  }
  return known;
}

/** Chooses the tests of an edit, and their order. */
class Tests {
  readonly #files = testFiles();
  /** Processor time of each test, from the last run that passed. */
  readonly #seconds = new Map<string, number>();
  readonly #near = new Map<string, Map<string, number>>();
  /** By file of the product: how often each test noticed an edit of this file. */
  readonly #noticed = new Map<string, Map<string, number>>();
  readonly #sound = new Map<string, Promise<boolean>>();

  /** Rounds of test files: a short one, then the rest up to MOST_SECONDS. */
  rounds(file: string): { files: string[]; seconds: number }[] {
    const near = this.#nearTo(file);
    const noticed = this.#noticed.get(file);
    const cost = (test: string): number => near.get(test)! * 4 + this.#secondsOf(test);
    const sorted = [...near.keys()].sort(
      (a, b) => (noticed?.get(b) ?? 0) - (noticed?.get(a) ?? 0) || cost(a) - cost(b),
    );
    const first = { files: [] as string[], seconds: 0 };
    const rest = { files: [] as string[], seconds: 0 };
    for (const test of sorted) {
      const seconds = this.#secondsOf(test);
      const room = first.files.length === 0 || first.seconds + seconds <= FIRST_SECONDS;
      const round = room && rest.files.length === 0 ? first : rest;
      if (round === rest && first.seconds + rest.seconds + seconds > MOST_SECONDS) continue;
      round.files.push(test);
      round.seconds += seconds;
    }
    return [first, rest].filter(({ files }) => files.length > 0);
  }

  noticed(file: string, test: string): void {
    const noticed = this.#noticed.get(file) ?? new Map<string, number>();
    noticed.set(test, (noticed.get(test) ?? 0) + 1);
    this.#noticed.set(file, noticed);
  }

  measured(seconds: RunReply["seconds"]): void {
    for (const [test, s] of Object.entries(seconds)) this.#seconds.set(test, s);
  }

  /** Whether a test passes without an edit, checked once. A test that fails is never used again. */
  async isSound(test: string, copy: Copy, changed: string): Promise<boolean> {
    let sound = this.#sound.get(test);
    if (sound === undefined) {
      sound = copy.run([test], changed, MOST_SECONDS).then((reply) => {
        if (reply !== undefined) this.measured(reply.seconds);
        return reply !== undefined && reply.failed === undefined;
      });
      this.#sound.set(test, sound);
      if (!(await sound)) {
        console.log(`left out, fails without any edit: ${test}`);
        this.#files.splice(this.#files.indexOf(test), 1);
        this.#near.clear();
      }
    }
    return sound;
  }

  #secondsOf(test: string): number {
    return this.#seconds.get(test) ?? (test.startsWith("test/property/") ? 8 : 1);
  }

  #nearTo(file: string): Map<string, number> {
    let near = this.#near.get(file);
    if (near === undefined) {
      near = new Map();
      for (const test of this.#files) {
        const steps = distances(test).get(file);
        if (steps !== undefined) near.set(test, steps);
      }
      this.#near.set(file, near);
    }
    return near;
  }
}

async function tryOne(copy: Copy, tests: Tests, edit: Drawn): Promise<Verdict> {
  const path = join(copy.folder, edit.file);
  const source = readFileSync(path, "utf8");
  const { start, end, text } = edit.site;
  const edited = source.slice(0, start) + text + source.slice(end);
  for (;;) {
    writeFileSync(path, edited);
    const verdict = await meet(copy, tests, edit);
    writeFileSync(path, source);
    if (verdict.by === undefined || (await tests.isSound(verdict.by, copy, edit.file))) {
      if (verdict.by !== undefined) tests.noticed(edit.file, verdict.by);
      return verdict;
    }
  }
}

async function meet(copy: Copy, tests: Tests, edit: Drawn): Promise<Verdict> {
  for (const { files, seconds } of tests.rounds(edit.file)) {
    const reply = await copy.run(files, edit.file, seconds);
    if (reply === undefined) return { ...edit, verdict: "endless" };
    if (reply.failed !== undefined) return { ...edit, verdict: "noticed", by: reply.failed };
    tests.measured(reply.seconds);
  }
  return { ...edit, verdict: "survived" };
}

const oneLine = (text: string): string => {
  const line = text.replaceAll(/\s+/g, " ");
  return line.length > 60 ? `${line.slice(0, 57)}...` : line;
};

function lineOf(v: Verdict, done: number, all: number): string {
  const by = v.by === undefined ? "" : `  (${v.by})`;
  return (
    `${done}/${all} ${v.verdict.toUpperCase().padEnd(8)} ${v.area} ${v.file}:${v.line} ` +
    `${v.site.inFunction}: ${oneLine(v.was)} -> ${oneLine(v.site.text)}${by}`
  );
}

/** Prints the share of noticed edits by area. Exit code 1 below 85 %. */
function summary(areas: readonly string[], verdicts: readonly Verdict[], wanted: number): number {
  const equivalent = (v: Verdict): boolean => knownSurvivor(v)?.equivalent === true;
  const share = (some: readonly Verdict[]): string => {
    const real = some.filter((v) => !equivalent(v));
    const noticed = real.filter(({ verdict }) => verdict === "noticed" || verdict === "endless");
    const percent = real.length === 0 ? 100 : (100 * noticed.length) / real.length;
    return `${noticed.length} of ${real.length} noticed (${percent.toFixed(1)} %), ${some.length - real.length} equivalent`;
  };
  for (const area of areas) {
    console.log(`${area.padEnd(12)} ${share(verdicts.filter((v) => v.area === area))}`);
  }
  console.log(`all          ${share(verdicts)}, ${verdicts.length} of ${wanted} tried`);
  const real = verdicts.filter((v) => !equivalent(v));
  const noticed = real.filter(({ verdict }) => verdict === "noticed" || verdict === "endless");
  return noticed.length >= 0.85 * real.length ? 0 : 1;
}

process.exitCode = await main();
