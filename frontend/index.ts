/**
 * The library: netmap ports on NICs of this process.
 *
 *   import { nmOpen, openNic, Poll } from "ringwire";
 *
 * openNic connects a NIC; nmOpen opens ports on it, on VALE switches and on pipes; nmAttach takes
 * a shared port up in a worker. frontend/netmap/README.md has an example that runs.
 */
export { NmPort, nmAttach, nmOpen, type OpenOptions } from "./netmap/descriptor.ts";
export { NetmapError } from "./netmap/errors.ts";
export { Ns, Poll, RegFlag, RingFlag } from "./netmap/flags.ts";
export { Netmap, type NetmapOptions, type RequestOptions } from "./netmap/netmap.ts";
export { PortRings } from "./netmap/port.ts";
export type { NetmapRing } from "./netmap/ring.ts";
export { type PortHandle, WorkerPort } from "./netmap/shared-port.ts";
export { type Nic, type NicOptions, openNic } from "./nic.ts";
export { SessionError } from "./session-error.ts";
