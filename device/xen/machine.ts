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
import type { WireError } from "../../shared/wire/transactions.ts";
import { BACKEND_DOMID } from "../../shared/xen/xenbus.ts";
import type { Snapshot } from "../nic.ts";
import { EventChannels } from "./event-channel.ts";
import type { GrantTable } from "./grant-table.ts";
import { Hypercalls } from "./hypercalls.ts";
import { Xenstore, type XenstoreClient } from "./xenstore/index.ts";

/** What the machine asks of a domain. */
export interface Domain {
  readonly domid: number;
  readonly grants: GrantTable;
  /** An event channel of the guest became pending. */
  upcall(port: number): void;
  /** A message of xenstore for the guest, and whether it can take one now. */
  deliver(message: Uint8Array): void;
  room(): boolean;
  /** The guest has not read what xenstore has for it for too long: it gets nothing more. */
  cut(reason: WireError): void;
  /** The guest asks to be suspended: 0, or a positive errno. */
  suspended(): number;
}

/** DOMID_FIRST_RESERVED: ids go round below it. */
const MAX_DOMID = 0x7ff0;

export class XenMachine {
  readonly xenstore: Xenstore;
  readonly events: EventChannels;
  readonly hypercalls: Hypercalls;
  /** The store as domain 0 sees it. */
  readonly store: XenstoreClient;
  readonly #clock: Clock;
  readonly #domains = new Map<number, Domain>();
  #lastDomid = 0;
  #timer: Timer | undefined;
  /** When `#timer` goes off, in ms of the clock. */
  #timerAt = Number.POSITIVE_INFINITY;

  constructor(log: Logger, clock: Clock = systemClock) {
    const { now } = clock;
    this.#clock = clock;
    this.xenstore = new Xenstore({ now });
    this.store = this.xenstore.local(0);
    this.events = new EventChannels({ now });
    this.events.attach(0, (port) => log.debug({ port }, "an event for domain 0 that nobody takes"));
    this.hypercalls = new Hypercalls({
      grants: (domid) => this.#domains.get(domid)?.grants,
      events: this.events,
      suspend: (domid) => this.#domains.get(domid)?.suspended() ?? 0,
    });
  }

  get domains(): number {
    return this.#domains.size;
  }

  /** An id that no living domain has; the one given out last is not given out again at once. */
  newDomid(): number {
    do {
      this.#lastDomid = this.#lastDomid + 1 >= MAX_DOMID ? 1 : this.#lastDomid + 1;
    } while (this.#domains.has(this.#lastDomid));
    return this.#lastDomid;
  }

  /** The domain exists: it may use store, channels and hypercalls. */
  introduce(domain: Domain): void {
    this.#domains.set(domain.domid, domain);
    this.events.attach(domain.domid, (port) => domain.upcall(port));
    this.xenstore.introduce(domain.domid, (message) => domain.deliver(message), {
      room: () => domain.room(),
      cut: (reason) => domain.cut(reason),
    });
  }

  /** It is gone: its ports close, its watches and transactions end, its grants are void. */
  release(domain: Domain): void {
    if (!this.#domains.delete(domain.domid)) return;
    this.events.detach(domain.domid);
    this.xenstore.release(domain.domid);
    domain.grants.revokeAll();
    this.settle();
  }

  /** What the domains share; each domain's own part is in its NIC's snapshot. */
  snapshot(): Snapshot {
    const { xenstore, events } = this;
    return {
      domains: this.domains,
      storeNodes: xenstore.nodes,
      backendPorts: events.use(BACKEND_DOMID)["ports"]!,
      events: events.counts,
    };
  }

  /** The work of a batch, or of a tick, is done: watches fire, delayed events get their timer. */
  settle(): void {
    this.xenstore.flushWatches();
    const next = Math.min(this.events.nextTick, this.xenstore.nextTick);
    // One domain's transaction may be due in 20 s, and another's delayed event in one millisecond.
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
