/**
 * The processes of a lab. The kernel is the record of what runs: each process carries a mark in its
 * environment, and nothing that a file says can be torn, lost or out of date. A process is told from
 * a later one with the same pid by its start time.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, constants, openSync, readdirSync, readFileSync, statSync } from "node:fs";
import { childEnvironment, selfCommand } from "../common/self.ts";
import { LAB_MARK } from "./bounded.ts";
import type { LabPart } from "./plan.ts";
import type { LabState } from "./state.ts";

/** Time (ms) between two looks at processes that were asked to end. */
const LOOK_MS = 10;
/** Time (ms) after SIGTERM until SIGKILL. */
const GRACE_MS = 5000;
/** Largest environment that is read. The kernel allows more. */
const MAX_ENVIRONMENT = 1 << 20;

/** What the environment of a part says. */
interface Mark {
  readonly lab: string;
  readonly part: string;
  readonly key: string;
  /** The lab file. */
  readonly file: string;
}

export interface LabProcess extends Mark {
  readonly pid: number;
  /** Clock ticks from the start of the system to that of the process. */
  readonly start: string;
}

/** Returns the processes of this user that belong to the lab `id`. */
export function labProcesses(id: string): LabProcess[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .flatMap((name) => processOf(Number(name)) ?? [])
    .filter(({ lab }) => lab === id);
}

function processOf(pid: number): LabProcess | undefined {
  try {
    // Anybody may write a mark into an environment of his own.
    if (statSync(`/proc/${pid}`).uid !== process.geteuid?.()) return undefined;
    const bytes = readFileSync(`/proc/${pid}/environ`);
    if (bytes.length > MAX_ENVIRONMENT) return undefined;
    const variable = bytes
      .toString("utf8")
      .split("\0")
      .find((text) => text.startsWith(`${LAB_MARK}=`));
    const start = startOf(pid);
    if (variable === undefined || start === undefined) return undefined;
    const mark = JSON.parse(variable.slice(LAB_MARK.length + 1)) as Partial<Mark>;
    const { lab, part, key, file } = mark;
    if ([lab, part, key, file].some((text) => typeof text !== "string")) return undefined;
    return { ...(mark as Mark), pid, start };
  } catch {
    // The process has ended, or the mark is not ours.
    return undefined;
  }
}

/** Returns the start time of a process that runs; undefined for a zombie. proc_pid_stat(5). */
function startOf(pid: number): string | undefined {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, "utf8");
    const [state, ...fields] = text.slice(text.lastIndexOf(")") + 2).split(" ");
    return state === "Z" || state === "X" ? undefined : fields[18];
  } catch {
    return undefined;
  }
}

/** True while the process itself runs, and no later one with its pid. */
export const runs = ({ pid, start }: LabProcess): boolean => startOf(pid) === start;

/** A part that was started here. */
export interface Started {
  readonly pid: number | undefined;
  /** Resolves when the process has ended, with the reason. */
  readonly ended: Promise<string>;
  /** Lets this process end before the part does. */
  release(): void;
}

/** Starts a part as a process of its own, which outlives this one. */
export function startPart(id: string, file: string, part: LabPart, state: LabState): Started {
  const [program, ...first] = selfCommand();
  const mark: Mark = { lab: id, part: part.id, key: part.key, file };
  const { RINGWIRE_REACTOR: reactor } = process.env;
  const out = openLog(state.events(part.id));
  const log = openLog(state.log(part.id));
  let child: ChildProcess;
  try {
    child = spawn(program, [...first, ...part.argv], {
      cwd: state.folderOfLab,
      detached: true,
      stdio: ["ignore", out, log],
      env: {
        ...childEnvironment(),
        ...(reactor === undefined ? {} : { RINGWIRE_REACTOR: reactor }),
        [LAB_MARK]: JSON.stringify(mark),
      },
    });
  } finally {
    closeSync(out);
    closeSync(log);
  }
  const ended = new Promise<string>((resolve) => {
    child.on("error", (error) => resolve(`could not be started: ${error.message}`));
    child.on("exit", (code, signal) => resolve(`ended with ${signal ?? code}`));
  });
  return { pid: child.pid, ended, release: () => child.unref() };
}

/** A new log. The part appends, so that it may cut the file while it is open. */
const openLog = (path: string): number =>
  openSync(
    path,
    constants.O_WRONLY | constants.O_CREAT | constants.O_TRUNC | constants.O_APPEND,
    0o600,
  );

/** Ends processes: SIGTERM, and SIGKILL for those that still run after GRACE_MS. */
export async function endProcesses(processes: readonly LabProcess[]): Promise<void> {
  const signal = (name: NodeJS.Signals): void => {
    for (const one of processes.filter(runs)) {
      try {
        process.kill(one.pid, name);
      } catch {
        // It has just ended.
      }
    }
  };
  signal("SIGTERM");
  const began = performance.now();
  let isForced = false;
  while (processes.some(runs)) {
    if (!isForced && performance.now() - began > GRACE_MS) {
      isForced = true;
      signal("SIGKILL");
    }
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
  }
}
