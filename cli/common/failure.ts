/**
 * Why a command ends early. The message is one sentence for a person; no stack is shown. `code` is
 * for programs: that of the error behind it, where there is one.
 */
export class Failure extends Error {
  readonly exitCode: ExitCode;
  readonly code: string;
  /** Programs know it by an event of the command itself. */
  isTold = false;
  constructor(message: string, exitCode: ExitCode = ExitCode.FAILED, code?: string) {
    super(message);
    this.name = "Failure";
    this.exitCode = exitCode;
    this.code = code ?? (exitCode === ExitCode.USAGE ? "USAGE" : "FAILED");
  }

  /** That an error of the library or the system ended a command. */
  static from(error: unknown, message = messageOf(error)): Failure {
    return new Failure(message, ExitCode.FAILED, systemCode(error));
  }
}

export const ExitCode = { DONE: 0, FAILED: 1, USAGE: 2 } as const;
export type ExitCode = (typeof ExitCode)[keyof typeof ExitCode];

/** The text of whatever was thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** The system's name of an error, as "EADDRINUSE"; undefined when it has none. */
export function systemCode(error: unknown): string | undefined {
  if (!(error instanceof Error) || !("code" in error)) return undefined;
  return typeof error.code === "string" ? error.code : undefined;
}
