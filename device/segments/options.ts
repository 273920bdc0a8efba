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
    name: segmentName.default("lan0").meta({ description: "name of the segment (lan0)" }),
    id: segmentName
      .optional()
      .meta({ description: "the same for all devices that uplinks join to one segment (random)" }),
    whenFull: z
      .enum(["drop", "hold"])
      .default("drop")
      .meta({ description: "what happens to a frame whose receiver has no room (drop)" }),
    storm: stormOptions.optional().meta({
      description:
        "frames a second that a NIC may flood, by kind; an uplink may flood ten times as many",
    }),
    uplinks: z
      .array(uplink)
      .max(MAX_UPLINKS)
      .default([])
      .meta({ description: "uplinks, each as tap:NAME" }),
    port: z.array(portRule).max(MAX_RULES).default([]).meta({
      description:
        "a rule: the policy of every port whose name fits; of two rules with one key the later counts",
    }),
    services: serviceOptions
      .optional()
      .meta({ description: "a host on the segment that serves the others" }),
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
