/**
 * The toolstack: the part of xl or xenopsd. It creates the domain's home in the store and the two
 * directories of its vif, and removes them.
 *
 * Source: xen: docs/misc/xenstore-paths.pandoc; tools/libs/light/libxl_create.c and libxl_nic.c
 * (owners and permissions).
 */

import { posix } from "node:path";
import { formatMac } from "../../shared/net/ethernet.ts";
import {
  BACKEND_DOMID,
  backendPath,
  frontendPath,
  VifKey,
  XenbusState,
} from "../../shared/xen/xenbus.ts";
import { domainPath, XenstoreError } from "../../shared/xen/xenstore.ts";
import type { VifOffer } from "./vif-keys.ts";
import type { VifStore } from "./xenbus-backend.ts";
import type { XenstoreClient } from "./xenstore/index.ts";

const { dirname } = posix;

/** The one vif of a domain. */
const VIF_HANDLE = 0;

export interface VifDescription {
  readonly domid: number;
  /** Six bytes. */
  readonly mac: Uint8Array;
  readonly mtu: number;
  /** False tells the frontend not to trust this backend, so that it sends copies (bounce buffers). */
  readonly trusted: boolean;
  /** "BYTES,USEC", the Tx credit. */
  readonly rate: string | undefined;
  /** Name of the segment. */
  readonly bridge: string;
  /** The backend's features, from which the frontend chooses. */
  readonly offer: VifOffer;
}

/** Path of the request to suspend. The toolstack writes it, and the guest acknowledges it. */
export const shutdownPath = (domid: number): string => `${domainPath(domid)}/control/shutdown`;

/** Creates a domain's home directory. */
export function createHome(store: XenstoreClient, domid: number, name: string): void {
  const home = domainPath(domid);
  const readable = [`n${BACKEND_DOMID}`, `r${domid}`];
  const own = [`n${domid}`, `r${BACKEND_DOMID}`];
  // A node that domain 0 creates has the permissions of its parent.
  store.mkdir(home);
  store.setPerms(home, readable);
  store.write(`${home}/domid`, String(domid));
  store.write(`${home}/name`, name);
  for (const dir of ["control", "device/vif", "data"]) store.mkdir(`${home}/${dir}`);
  store.write(shutdownPath(domid), "");
  for (const path of [shutdownPath(domid), `${home}/data`]) store.setPerms(path, own);
}

/** The two directories of one vif, as its backend uses them. */
export class VifDirectories implements VifStore {
  readonly #store: XenstoreClient;
  readonly #front: string;
  readonly #back: string;
  /** xen-netback's own place for errors, where administrators look. */
  readonly #errors: string;
  #removed = false;

  /** Creates both, with state Initialising. Domain 0 owns the backend's. */
  constructor(store: XenstoreClient, { domid, offer, ...vif }: VifDescription) {
    this.#store = store;
    this.#front = frontendPath(domid, VIF_HANDLE);
    this.#back = backendPath(domid, VIF_HANDLE);
    this.#errors = `${domainPath(BACKEND_DOMID)}/error/backend/vif/${domid}`;
    const mac = formatMac(vif.mac);
    store.mkdir(dirname(this.#errors));
    this.#create(this.#back, [`n${BACKEND_DOMID}`, `r${domid}`], {
      [VifKey.FRONTEND]: this.#front,
      [VifKey.FRONTEND_ID]: domid,
      [VifKey.ONLINE]: 1,
      [VifKey.STATE]: XenbusState.INITIALISING,
      [VifKey.HANDLE]: VIF_HANDLE,
      [VifKey.MAC]: mac,
      [VifKey.BRIDGE]: vif.bridge,
      [VifKey.HOTPLUG_STATUS]: "connected",
      ...(vif.rate === undefined ? {} : { [VifKey.RATE]: vif.rate }),
      [VifKey.FEATURE_RX_COPY]: 1,
      [VifKey.FEATURE_RX_FLIP]: 0,
      [VifKey.FEATURE_SG]: 1,
      [VifKey.FEATURE_GSO_TCPV4]: 1,
      [VifKey.FEATURE_GSO_TCPV6]: 1,
      [VifKey.FEATURE_IPV6_CSUM_OFFLOAD]: 1,
      [VifKey.FEATURE_MULTICAST_CONTROL]: Number(offer.multicastControl),
      [VifKey.FEATURE_SPLIT_EVENT_CHANNELS]: Number(offer.splitEventChannels),
      [VifKey.FEATURE_CTRL_RING]: Number(offer.controlRing),
      [VifKey.MULTI_QUEUE_MAX_QUEUES]: offer.maxQueues,
    });
    this.#create(this.#front, [`n${domid}`, `r${BACKEND_DOMID}`], {
      [VifKey.BACKEND]: this.#back,
      [VifKey.BACKEND_ID]: BACKEND_DOMID,
      [VifKey.HANDLE]: VIF_HANDLE,
      [VifKey.MAC]: mac,
      [VifKey.MTU]: vif.mtu,
      [VifKey.TRUSTED]: Number(vif.trusted),
      [VifKey.STATE]: XenbusState.INITIALISING,
    });
  }

  #create(path: string, perms: readonly string[], values: Record<string, string | number>): void {
    this.#store.mkdir(path);
    this.#store.setPerms(path, perms);
    for (const [key, value] of Object.entries(values)) {
      this.#store.write(`${path}/${key}`, String(value));
    }
  }

  front(key: string): string | undefined {
    return this.#read(`${this.#front}/${key}`);
  }

  back(key: string): string | undefined {
    return this.#read(`${this.#back}/${key}`);
  }

  #read(path: string): string | undefined {
    try {
      return this.#store.read(path);
    } catch (error) {
      if (error instanceof XenstoreError && error.code === "ENOENT") return undefined;
      throw error;
    }
  }

  writeBack(key: string, value: string): void {
    if (!this.#removed) this.#store.write(`${this.#back}/${key}`, value);
  }

  writeError(text: string): void {
    this.#store.write(`${this.#errors}/${VIF_HANDLE}/error`, text);
  }

  /**
   * Removes the backend's directory, and the domain's above it. The frontend's directory goes with
   * its domain, see Xenstore.release.
   */
  remove(): void {
    if (this.#removed) return;
    this.#removed = true;
    this.#store.rm(dirname(this.#back));
  }

  /** Tells the backend what frontend and administrators write, until `close`. */
  watch(backend: { frontendChanged(): void; rateChanged(): void }): void {
    const [state, rate] = this.#watched;
    this.#store.watch(state, TOKEN, () => backend.frontendChanged());
    this.#store.watch(rate, TOKEN, () => backend.rateChanged());
  }

  get #watched() {
    return [`${this.#front}/${VifKey.STATE}`, `${this.#back}/${VifKey.RATE}`] as const;
  }

  /** The domain is gone: removes what is left of the vif, its error too. */
  close(): void {
    for (const path of this.#watched) this.#store.unwatch(path, TOKEN);
    this.remove();
    this.#store.rm(this.#errors);
  }
}

/** Watches are known by path and token. The paths differ from vif to vif. */
const TOKEN = "vif";
