/** Errors of a TAP. Each message is one sentence that names the remedy. */
import { userInfo } from "node:os";
import { getSystemErrorName } from "node:util";

export type TapErrorCode =
  | "TAP_NO_PERMISSION"
  | "TAP_NO_DEVICE"
  | "TAP_NO_NAMESPACE"
  | "TAP_BUSY"
  | "TAP_WRONG_KIND"
  | "TAP_BAD_NAME"
  | "TAP_BAD_MAC"
  | "TAP_BAD_MTU"
  | "TAP_UNSUPPORTED"
  | "TAP_GONE"
  | "TAP_FAILED";

export class TapError extends Error {
  readonly code: TapErrorCode;
  constructor(code: TapErrorCode, message: string) {
    super(message);
    this.name = "TapError";
    this.code = code;
  }
}

/** Returns a name such as "EPERM", or the number when it has no name. */
export function errnoText(errno: number): string {
  try {
    return getSystemErrorName(-errno);
  } catch {
    return `errno ${errno}`;
  }
}

/** IFNAMSIZ without the closing zero. linux: include/uapi/linux/if.h */
export const NAME_BYTES = 15;

/** Directories of /proc/sys/net/ipv4/conf and ipv6/conf that belong to no single interface. */
const KEPT = new Set(["all", "default"]);

/**
 * Throws TapError (TAP_BAD_NAME) for a name that the kernel would refuse, and for a name with "%".
 * The kernel treats "%" as a pattern and would give the interface another name.
 *
 * Source: linux: net/core/dev.c (dev_valid_name, __dev_alloc_name); net/core/sysctl_net_core.c
 * (sysctl_dev_name_is_allowed); lib/ctype.c for isspace(), which the kernel also applies to the byte
 * 0xa0. That byte is in the UTF-8 of "à".
 */
export function checkTapName(name: string): void {
  const bytes = Buffer.from(name);
  if (bytes.length === 0) throw badName(name, "is empty");
  if (bytes.length > NAME_BYTES) {
    throw badName(name, `has ${bytes.length} bytes, and the kernel allows ${NAME_BYTES}`);
  }
  if (name === "." || name === "..") throw badName(name, "is a directory's");
  if (KEPT.has(name)) throw badName(name, "is kept by the kernel for all interfaces");
  const bad = /[\s\p{C}/:%]/u.exec(name)?.[0] ?? [...name].find(holdsSpace);
  if (bad !== undefined) throw badName(name, `holds ${JSON.stringify(bad)}`);
}

/** Returns false for a name that `checkTapName` refuses. */
export function isTapName(name: string): boolean {
  try {
    checkTapName(name);
    return true;
  } catch {
    return false;
  }
}

const holdsSpace = (letter: string): boolean => Buffer.from(letter).includes(0xa0);

export const badName = (name: string, why: string): TapError =>
  new TapError(
    "TAP_BAD_NAME",
    `the interface name ${JSON.stringify(name)} ${why}: choose one of 1 to ${NAME_BYTES} letters and digits, as rw0`,
  );

/** Throws TapError on systems other than Linux, before koffi is loaded. */
export function checkPlatform(platform: NodeJS.Platform = process.platform): void {
  if (platform === "linux") return;
  throw new TapError(
    "TAP_UNSUPPORTED",
    `a TAP interface needs Linux, and this is ${platform}: run without it, or on Linux`,
  );
}

/** Returns the commands that root runs once, so that this user needs no root afterwards. */
export const createLine = (name: string): string =>
  `sudo ip tuntap add mode tap user ${userName()} name ${name}`;

function userName(): string {
  try {
    return userInfo().username;
  } catch {
    // No passwd entry, as in many containers. ip accepts a number, too.
    return String(process.getuid?.() ?? "$USER");
  }
}
