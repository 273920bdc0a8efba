/**
 * The toolstack: the part of xl or xenopsd. It creates the domain's home in the store and the two
 * directories of its vif, and removes them.
 *
 * Source: xen: docs/misc/xenstore-paths.pandoc; tools/libs/light/libxl_create.c and libxl_nic.c
 * (owners and permissions).
 */
import { formatMac } from "../../shared/net/ethernet.ts";
import { BACKEND_DOMID, backendPath, frontendPath, VifKey } from "../../shared/xen/xenbus.ts";
import { domainPath } from "../../shared/xen/xenstore.ts";
import type { XenstoreClient } from "./xenstore/index.ts";

/** The one vif of a domain. */
export const VIF_HANDLE = 0;

export interface VifDescription {
  readonly domid: number;
  readonly name: string;
  /** Six bytes. */
  readonly mac: Uint8Array;
  readonly mtu: number;
  /** False tells the frontend not to trust this backend, so that it sends copies (bounce buffers). */
  readonly trusted: boolean;
  /** "BYTES,USEC", the Tx credit; none when not given. */
  readonly rate?: string;
  /** Name of the segment. */
  readonly bridge: string;
}

/** Path of the request to suspend. The toolstack writes it, and the guest acknowledges it. */
export const shutdownPath = (domid: number): string => `${domainPath(domid)}/control/shutdown`;

/** Creates a domain's home directory. */
export function createHome(store: XenstoreClient, domid: number, name: string): void {
  const home = domainPath(domid);
  const readable = [`n${BACKEND_DOMID}`, `r${domid}`];
  const own = [`n${domid}`, `r${BACKEND_DOMID}`];
  store.mkdir(home);
  store.setPerms(home, readable);
  put(store, `${home}/domid`, String(domid), readable);
  put(store, `${home}/name`, name, readable);
  for (const dir of ["control", "device", "device/vif"]) {
    store.mkdir(`${home}/${dir}`);
    store.setPerms(`${home}/${dir}`, readable);
  }
  put(store, shutdownPath(domid), "", own);
  store.mkdir(`${home}/data`);
  store.setPerms(`${home}/data`, own);
}

/** Creates both directories of the vif, with state Initialising. Domain 0 owns the backend's. */
export function createVif(store: XenstoreClient, vif: VifDescription): void {
  const { domid } = vif;
  const front = frontendPath(domid, VIF_HANDLE);
  const back = backendPath(domid, VIF_HANDLE);
  const frontPerms = [`n${domid}`, `r${BACKEND_DOMID}`];
  const backPerms = [`n${BACKEND_DOMID}`, `r${domid}`];
  const mac = formatMac(vif.mac);
  store.mkdir(errorRoot(BACKEND_DOMID));
  store.mkdir(front);
  store.setPerms(front, frontPerms);
  store.mkdir(back);
  store.setPerms(back, backPerms);
  const keys = (path: string, perms: readonly string[], values: Record<string, string>): void => {
    for (const [key, value] of Object.entries(values)) put(store, `${path}/${key}`, value, perms);
  };
  keys(back, backPerms, {
    [VifKey.FRONTEND]: front,
    [VifKey.FRONTEND_ID]: String(domid),
    [VifKey.ONLINE]: "1",
    [VifKey.STATE]: "1",
    [VifKey.HANDLE]: String(VIF_HANDLE),
    [VifKey.MAC]: mac,
    [VifKey.BRIDGE]: vif.bridge,
    [VifKey.HOTPLUG_STATUS]: "connected",
    ...(vif.rate === undefined ? {} : { [VifKey.RATE]: vif.rate }),
  });
  keys(front, frontPerms, {
    [VifKey.BACKEND]: back,
    [VifKey.BACKEND_ID]: String(BACKEND_DOMID),
    [VifKey.HANDLE]: String(VIF_HANDLE),
    [VifKey.MAC]: mac,
    [VifKey.MTU]: String(vif.mtu),
    [VifKey.TRUSTED]: vif.trusted ? "1" : "0",
    [VifKey.STATE]: "1",
  });
}

/**
 * Removes the backend's directory and the domain's directory above it. Xenstore.release removes the
 * frontend's directory.
 */
export function destroyVif(store: XenstoreClient, domid: number): void {
  store.rm(`${backendRoot(BACKEND_DOMID)}/${domid}`);
}

/** Path at which administrators look for the error of a vif, as xen-netback names it. */
export const errorPath = (domid: number): string =>
  `${errorRoot(BACKEND_DOMID)}/${domid}/${VIF_HANDLE}/error`;

/** Removes the error of a domain that is gone. */
export function forgetErrors(store: XenstoreClient, domid: number): void {
  store.rm(`${errorRoot(BACKEND_DOMID)}/${domid}`);
}

const backendRoot = (domid: number): string => `${domainPath(domid)}/backend/vif`;
const errorRoot = (domid: number): string => `${domainPath(domid)}/error/backend/vif`;

function put(store: XenstoreClient, path: string, value: string, perms: readonly string[]): void {
  store.write(path, value);
  store.setPerms(path, perms);
}
