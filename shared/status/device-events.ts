/**
 * The events of a device, as `/events` prints them and `ringwire events` reads them.
 *
 * Every event has an `id`, which grows. A reader that comes back shows the last id that it has, and
 * gets what it missed. `begun`, `heartbeat` and `end` belong to one reader, and have the id of the
 * last event before them.
 */
import * as z from "zod";

const text = z.string();
const counts = z.record(z.string(), z.number());
const common = {
  id: text,
  // Time of day, ISO 8601.
  time: text,
};
/** Fields of an event that happened on a segment. */
const happened = { ...common, segment: text };

export const deviceEvent = z.discriminatedUnion("event", [
  // The first event of each answer. `missed`: events behind the reader's last id are gone.
  z.object({ event: z.literal("begun"), ...common, missed: z.boolean() }),
  z.object({ event: z.literal("joined"), ...happened, name: text, mac: text, peer: text }),
  z.object({
    ...{ event: z.literal("left"), ...happened },
    ...{ name: text, mac: text, peer: text, reason: text },
  }),
  // A rule that a NIC's driver broke. `severity` is a word of the wire page.
  z.object({
    ...{ event: z.literal("fault"), ...happened },
    ...{ name: text, severity: text, code: text, text },
  }),
  z.object({ event: z.literal("uplink-lost"), ...happened, name: text, reason: text }),
  // Frames that a port dropped since its last such event, by reason. `in`: frames of the port itself.
  z.object({ event: z.literal("drops"), ...happened, port: text, in: counts, out: counts }),
  z.object({ event: z.literal("heartbeat"), ...common }),
  // The last event of an answer that the device ends.
  z.object({ event: z.literal("end"), ...common, reason: text }),
]);

/** @interface */
export type DeviceEvent = z.infer<typeof deviceEvent>;

/** Media types of the answer: one object a line, or server-sent events. */
export const NDJSON_TYPE = "application/x-ndjson";
export const SSE_TYPE = "text/event-stream";
