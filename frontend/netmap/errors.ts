/** The error with which opening a port fails. */
import { Errno } from "../bus/errno.ts";

/** The error with which `nmOpen` fails. */
export class NetmapError extends Error {
  /** FreeBSD's number and name of the error, as netmap's ioctl would give it. */
  readonly errno: number;
  readonly code: string;

  constructor(errno: number, message: string) {
    super(message);
    this.name = "NetmapError";
    this.errno = errno;
    const name = Object.entries(Errno).find(([, value]) => value === errno)?.[0];
    this.code = name ?? `E${errno}`;
  }
}
