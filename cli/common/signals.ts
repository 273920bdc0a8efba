/**
 * SIGINT, SIGTERM and SIGHUP: the first asks the command to end in good order, a second one ends the
 * process at once.
 *
 * One wish may arrive as several signals, and those are no second one:
 *
 *   GNU timeout    signals its child, and then the group that its child is in
 *   a terminal     that goes away sends SIGHUP by the kernel and again by the shell, at any distance
 *
 * A SIGHUP that was ignored when the process began (nohup) can't be told apart: Node sets every signal
 * to its default before the program runs. `setsid` or a service manager keeps a process alive.
 */
export interface Stop {
  /** Resolves at the first signal. */
  readonly asked: Promise<NodeJS.Signals>;
  /** From now on signals end the process again as they do by default. */
  forget(): void;
}

const SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"] as const;
/** Signals of the same kind this close together are one wish. */
const SAME_MS = 200;

export function onStop(): Stop {
  const { promise, resolve } = Promise.withResolvers<NodeJS.Signals>();
  let first: NodeJS.Signals | undefined;
  let since = 0;
  const hear = (signal: NodeJS.Signals) => {
    const now = performance.now();
    if (first === undefined) {
      first = signal;
      since = now;
      resolve(signal);
      return;
    }
    if (signal === "SIGHUP" || (signal === first && now - since < SAME_MS)) return;
    process.stderr.write("ringwire: stopped at once by a second signal\n");
    process.exit(1);
  };
  for (const signal of SIGNALS) process.on(signal, hear);
  return {
    asked: promise,
    forget: () => {
      for (const signal of SIGNALS) process.off(signal, hear);
    },
  };
}

/** What `work` comes to, or undefined at a signal: then its end is of no interest any more. */
export async function unlessStopped<T>(stop: Stop, work: Promise<T>): Promise<T | undefined> {
  work.catch(() => {});
  return await Promise.race([work, stop.asked.then(() => undefined)]);
}

/** Resolves when whoever started this process closes its stdin, or is gone. */
export function stdinEnd(): Promise<"stdin"> {
  return new Promise((resolve) => {
    process.stdin.on("end", () => resolve("stdin"));
    process.stdin.on("error", () => resolve("stdin"));
    process.stdin.resume();
  });
}

/** Resolves when whoever started this process says something on stdin, whatever it is. */
export function stdinSays(): Promise<"go"> {
  return new Promise((resolve) => process.stdin.once("data", () => resolve("go")));
}
