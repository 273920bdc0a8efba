/**
 * The hypercalls of a guest. The argument structures arrive byte for byte, one behind the other,
 * and return with the hypervisor's changes.
 *
 *   hypercall ─► grant_table_op    ─► grant-calls.ts ─► the guest's own GrantTable
 *                event_channel_op  ─► event-calls.ts ─► EventChannels
 *                sched_op shutdown ─► the machine's hook
 *
 * A call is refused as a whole with an errno, or each structure has a status of its own: when one
 * fails, the structures before it are done, and the structures behind it are tried.
 *
 * Source: xen: xen/include/public/{grant_table.h,event_channel.h,sched.h}.
 */
import { Hypercall, XenErrno } from "../../shared/xen/hypercall.ts";
import { SchedOp, ShutdownReason, schedShutdown } from "../../shared/xen/sched.ts";
import { wrongLength } from "./call-arguments.ts";
import { eventCall } from "./event-calls.ts";
import type { EventChannels } from "./event-channel.ts";
import { grantCall } from "./grant-calls.ts";
import type { GrantTable } from "./grant-table.ts";

export interface HypercallsOptions {
  /** The grant table of a live domain. */
  readonly grants: (domid: number) => GrantTable | undefined;
  readonly events: EventChannels;
  /** The guest asks to be suspended. Returns 0, or a positive errno that refuses it. */
  readonly suspend: (domid: number) => number;
}

/** Content of `hypercall_reply`: 0 or a positive errno, and the structures. */
export interface HypercallResult {
  readonly errno: number;
  readonly bytes: Uint8Array;
}

export class Hypercalls {
  readonly #options: HypercallsOptions;

  constructor(options: HypercallsOptions) {
    this.#options = options;
  }

  /** Runs a hypercall. It never throws for any bytes, and neither keeps nor changes `bytes`. */
  dispatch(domid: number, number: number, command: number, bytes: Uint8Array): HypercallResult {
    // Not `slice`: on a Buffer of the link it would share the bytes.
    const copy = new Uint8Array(bytes);
    const view = new DataView(copy.buffer);
    return { errno: this.#call(domid, number, command, view), bytes: copy };
  }

  #call(domid: number, number: number, command: number, view: DataView): number {
    switch (number) {
      case Hypercall.GRANT_TABLE_OP:
        return grantCall(this.#options.grants, domid, command, view);
      case Hypercall.EVENT_CHANNEL_OP:
        return eventCall(this.#options.events, domid, command, view);
      case Hypercall.SCHED_OP:
        return this.#sched(domid, command, view);
      default:
        return XenErrno.ENOSYS;
    }
  }

  /** sched_op: a guest here may suspend. It has no processor and no power to control. */
  #sched(domid: number, command: number, view: DataView): number {
    if (command !== SchedOp.SHUTDOWN) return XenErrno.ENOSYS;
    const wrong = wrongLength(view, schedShutdown.size);
    if (wrong !== 0) return wrong;
    if (schedShutdown.parse(view, 0).reason !== ShutdownReason.SUSPEND) return XenErrno.ENOSYS;
    return this.#options.suspend(domid);
  }
}
