/**
 * Comparisons for loops. A matcher of vitest costs 10 µs when it holds, and 1 µs or more for each
 * element of an array. These cost almost nothing; only a difference reaches the matcher.
 */
import { expect } from "vitest";

/** `toBe` for values that are compared many times. */
export function same<T>(got: T, wanted: T, what?: string): void {
  if (!Object.is(got, wanted)) expect(got, what).toBe(wanted);
}

/** Two lists of plain values, element by element. */
export function sameList<T>(got: readonly T[], wanted: readonly T[], what?: string): void {
  const equal =
    got.length === wanted.length && got.every((value, i) => Object.is(value, wanted[i]));
  if (!equal) expect(got, what).toEqual(wanted);
}

/** Collects a sentence for each pair of values that differ. */
export function differences() {
  const wrong: string[] = [];
  const compare = (what: string, got: unknown, wanted: unknown): void => {
    if (got !== wanted) wrong.push(`${what}: ${got} is not ${wanted}`);
  };
  return { wrong, compare };
}

/** Bytes around a difference, for the message. */
const SHOWN = 16;

/** Expects equal bytes; the message shows the first difference in hex. */
export function sameBytes(got: Uint8Array, wanted: Uint8Array, what = "bytes"): void {
  if (Buffer.compare(got, wanted) === 0) return;
  let at = 0;
  while (got[at] === wanted[at]) at++;
  const from = Math.max(0, at - SHOWN);
  const shown = (bytes: Uint8Array) => ({
    length: bytes.length,
    [`hex from ${from}`]: Buffer.from(bytes.subarray(from, at + SHOWN)).toString("hex"),
  });
  expect(shown(got), `${what} differ at ${at}`).toEqual(shown(wanted));
}
