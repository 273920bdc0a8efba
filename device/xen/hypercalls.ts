/**
 * What a guest may ask of the hypervisor by `hypercall`: argument structures come byte for byte,
 * one or more behind each other, and go back as the hypervisor left them.
 *
 * Source: xen: xen/include/public/{grant_table.h,event_channel.h,sched.h}.
 */
import type { EventChannels } from "./event-channel.ts";
import type { GrantTable } from "./grant-table.ts";

export interface HypercallsOptions {
  /** The grant table of a live domain. */
  readonly grants: (domid: number) => GrantTable | undefined;
  readonly events: EventChannels;
  /** The guest asks to be suspended: 0, or a positive errno that refuses it. */
  readonly suspend: (domid: number) => number;
}

/** What goes into `hypercall_reply`: 0 or a positive errno, and the structures. */
export interface HypercallResult {
  readonly errno: number;
  readonly bytes: Uint8Array;
}

export class Hypercalls {
  constructor(_options: HypercallsOptions) {}

  /** Never throws whatever the bytes are. `bytes` is not kept and not changed. */
  dispatch(_domid: number, _number: number, _command: number, _bytes: Uint8Array): HypercallResult {
    throw new Error("not built yet");
  }
}
