/**
 * The guest's event channels. The hypervisor allocates the ports, and each port has a handler.
 *
 *   alloc_unbound ──► port ──► published in xenstore ──► the backend binds it
 *   onEvent(port) ──► handler: true when there was work
 *
 * A backend may notify as often as it wants, and each notification without work costs us time
 * (XSA-391). So a port is masked for a while after several notifications in a row without work, and
 * each time twice as long. A notification that finds work is never delayed. No event is lost: an
 * event of a masked port is handled when the time is over.
 *
 * Source: xen: xen/include/public/event_channel.h; freebsd-src: sys/x86/xen/xen_intr.c (what a
 * handler is); linux: drivers/xen/events/events_base.c (the late end of an interrupt).
 */

import { viewOf } from "../../shared/bytes/words.ts";
import {
  EVTCHN_2L_NR_CHANNELS,
  EvtchnOp,
  evtchnAllocUnbound,
  evtchnClose,
} from "../../shared/xen/event-channel.ts";
import { Domid, Hypercall } from "../../shared/xen/hypercall.ts";
import { HypercallError, type Hypervisor } from "../bus/hypervisor.ts";
import { Abandoned } from "../driver-error.ts";

/** Handles the port's work. Returns false when there was none. */
export type EventHandler = () => boolean;

/** Number of notifications in a row without work before the port is masked. */
const FREE_SPURIOUS = 16;
const FIRST_DELAY_MS = 1;
const MAX_DELAY_MS = 1000;

interface Binding {
  readonly handler: EventHandler;
  /** Number of notifications in a row without work. */
  spurious: number;
  /** Time (ms) until which the port is masked; 0 while it is not masked. */
  maskedUntil: number;
  pending: boolean;
}

export class EventChannels {
  /** Numbers of notifications: to ports with a handler, without one, without work, while masked. */
  readonly counters = { events: 0, stray: 0, spurious: 0, throttled: 0 };
  readonly #hypervisor: Hypervisor;
  readonly #now: () => number;
  readonly #bindings: (Binding | undefined)[] = new Array<Binding | undefined>(
    EVTCHN_2L_NR_CHANNELS,
  ).fill(undefined);
  /** Number of masked bindings. */
  #masked = 0;

  /** `now` returns the time (ms) of a monotonic clock. */
  constructor(hypervisor: Hypervisor, now: () => number) {
    this.#hypervisor = hypervisor;
    this.#now = now;
  }

  /** EVTCHNOP_alloc_unbound: returns a port that `remote` may bind. Rejects with HypercallError. */
  async allocUnbound(remote: number): Promise<number> {
    const bytes = new Uint8Array(evtchnAllocUnbound.size);
    const view = new DataView(bytes.buffer);
    evtchnAllocUnbound.write(view, 0, { dom: Domid.SELF, remoteDom: remote });
    const reply = await this.#call(EvtchnOp.ALLOC_UNBOUND, bytes);
    const { port } = evtchnAllocUnbound.parse(viewOf(reply), 0);
    if (!(port > 0 && port < EVTCHN_2L_NR_CHANNELS)) {
      throw new HypercallError(0, `event channel: port ${port} is none`);
    }
    if (this.#bindings[port] !== undefined) {
      throw new HypercallError(0, `event channel: port ${port} was given twice`);
    }
    return port;
  }

  /** xen_intr_bind: sets the handler, which runs at the event's place in the batch. */
  bind(port: number, handler: EventHandler): void {
    if (this.#bindings[port] !== undefined) throw new Error(`event channel ${port} is bound`);
    this.#bindings[port] = { handler, spurious: 0, maskedUntil: 0, pending: false };
  }

  /** xen_intr_unbind: removes the handler, and closes the port if the hypervisor is attached. */
  unbind(port: number): void {
    const binding = this.#bindings[port];
    if (binding === undefined) return;
    this.#bindings[port] = undefined;
    if (binding.maskedUntil !== 0) this.#masked--;
    if (!this.#hypervisor.attached) return;
    const bytes = new Uint8Array(evtchnClose.size);
    evtchnClose.write(new DataView(bytes.buffer), 0, { port });
    // If the close fails, the port ends with the domain.
    this.#call(EvtchnOp.CLOSE, bytes).catch(() => undefined);
  }

  /** EVTCHNOP_send */
  notify(port: number): void {
    this.#hypervisor.event(port);
  }

  /** Called by the hypervisor. A port without a handler was unbound before, or was never ours. */
  handle(port: number): void {
    const binding = this.#bindings[port];
    if (binding === undefined) {
      this.counters.stray++;
      return;
    }
    this.counters.events++;
    if (binding.maskedUntil !== 0) {
      this.counters.throttled++;
      binding.pending = true;
      return;
    }
    this.#run(port, binding);
  }

  /** Unmasks ports whose time is over, and handles their events. Cheap while no port is masked. */
  poll(): void {
    if (this.#masked === 0) return;
    const now = this.#now();
    for (let port = 0; port < this.#bindings.length; port++) {
      const binding = this.#bindings[port];
      if (binding === undefined || binding.maskedUntil === 0 || binding.maskedUntil > now) continue;
      binding.maskedUntil = 0;
      this.#masked--;
      if (!binding.pending) continue;
      binding.pending = false;
      this.#run(port, binding);
    }
  }

  get masked(): number {
    return this.#masked;
  }

  /** Forgets every port, as the hypervisor has done. */
  linkGone(): void {
    this.#bindings.fill(undefined);
    this.#masked = 0;
  }

  #run(port: number, binding: Binding): void {
    if (binding.handler()) {
      binding.spurious = 0;
      return;
    }
    this.counters.spurious++;
    binding.spurious++;
    const over = binding.spurious - FREE_SPURIOUS;
    // The handler may have unbound its own port.
    if (over <= 0 || this.#bindings[port] !== binding) return;
    const delay = Math.min(MAX_DELAY_MS, FIRST_DELAY_MS * 2 ** Math.min(over - 1, 10));
    binding.maskedUntil = this.#now() + delay;
    this.#masked++;
  }

  async #call(op: number, bytes: Uint8Array): Promise<Uint8Array> {
    try {
      const reply = await this.#hypervisor.hypercall(Hypercall.EVENT_CHANNEL_OP, op, bytes);
      if (reply.length !== bytes.length) {
        throw new HypercallError(0, `event channel: a reply of ${reply.length} bytes`);
      }
      return reply;
    } catch (error) {
      if (error instanceof HypercallError && !this.#hypervisor.attached) {
        throw new Abandoned("the hypervisor is gone");
      }
      throw error;
    }
  }
}
