/** The error with which opening a port fails. */
import { Errno } from "../bus/errno.ts";

export class NetmapError extends Error {
  /** FreeBSD's number and name of the error, as netmap's ioctl would give it. */
  readonly errno: number;
  readonly code: string;

  constructor(errno: number, message: string) {
    super(message);
    this.name = "NetmapError";
    this.errno = errno;
    this.code = errnoName(errno);
  }
}

function errnoName(errno: number): string {
  for (const [name, value] of Object.entries(Errno)) if (value === errno) return name;
  return `E${errno}`;
}
