/** What processes cost, as the kernel counts it: processor time, context switches, memory. */
import { readdirSync, readFileSync } from "node:fs";

export interface Work {
  /** Time on a processor, all threads. */
  readonly cpuNs: number;
  /** Context switches, voluntary and not. */
  readonly switches: number;
}

/** The first column of schedstat: time on a processor, in ns. */
export const cpuNsOf = (schedstat: string): number => Number(schedstat.split(" ", 1)[0]);

export function switchesOf(status: string): number {
  let sum = 0;
  for (const [, count] of status.matchAll(/^(?:non)?voluntary_ctxt_switches:\s+(\d+)$/gm)) {
    sum += Number(count);
  }
  return sum;
}

/** Resident memory in bytes; 0 for a kernel thread or a process that has ended. */
export const rssBytesOf = (status: string): number =>
  Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1] ?? 0) * 1024;

/** A file of /proc; empty when the process or thread has ended. */
function read(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}

const threadsOf = (pid: number): string[] => {
  try {
    return readdirSync(`/proc/${pid}/task`).map((thread) => `/proc/${pid}/task/${thread}`);
  } catch {
    return [];
  }
};

/** These processes and their descendants: vtund works in a child. */
export function withDescendants(pids: readonly number[]): number[] {
  return pids.flatMap((pid) => {
    const children = threadsOf(pid).flatMap((thread) =>
      read(`${thread}/children`).split(" ").filter(Boolean).map(Number),
    );
    return [pid, ...withDescendants(children)];
  });
}

/** Work since the processes began. A thread that has ended is not counted. */
export function workOf(pids: readonly number[]): Work {
  let cpuNs = 0;
  let switches = 0;
  for (const thread of pids.flatMap(threadsOf)) {
    cpuNs += cpuNsOf(read(`${thread}/schedstat`));
    switches += switchesOf(read(`${thread}/status`));
  }
  return { cpuNs, switches };
}

export const rssBytes = (pids: readonly number[]): number =>
  pids.reduce((sum, pid) => sum + rssBytesOf(read(`/proc/${pid}/status`)), 0);

/** Runs `act`. Returns its result and the work of the processes meanwhile. */
export async function working<T>(
  pids: readonly number[],
  act: () => Promise<T>,
): Promise<readonly [T, Work]> {
  const before = workOf(pids);
  const result = await act();
  const after = workOf(pids);
  return [
    result,
    { cpuNs: after.cpuNs - before.cpuNs, switches: after.switches - before.switches },
  ];
}
