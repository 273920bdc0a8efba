/** What a client may do at a device, and what each page and upgrade asks for. */

export const ROLES = [
  /** Connect NICs. */
  "nic",
  /** Connect as a port that carries bare Ethernet frames. */
  "ethernet",
  /** Read captured frames and rings. */
  "capture",
  /** Read the metrics. */
  "metrics",
  /** Read the status, the events and the address table. */
  "inspect",
  /** Change what runs: faults, impairment, migration. */
  "control",
  /** All of these. */
  "admin",
] as const;
export type Role = (typeof ROLES)[number];

/** A path that anybody may ask: it says nothing about the lab. */
export const ANYBODY = "anybody";
/** A path that every known client may ask. */
export const ANY_CLIENT = "any client";

export type Need = Role | typeof ANYBODY | typeof ANY_CLIENT;

/** The role that each path of the device needs. A path that is missing here needs `admin`. */
export const NEEDS: Readonly<Record<string, Need>> = {
  "/nic": "nic",
  "/addresses": "inspect",
  "/capture": "capture",
  "/events": "inspect",
  "/livez": ANYBODY,
  "/metrics": "metrics",
  "/migrate": "control",
  "/readyz": ANYBODY,
  "/status": "inspect",
  "/ticket": ANY_CLIENT,
};
