/**
 * Measures how slow this machine is, and computes all time limits of tests.
 *
 * A limit tells a hang from work, so it grows with the slowness of the machine. A factor of 1 means
 * two idle cores of the kind on which the limits were chosen. The factor is the larger of two: the
 * time of a fixed piece of work when the run began, and the present load per core.
 * RINGWIRE_TEST_SLOW=N sets it by hand.
 */
import { availableParallelism, loadavg } from "node:os";

/** Set by the run's main process for its workers; RINGWIRE_TEST_SLOW is the user's. */
const MEASURED = "RINGWIRE_TEST_MEASURED";
const BY_HAND = "RINGWIRE_TEST_SLOW";
/** Wall clock time of the fixed work on an idle core of an AMD EPYC, Node 24. */
const REFERENCE_MS = 135;
const STEPS = 30_000_000;
/** A larger factor would make limits meaningless. */
const MAX_SLOWNESS = 50;

/** The present factor: 1 to 50. */
export function slowness(env: NodeJS.ProcessEnv = process.env, load = loadavg()[0]!): number {
  const byHand = Number(env[BY_HAND]);
  if (byHand > 0) return Math.min(byHand, MAX_SLOWNESS);
  const measured = Number(env[MEASURED] ?? 1);
  return Math.min(Math.max(1, measured, load / availableParallelism()), MAX_SLOWNESS);
}

/** Measures once, in about 150 ms on an idle machine, for this process and its children. */
export function measureSlowness(env: NodeJS.ProcessEnv = process.env): number {
  if (env[MEASURED] === undefined && !(Number(env[BY_HAND]) > 0)) {
    const begin = performance.now();
    fixedWork();
    env[MEASURED] = ((performance.now() - begin) / REFERENCE_MS).toFixed(2);
  }
  return slowness(env);
}

/** The limit in ms for a wait that takes at most `ms` on the idle machine. */
export function slow(ms: number): number {
  return Math.ceil(ms * slowness());
}

/**
 * The error of a wait that ran out of time. The run's summary counts it apart from wrong results.
 */
export class WaitedTooLong extends Error {
  override readonly name = "WaitedTooLong";

  constructor(ms: number, what: string | (() => string)) {
    super(`waited ${ms} ms for ${typeof what === "string" ? what : what()}`);
  }
}

/** An error as a reporter gets it: its class is lost on the way from the worker. */
export interface ReportedError {
  readonly name?: string | undefined;
  readonly message: string;
  readonly cause?: unknown;
}

/** True when an error, or one of its causes, means only that time ran out. */
export function isTooSlow(error: ReportedError): boolean {
  if (error.name === "WaitedTooLong") return true;
  if (/^(Test|Hook) timed out in /.test(error.message)) return true;
  const { cause } = error;
  return typeof cause === "object" && cause !== null && isTooSlow(cause as ReportedError);
}

/** Integer arithmetic over a small table, as in rings and checksums. */
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
