/** What can be wrong with a TAP, each as one sentence that says what to do about it. */
import { userInfo } from "node:os";

export type TapErrorCode =
  | "TAP_NO_PERMISSION"
  | "TAP_NO_DEVICE"
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

/** IFNAMSIZ without the closing zero. linux: include/uapi/linux/if.h */
export const NAME_BYTES = 15;

/**
 * Refuses what the kernel would refuse (linux: net/core/dev.c, dev_valid_name), and "%", which
 * the kernel takes as a pattern: the interface would get another name than the one asked for.
 */
export function checkTapName(name: string): void {
  const bytes = Buffer.byteLength(name);
  if (bytes === 0) throw badName(name, "is empty");
  if (bytes > NAME_BYTES) throw badName(name, `has ${bytes} bytes, the kernel takes ${NAME_BYTES}`);
  if (name === "." || name === "..") throw badName(name, "is a directory's");
  const bad = /[\s/:%\0]/.exec(name);
  if (bad !== null) throw badName(name, `holds ${JSON.stringify(bad[0])}`);
}

const badName = (name: string, why: string): TapError =>
  new TapError(
    "TAP_BAD_NAME",
    `The interface name ${JSON.stringify(name)} ${why}: choose one of 1 to ${NAME_BYTES} letters and digits, as rw0.`,
  );

/** Rejects on anything but Linux, before anything of it is loaded. */
export function checkPlatform(platform: NodeJS.Platform = process.platform): void {
  if (platform === "linux") return;
  throw new TapError(
    "TAP_UNSUPPORTED",
    `A TAP interface needs Linux, and this is ${platform}: run without it, or on Linux.`,
  );
}

/** The lines that root types once, so that this user needs no root from then on. */
export const createLine = (name: string): string =>
  `sudo ip tuntap add mode tap user ${userName()} name ${name}`;

function userName(): string {
  try {
    return userInfo().username;
  } catch {
    // No passwd entry, as in many containers; ip takes a number too.
    return String(process.getuid?.() ?? "$USER");
  }
}
