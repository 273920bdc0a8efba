/** Table of uplink schemes, such as `tap:NAME`. A new scheme is a new row of the table. */
import type { Logger } from "../../shared/log.ts";
import { isTapName } from "../../shared/tap/errors.ts";
import { isReservedName, RESERVED_REASON } from "../../shared/wire/hello.ts";
import type { Port, SwitchPort } from "../switch/port.ts";

/** Options with which an uplink opens its port on a segment. */
export interface UplinkOptions {
  /** The text behind the scheme and its colon. */
  readonly name: string;
  readonly log: Logger;
  readonly segment: { attach(port: Port): SwitchPort };
  /** Called when the far end is gone for good, after the port has left the segment. */
  readonly onGone?: (error: Error) => void;
}

export interface Uplink {
  /** Detaches the port from the segment and closes the far end. */
  close(): Promise<void>;
}

interface Scheme {
  /** Form of the whole argument, for error messages. */
  readonly form: string;
  /** Returns false for a name that `open` refuses with its own error message. */
  canBe(name: string): boolean;
  open(options: UplinkOptions): Promise<Uplink>;
}

const SCHEMES: Readonly<Record<string, Scheme>> = {
  tap: {
    form: "tap:NAME",
    canBe: isTapName,
    // Imported only here, so that a device without a TAP loads no code that makes system calls.
    open: async (options) => (await import("./tap-uplink.ts")).openTapUplink(options),
  },
};

/** Returns scheme and name of an uplink, or the end of a sentence that names the mistake. */
export function parseUplink(text: string): { scheme: Scheme; name: string } | string {
  const [, key = "", name = ""] = /^([^:]*):(.+)$/s.exec(text) ?? [];
  if (!Object.hasOwn(SCHEMES, key)) {
    const forms = Object.values(SCHEMES).map(({ form }) => form);
    return `takes ${forms.join(" or ")}, not ${JSON.stringify(text)}`;
  }
  const scheme = SCHEMES[key]!;
  // A reserved name that the scheme refuses anyway gets the error message of the scheme.
  if (isReservedName(name) && scheme.canBe(name)) {
    return `takes no reserved name: "${name}" ${RESERVED_REASON}`;
  }
  return { scheme, name };
}
