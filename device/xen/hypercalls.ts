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
import { eventCall } from "./event-calls.ts";
import type { EventChannels } from "./event-channel.ts";
import { grantCall } from "./grant-calls.ts";
import type { GrantTable } from "./grant-table.ts";
import { operation, runSingle } from "./operation.ts";

/** The parts of a hypervisor that the calls use. */
export interface Hypervisor {
  /** The grant table of a live domain. */
  grants(domid: number): GrantTable | undefined;
  readonly events: EventChannels;
  /** The guest asks to be suspended. Returns 0, or a positive errno that refuses it. */
  suspended(domid: number): number;
}

/**
 * Runs a hypercall. Returns the content of `hypercall_reply`: 0 or a positive errno, and the
 * structures. It never throws for any bytes, and neither keeps nor changes `bytes`.
 */
export function dispatch(
  hypervisor: Hypervisor,
  domid: number,
  number: number,
  command: number,
  bytes: Uint8Array,
): { readonly errno: number; readonly bytes: Uint8Array } {
  // Not `slice`: on a Buffer of the link it would share the bytes.
  const copy = new Uint8Array(bytes);
  const view = new DataView(copy.buffer);
  return { errno: call(hypervisor, domid, number, command, view), bytes: copy };
}

function call(
  hypervisor: Hypervisor,
  domid: number,
  number: number,
  command: number,
  view: DataView,
): number {
  const { events } = hypervisor;
  switch (number) {
    case Hypercall.GRANT_TABLE_OP:
      return grantCall((of) => hypervisor.grants(of), domid, command, view);
    case Hypercall.EVENT_CHANNEL_OP:
      return eventCall({ events, domid }, command, view);
    case Hypercall.SCHED_OP:
      if (command !== SchedOp.SHUTDOWN) return XenErrno.ENOSYS;
      return runSingle(shutdown, { hypervisor, domid }, view);
    default:
      return XenErrno.ENOSYS;
  }
}

/** A guest here may suspend. It has no processor and no power to control. */
const shutdown = operation(
  schedShutdown,
  ({ hypervisor, domid }: { hypervisor: Hypervisor; domid: number }, { reason }) =>
    reason === ShutdownReason.SUSPEND ? hypervisor.suspended(domid) : XenErrno.ENOSYS,
);
