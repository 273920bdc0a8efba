/**
 * Options of a segment. This is their only declaration: for `openDevice`, for a file of options and
 * for the file of a lab.
 *
 *   [[segment]]                     [[segment.port]]
 *   name = "red"                    name = "guest-*"
 *   uplinks = ["tap:lab0"]          access = 10
 */
import * as z from "zod";
import { parseUplink } from "../ports/uplinks.ts";
import { SERVICES_PORT, serviceOptions } from "../services/options.ts";
import { portRule, stormOptions } from "../switch/port-options.ts";

/** Most segments of one device. */
export const MAX_SEGMENTS = 64;
/** Most uplinks, and most rules for ports, of one segment. */
const MAX_UPLINKS = 64;
const MAX_RULES = 256;

export const segmentName = z
  .string()
  .regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/, "takes 1 to 63 letters, digits and . _ -");

const uplink = z.string().superRefine((text, context) => {
  const message = parseUplink(text);
  if (typeof message === "string") context.addIssue({ code: "custom", message });
});

export const segmentOptions = z
  .strictObject({
    name: segmentName.default("lan0"),
    /** Devices with the same id state that uplinks join them to one segment. Default: random. */
    id: segmentName.optional(),
    /** Policy for a frame whose receiver has no room. */
    whenFull: z.enum(["drop", "hold"]).default("drop"),
    /** Frames a second that a NIC may flood, by kind. An uplink may flood ten times as many. */
    storm: stormOptions.optional(),
    /** Uplinks, each as SCHEME:NAME. */
    uplinks: z.array(uplink).max(MAX_UPLINKS).default([]),
    /** Rules for ports. Where two rules set one option of a port, the later rule counts. */
    port: z.array(portRule).max(MAX_RULES).default([]),
    /** DHCP, DNS, router advertisements, pings and a gateway. */
    services: serviceOptions.optional(),
  })
  .superRefine(({ uplinks, services }, context) => {
    // The switch would have two ports of this name.
    const at = uplinks.findIndex((text) => text.replace(/^[^:]*:/, "") === SERVICES_PORT);
    if (services === undefined || at < 0) return;
    const message = `"${SERVICES_PORT}" is the port of the services of this segment`;
    context.addIssue({ code: "custom", path: ["uplinks", at], message });
  });

/** The segments of a device. */
export const deviceSegments = z
  .array(segmentOptions)
  .min(1)
  .max(MAX_SEGMENTS)
  .superRefine((segments, context) => {
    const seen = new Set<string>();
    for (const [i, { name }] of segments.entries()) {
      if (seen.has(name)) {
        context.addIssue({ code: "custom", path: [i, "name"], message: "is there twice" });
      }
      seen.add(name);
    }
  });

/** Options of one Ethernet segment: a switch, with the uplinks that join it to other networks. */
export type SegmentOptions = z.input<typeof segmentOptions>;
