/** The drivers by personality: the one place that knows them all. */
import { PERSONALITIES, type Personality, UNIT_PREFIX } from "../shared/wire/personality.ts";
import type { Driver, DriverContext } from "./driver.ts";
import { createEnaDriver } from "./ena/index.ts";
import type { Netmap } from "./netmap/netmap.ts";
import { createXenDriver } from "./xen/index.ts";

export interface DriverOptions {
  readonly netmap?: Netmap | undefined;
  /** Merges received TCP segments before the stack. */
  readonly lro?: boolean | undefined;
  /** ENA: descriptors and headers go to device memory. */
  readonly llq?: boolean | undefined;
  /** Xen: false shows the device nothing but copies in zeroed pages. */
  readonly trusted?: boolean | undefined;
  /** Slots of each ring, where the hardware leaves a choice. */
  readonly rxRingSize?: number | undefined;
  readonly txRingSize?: number | undefined;
}

/** Makes the driver of a NIC. */
export function createDriver(
  personality: Personality,
  context: DriverContext,
  options: DriverOptions,
): Driver {
  return personality === "xen"
    ? createXenDriver(context, options)
    : createEnaDriver(context, options);
}

/** The personality behind an interface name: by its prefix. */
export function personalityOf(ifname: string): Personality | undefined {
  return PERSONALITIES.find((p) => new RegExp(`^${UNIT_PREFIX[p]}\\d`).test(ifname));
}
