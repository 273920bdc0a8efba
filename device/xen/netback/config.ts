/** The configuration of one frontend, and the services that netback uses. */
import type { NicHost } from "../../nic.ts";
import type { EventChannels } from "../event-channel.ts";
import type { GrantTable } from "../grant-table.ts";

/** One pair of rings, as the frontend published it. Ports are the guest's; equal ports are one channel. */
export interface QueueConfig {
  readonly txRingRef: number;
  readonly rxRingRef: number;
  readonly txPort: number;
  readonly rxPort: number;
}

/** The frontend's keys. The features say which packets the frontend can RECEIVE. */
export interface NetbackConfig {
  readonly queues: readonly QueueConfig[];
  readonly control?: { readonly ringRef: number; readonly port: number };
  /** feature-rx-notify: the frontend sends an event after it posts receive requests. */
  readonly rxNotify: boolean;
  /** feature-sg: packets of several slots. */
  readonly sg: boolean;
  readonly gsoTcpv4: boolean;
  readonly gsoTcpv6: boolean;
  /** feature-no-csum-offload: no blank checksums over IPv4. */
  readonly noCsumOffload: boolean;
  /** feature-ipv6-csum-offload: blank checksums over IPv6. */
  readonly ipv6CsumOffload: boolean;
  /** request-multicast-control: only the groups of the list that its extra info amends. */
  readonly multicastControl: boolean;
}

/** A key of the frontend has an unusable value. `key` is relative to the frontend's directory. */
export class VifKeyError extends Error {
  readonly key: string;
  constructor(key: string, why: string) {
    super(`${key}: ${why}`);
    this.name = "VifKeyError";
    this.key = key;
  }
}

/** Transmit credit: bytes in a period of microseconds, both above 0. */
export interface Rate {
  readonly bytes: number;
  readonly usec: number;
}

export interface NetbackContext {
  readonly host: NicHost;
  readonly grants: GrantTable;
  readonly events: EventChannels;
  /** The guest; the backend is domain 0. */
  readonly domid: number;
  /** Bytes of the longest frame without segmentation, Ethernet header and tag included. */
  readonly maxFrameBytes: number;
  /**
   * The frontend made a fatal error, and the vif is disabled. Called once for each connection, after
   * everything is released. No work is done until the next `connect`.
   */
  fatal(code: string, text: string): void;
}
