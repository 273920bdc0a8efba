/** Uplinks by scheme: what `tap:NAME` and its like open. A new scheme is a row of the table. */
import type { Logger } from "../../shared/log.ts";
import { isTapName } from "../../shared/tap/errors.ts";
import { isReservedName, RESERVED_REASON } from "../../shared/wire/hello.ts";
import type { Port, SwitchPort } from "../switch/port.ts";

/** What an uplink needs to open its port on a segment. */
export interface UplinkOptions {
  /** The text behind the scheme. */
  readonly name: string;
  readonly log: Logger;
  readonly segment: { attach(port: Port): SwitchPort };
  /** Called when the far end is gone for good. The port has left the segment by then. */
  readonly onGone?: (error: Error) => void;
}

export interface Uplink {
  /** Unplugs the port and closes the far end. */
  close(): Promise<void>;
}

interface Scheme {
  /** The whole form, for messages. */
  readonly form: string;
  /** False for a name that `open` refuses with a sentence that says why. */
  canBe(name: string): boolean;
  open(options: UplinkOptions): Promise<Uplink>;
}

const SCHEMES: Readonly<Record<string, Scheme>> = {
  tap: {
    form: "tap:NAME",
    canBe: isTapName,
    // Loaded here only: a device without a TAP loads nothing that makes system calls.
    open: async (options) => (await import("./tap-uplink.ts")).openTapUplink(options),
  },
};

/** Scheme and name of an uplink, or the end of a sentence that says what is wrong with the text. */
export function parseUplink(text: string): { scheme: Scheme; name: string } | string {
  const [, key = "", name = ""] = /^([^:]*):(.+)$/s.exec(text) ?? [];
  if (!Object.hasOwn(SCHEMES, key)) {
    const forms = Object.values(SCHEMES).map(({ form }) => form);
    return `takes ${forms.join(" or ")}, not ${JSON.stringify(text)}`;
  }
  const scheme = SCHEMES[key]!;
  // A reserved name that the scheme refuses anyway gets the scheme's sentence.
  if (isReservedName(name) && scheme.canBe(name)) {
    return `takes no reserved name: "${name}" ${RESERVED_REASON}`;
  }
  return { scheme, name };
}
