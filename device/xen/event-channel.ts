/**
 * The event channels of one machine: all its guests and the backend domain 0.
 *
 * Source: xen: xen/common/event_channel.c, xen/include/public/event_channel.h;
 * linux: drivers/xen/events/events_base.c (late EOI).
 */
import type { Snapshot } from "../nic.ts";

/** Called when an unmasked port of the domain becomes pending. Must not throw. */
export type Upcall = (port: number) => void;

export interface EventChannelsOptions {
  /** Milliseconds of a monotonic clock. */
  readonly now: () => number;
  /** Ports of a domain, port 0 included, which is never given out. */
  readonly maxPorts?: number;
}

/** What `status` says: EVTCHNSTAT value, and the other end where there is one. */
export interface PortStatus {
  readonly status: number;
  readonly dom: number;
  readonly port: number;
}

/** Results below 0 are negated errnos of Xen; 0 or more is success, a port where one is made. */
export class EventChannels {
  constructor(_options: EventChannelsOptions) {}

  /** Domain 0 is there from the start. A guest's upcall sends the `event` transaction. */
  attach(_domid: number, _upcall: Upcall): void {
    throw new Error("not built yet");
  }

  /** Closes all ports of the domain; the other ends become unbound. */
  detach(_domid: number): void {
    throw new Error("not built yet");
  }

  /** A port of `dom` that `remote` may bind. DOMID_SELF stands for the caller in both. */
  allocUnbound(_caller: number, _dom: number, _remote: number): number {
    throw new Error("not built yet");
  }

  /** A port of the caller joined to an unbound one; it is made pending once. */
  bindInterdomain(_caller: number, _remoteDom: number, _remotePort: number): number {
    throw new Error("not built yet");
  }

  close(_caller: number, _port: number): number {
    throw new Error("not built yet");
  }

  /** Makes the other end pending. Unbound: dropped, 0. */
  send(_caller: number, _port: number): number {
    throw new Error("not built yet");
  }

  status(_caller: number, _dom: number, _port: number): PortStatus | number {
    throw new Error("not built yet");
  }

  /** A masked port keeps its pending bit and makes no upcall. */
  mask(_caller: number, _port: number): number {
    throw new Error("not built yet");
  }

  /** Unmasks; a pending port makes its upcall now. */
  unmask(_caller: number, _port: number): number {
    throw new Error("not built yet");
  }

  /** Takes the pending bit: 1 it was set and is now clear, 0 it was clear. */
  pollPending(_caller: number, _port: number): number {
    throw new Error("not built yet");
  }

  /**
   * Handles a port of a backend: `handler` runs instead of the domain's upcall, with the pending
   * bit taken, and not again until `eoi`. A port already pending runs it at once.
   */
  bindHandler(_domid: number, _port: number, _handler: () => void): number {
    throw new Error("not built yet");
  }

  /**
   * Ends a handler's turn, at once or any time later. `spurious`: there was nothing to do. A
   * second and further spurious event in a row delays the next turn, longer each time, up to one
   * second; an honest one makes the next turn immediate again.
   */
  eoi(_domid: number, _port: number, _spurious: boolean): void {
    throw new Error("not built yet");
  }

  /** Lets delayed ports run whose time has come. */
  tick(_now: number): void {
    throw new Error("not built yet");
  }

  /** When `tick` is needed next, in ms of the clock; Infinity while nothing is delayed. */
  get nextTick(): number {
    return Number.POSITIVE_INFINITY;
  }

  snapshot(): Snapshot {
    throw new Error("not built yet");
  }
}
