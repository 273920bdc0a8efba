/** The drivers by personality: the one place that knows them all. */
import { PERSONALITIES, type Personality, UNIT_PREFIX } from "../shared/wire/personality.ts";
import type { Driver, DriverContext } from "./driver.ts";
import { createEnaDriver } from "./ena/index.ts";
import type { Netmap } from "./netmap/netmap.ts";
import { createXenDriver } from "./xen/index.ts";

export interface DriverOptions {
  readonly netmap?: Netmap;
  /** Merges received TCP segments before the stack. */
  readonly lro?: boolean;
  /** ENA: descriptors and headers go to device memory. */
  readonly llq?: boolean;
  /** Xen: false shows the device nothing but copies in zeroed pages. */
  readonly trusted?: boolean;
  /** Slots of each ring, where the hardware leaves a choice. */
  readonly rxRingSize?: number;
  readonly txRingSize?: number;
}

/** Makes the driver of a NIC. */
export function createDriver(
  personality: Personality,
  context: DriverContext,
  options: DriverOptions,
): Driver {
  const { netmap, lro, llq, trusted, rxRingSize, txRingSize } = options;
  const common = {
    ...(netmap === undefined ? {} : { netmap }),
    ...(lro === undefined ? {} : { lro }),
  };
  if (personality === "xen") {
    return createXenDriver(context, { ...common, ...(trusted === undefined ? {} : { trusted }) });
  }
  return createEnaDriver(context, {
    ...common,
    ...(llq === undefined ? {} : { llq }),
    ...(rxRingSize === undefined ? {} : { rxRingSize }),
    ...(txRingSize === undefined ? {} : { txRingSize }),
  });
}

/** The personality behind an interface name: by its prefix. */
export function personalityOf(ifname: string): Personality | undefined {
  return PERSONALITIES.find((p) => new RegExp(`^${UNIT_PREFIX[p]}\\d`).test(ifname));
}
