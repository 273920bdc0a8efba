/**
 * How many sockets this process may have. When a process has no file left, libuv accepts what waits
 * and closes it at once: a stranger's idle sockets would keep everybody out, without a word.
 */
import { readdirSync, readFileSync } from "node:fs";

/** Files that stay free for captures, configuration and bursts of connections. */
const SPARE_FILES = 16;
const LEAST_SOCKETS = 4;

/**
 * The largest number of sockets, from the limit of the process and the files that are open now.
 * Infinity where the system does not tell.
 */
export function mostSockets(): number {
  try {
    // Source: proc_pid_limits(5). Node has raised the soft limit to the hard one.
    const limits = readFileSync("/proc/self/limits", "utf8");
    const soft = /^Max open files +(\d+) /m.exec(limits)?.[1];
    if (soft === undefined) return Number.POSITIVE_INFINITY;
    const open = readdirSync("/proc/self/fd").length;
    return Math.max(LEAST_SOCKETS, Number(soft) - open - SPARE_FILES);
  } catch {
    return Number.POSITIVE_INFINITY;
  }
}
