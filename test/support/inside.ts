/**
 * Runs a `ringwire` command that ends by itself inside the test's process, from the sources. A
 * start of the program costs half a second of processor time, and the tables of wrong commands have
 * hundreds of rows. A test about the process itself (signals, pipes, users, exit) starts a real
 * process by process.ts.
 */
import process from "node:process";
import { vi } from "vitest";
import { run } from "../../cli/main.ts";
import type { Child } from "./process.ts";

/** A command that has ended, run inside or as a child process. */
export type Ended = Pick<Child, "exit" | "stdout" | "stderr" | "said">;

let running: string | undefined;

/** Runs `ringwire ARGS` to its end, with `env` beside the test's own variables. */
export async function runInside(
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Promise<Ended> {
  const command = ["ringwire", ...args].join(" ");
  // Two commands at a time would write to the same two streams.
  if (running !== undefined) throw new Error(`"${running}" has not ended yet`);
  running = command;
  using undo = new DisposableStack();
  undo.defer(() => {
    running = undefined;
    vi.unstubAllEnvs();
  });
  for (const [name, value] of Object.entries({ NO_COLOR: "1", ...env })) vi.stubEnv(name, value);
  const streams = { stdout: "", stderr: "" };
  for (const name of ["stdout", "stderr"] as const) {
    const write = vi.spyOn(process[name], "write").mockImplementation((text, ...rest) => {
      streams[name] += text;
      for (const done of rest) if (typeof done === "function") done();
      return true;
    });
    undo.defer(() => write.mockRestore());
    undo.defer(keepListeners(process[name], ["error"]));
  }
  undo.defer(keepListeners(process, ["SIGINT", "SIGTERM", "SIGHUP", "SIGUSR2"]));
  const { title } = process;
  undo.defer(() => {
    process.title = title;
  });
  const code = await run([process.execPath, "ringwire", ...args]);
  const said = () => `--- ${command}\n--- stdout\n${streams.stdout}\n--- stderr\n${streams.stderr}`;
  return { exit: { code, signal: null }, ...streams, said };
}

/** Returns a function that removes the listeners added since this call. */
function keepListeners(emitter: NodeJS.EventEmitter, events: readonly string[]): () => void {
  const before = events.map((event) => new Set(emitter.rawListeners(event)));
  return () => {
    for (const [i, event] of events.entries()) {
      for (const listener of emitter.rawListeners(event)) {
        if (!before[i]!.has(listener)) emitter.off(event, listener as () => void);
      }
    }
  };
}
