/** The drivers by personality. Only this file imports all of them. */
import { PERSONALITIES, type Personality, UNIT_PREFIX } from "../shared/wire/personality.ts";
import type { Driver, DriverContext } from "./driver.ts";
import { createEnaDriver } from "./ena/index.ts";
import type { Netmap } from "./netmap/netmap.ts";
import { createXenDriver } from "./xen/index.ts";

export interface DriverOptions {
  readonly netmap?: Netmap | undefined;
  /** Merges received TCP segments before the stack. */
  readonly lro?: boolean | undefined;
  /** ENA: puts transmit descriptors and headers into device memory. */
  readonly llq?: boolean | undefined;
  /** Xen: false grants the device nothing but copies in zeroed pages. */
  readonly trusted?: boolean | undefined;
  /** Slots of each ring, where the hardware allows a choice. */
  readonly rxRingSize?: number | undefined;
  readonly txRingSize?: number | undefined;
}

/** Creates the driver of a NIC. */
export function createDriver(
  personality: Personality,
  context: DriverContext,
  options: DriverOptions,
): Driver {
  return personality === "xen"
    ? createXenDriver(context, options)
    : createEnaDriver(context, options);
}

/** Returns the personality that the prefix of an interface name stands for. */
export function personalityOf(ifname: string): Personality | undefined {
  return PERSONALITIES.find((p) => new RegExp(`^${UNIT_PREFIX[p]}\\d`).test(ifname));
}
