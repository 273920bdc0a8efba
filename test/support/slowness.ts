/**
 * How slow this machine is, and the one place where time limits of tests come from.
 *
 * A limit tells a hang from work, so it grows with the machine: 1 is two idle cores of the kind on
 * which the limits were chosen. The factor is the largest of the time that a fixed piece of work
 * took when the run began, and the load a core has now. RINGWIRE_TEST_SLOW=N sets it by hand.
 */
import { availableParallelism, loadavg } from "node:os";

/** Set by the run's main process for its workers; RINGWIRE_TEST_SLOW is the user's. */
const MEASURED = "RINGWIRE_TEST_MEASURED";
const BY_HAND = "RINGWIRE_TEST_SLOW";
/** Wall clock time of the fixed work on an idle core of an AMD EPYC, Node 24. */
const REFERENCE_MS = 135;
const STEPS = 30_000_000;
/** Beyond this a limit tells nothing. */
const MAX_SLOWNESS = 50;

/** The factor for this moment: 1 to 50. */
export function slowness(env: NodeJS.ProcessEnv = process.env, load = loadavg()[0]!): number {
  const byHand = Number(env[BY_HAND]);
  if (byHand > 0) return Math.min(byHand, MAX_SLOWNESS);
  const measured = Number(env[MEASURED] ?? 1);
  return Math.min(Math.max(1, measured, load / availableParallelism()), MAX_SLOWNESS);
}

/** Measures once, about 150 ms on an idle machine, for this process and its children. */
export function measureSlowness(env: NodeJS.ProcessEnv = process.env): number {
  if (env[MEASURED] === undefined && !(Number(env[BY_HAND]) > 0)) {
    const begin = performance.now();
    fixedWork();
    env[MEASURED] = ((performance.now() - begin) / REFERENCE_MS).toFixed(2);
  }
  return slowness(env);
}

/** A limit in ms for a wait that takes at most so long on the idle machine. */
export function slow(ms: number): number {
  return Math.ceil(ms * slowness());
}

/** A wait that ran out. The summary of a run counts it as too slow, apart from what is wrong. */
export class WaitedTooLong extends Error {
  override readonly name = "WaitedTooLong";

  constructor(ms: number, what: string | (() => string)) {
    super(`waited ${ms} ms for ${typeof what === "string" ? what : what()}`);
  }
}

/** An error as a reporter sees it: the class did not survive the way from the worker. */
export interface ReportedError {
  readonly name?: string | undefined;
  readonly message: string;
  readonly cause?: unknown;
}

/** True for an error, or a cause of it, that says only that time ran out. */
export function isTooSlow(error: ReportedError): boolean {
  if (error.name === "WaitedTooLong") return true;
  if (/^(Test|Hook) timed out in /.test(error.message)) return true;
  const { cause } = error;
  return typeof cause === "object" && cause !== null && isTooSlow(cause as ReportedError);
}

/** Integer arithmetic over a small table, as rings and checksums are. */
function fixedWork(): number {
  const table = new Uint32Array(4096);
  let x = 1;
  let sum = 0;
  for (let i = 0; i < STEPS; i++) {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    table[x & 4095]! += x;
    sum = (sum + table[i & 4095]!) >>> 0;
  }
  return sum;
}
