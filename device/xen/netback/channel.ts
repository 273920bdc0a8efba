/**
 * One event channel of an interface: its rings, and whether its event was spurious.
 *
 *   guest sends ──► handler: `signalled` ──► the rings are worked ──► eoi(spurious?)
 *
 * The event stays masked until its work is done. It was spurious when no ring of the channel had
 * new requests since the last event. A guest that sends spurious events without end is slowed down,
 * a guest with work never is (XSA-332).
 */
import { BACKEND_DOMID } from "../../../shared/xen/xenbus.ts";
import type { EventChannels } from "../event-channel.ts";
import type { BackRing } from "./back-ring.ts";

export class Channel {
  /** Domain 0's port. */
  readonly port: number;
  /** The guest's port. */
  readonly guestPort: number;
  signalled = false;
  /** True when responses were published for which the guest asked for an event. */
  notify = false;
  spurious = 0;
  readonly #events: EventChannels;
  readonly #rings: readonly BackRing[];
  readonly #seen: number[];

  /** For a bound port of domain 0. An event sets `signalled`, then calls `wake`. */
  constructor(
    events: EventChannels,
    port: number,
    guestPort: number,
    rings: readonly BackRing[],
    wake: () => void,
  ) {
    this.#events = events;
    this.port = port;
    this.guestPort = guestPort;
    this.#rings = rings;
    // The event of the binding itself finds the ring unseen, whatever is in it.
    this.#seen = rings.map(() => -1);
    events.bindHandler(BACKEND_DOMID, port, () => {
      this.signalled = true;
      wake();
    });
  }

  /** Sends an event to the guest if `notify` is set. */
  send(): void {
    if (!this.notify) return;
    this.notify = false;
    this.#events.send(BACKEND_DOMID, this.port);
  }

  /** Ends the turn of an event, so that the next may come. */
  eoi(): void {
    if (!this.signalled) return;
    this.signalled = false;
    let spurious = true;
    for (let i = 0; i < this.#rings.length; i++) {
      const { reqProd } = this.#rings[i]!;
      if (reqProd !== this.#seen[i]) spurious = false;
      this.#seen[i] = reqProd;
    }
    if (spurious) this.spurious++;
    this.#events.eoi(BACKEND_DOMID, this.port, spurious);
  }

  close(): void {
    this.signalled = false;
    this.notify = false;
    this.#events.close(BACKEND_DOMID, this.port);
  }
}
