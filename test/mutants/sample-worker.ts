/**
 * Runs tests of one copy of the tree, again and again, for sample.ts. A process of its own, so that
 * an edit which never ends can be ended. vitest stays loaded between runs: most of the time of a
 * short run is its start.
 */
import { join } from "node:path";
import { createVitest } from "vitest/node";

/** What sample.ts asks for: test files, and the file of the product that has changed. */
export interface RunRequest {
  readonly files: readonly string[];
  readonly changed: string;
}

/** The first test file that failed, and the seconds that each file ran. */
export interface RunReply {
  readonly failed: string | undefined;
  readonly seconds: Readonly<Record<string, number>>;
}

const root = process.argv[2]!;
const vitest = await createVitest("test", {
  root,
  watch: false,
  bail: 1,
  maxWorkers: 1,
  reporters: [{}],
});

process.on("message", (message: RunRequest) => {
  void run(message).then((reply) => process.send!(reply));
});
process.send!({ failed: undefined, seconds: {} } satisfies RunReply);

/** The file that the last run saw. Its edit is undone by now, but vitest still holds it. */
let changedBefore: string | undefined;

async function run({ files, changed }: RunRequest): Promise<RunReply> {
  for (const file of new Set([changedBefore ?? changed, changed])) {
    vitest.invalidateFile(join(root, file));
  }
  changedBefore = changed;
  const wanted = new Set(files.map((file) => join(root, file)));
  const specifications = (await vitest.globTestSpecifications([...files])).filter(({ moduleId }) =>
    wanted.has(moduleId),
  );
  const { testModules, unhandledErrors } = await vitest.runTestSpecifications(specifications);
  const seconds: Record<string, number> = {};
  let failed: string | undefined;
  for (const module of testModules) {
    // vitest also lists the modules of earlier runs, with their results of then.
    if (!wanted.has(module.moduleId)) continue;
    const name = module.moduleId.slice(root.length + 1);
    seconds[name] = module.diagnostic().duration / 1000;
    if (module.state() === "failed") failed ??= name;
  }
  if (failed === undefined && unhandledErrors.length > 0) failed = files[0];
  return { failed, seconds };
}
