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
import { wrongLength } from "./call-arguments.ts";
import type { EventChannels } from "./event-channel.ts";

type EventCall = (events: EventChannels, domid: number, view: DataView) => number;
interface EventOp {
  readonly size: number;
  /** 0 or a negated errno. */
  readonly call: EventCall;
}

function allocUnbound(events: EventChannels, domid: number, view: DataView): number {
  const { dom, remoteDom } = evtchnAllocUnbound.parse(view, 0);
  const port = events.allocUnbound(domid, dom, remoteDom);
  if (port < 0) return port;
  evtchnAllocUnbound.patch(view, 0, { port });
  return 0;
}

function bindInterdomain(events: EventChannels, domid: number, view: DataView): number {
  const { remoteDom, remotePort } = evtchnBindInterdomain.parse(view, 0);
  const localPort = events.bindInterdomain(domid, remoteDom, remotePort);
  if (localPort < 0) return localPort;
  evtchnBindInterdomain.patch(view, 0, { localPort });
  return 0;
}

function status(events: EventChannels, domid: number, view: DataView): number {
  const { dom, port } = evtchnStatus.parse(view, 0);
  const found = events.status(domid, dom, port);
  if (typeof found === "number") return found;
  evtchnStatus.patch(view, 0, {
    status: found.status,
    vcpu: 0,
    remoteDom: found.dom,
    remotePort: found.port,
  });
  return 0;
}

/** Virtual and physical interrupts, FIFO queues and processors do not exist for a guest that is a NIC only. */
const OPS: Readonly<Record<number, EventOp>> = {
  [EvtchnOp.ALLOC_UNBOUND]: { size: evtchnAllocUnbound.size, call: allocUnbound },
  [EvtchnOp.BIND_INTERDOMAIN]: { size: evtchnBindInterdomain.size, call: bindInterdomain },
  [EvtchnOp.STATUS]: { size: evtchnStatus.size, call: status },
  [EvtchnOp.CLOSE]: {
    size: evtchnClose.size,
    call: (events, domid, view) => events.close(domid, evtchnClose.parse(view, 0).port),
  },
  [EvtchnOp.SEND]: {
    size: evtchnSend.size,
    call: (events, domid, view) => events.send(domid, evtchnSend.parse(view, 0).port),
  },
  [EvtchnOp.UNMASK]: {
    size: evtchnUnmask.size,
    call: (events, domid, view) => events.unmask(domid, evtchnUnmask.parse(view, 0).port),
  },
};

/** Returns the positive errno of the call, or 0. Writes the OUT fields of the structure in `view`. */
export function eventCall(
  events: EventChannels,
  domid: number,
  command: number,
  view: DataView,
): number {
  const op = OPS[command];
  if (op === undefined) return XenErrno.ENOSYS;
  const wrong = wrongLength(view, op.size);
  return wrong !== 0 ? wrong : Math.abs(op.call(events, domid, view));
}
