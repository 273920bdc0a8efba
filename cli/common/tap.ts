/** Why a TAP can't be opened. */
import { ExitCode, Failure, messageOf, systemCode } from "./failure.ts";

/** A name, an address or an MTU that cannot be is a wrong call; all else depends on the machine. */
const WRONG_CALLS = new Set(["TAP_BAD_NAME", "TAP_BAD_MAC", "TAP_BAD_MTU"]);

/** Why the interface named by `flag` can't be opened. */
export function tapFailure(flag: string, error: unknown): Failure {
  const isUsage = WRONG_CALLS.has(systemCode(error) ?? "");
  const message = `${flag}: ${messageOf(error)}`;
  return new Failure(message, isUsage ? ExitCode.USAGE : ExitCode.FAILED);
}
