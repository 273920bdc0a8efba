/**
 * Number of sockets that this process may open. When a process has no file descriptor left, libuv
 * accepts waiting connections and closes them at once. So the idle sockets of one stranger would
 * keep all clients out, and nothing would be logged.
 */
import { readdirSync, readFileSync } from "node:fs";

/** Number of files that stay free for captures, configuration and bursts of connections. */
const SPARE_FILES = 16;
const LEAST_SOCKETS = 4;

/**
 * Returns the largest number of sockets, from the limit of the process and the files that are open
 * now. Returns Infinity where the system does not report them.
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
