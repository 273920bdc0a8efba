/**
 * The machine that a device plays for its Xen guests: one xenstore, one set of event channels,
 * domain 0 with the backends, and a domain for each connection.
 *
 *   XenMachine ── xenstore ── events            shared by all
 *       ├── domain 1: grant table, vif backend  one connection each
 *       └── domain 2: ...
 */
import { type Clock, systemClock, type Timer } from "../../shared/clock.ts";
import type { Logger } from "../../shared/log.ts";
import type { XenMachineStatus } from "../../shared/status/device-status.ts";
import { BACKEND_DOMID } from "../../shared/xen/xenbus.ts";
import { EventChannels } from "./event-channel.ts";
import type { GrantTable } from "./grant-table.ts";
import type { Hypervisor } from "./hypercalls.ts";
import { type Outlet, Xenstore, type XenstoreClient } from "./xenstore/index.ts";

/** The calls that the machine makes to a domain. As an outlet it takes the messages of xenstore. */
export interface Domain extends Outlet {
  readonly domid: number;
  readonly grants: GrantTable;
  /** An event channel of the guest became pending. */
  upcall(port: number): void;
  /** The guest asks to be suspended. Returns 0 or a positive errno. */
  suspended(): number;
}

/** DOMID_FIRST_RESERVED: domain ids wrap below it. */
const MAX_DOMID = 0x7ff0;

export class XenMachine implements Hypervisor {
  readonly xenstore: Xenstore;
  readonly events: EventChannels;
  /** The store as domain 0 sees it. */
  readonly store: XenstoreClient;
  readonly #clock: Clock;
  readonly #domains = new Map<number, Domain>();
  #lastDomid = 0;
  #timer: Timer | undefined;
  /** Time (ms of the clock) at which `#timer` fires. */
  #timerAt = Number.POSITIVE_INFINITY;

  constructor(log: Logger, clock: Clock = systemClock) {
    const { now } = clock;
    this.#clock = clock;
    this.xenstore = new Xenstore({ now });
    this.store = this.xenstore.local(0);
    this.events = new EventChannels({ now });
    this.events.attach(0, (port) => log.debug({ port }, "an event for domain 0 that nobody takes"));
  }

  grants(domid: number): GrantTable | undefined {
    return this.#domains.get(domid)?.grants;
  }

  suspended(domid: number): number {
    return this.#domains.get(domid)?.suspended() ?? 0;
  }

  get domains(): number {
    return this.#domains.size;
  }

  /** Allocates the next domain id that no live domain has. Ids count up, so none is reused at once. */
  newDomid(): number {
    do {
      this.#lastDomid = this.#lastDomid + 1 >= MAX_DOMID ? 1 : this.#lastDomid + 1;
    } while (this.#domains.has(this.#lastDomid));
    return this.#lastDomid;
  }

  /** Adds a domain. From then on it may use the store, event channels and hypercalls. */
  introduce(domain: Domain): void {
    this.#domains.set(domain.domid, domain);
    this.events.attach(domain.domid, (port) => domain.upcall(port));
    this.xenstore.introduce(domain.domid, domain);
  }

  /** Removes a domain: its ports close, its watches and transactions end, its grants become void. */
  release(domain: Domain): void {
    if (!this.#domains.delete(domain.domid)) return;
    this.events.detach(domain.domid);
    this.xenstore.release(domain.domid);
    domain.grants.revokeAll();
    this.settle();
  }

  /** Status of the shared parts. The part of each domain is in the status of its NIC. */
  snapshot(): XenMachineStatus {
    const { xenstore, events } = this;
    return {
      domains: this.domains,
      storeNodes: xenstore.nodes,
      backendPorts: events.use(BACKEND_DOMID).ports,
      events: { ...events.counts },
    };
  }

  /** Called after the work of a batch or of a tick. Fires watches, and arms the timer. */
  settle(): void {
    this.xenstore.flushWatches();
    const next = Math.min(this.events.nextTick, this.xenstore.nextTick);
    // A transaction may be due in 20 s, and a delayed event of another domain in one millisecond.
    if (next >= this.#timerAt || next === Number.POSITIVE_INFINITY) return;
    this.#clock.clear(this.#timer);
    this.#timerAt = next;
    const ms = Math.max(1, Math.ceil(next - this.#clock.now()));
    this.#timer = this.#clock.setTimeout(() => {
      this.#timerAt = Number.POSITIVE_INFINITY;
      this.events.tick(this.#clock.now());
      this.settle();
    }, ms);
    this.#timer.unref();
  }
}
