/** The drivers by personality. Only this file imports all of them. */
import { PERSONALITIES, type Personality, UNIT_PREFIX } from "../shared/wire/personality.ts";
import type { Driver, DriverContext } from "./driver.ts";
import type { EnaOptions } from "./ena/adapter.ts";
import { EnaDriver } from "./ena/index.ts";
import { XenDriver } from "./xen/index.ts";
import type { XenOptions } from "./xen/info.ts";

export type DriverOptions = EnaOptions & XenOptions;

/** Creates the driver of a NIC. */
export function createDriver(
  personality: Personality,
  context: DriverContext,
  options: DriverOptions,
): Driver {
  return personality === "xen" ? new XenDriver(context, options) : new EnaDriver(context, options);
}

/** Returns the personality that the prefix of an interface name stands for. */
export function personalityOf(ifname: string): Personality | undefined {
  return PERSONALITIES.find((p) => new RegExp(`^${UNIT_PREFIX[p]}\\d`).test(ifname));
}
