/** Failures to open a TAP. */
import { ExitCode, Failure, messageOf, systemCode } from "./failure.ts";

/** Errors that mean wrong usage: an impossible name, address or MTU. Others are failures. */
const WRONG_CALLS = new Set(["TAP_BAD_NAME", "TAP_BAD_MAC", "TAP_BAD_MTU"]);

/** Makes a Failure that says why the interface named by `flag` can't be opened. */
export function tapFailure(flag: string, error: unknown): Failure {
  const isUsage = WRONG_CALLS.has(systemCode(error) ?? "");
  const message = `${flag}: ${messageOf(error)}`;
  return isUsage ? new Failure(message, ExitCode.USAGE) : Failure.from(error, message);
}
