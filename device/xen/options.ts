/** How a Xen vif differs from the plain one. */
import * as z from "zod";
import { type OptionText, type OptionValues, yesOrNo } from "../option.ts";

/** xenstore holds it with a comma, which would end a value where lists are written with commas. */
const rate = z
  .string()
  .regex(/^[1-9]\d{0,8}[,/][1-9]\d{0,8}$/)
  .transform((text) => text.replace("/", ","))
  .meta({
    values: "BYTES/USEC",
    description: "limit of what each NIC sends: so many bytes in so many microseconds (none)",
  } satisfies OptionText);

export const XEN_OPTIONS = {
  trusted: yesOrNo("whether frontends are told to trust the backend (true)"),
  rate,
  splitEventChannels: yesOrNo("whether Tx and Rx may have an event channel each (true)"),
  controlRing: yesOrNo("whether a control ring is offered, for the hash of queues (true)"),
  multicastControl: yesOrNo("whether frontends may choose multicast addresses (true)"),
};

/** The features that a Xen backend offers to its frontend, as keys of the xenstore. */
export interface XenOptions extends OptionValues<typeof XEN_OPTIONS> {
  /** Value of the key `bridge`. Default: the name of the segment. */
  readonly bridge?: string;
}
