/** The backend of one virtual interface: Xen's netback, without its xenbus state machine. */
export type { NetbackConfig, QueueConfig } from "./config.ts";
export { Netback } from "./netback.ts";
