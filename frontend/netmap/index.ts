/**
 * netmap for an application: ports on NICs of this process.
 *
 *   import { openNic } from "ringwire";
 *   import { nmOpen, Poll } from "ringwire/netmap";
 *
 *   const nic = await openNic({ connect, ifname: "ena0", netmap: true });
 *   const port = await nmOpen("netmap:ena0", { netmap: nic.netmap });
 *
 * nmOpen opens ports on NICs, on VALE switches and on pipes. nmAttach attaches a worker to a port
 * that another thread shared. README.md has examples that run.
 */
export { NmPort, nmAttach, nmOpen, type OpenOptions } from "./descriptor.ts";
export { NetmapError } from "./errors.ts";
export { Ns, Poll, RegFlag, RingFlag } from "./flags.ts";
export { Netmap, type NetmapOptions, type RequestOptions } from "./netmap.ts";
export { PortRings } from "./port.ts";
export type { NetmapRing } from "./ring.ts";
export { type PortHandle, WorkerPort } from "./shared-port.ts";
