/**
 * Handles SIGINT, SIGTERM and SIGHUP. The first signal requests an orderly end of the command; a
 * second signal ends the process at once.
 *
 * One request may arrive as several signals. These do not count as a second signal:
 *
 *   GNU timeout    signals its child, and then the process group of the child
 *   a terminal     that closes causes a SIGHUP by the kernel and, any time later, one by the shell
 *
 * A SIGHUP that was ignored when the process began (nohup) can't be distinguished, because Node
 * sets every signal to its default before the program runs. `setsid` or a service manager keeps a
 * process alive.
 */
export interface Stop {
  /** Resolves at the first signal. */
  readonly asked: Promise<NodeJS.Signals>;
  /** Restores the default of the signals, which ends the process. */
  forget(): void;
}

const SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"] as const;
/** Time (ms) within which signals of the same kind count as one request. */
const SAME_MS = 200;

/** Signals that stop a command for which SIGHUP means something else. */
export const WITHOUT_HANGUP = ["SIGINT", "SIGTERM"] as const;

export function onStop(signals: readonly NodeJS.Signals[] = SIGNALS): Stop {
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
  for (const signal of signals) process.on(signal, hear);
  return {
    asked: promise,
    forget: () => {
      for (const signal of signals) process.off(signal, hear);
    },
  };
}

/** Returns the result of `work`, or undefined at a signal. The result of `work` is then ignored. */
export async function unlessStopped<T>(stop: Stop, work: Promise<T>): Promise<T | undefined> {
  work.catch(() => {});
  return await Promise.race([work, stop.asked.then(() => undefined)]);
}

/** Resolves when the parent process closes this process's stdin, or has ended. */
export function stdinEnd(): Promise<"stdin"> {
  return new Promise((resolve) => {
    process.stdin.on("end", () => resolve("stdin"));
    process.stdin.on("error", () => resolve("stdin"));
    process.stdin.resume();
  });
}

/** Resolves when the parent process writes anything to this process's stdin. */
export function stdinSays(): Promise<"go"> {
  return new Promise((resolve) => process.stdin.once("data", () => resolve("go")));
}
