/** What netback is told of one frontend, and what it may use of the world. */
import type { GuestHost } from "../../nic.ts";
import type { EventChannels } from "../event-channel.ts";
import type { GrantTable } from "../grant-table.ts";

/** One pair of rings, as the frontend published it. Ports are the guest's; equal is one channel. */
export interface QueueConfig {
  readonly txRingRef: number;
  readonly rxRingRef: number;
  readonly txPort: number;
  readonly rxPort: number;
}

/** What the frontend wrote to its directory. The features are what it can RECEIVE. */
export interface NetbackConfig {
  readonly queues: readonly QueueConfig[];
  readonly control?: { readonly ringRef: number; readonly port: number };
  /** feature-rx-notify: it says when it has posted receive requests. */
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

/** Transmit credit: so many bytes in so many microseconds, both above 0. */
export interface Rate {
  readonly bytes: number;
  readonly usec: number;
}

export interface NetbackContext {
  readonly host: GuestHost;
  readonly grants: GrantTable;
  readonly events: EventChannels;
  /** The guest; the backend is domain 0. */
  readonly domid: number;
  /** Longest frame without segmentation, Ethernet header and tag included. */
  readonly maxFrameBytes: number;
  /**
   * The frontend broke a rule that leaves no way on: the vif is disabled. Called once a connection,
   * when everything is released already; no work is done from then until the next `connect`.
   */
  fatal(code: string, text: string): void;
}
