/** Describes the machine on which the figures were measured. */
import { execFileSync } from "node:child_process";
import { availableParallelism, cpus, loadavg, release, totalmem } from "node:os";
import { NODE } from "../support/process.ts";

export interface Machine {
  readonly cpu: string;
  readonly cores: number;
  readonly memoryBytes: number;
  readonly kernel: string;
  /** The Node version of the measured processes. */
  readonly node: string;
  /** One-minute load average before the first measurement. */
  readonly load: number;
}

export function describeMachine(): Machine {
  return {
    cpu: cpus()[0]?.model.trim() ?? "unknown",
    cores: availableParallelism(),
    memoryBytes: totalmem(),
    kernel: release(),
    node: execFileSync(NODE, ["--version"], { encoding: "utf8" }).trim(),
    load: loadavg()[0] ?? 0,
  };
}
