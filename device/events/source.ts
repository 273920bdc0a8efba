/** Passes the events of a device to its feed. */
import type { EventEmitter } from "node:events";
import { FAULT_SEVERITY_NAMES } from "../../shared/wire/protocol.ts";
import type { DeviceEvents } from "../index.ts";
import type { EventFeed } from "./feed.ts";

/** Publishes what `events` emits from now on. */
export function feedFrom(
  events: Pick<EventEmitter<DeviceEvents>, "on">,
  feed: Pick<EventFeed, "publish">,
): void {
  events.on("joined", ({ name, segment, mac, peer }) => {
    feed.publish({ event: "joined", segment, name, mac, peer });
  });
  events.on("left", ({ name, segment, mac, peer, reason = "" }) => {
    feed.publish({ event: "left", segment, name, mac, peer, reason });
  });
  events.on("fault", ({ name, segment, severity: number, code, text }) => {
    const severity = FAULT_SEVERITY_NAMES[number] ?? String(number);
    feed.publish({ event: "fault", segment, name, severity, code, text });
  });
  events.on("uplink-lost", ({ name, segment, reason }) => {
    feed.publish({ event: "uplink-lost", segment, name, reason });
  });
}
