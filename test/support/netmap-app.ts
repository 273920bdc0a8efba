/** `ringwire pkt-gen`, `bridge` and `lb` as real processes, and what they print with --json. */
import type { PktGenResult as Report } from "../../frontend/apps/pkt-gen.ts";
import { type Child, eventually, type StartOptions, startRingwire } from "./process.ts";

/** The result of pkt-gen, as far as tests read it. */
export interface PktGenResult extends Report {
  readonly packets: number;
  readonly seconds: number;
  readonly drops: number;
  readonly errors: number;
  readonly nics: readonly { readonly ifnet: Readonly<Record<string, number>> }[];
}

/** Starts a command and waits until its ports are open and its device knows. */
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

/** Waits for its own end, and gives its last line. */
export async function resultOf<T = PktGenResult>(child: Child): Promise<T> {
  const { code } = await child.ended(120_000);
  if (code !== 0) throw new Error(`ended with ${code}\n${child.said()}`);
  return await child.waitForJson<T>((line) => line.event === "result");
}

/** SIGINT, as Ctrl-C; then its last line. */
export async function interrupt<T = PktGenResult>(child: Child): Promise<T> {
  child.signal("SIGINT");
  return await resultOf<T>(child);
}

/** Packets that its reports so far add up to. */
export function reported(child: Child): number {
  let packets = 0;
  for (const line of child.stdout.split("\n").slice(0, -1)) {
    const value = JSON.parse(line) as { event: string; packets: number };
    if (value.event === "rate") packets += value.packets;
  }
  return packets;
}

/** Waits until its reports add up to `packets()`, which may be asked again and again. */
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
