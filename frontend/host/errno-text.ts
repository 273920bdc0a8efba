/** Names of FreeBSD's error numbers; the host's own numbers differ. */
import { Errno } from "../bus/errno.ts";

/** "ENOBUFS" and the like; the number when it is none that the drivers return. */
export function errnoText(errno: number): string {
  for (const [name, number] of Object.entries(Errno)) if (number === errno) return name;
  return `errno ${errno}`;
}
