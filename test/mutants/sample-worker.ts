/**
 * Runs tests of one copy of the tree, again and again, for sample.ts. It is a process of its own,
 * so that an edit that never ends can be ended. vitest stays loaded between runs, because a short
 * run is mostly its start.
 */
import { join } from "node:path";
import { BaseSequencer, createVitest, type TestModule, type TestSpecification } from "vitest/node";
import { cpuSecondsOf } from "./processor-time.ts";

/** A request of sample.ts: test files, and the edited file of the product. */
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
/** The modules of the current run. vitest's own list also holds those of all earlier runs. */
let modules: TestModule[] = [];
let seconds: Record<string, number> = {};
/** Processor time of this process and its tests at the start of the current test file. */
let began = 0;

/**
 * Keeps the requested order, likeliest to fail first. vitest itself would put the longest first.
 */
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

/** The file edited in the last run. Its edit is undone by now, but vitest still caches it. */
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
