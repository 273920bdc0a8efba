/**
 * The frontend's end of xenbus: two directories of the store, with a state in each.
 *
 *   device/vif/0   ours     state, rings, features, written by `set` and by control.ts
 *   backend        theirs   state, watched; the backend's features
 *
 * A watch event only causes a new read of the other end's state. One read is under way at a time;
 * events that come meanwhile cause one more (XSA-349).
 *
 * Source: xen: xen/include/public/io/xenbus.h; freebsd-src: sys/xen/xenbus/xenbusb.c.
 */

import type { Clock, Timer } from "../../shared/clock.ts";
import { DOMID_FIRST_RESERVED } from "../../shared/xen/hypercall.ts";
import { VIF_NODE, VifKey, XenbusState, xenbusStateOf } from "../../shared/xen/xenbus.ts";
import { isValidPath } from "../../shared/xen/xenstore.ts";
import { Errno } from "../bus/errno.ts";
import { Abandoned, DriverError } from "../driver-error.ts";
import type { XenstoreClient } from "./xenstore-client.ts";

/** Path of our directory, relative to the domain's own. */
export const NODE = VIF_NODE;

interface StateWait {
  readonly states: readonly XenbusState[];
  readonly settle: (state: XenbusState | undefined) => void;
  readonly fail: (error: Error) => void;
  readonly timer: Timer;
}

export class Xenbus {
  /** Our state, as we set it last. */
  state: XenbusState = XenbusState.UNKNOWN;
  otherend: XenbusState = XenbusState.UNKNOWN;
  /** Directory of the backend, and the number of its domain. */
  otherendPath = "";
  otherendId = 0;
  /** Called synchronously after each change of the other end's state. */
  onOtherend: (state: XenbusState) => void = () => {};
  readonly #store: XenstoreClient;
  readonly #clock: Clock;
  readonly #waits = new Set<StateWait>();
  #looking = false;
  #lookAgain = false;
  /** Increased by `abandon`: a read that began before it has no effect. */
  #life = 0;

  constructor(store: XenstoreClient, clock: Clock) {
    this.#store = store;
    this.#clock = clock;
  }

  /** Finds the other end and watches its state. Rejects with XenstoreError or DriverError. */
  async findOtherend(): Promise<void> {
    const [path, id] = await Promise.all([
      this.#store.read(`${NODE}/${VifKey.BACKEND}`),
      this.#store.read(`${NODE}/${VifKey.BACKEND_ID}`),
    ]);
    // All keys of the backend are below this path. A request with a longer path would not fit.
    if (!isValidPath(path)) {
      const shown = JSON.stringify(path.slice(0, 64));
      throw new DriverError(
        "BACKEND_PATH",
        Errno.ENXIO,
        `key backend of the NIC: ${shown} is no path`,
      );
    }
    this.otherendPath = path;
    this.otherendId = /^\d{1,5}$/.test(id) ? Number(id) : Number.NaN;
    if (!(this.otherendId < DOMID_FIRST_RESERVED)) {
      const text = `key backend-id of the NIC: ${JSON.stringify(id)} is no domain`;
      throw new DriverError("BACKEND_ID", Errno.ENXIO, text);
    }
    await this.#store.watch(`${path}/${VifKey.STATE}`, () => this.#look());
  }

  /** Reads a key of our directory. */
  own(key: string): Promise<string | undefined> {
    return this.#store.readOptional(`${NODE}/${key}`);
  }

  /** Reads a key of the other end's directory. */
  theirs(key: string): Promise<string | undefined> {
    return this.#store.readOptional(`${this.otherendPath}/${key}`);
  }

  /** Reads a number from their directory. Returns `missing` if there is no key or no number. */
  async theirNumber(key: string, missing: number): Promise<number> {
    const value = await this.theirs(key);
    return value !== undefined && /^\d{1,9}$/.test(value) ? Number(value) : missing;
  }

  /** xenbus_set_state */
  async set(state: XenbusState): Promise<void> {
    this.state = state;
    await this.#store.write(`${NODE}/${VifKey.STATE}`, String(state));
  }

  /** Resolves when the other end's state is one of `states`; with undefined after `timeoutMs`. */
  until(states: readonly XenbusState[], timeoutMs: number): Promise<XenbusState | undefined> {
    if (states.includes(this.otherend)) return Promise.resolve(this.otherend);
    return new Promise((settle, fail) => {
      const timer = this.#clock.setTimeout(() => {
        // After a stall of this process, the event may have arrived and not been read yet.
        this.#clock.setImmediate(() => {
          if (this.#waits.delete(wait)) settle(undefined);
        });
      }, timeoutMs);
      const wait: StateWait = { states, settle, fail, timer };
      this.#waits.add(wait);
    });
  }

  /** Forgets the other end's state and rejects all waits, because the store is gone. */
  abandon(why: string): void {
    this.#life++;
    this.otherend = XenbusState.UNKNOWN;
    this.#looking = false;
    this.#lookAgain = false;
    for (const { timer, fail } of this.#waits) {
      this.#clock.clear(timer);
      fail(new Abandoned(why));
    }
    this.#waits.clear();
  }

  #look(): void {
    if (this.#looking) {
      this.#lookAgain = true;
      return;
    }
    this.#looking = true;
    const life = this.#life;
    this.theirs(VifKey.STATE).then(
      (value) => this.#seen(life, xenbusStateOf(value)),
      // The key is not readable any more, or the store is gone.
      () => this.#seen(life, XenbusState.UNKNOWN),
    );
  }

  #seen(life: number, state: XenbusState): void {
    if (this.#life !== life) return;
    this.#looking = false;
    const again = this.#lookAgain;
    this.#lookAgain = false;
    if (state !== this.otherend) {
      this.otherend = state;
      for (const wait of this.#waits) {
        if (!wait.states.includes(state)) continue;
        this.#clock.clear(wait.timer);
        this.#waits.delete(wait);
        wait.settle(state);
      }
      this.onOtherend(state);
    }
    if (again) this.#look();
  }
}
