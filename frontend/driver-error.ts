/** The two errors of a driver. Both drivers use them. */

/** Why a device or backend cannot be used. */
export type DriverErrorCode =
  | "BACKEND"
  | "BACKEND_ID"
  | "BACKEND_PATH"
  | "DMA_WIDTH"
  | "EVENTS"
  | "FEATURES"
  | "HYPERCALL"
  | "MAC"
  | "MAC_CHANGED"
  | "MTU"
  | "MTU_SHRUNK"
  | "NOT_READY"
  | "NO_MEMORY"
  | "QUEUES"
  | "RESET"
  | "RX_COPY"
  | "UP"
  | "VERSION"
  | "XENSTORE";

/** The device cannot be used. `message` is a sentence for the user, `errno` the result of ioctl. */
export class DriverError extends Error {
  readonly code: DriverErrorCode;
  readonly errno: number;
  constructor(code: DriverErrorCode, errno: number, message: string) {
    super(message);
    this.name = "DriverError";
    this.code = code;
    this.errno = errno;
  }
}

/**
 * A step waited for a device that is out of reach: link lost, suspended, reset or detached. A step
 * that resumes with this error changes nothing, because the code that ended the wait has cleaned
 * up.
 */
export class Abandoned extends Error {
  readonly code = "ABANDONED";
  constructor(why: string) {
    super(why);
    this.name = "Abandoned";
  }
}

/**
 * Resolves with the result of `step`, or with undefined if the device is lost meanwhile: its return
 * completes what the step began.
 */
export async function unlessLost<T>(step: Promise<T>): Promise<T | undefined> {
  try {
    return await step;
  } catch (error) {
    if (error instanceof Abandoned) return undefined;
    throw error;
  }
}
