/** The events of a device in words. */
import { printable } from "../../shared/pcapng/text.ts";
import { type DeviceEvent, deviceEvent } from "../../shared/status/device-events.ts";
import type { Counts } from "../../shared/status/device-status.ts";
import { countText } from "../common/output.ts";

/** Events that `--only` can name. */
export const EVENT_NAMES = ["joined", "left", "fault", "uplink-lost", "drops"] as const;

/** Reads a line. Returns undefined for a line that is no event, or one of a later version. */
export function eventOf(line: string): DeviceEvent | undefined {
  try {
    return deviceEvent.safeParse(JSON.parse(line)).data;
  } catch {
    return undefined;
  }
}

/** Formats "10:01:02 lan0: ena0 joined: 02:00:00:00:00:01 from 192.0.2.7:40112". */
export function wordsOf(event: DeviceEvent): string {
  const time = new Date(event.time).toTimeString().slice(0, 8);
  const where = "segment" in event ? `${event.segment}: ` : "";
  return printable(`${time} ${where}${sentenceOf(event)}`);
}

function sentenceOf(event: DeviceEvent): string {
  switch (event.event) {
    case "begun":
      return "events before these are lost";
    case "joined":
      return `${event.name} joined: ${event.mac} from ${event.peer}`;
    case "left":
      return `${event.name} left: ${event.reason}`;
    case "fault":
      return `${event.name} fault ${event.code} (${event.severity}): ${event.text}`;
    case "uplink-lost":
      return `the uplink ${event.name} is lost: ${event.reason}`;
    case "drops":
      return `${event.port} dropped ${[
        ...(hasAny(event.in) ? [`from it ${countsText(event.in)}`] : []),
        ...(hasAny(event.out) ? [`to it ${countsText(event.out)}`] : []),
      ].join("; ")}`;
    case "heartbeat":
      return "the device is there";
    case "end":
      return `the device ends the stream: ${event.reason}`;
  }
}

const hasAny = (counts: Counts): boolean => Object.keys(counts).length > 0;

/** Formats "12 rx_overrun, 3 runt". */
const countsText = (counts: Counts): string =>
  Object.entries(counts)
    .map(([reason, count]) => `${countText(count)} ${reason}`)
    .join(", ");
