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

/** Where clients connect that carry bare Ethernet frames. */
export const ETHERNET_PATH = "/ethernet";

/** What a path of the device needs. */
interface PathRule {
  readonly need: Need;
  /** True for a page that changes something, which is asked by POST. */
  readonly isPosted?: true;
}

/** All paths of the device. A path that is missing here needs `admin`. */
const PATHS = {
  "/addresses": { need: "inspect" },
  "/capture": { need: "capture" },
  "/ethernet": { need: "ethernet" },
  "/events": { need: "inspect" },
  "/livez": { need: ANYBODY },
  "/metrics": { need: "metrics" },
  "/migrate": { need: "control", isPosted: true },
  "/nic": { need: "nic" },
  "/readyz": { need: ANYBODY },
  "/status": { need: "inspect" },
  "/ticket": { need: ANY_CLIENT, isPosted: true },
} as const satisfies Readonly<Record<string, PathRule>>;
/** A path with a page. The other ones are upgrades. */
export type PagePath = Exclude<keyof typeof PATHS, "/nic" | "/ethernet">;

/** The role that each path of the device needs. */
export const NEEDS: Readonly<Record<string, Need>> = Object.fromEntries(
  Object.entries(PATHS).map(([path, { need }]) => [path, need]),
);

/** The paths that are asked by POST. */
export const POSTED: ReadonlySet<string> = new Set(
  Object.entries<PathRule>(PATHS).flatMap(([path, { isPosted }]) => (isPosted ? [path] : [])),
);
