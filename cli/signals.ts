/**
 * SIGINT and SIGTERM: the first asks the command to end in good order, the second ends the
 * process at once.
 */
export interface Stop {
  /** Resolves at the first signal. */
  readonly asked: Promise<NodeJS.Signals>;
  /** From now on signals end the process again as they do by default. */
  forget(): void;
}

const SIGNALS = ["SIGINT", "SIGTERM"] as const;

export function onStop(): Stop {
  const { promise, resolve } = Promise.withResolvers<NodeJS.Signals>();
  let asked = false;
  const hear = (signal: NodeJS.Signals) => {
    if (asked) {
      process.stderr.write("ringwire: stopped at once by a second signal\n");
      process.exit(1);
    }
    asked = true;
    resolve(signal);
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
