/**
 * Runs tests of one copy of the tree, again and again, for sample.ts. A process of its own, so that
 * an edit which never ends can be ended. vitest stays loaded between runs: most of the time of a
 * short run is its start.
 */
import { join } from "node:path";
import { BaseSequencer, createVitest, type TestModule, type TestSpecification } from "vitest/node";
import { cpuSecondsOf } from "./processor-time.ts";

/** What sample.ts asks for: test files, and the file of the product that has changed. */
export interface RunRequest {
  readonly files: readonly string[];
  readonly changed: string;
}

/** The first test file that failed, and the processor time of each file, in seconds. */
export interface RunReply {
  readonly failed: string | undefined;
  readonly seconds: Readonly<Record<string, number>>;
}

const root = process.argv[2]!;
/** The modules of the run at hand. vitest's own list also holds those of all runs before. */
let modules: TestModule[] = [];
let seconds: Record<string, number> = {};
/** Processor time of this process and its tests when the test file at hand began. */
let began = 0;

/** vitest would begin with the longest file. The order asked for begins with the likeliest to fail. */
class AsAsked extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    return files;
  }
}

const vitest = await createVitest("test", {
  root,
  watch: false,
  bail: 1,
  maxWorkers: 1,
  sequence: { sequencer: AsAsked },
  reporters: [
    {
      onTestModuleStart: () => {
        began = cpuSecondsOf(process.pid);
      },
      onTestModuleEnd: (module) => {
        modules.push(module);
        seconds[nameOf(module)] = cpuSecondsOf(process.pid) - began;
      },
    },
  ],
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
  const order = files.map((file) => join(root, file));
  const specifications = (await vitest.globTestSpecifications([...files]))
    .filter(({ moduleId }) => order.includes(moduleId))
    .sort((a, b) => order.indexOf(a.moduleId) - order.indexOf(b.moduleId));
  modules = [];
  seconds = {};
  const { unhandledErrors } = await vitest.runTestSpecifications(specifications);
  const first = modules.find((module) => module.state() === "failed");
  const failed = first === undefined ? undefined : nameOf(first);
  return { failed: failed ?? (unhandledErrors.length > 0 ? files[0] : undefined), seconds };
}

function nameOf(module: TestModule): string {
  return module.moduleId.slice(root.length + 1);
}
