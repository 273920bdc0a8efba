/**
 * The backend's end of xenbus: the state machine by which a vif comes and goes.
 *
 *   Initialising ─► InitWait ─► Connected ─► Closing ─► Closed ─► InitWait ...
 *                      └──────────────────────►┘          (as often as the frontend likes)
 *
 * The frontend's state says where it wants to go; `STEPS` says which step leads there from where
 * we are. Every combination has an answer: a frontend can walk in any order, and all that it gets
 * is the state that it would have reached in order.
 *
 * Source: linux: drivers/net/xen-netback/xenbus.c, frontend_changed and set_backend_state.
 */
import { VifKey, XenbusState, xenbusStateOf } from "../../shared/xen/xenbus.ts";
import type { NetbackConfig } from "./netback/index.ts";
import { parseRate, readFrontendKeys, VifKeyError, type VifOffer } from "./vif-keys.ts";

/** The two directories in the store, and what the backend does there. */
export interface VifStore {
  /** A key of the frontend's directory; undefined when it is not there. */
  front(key: string): string | undefined;
  back(key: string): string | undefined;
  writeBack(key: string, value: string): void;
  /** Where an administrator looks for what went wrong. */
  writeError(text: string): void;
}

/** What the state machine drives. */
export interface VifDevice {
  /** Maps rings and binds channels. Returns why it can't. */
  connect(config: NetbackConfig): string | undefined;
  disconnect(): void;
  setRate(rate: { bytes: number; usec: number } | undefined): void;
  /** The vif is unusable until the frontend starts anew; said once, with the reason. */
  failed(code: string, text: string): void;
  /** Closed and not online: nothing of the device is needed any more. */
  gone(): void;
}

const S = XenbusState;

/** What leads from our state (first key) to where the frontend wants us (second key). */
const STEPS: Readonly<Record<number, Readonly<Record<number, XenbusState>>>> = {
  [S.CLOSED]: { [S.INIT_WAIT]: S.INIT_WAIT, [S.CONNECTED]: S.INIT_WAIT, [S.CLOSING]: S.CLOSING },
  [S.INIT_WAIT]: {
    [S.CONNECTED]: S.CONNECTED,
    [S.CLOSING]: S.CLOSING,
    [S.CLOSED]: S.CLOSING,
  },
  [S.CONNECTED]: {
    [S.INIT_WAIT]: S.CLOSING,
    [S.CLOSING]: S.CLOSING,
    [S.CLOSED]: S.CLOSING,
  },
  [S.CLOSING]: {
    [S.INIT_WAIT]: S.CLOSED,
    [S.CONNECTED]: S.CLOSED,
    [S.CLOSED]: S.CLOSED,
  },
};

/** Where the frontend's state wants the backend; undefined: nowhere. */
const WANTED: Readonly<Record<number, XenbusState | undefined>> = {
  [S.UNKNOWN]: S.CLOSED,
  [S.INITIALISING]: S.INIT_WAIT,
  [S.INITIALISED]: undefined,
  [S.CONNECTED]: S.CONNECTED,
  [S.CLOSING]: S.CLOSING,
  [S.CLOSED]: S.CLOSED,
};

export class XenbusBackend {
  #state: XenbusState = S.INITIALISING;
  /** Undefined until the first look: a frontend that is not there yet wants nothing. */
  #front: XenbusState | undefined;
  readonly #store: VifStore;
  readonly #device: VifDevice;
  readonly #offer: VifOffer;

  constructor(store: VifStore, device: VifDevice, offer: VifOffer) {
    this.#store = store;
    this.#device = device;
    this.#offer = offer;
  }

  get state(): XenbusState {
    return this.#state;
  }

  /** State of the frontend as last seen. */
  get frontend(): XenbusState {
    return this.#front ?? S.UNKNOWN;
  }

  /** The offers are in the store: the frontend may begin. */
  start(): void {
    this.#enter(S.INIT_WAIT);
  }

  /** The frontend's `state` was written, or went away. */
  frontendChanged(): void {
    const state = xenbusStateOf(this.#store.front(VifKey.STATE));
    if (state === this.#front) return;
    this.#front = state;
    const wanted = state in WANTED ? WANTED[state] : undefined;
    if (!(state in WANTED)) {
      this.#fail("XENBUS_STATE", `the frontend went to state ${state}, which netif does not have`);
      return;
    }
    if (wanted !== undefined) this.#goTo(wanted);
    const over = state === S.CLOSED || state === S.UNKNOWN;
    if (over && this.#store.back(VifKey.ONLINE) !== "1") this.#device.gone();
  }

  /** `rate` was written: heeded at once when connected, else at the next connect. */
  rateChanged(): void {
    if (this.#state === S.CONNECTED) this.#readRate();
  }

  /** The data path met what it can't go on after: the vif is disabled, entered once. */
  fatal(code: string, text: string): void {
    if (this.#state === S.CONNECTED) this.#fail(code, text);
  }

  /** The domain is gone: releases what is held, writes nothing. */
  stop(): void {
    if (this.#state === S.CONNECTED) this.#device.disconnect();
    this.#state = S.CLOSED;
  }

  #goTo(wanted: XenbusState): void {
    while (this.#state !== wanted) {
      const step = STEPS[this.#state]?.[wanted];
      // From Closed there is no way to itself, nor from Closing to Closing: both end the loop.
      if (step === undefined) return;
      if (this.#state === S.CONNECTED) this.#device.disconnect();
      if (step === S.CONNECTED && !this.#connect()) return;
      this.#enter(step);
    }
  }

  #connect(): boolean {
    let config: NetbackConfig;
    try {
      config = readFrontendKeys((key) => this.#store.front(key), this.#offer);
    } catch (error) {
      if (!(error instanceof VifKeyError)) throw error;
      this.#fail("XENBUS_KEY", error.message);
      return false;
    }
    const why = this.#device.connect(config);
    if (why !== undefined) {
      this.#fail("XENBUS_CONNECT", why);
      return false;
    }
    this.#readRate();
    return true;
  }

  #readRate(): void {
    try {
      this.#device.setRate(parseRate(this.#store.back(VifKey.RATE)));
    } catch (error) {
      if (!(error instanceof VifKeyError)) throw error;
      // The operator's mistake: the limit that was there stays.
      this.#store.writeError(error.message);
    }
  }

  /** xenbus_dev_fatal: says why, and leaves for Closing. */
  #fail(code: string, text: string): void {
    this.#store.writeError(text);
    this.#device.failed(code, text);
    if (this.#state === S.CONNECTED) this.#device.disconnect();
    if (this.#state !== S.CLOSED) this.#enter(S.CLOSING);
  }

  #enter(state: XenbusState): void {
    if (this.#state === state) return;
    this.#state = state;
    this.#store.writeBack(VifKey.STATE, String(state));
  }
}
