/** `ringwire pkt-gen`, `bridge` and `lb` as real processes, and their output with --json. */
import type { PktGenResult as Report } from "../../frontend/apps/pkt-gen.ts";
import { type Child, eventually, type StartOptions, startRingwire } from "./process.ts";

/** The part of pkt-gen's result that tests read. */
export interface PktGenResult extends Report {
  readonly packets: number;
  readonly seconds: number;
  readonly drops: number;
  readonly errors: number;
  readonly nics: readonly { readonly ifnet: Readonly<Record<string, number>> }[];
}

/** Starts a command and waits until its ports are open and the device knows its NICs. */
export async function startApp(
  words: string,
  connect: string,
  options?: StartOptions,
): Promise<Child> {
  const args = [...words.split(" "), "--connect", connect, "--json"];
  const child = startRingwire(args, options);
  await child.waitForJson((line) => line.event === "ready");
  return child;
}

/** Waits until the command ends by itself, and returns its last line. */
export async function resultOf<T = PktGenResult>(child: Child): Promise<T> {
  const { code } = await child.ended(120_000);
  if (code !== 0) throw new Error(`ended with ${code}\n${child.said()}`);
  return await child.waitForJson<T>((line) => line.event === "result");
}

/** Sends SIGINT, as Ctrl-C does; returns the last line. */
export async function interrupt<T = PktGenResult>(child: Child): Promise<T> {
  child.signal("SIGINT");
  return await resultOf<T>(child);
}

/** Sum of the packets in the reports so far. */
export function reported(child: Child): number {
  let packets = 0;
  for (const line of child.stdout.split("\n").slice(0, -1)) {
    const value = JSON.parse(line) as { event: string; packets: number };
    if (value.event === "rate") packets += value.packets;
  }
  return packets;
}

/** Waits until the reports add up to `packets()`, which is asked repeatedly. */
export async function hasReported(child: Child, packets: () => Promise<number>): Promise<void> {
  let wanted = 0;
  await eventually(
    () => `reports of ${wanted} packets, not ${reported(child)}`,
    async () => {
      wanted = await packets();
      return reported(child) === wanted || undefined;
    },
  );
}
