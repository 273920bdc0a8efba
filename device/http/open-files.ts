/**
 * How many sockets this process may have. When a process has no file left, libuv accepts what waits
 * and closes it at once: a stranger's idle sockets would keep everybody out, without a word.
 */
import { readdirSync } from "node:fs";

/** Files that stay free for captures, configuration and bursts of connections. */
const SPARE_FILES = 16;
/** Files of a process that can't count them. */
const OWN_FILES = 32;
const LEAST_SOCKETS = 4;

interface Limits {
  readonly userLimits?: { readonly open_files?: { readonly soft?: number | string } };
}

/** The largest number of sockets, from the limit of the process and the files that are open now. */
export function mostSockets(): number {
  const limits = process.report.getReport() as Limits;
  const soft = limits.userLimits?.open_files?.soft;
  // "unlimited", or a system that has no such limit.
  if (typeof soft !== "number") return Number.POSITIVE_INFINITY;
  return Math.max(LEAST_SOCKETS, soft - ownFiles() - SPARE_FILES);
}

function ownFiles(): number {
  try {
    return readdirSync("/proc/self/fd").length;
  } catch {
    return OWN_FILES;
  }
}
