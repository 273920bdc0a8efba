/** Numbers as text. */
import type { Samples } from "./stats.ts";

/** 1234567 as "1.23 M": three significant digits. */
export function short(value: number): string {
  if (!Number.isFinite(value)) return "-";
  for (const [unit, size] of [
    ["G", 1e9],
    ["M", 1e6],
    ["k", 1e3],
  ] as const) {
    if (Math.abs(value) >= size) return `${(value / size).toPrecision(3)} ${unit}`;
  }
  return Number.isInteger(value) ? String(value) : value.toPrecision(3);
}

/** A median, and how far the values lie from it at most, in percent: "1.23 M ±8". */
export function withSpread(samples: Samples): string {
  const { median, min, max, count } = samples;
  if (count < 2 || median === 0) return short(median);
  const off = Math.max(max - median, median - min) / Math.abs(median);
  return `${short(median)} ±${Math.round(off * 100)}`;
}
