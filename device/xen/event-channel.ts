/**
 * The event channels of one machine: all its guests and the backend domain 0.
 *
 *   guest port ── joined ── port of domain 0 ── handler of a backend
 *
 * A port has one pending bit: events that come before it is taken are one. A guest's is taken by
 * its upcall, unless the port is masked. A backend's port is
 * masked from its handler's call to `eoi`, so a guest that sends without end costs one turn at a
 * time, and one that sends without reason waits longer for each (XSA-332). Whoever has work is
 * never made to wait: throttling all events once cost FreeBSD's netfront its throughput.
 *
 * Source: xen: xen/common/event_channel.c, xen/include/public/event_channel.h;
 * linux: drivers/xen/events/events_base.c (xen_irq_lateeoi_locked).
 */
import {
  EVTCHN_2L_NR_CHANNELS,
  EVTCHN_FIFO_NR_CHANNELS,
  EvtchnStatus,
} from "../../shared/xen/event-channel.ts";
import { Domid, XenErrno } from "../../shared/xen/hypercall.ts";
import type { Snapshot } from "../nic.ts";
import { EventPort } from "./event-port.ts";

/** The domain of the backends; it may act for others. */
const DOMAIN_0 = 0;

/** Called when an unmasked port of the domain becomes pending. Must not throw. */
export type Upcall = (port: number) => void;

export interface EventChannelsOptions {
  /** Milliseconds of a monotonic clock. */
  readonly now: () => number;
  /** Ports of a guest, port 0 included, which is never given out. */
  readonly maxPorts?: number;
}

/** What `status` says: EvtchnStatus, and the other end where there is one, else 0. */
export interface PortStatus {
  readonly status: EvtchnStatus;
  readonly dom: number;
  readonly port: number;
}

interface Domain {
  upcall: Upcall;
  /** By number; index 0 stays empty. */
  readonly ports: (EventPort | undefined)[];
}

/** Results below 0 are negated errnos of Xen; 0 or more is success, a port where one is made. */
export class EventChannels {
  readonly #now: () => number;
  readonly #maxPorts: number;
  readonly #domains: (Domain | undefined)[] = [];
  /** Ports whose end of interrupt is delayed. */
  #delayed: EventPort[] = [];
  readonly #counts = { sent: 0, coalesced: 0, unbound: 0, turns: 0, spurious: 0, delayed: 0 };

  constructor({ now, maxPorts = EVTCHN_2L_NR_CHANNELS }: EventChannelsOptions) {
    this.#now = now;
    this.#maxPorts = maxPorts;
    this.#domains[DOMAIN_0] = { upcall: () => {}, ports: [undefined] };
  }

  /**
   * Adds a guest. Its upcall sends the `event` transaction, and the pending bit goes with it: from
   * then on it is the guest's, whose memory it stands in. Domain 0 is there from the start; this
   * sets its upcall, for ports that become pending while they have no handler. They stay pending.
   * Throws when a guest of that number is there.
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
    // What was sent before there was somebody to hear it is lost: look once in any case.
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

  /** Domain 0 has an end of every channel of every vif, so it has ports as a Linux there has. */
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

  /** Makes the other end pending. Unbound: dropped, 0. */
  send(caller: number, port: number): number {
    const found = this.#find(caller, port);
    if (found === undefined) return -XenErrno.EINVAL;
    this.#counts.sent++;
    if (found.remote !== undefined) this.#raise(found.remote);
    else this.#counts.unbound++;
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

  /** Unmasks; a port that became pending meanwhile makes its upcall now. */
  unmask(caller: number, port: number): number {
    const found = this.#find(caller, port);
    if (found === undefined) return -XenErrno.EINVAL;
    found.masked = false;
    if (found.pending) this.#deliver(found);
    return 0;
  }

  /** Takes the pending bit: 1 it was set and is now clear, 0 it was clear. */
  pollPending(caller: number, port: number): number {
    const found = this.#find(caller, port);
    if (found === undefined) return -XenErrno.EINVAL;
    if (!found.pending) return 0;
    found.pending = false;
    return 1;
  }

  /**
   * Handles a port of a backend: `handler` runs instead of the domain's upcall, with the pending
   * bit taken, and not again until `eoi`. A port already pending runs it at once.
   */
  bindHandler(domid: number, port: number, handler: () => void): number {
    const found = this.#find(domid, port);
    if (found === undefined) return -XenErrno.EINVAL;
    found.handler = handler;
    if (found.pending) this.#deliver(found);
    return 0;
  }

  /**
   * Ends a handler's turn, at once or any time later. `spurious`: there was nothing to do. A
   * second and further spurious event in a row delays the next turn, longer each time, up to one
   * second; an honest one makes the next turn immediate again. Nothing for a port that has closed.
   */
  eoi(domid: number, port: number, spurious: boolean): void {
    const found = this.#find(domid, port);
    if (found === undefined || !found.busy || found.due !== 0) return;
    if (spurious) this.#counts.spurious++;
    const delay = found.delay(spurious);
    if (delay === 0) {
      this.#endTurn(found);
      return;
    }
    this.#counts.delayed++;
    found.due = this.#now() + delay;
    this.#delayed.push(found);
  }

  /** Lets delayed ports run whose time has come. */
  tick(now: number): void {
    if (this.#delayed.length === 0) return;
    const due = this.#delayed.filter((port) => port.due <= now);
    if (due.length === 0) return;
    this.#delayed = this.#delayed.filter((port) => port.due > now);
    for (const port of due) {
      port.due = 0;
      // One that a handler before it closed has nothing pending.
      this.#endTurn(port);
    }
  }

  /** When `tick` is needed next, in ms of the clock; Infinity while nothing is delayed. */
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
      this.#counts.coalesced++;
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

  /** Turns of a handler until there is none to take. One that ends within the call loops here. */
  #run(port: EventPort): void {
    port.running = true;
    try {
      while (port.handler !== undefined && port.pending && !port.masked && !port.busy) {
        // The bit is taken first: what comes during the turn is seen by the turn or makes another.
        port.pending = false;
        port.busy = true;
        this.#counts.turns++;
        port.handler();
      }
    } finally {
      port.running = false;
    }
  }

  /** Of all domains: sent, coalesced, dropped unbound; turns of handlers, spurious and delayed ones. */
  get counts(): Readonly<Record<string, number>> {
    return { ...this.#counts };
  }

  snapshot(): Snapshot {
    const domains: Record<string, Snapshot> = {};
    this.#domains.forEach((domain, domid) => {
      if (domain !== undefined) domains[domid] = this.use(domid);
    });
    return { ...this.counts, domains };
  }

  /** What one domain has taken, and how its ports stand. */
  use(domid: number): Snapshot {
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
