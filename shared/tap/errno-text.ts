/** Names of errnos without koffi. The data-path thread and tests use them. */
import { getSystemErrorName } from "node:util";

/** Returns a name such as "EPERM", or the number when it has no name. */
export function errnoText(errno: number): string {
  try {
    return getSystemErrorName(-errno);
  } catch {
    return `errno ${errno}`;
  }
}
