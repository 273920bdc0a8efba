/** Uplinks by scheme: what `tap:NAME` and its like open. A new scheme is a row of the table. */
import { isTapName } from "../../shared/tap/errors.ts";
import { isReservedName, RESERVED_REASON } from "../../shared/wire/hello.ts";
import type { Uplink, UplinkOptions } from "./uplink.ts";

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
