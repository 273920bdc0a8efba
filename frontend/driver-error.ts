/** How a driver fails; both drivers use the same two errors. */

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

/** A device that cannot be used. `message` is a sentence for a person, `errno` what ioctl returns. */
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
 * The device that a step was waiting for is out of reach: link lost, suspended, reset or detached.
 * A step that resumes with this changes nothing: the code that took the link away has cleaned up.
 */
export class Abandoned extends Error {
  readonly code = "ABANDONED";
  constructor(why: string) {
    super(why);
    this.name = "Abandoned";
  }
}
