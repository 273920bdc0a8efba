/**
 * event_channel_op: one argument structure, a result that is an errno.
 *
 * Source: xen: xen/common/event_channel.c, do_event_channel_op.
 */
import {
  EvtchnOp,
  evtchnAllocUnbound,
  evtchnBindInterdomain,
  evtchnClose,
  evtchnSend,
  evtchnStatus,
  evtchnUnmask,
} from "../../shared/xen/event-channel.ts";
import { XenErrno } from "../../shared/xen/hypercall.ts";
import type { EventChannels } from "./event-channel.ts";
import { type Operations, operation, runSingle } from "./operation.ts";

interface Caller {
  readonly events: EventChannels;
  readonly domid: number;
}

/** Virtual and physical interrupts, FIFO queues and processors do not exist for a guest that is a NIC only. */
const OPS: Operations<Caller> = {
  [EvtchnOp.ALLOC_UNBOUND]: operation(evtchnAllocUnbound, ({ events, domid }, given) => {
    const port = events.allocUnbound(domid, given.dom, given.remoteDom);
    return port < 0 ? port : { port };
  }),
  [EvtchnOp.BIND_INTERDOMAIN]: operation(evtchnBindInterdomain, ({ events, domid }, given) => {
    const localPort = events.bindInterdomain(domid, given.remoteDom, given.remotePort);
    return localPort < 0 ? localPort : { localPort };
  }),
  [EvtchnOp.STATUS]: operation(evtchnStatus, ({ events, domid }, given) => {
    const found = events.status(domid, given.dom, given.port);
    if (typeof found === "number") return found;
    return { status: found.status, vcpu: 0, remoteDom: found.dom, remotePort: found.port };
  }),
  [EvtchnOp.CLOSE]: operation(evtchnClose, ({ events, domid }, { port }) =>
    events.close(domid, port),
  ),
  [EvtchnOp.SEND]: operation(evtchnSend, ({ events, domid }, { port }) => events.send(domid, port)),
  [EvtchnOp.UNMASK]: operation(evtchnUnmask, ({ events, domid }, { port }) =>
    events.unmask(domid, port),
  ),
};

/** Returns the positive errno of the call, or 0. Writes the OUT fields of the structure in `view`. */
export function eventCall(caller: Caller, command: number, view: DataView): number {
  const op = OPS[command];
  return op === undefined ? XenErrno.ENOSYS : runSingle(op, caller, view);
}
