/** Names of errnos without koffi, for the data-path thread and for tests. */
import { getSystemErrorName } from "node:util";

/** "EPERM" and the like; the number when there is no name for it. */
export function errnoText(errno: number): string {
  try {
    return getSystemErrorName(-errno);
  } catch {
    return `errno ${errno}`;
  }
}
