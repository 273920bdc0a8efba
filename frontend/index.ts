/**
 * The library: a NIC of this process.
 *
 *   import { openNic } from "ringwire";
 *
 *   await using nic = await openNic({ connect: "ws://127.0.0.1:7700" });
 *   for await (const frame of nic) await nic.send(reply(frame));
 *
 * `ringwire/netmap` has the rings of netmap on top of it.
 */
export type {
  FrameCounters,
  FrontendStatus,
  NicCounters,
} from "../shared/status/frontend-status.ts";
export {
  Nic,
  type NicEvents,
  type NicOptions,
  openNic,
} from "./nic.ts";
export { SessionError } from "./session-error.ts";
