/**
 * The backend's end of xenbus: the state machine that connects and disconnects a vif.
 *
 *   Initialising ─► InitWait ─► Connected ─► Closing ─► Closed ─► InitWait ...
 *                      └──────────────────────►┘          (as often as the frontend likes)
 *
 * The frontend's state says which state it wants. `STEPS` holds the next step for each combination
 * of both states, so a frontend may change its state in any order and reaches only states that the
 * protocol allows.
 *
 * Source: linux: drivers/net/xen-netback/xenbus.c, frontend_changed and set_backend_state.
 */
import { VifKey, XenbusState, xenbusStateOf } from "../../shared/xen/xenbus.ts";
import { type NetbackConfig, VifKeyError } from "./netback/config.ts";
import { parseRate, readFrontendKeys, type VifOffer } from "./vif-keys.ts";

/** The backend's access to the two directories in the store. */
export interface VifStore {
  /** Reads a key of the frontend's directory; undefined when it is missing. */
  front(key: string): string | undefined;
  back(key: string): string | undefined;
  writeBack(key: string, value: string): void;
  /** Writes the error to the place where administrators look for it. */
  writeError(text: string): void;
  /** The vif is closed and not online: its directory goes. */
  remove(): void;
}

/** The vif that the state machine controls. */
export interface VifDevice {
  /** Maps rings and binds channels. Returns the reason when it can't. */
  connect(config: NetbackConfig): string | undefined;
  disconnect(): void;
  setRate(rate: { bytes: number; usec: number } | undefined): void;
  /** The vif is unusable until the frontend starts again. Called once, with the reason. */
  failed(code: string, text: string): void;
}

const S = XenbusState;

/** The step from the backend's state (first key) towards the state that is wanted (second key). */
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

/** The backend state that a frontend state asks for; undefined: none. */
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
  /** Undefined until the first read of the frontend's state. */
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

  /** Called when the offers are in the store. The frontend may begin. */
  start(): void {
    this.#enter(S.INIT_WAIT);
  }

  /** The frontend's `state` was written or removed. */
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
    if (over && this.#store.back(VifKey.ONLINE) !== "1") this.#store.remove();
  }

  /** `rate` was written. It applies at once when connected, else from the next connect on. */
  rateChanged(): void {
    if (this.#state === S.CONNECTED) this.#readRate();
  }

  /** The data path found a fatal error. The vif is disabled. Called once for each connection. */
  fatal(code: string, text: string): void {
    if (this.#state === S.CONNECTED) this.#fail(code, text);
  }

  /** The domain is gone. Releases rings and channels, and writes nothing. */
  stop(): void {
    if (this.#state === S.CONNECTED) this.#device.disconnect();
    this.#state = S.CLOSED;
  }

  #goTo(wanted: XenbusState): void {
    while (this.#state !== wanted) {
      const step = STEPS[this.#state]?.[wanted];
      // Closed and Closing have no step to themselves, which ends the loop.
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
      // A mistake of the operator: the former limit stays.
      this.#store.writeError(error.message);
    }
  }

  /** xenbus_dev_fatal: writes the reason and goes to Closing. */
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
