/**
 * An error that ends a command. The message is one sentence for a user, printed without a stack.
 * `code` is for programs: the code of the error that caused the failure, if there is one.
 */
export class Failure extends Error {
  readonly exitCode: ExitCode;
  readonly code: string;
  /** True when an event of the command has already reported the failure to programs. */
  isTold = false;
  constructor(message: string, exitCode: ExitCode = ExitCode.FAILED, code?: string) {
    super(message);
    this.name = "Failure";
    this.exitCode = exitCode;
    this.code = code ?? (exitCode === ExitCode.USAGE ? "USAGE" : "FAILED");
  }

  /** Makes a failure of an error of the library or the system. */
  static from(error: unknown, message = messageOf(error)): Failure {
    return new Failure(message, ExitCode.FAILED, systemCode(error));
  }
}

export const ExitCode = { DONE: 0, FAILED: 1, USAGE: 2 } as const;
export type ExitCode = (typeof ExitCode)[keyof typeof ExitCode];

/** Returns the text of a thrown value of any type. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** Returns the code of an error, such as "EADDRINUSE"; undefined without one. */
export function systemCode(error: unknown): string | undefined {
  if (!(error instanceof Error) || !("code" in error)) return undefined;
  return typeof error.code === "string" ? error.code : undefined;
}

/** A Failure for wrong usage. */
export const wrong = (message: string): Failure => new Failure(message, ExitCode.USAGE);
