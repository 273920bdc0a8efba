/** Names of FreeBSD's error numbers. The numbers of the host differ. */
import { Errno } from "../bus/errno.ts";

/** Returns a name such as "ENOBUFS", or "errno N" for a number that the drivers never return. */
export function errnoText(errno: number): string {
  for (const [name, number] of Object.entries(Errno)) if (number === errno) return name;
  return `errno ${errno}`;
}
