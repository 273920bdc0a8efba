/** The error of a step that a device did not do, and two ways to go on without it. */
import { nameOf } from "../../shared/bytes/names.ts";
import { Errno } from "../bus/errno.ts";
import { BusSpaceExhausted } from "../bus/misuse.ts";

/** The device refused a step or did not answer. `errno` is what the original returns. */
export class DeviceError extends Error {
  readonly errno: Errno;
  constructor(errno: Errno) {
    super(`the device failed with ${nameOf(Errno, errno)}`);
    this.name = "DeviceError";
    this.errno = errno;
  }
}

/** Resolves with 0, or with the errno of a failed step or of a lack of memory. */
export async function errnoOf(step: Promise<unknown>): Promise<Errno | 0> {
  try {
    await step;
    return 0;
  } catch (error) {
    if (error instanceof DeviceError || error instanceof BusSpaceExhausted) return error.errno;
    throw error;
  }
}

/** Resolves with the result of `step`, or with undefined if the device lacks what it needs. */
export async function ifSupported<T>(step: Promise<T>): Promise<T | undefined> {
  try {
    return await step;
  } catch (error) {
    if (error instanceof DeviceError && error.errno === Errno.EOPNOTSUPP) return undefined;
    throw error;
  }
}
