/**
 * The event channels of one machine: all its guests and the backend domain 0.
 *
 *   guest port ── joined ── port of domain 0 ── handler of a backend
 *
 * A port has one pending bit, so events are merged until the bit is taken. The upcall of a guest
 * takes the bit, unless the port is masked. The port of a backend is masked from the call of its
 * handler to `eoi`. A guest that sends without end therefore costs one turn at a time. A guest that
 * sends without work waits longer for each turn (XSA-332). A guest with work never waits: throttling
 * all events once cost FreeBSD's netfront its throughput.
 *
 * Source: xen: xen/common/event_channel.c, xen/include/public/event_channel.h;
 * linux: drivers/xen/events/events_base.c (xen_irq_lateeoi_locked).
 */

import type { XenStatus } from "../../shared/status/device-status.ts";
import {
  EVTCHN_2L_NR_CHANNELS,
  EVTCHN_FIFO_NR_CHANNELS,
  EvtchnStatus,
} from "../../shared/xen/event-channel.ts";
import { Domid, XenErrno } from "../../shared/xen/hypercall.ts";
import { EventPort } from "./event-port.ts";

/** The domain of the backends. It may act for other domains. */
const DOMAIN_0 = 0;

/** Called when an unmasked port of the domain becomes pending. Must not throw. */
export type Upcall = (port: number) => void;

export interface EventChannelsOptions {
  /** Milliseconds of a monotonic clock. */
  readonly now: () => number;
  /** Highest number of ports of a guest, including port 0, which is never allocated. */
  readonly maxPorts?: number;
}

/** Result of `status`: an EvtchnStatus, and the other end, or 0 without one. */
export interface PortStatus {
  readonly status: EvtchnStatus;
  readonly dom: number;
  readonly port: number;
}

interface Domain {
  upcall: Upcall;
  /** The ports, by number. Index 0 stays empty. */
  readonly ports: (EventPort | undefined)[];
}

/** Negative results are negated errnos of Xen. Other results are 0, or the number of a new port. */
export class EventChannels {
  readonly #now: () => number;
  readonly #maxPorts: number;
  readonly #domains: (Domain | undefined)[] = [];
  /** Ports with a delayed end of interrupt. */
  #delayed: EventPort[] = [];
  /** Counters of all domains: events sent, merged, and dropped at unbound ports; handler turns. */
  readonly counts = { sent: 0, coalesced: 0, unbound: 0, turns: 0, spurious: 0, delayed: 0 };

  constructor({ now, maxPorts = EVTCHN_2L_NR_CHANNELS }: EventChannelsOptions) {
    this.#now = now;
    this.#maxPorts = maxPorts;
    this.#domains[DOMAIN_0] = { upcall: () => {}, ports: [undefined] };
  }

  /**
   * Adds a guest. Its upcall sends the `event` transaction and takes the pending bit: from then on
   * the bit is in the guest's memory. Domain 0 exists from the start; for it this sets the upcall of
   * ports that become pending without a handler, and they stay pending. Throws for a domain that
   * exists.
   */
  attach(domid: number, upcall: Upcall): void {
    const domain = this.#domains[domid];
    if (domain === undefined) this.#domains[domid] = { upcall, ports: [undefined] };
    else if (domid === DOMAIN_0) domain.upcall = upcall;
    else throw new Error(`event channels: domain ${domid} is there already`);
  }

  /** Closes all ports of the domain; the other ends become unbound. */
  detach(domid: number): void {
    const domain = this.#domains[domid];
    if (domain === undefined) return;
    for (const port of domain.ports) port?.close();
    this.#domains[domid] = undefined;
    this.#delayed = this.#delayed.filter((port) => port.open);
  }

  /** A port of `dom` that `remote` may bind. Domid.SELF stands for the caller in both. */
  allocUnbound(caller: number, dom: number, remote: number): number {
    const owner = resolve(caller, dom);
    const domain = this.#domains[owner];
    if (domain === undefined) return -XenErrno.ESRCH;
    if (owner !== caller && caller !== DOMAIN_0) return -XenErrno.EPERM;
    const number = this.#freePort(domain, owner);
    if (number < 0) return number;
    domain.ports[number] = new EventPort(owner, number, resolve(caller, remote));
    return number;
  }

  /** A port of the caller joined to an unbound one; it is made pending once. */
  bindInterdomain(caller: number, remoteDom: number, remotePort: number): number {
    const domain = this.#domains[caller];
    const remoteDomain = this.#domains[resolve(caller, remoteDom)];
    if (domain === undefined || remoteDomain === undefined) return -XenErrno.ESRCH;
    const number = this.#freePort(domain, caller);
    if (number < 0) return number;
    const remote = remoteDomain.ports[remotePort];
    if (remote?.status !== EvtchnStatus.UNBOUND || remote.remoteDomid !== caller) {
      return -XenErrno.EINVAL;
    }
    const local = new EventPort(caller, number, remote.domid);
    domain.ports[number] = local;
    local.join(remote);
    remote.join(local);
    // Events that were sent before the binding are lost, so the new port looks once in any case.
    this.#raise(local);
    return number;
  }

