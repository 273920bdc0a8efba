/** Device statuses for tests, and the sums that a status must satisfy. */

import { readFileSync } from "node:fs";
import type { Counts, DeviceStatus, PortStatus } from "../../shared/status/device-status.ts";
import { differences } from "./same.ts";

/** A part of T, at every depth. */
export type Part<T> = T extends object ? { readonly [K in keyof T]?: Part<T[K]> } : T;

/** The status of a real device with an ENA and a Xen NIC: all optional parts, and no drops. */
export const pageOf = (): DeviceStatus =>
  JSON.parse(readFileSync(new URL("../golden/device-status.json", import.meta.url), "utf8"));

/** The status of `pageOf` with changes. An array in `changes` also sets the array's length. */
export const statusWith = (changes: Part<DeviceStatus>): DeviceStatus =>
  merged(pageOf(), changes) as DeviceStatus;

/** `changes` over `base`. */
export function merged(base: unknown, changes: unknown): unknown {
  if (Array.isArray(changes)) {
    const known = (base ?? []) as readonly unknown[];
    return changes.map((change, i) => merged(known[i] ?? known[0], change));
  }
  if (typeof changes !== "object" || changes === null) return changes;
  const whole: Record<string, unknown> = { ...(base as object) };
  for (const [key, change] of Object.entries(changes)) whole[key] = merged(whole[key], change);
  return whole;
}

export type { DeviceStatus, PortStatus };

/** The ports of all segments. */
export const allPorts = ({ segments }: DeviceStatus): PortStatus[] =>
  segments.flatMap(({ ports }) => ports);

/** Those, and the ports that left. */
export const portsAndLeft = ({ segments }: DeviceStatus) =>
  segments.flatMap(({ ports, left }) => [...ports, ...left]);

export function portsOf(status: DeviceStatus): string[] {
  return allPorts(status)
    .map((port) => port.name)
    .sort();
}

export function portOf(status: DeviceStatus, name: string): PortStatus {
  const port = allPorts(status).find((candidate) => candidate.name === name);
  if (port === undefined) throw new Error(`no port ${name} in ${portsOf(status).join(", ")}`);
  return port;
}

export function sum(drops: Counts): number {
  return Object.values(drops).reduce((total, frames) => total + frames, 0);
}

/**
 * One sentence for each sum of the switch that does not come out; none when all frames are
 * accounted for. device/switch/counters.ts defines the sums.
 */
export function unaccounted(status: DeviceStatus): string[] {
  const { wrong, compare } = differences();
  let sent = 0;
  let offered = 0;
  for (const port of portsAndLeft(status)) {
    const { in: input, out } = port;
    const taken = input.forwarded + input.flooded + sum(input.dropped);
    compare(`${port.name}: frames in`, input.frames, taken);
    compare(`${port.name}: frames offered`, out.offered, out.frames + sum(out.dropped));
    sent += input.forwarded + input.copies;
    offered += out.offered - out.segments + out.segmentedFrames;
  }
  compare("frames sent to ports and offered to them", sent, offered);
  return wrong;
}
