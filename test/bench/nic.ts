/** One NIC of this process, attached and ready to come up, for whoever drives its interface. */
import { createDriver } from "../../frontend/drivers.ts";
import type { Ifnet } from "../../frontend/net/ifnet.ts";
import { Session } from "../../frontend/session.ts";
import type { Logger } from "../../shared/log.ts";
import type { Personality } from "../../shared/wire/personality.ts";

export interface NicOptions {
  /** Anything that --connect takes. */
  readonly connect: string;
  readonly name: string;
  readonly zeroMask: boolean;
  readonly personality: Personality;
  /** Entries of each ENA receive ring; Xen's have 256. */
  readonly ringSize: number;
  readonly log: Logger;
}

export interface OpenNic {
  readonly ifnet: Ifnet;
  up(): Promise<void>;
  close(): Promise<void>;
}

/** Connects and attaches the driver. Rejects with a sentence for a person. */
export async function openNic(options: NicOptions): Promise<OpenNic> {
  const { ringSize, personality, ...rest } = options;
  const session = new Session({
    ...rest,
    personality,
    agent: "ringwire-bench",
    queues: 1,
    driver: (context) => createDriver(personality, context, { rxRingSize: ringSize }),
  });
  await session.start();
  return {
    ifnet: session.driver.ifnet,
    up: () => session.driver.up(),
    close: () => session.close(),
  };
}