  #freePort(domain: Domain, domid: number): number {
    const end = this.#portsOf(domid);
    for (let number = 1; number < end; number++) {
      if (domain.ports[number] === undefined) return number;
    }
    return -XenErrno.ENOSPC;
  }

  /** Domain 0 has one end of every channel of every vif, so it has as many ports as a Linux there. */
  #portsOf(domid: number): number {
    return domid === DOMAIN_0 ? EVTCHN_FIFO_NR_CHANNELS : this.#maxPorts;
  }

  close(caller: number, port: number): number {
    const domain = this.#domains[caller];
    const found = domain?.ports[port];
    if (domain === undefined || found === undefined) return -XenErrno.EINVAL;
    found.close();
    domain.ports[port] = undefined;
    const at = this.#delayed.indexOf(found);
    if (at >= 0) this.#delayed.splice(at, 1);
    return 0;
  }

  /** Makes the other end pending. An event on an unbound port is dropped, with result 0. */
  send(caller: number, port: number): number {
    const found = this.#find(caller, port);
    if (found === undefined) return -XenErrno.EINVAL;
    this.counts.sent++;
    if (found.remote !== undefined) this.#raise(found.remote);
    else this.counts.unbound++;
    return 0;
  }

  status(caller: number, dom: number, port: number): PortStatus | number {
    const owner = resolve(caller, dom);
    const domain = this.#domains[owner];
    if (domain === undefined) return -XenErrno.ESRCH;
    if (!(port < this.#portsOf(owner))) return -XenErrno.EINVAL;
    if (owner !== caller && caller !== DOMAIN_0) return -XenErrno.EPERM;
    const found = domain.ports[port];
    if (found === undefined) return { status: EvtchnStatus.CLOSED, dom: 0, port: 0 };
    return { status: found.status, dom: found.remoteDomid, port: found.remote?.number ?? 0 };
  }

  /** A masked port keeps its pending bit and makes no upcall. */
  mask(caller: number, port: number): number {
    const found = this.#find(caller, port);
    if (found === undefined) return -XenErrno.EINVAL;
    found.masked = true;
    return 0;
  }

  /** Unmasks a port. If it became pending meanwhile, its upcall runs now. */
  unmask(caller: number, port: number): number {
    const found = this.#find(caller, port);
    if (found === undefined) return -XenErrno.EINVAL;
    found.masked = false;
    if (found.pending) this.#deliver(found);
    return 0;
  }

  /** Takes the pending bit. Returns 1 if it was set, else 0. */
  pollPending(caller: number, port: number): number {
    const found = this.#find(caller, port);
    if (found === undefined) return -XenErrno.EINVAL;
    if (!found.pending) return 0;
    found.pending = false;
    return 1;
  }

  /**
   * Sets the handler of a backend's port. It runs in place of the domain's upcall, after the pending
   * bit is taken, and not again until `eoi`. If the port is pending already, it runs at once.
   */
  bindHandler(domid: number, port: number, handler: () => void): number {
    const found = this.#find(domid, port);
    if (found === undefined) return -XenErrno.EINVAL;
    found.handler = handler;
    if (found.pending) this.#deliver(found);
    return 0;
  }

  /**
   * Ends a handler's turn, during the call or later. `spurious` means that there was no work. From
   * the second spurious event in a row on, each delays the next turn for longer, up to one second.
   * An event with work ends the delays. A port that has closed is ignored.
   */
  eoi(domid: number, port: number, spurious: boolean): void {
    const found = this.#find(domid, port);
    if (found === undefined || !found.busy || found.due !== 0) return;
    if (spurious) this.counts.spurious++;
    const delay = found.delay(spurious);
    if (delay === 0) {
      this.#endTurn(found);
      return;
    }
    this.counts.delayed++;
    found.due = this.#now() + delay;
    this.#delayed.push(found);
  }

  /** Runs the delayed ports whose time has come. */
  tick(now: number): void {
    if (this.#delayed.length === 0) return;
    const due = this.#delayed.filter((port) => port.due <= now);
    if (due.length === 0) return;
    this.#delayed = this.#delayed.filter((port) => port.due > now);
    for (const port of due) {
      port.due = 0;
      // A port that an earlier handler closed has nothing pending.
      this.#endTurn(port);
    }
  }

  /** Time (ms of the clock) at which `tick` must be called; Infinity while nothing is delayed. */
  get nextTick(): number {
    let next = Number.POSITIVE_INFINITY;
    for (const port of this.#delayed) next = Math.min(next, port.due);
    return next;
  }

  #find(domid: number, port: number): EventPort | undefined {
    return this.#domains[domid]?.ports[port];
  }

  #raise(port: EventPort): void {
    if (port.pending) {
      this.counts.coalesced++;
      return;
    }
    port.pending = true;
    this.#deliver(port);
  }

  #endTurn(port: EventPort): void {
    port.busy = false;
    if (port.pending) this.#deliver(port);
  }

  #deliver(port: EventPort): void {
    if (port.masked) return;
    if (port.handler !== undefined) {
      if (!port.running) this.#run(port);
      return;
    }
    if (port.domid !== DOMAIN_0) port.pending = false;
    this.#domains[port.domid]?.upcall(port.number);
  }

  /** Runs a handler while its port is pending. A turn that ends within the call repeats here. */
  #run(port: EventPort): void {
    port.running = true;
    try {
      while (port.handler !== undefined && port.pending && !port.masked && !port.busy) {
        // The bit is taken first: an event during the turn is seen by it, or causes another turn.
        port.pending = false;
        port.busy = true;
        this.counts.turns++;
        port.handler();
      }
    } finally {
      port.running = false;
    }
  }

  /** The ports of one domain and their states. */
  use(domid: number): NonNullable<XenStatus["events"]> {
    const open = this.#domains[domid]?.ports.filter((port) => port !== undefined) ?? [];
    return {
      ports: open.length,
      bound: open.filter((port) => port.remote !== undefined).length,
      pending: open.filter((port) => port.pending).length,
      masked: open.filter((port) => port.masked).length,
      waiting: open.filter((port) => port.due !== 0).length,
    };
  }
}

function resolve(caller: number, dom: number): number {
  return dom === Domid.SELF ? caller : dom;
}
