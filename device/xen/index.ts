/**
 * A Xen network device: one guest domain with one vif, for each connection.
 * README.md in this folder draws it.
 */

import { viewOf } from "../../shared/bytes/words.ts";
import type { XenStatus } from "../../shared/status/device-status.ts";
import type { Received } from "../../shared/wire/catalogue.ts";
import type { LinkState } from "../../shared/wire/link-state.ts";
import {
  FaultSeverity,
  GRANT_RECORD_BYTES,
  type WireError,
} from "../../shared/wire/transactions.ts";
import {
  END_GRANT_RECORD_SIZE,
  GRANT_USE_RECORD_SIZE,
  grantUseRecord,
} from "../../shared/xen/grant.ts";
import { XenErrno } from "../../shared/xen/hypercall.ts";
import { backendPath, frontendPath, VifKey, XenbusState } from "../../shared/xen/xenbus.ts";
import type { Mirror } from "../dma/mirror-check.ts";
import type { GuestCalls, GuestHost, Nic } from "../nic.ts";
import { GrantTable } from "./grant-table.ts";
import type { Domain, XenMachine } from "./machine.ts";
import { Netback, type NetbackConfig } from "./netback/index.ts";
import type { XenOptions } from "./options.ts";
import {
  createHome,
  createVif,
  destroyVif,
  errorPath,
  forgetErrors,
  shutdownPath,
  VIF_HANDLE,
} from "./toolstack.ts";
import type { VifOffer } from "./vif-keys.ts";
import { type VifDevice, type VifStore, XenbusBackend } from "./xenbus-backend.ts";
import { XenstoreError } from "./xenstore/errors.ts";

/** Makes the NICs of one machine: what DeviceServer calls for each connection. */
export function createXenPersonality(
  machine: XenMachine,
  options: XenOptions = {},
): (host: GuestHost) => Nic {
  return (host) => new XenGuest(machine, host, options);
}

/** Queue pairs of a vif, as Linux's backend caps them (linux: xenvif_max_queues' usual value). */
const MAX_QUEUES = 8;
const ETHERNET_BYTES = 18;

const STATE_NAMES = new Map<number, string>(
  Object.entries(XenbusState).map(([name, state]) => [state, name.toLowerCase()]),
);

class XenGuest implements Nic, GuestCalls, Domain, VifDevice, VifStore {
  readonly guest: GuestCalls = this;
  readonly domid: number;
  readonly grants: GrantTable;
  readonly #machine: XenMachine;
  readonly #host: GuestHost;
  readonly #netback: Netback;
  readonly #backend: XenbusBackend;
  readonly #front: string;
  readonly #back: string;
  readonly #useRecord = new Uint8Array(GRANT_USE_RECORD_SIZE);
  readonly #useView = new DataView(this.#useRecord.buffer);
  #suspended: (() => void) | undefined;
  #removed = false;
  #destroyed = false;

  constructor(machine: XenMachine, host: GuestHost, options: XenOptions) {
    this.#machine = machine;
    this.#host = host;
    this.domid = machine.newDomid();
    this.#front = frontendPath(this.domid, VIF_HANDLE);
    this.#back = backendPath(this.domid, VIF_HANDLE);
    this.grants = new GrantTable({
      domid: this.domid,
      use: (reference, readers, writers) => this.#tellUse(reference, readers, writers),
    });
    const offer: VifOffer = {
      maxQueues: Math.min(host.config.queues, MAX_QUEUES),
      splitEventChannels: options.splitEventChannels ?? true,
      controlRing: options.controlRing ?? true,
      multicastControl: options.multicastControl ?? true,
    };
    this.#netback = new Netback({
      host,
      grants: this.grants,
      events: machine.events,
      domid: this.domid,
      maxFrameBytes: host.config.maxMtu + ETHERNET_BYTES,
      fatal: (code, text) => this.#backend.fatal(code, text),
    });
    this.#backend = new XenbusBackend(this, this, offer);
    machine.introduce(this);
    createHome(machine.store, this.domid, host.config.name);
    createVif(machine.store, {
      domid: this.domid,
      name: host.config.name,
      mac: host.config.mac,
      mtu: host.config.maxMtu,
      trusted: options.trusted ?? true,
      bridge: options.bridge ?? "segment",
      ...(options.rate === undefined ? {} : { rate: options.rate }),
    });
    this.#offer(offer);
    this.#backend.start();
    const { store } = machine;
    const token = `vif-${this.domid}`;
    store.watch(`${this.#front}/${VifKey.STATE}`, token, () => this.#backend.frontendChanged());
    store.watch(`${this.#back}/${VifKey.RATE}`, token, () => this.#backend.rateChanged());
    machine.settle();
  }

  /** What this backend can do, for the frontend to choose from. */
  #offer({ maxQueues, splitEventChannels, controlRing, multicastControl }: VifOffer): void {
    const offers: Partial<Record<VifKey, number>> = {
      [VifKey.FEATURE_RX_COPY]: 1,
      [VifKey.FEATURE_RX_FLIP]: 0,
      [VifKey.FEATURE_SG]: 1,
      [VifKey.FEATURE_GSO_TCPV4]: 1,
      [VifKey.FEATURE_GSO_TCPV6]: 1,
      [VifKey.FEATURE_IPV6_CSUM_OFFLOAD]: 1,
      [VifKey.FEATURE_MULTICAST_CONTROL]: Number(multicastControl),
      [VifKey.FEATURE_SPLIT_EVENT_CHANNELS]: Number(splitEventChannels),
      [VifKey.FEATURE_CTRL_RING]: Number(controlRing),
      [VifKey.MULTI_QUEUE_MAX_QUEUES]: maxQueues,
    };
    this.#machine.store.transaction((store) => {
      for (const [key, value] of Object.entries(offers)) {
        store.write(`${this.#back}/${key}`, String(value));
      }
    });
  }

  // VifStore: the two directories.

  front(key: string): string | undefined {
    return readText(this.#machine, `${this.#front}/${key}`);
  }
  back(key: string): string | undefined {
    return readText(this.#machine, `${this.#back}/${key}`);
  }
  writeBack(key: string, value: string): void {
    if (!this.#removed) this.#machine.store.write(`${this.#back}/${key}`, value);
  }
  writeError(text: string): void {
    this.#machine.store.write(errorPath(this.domid), text);
  }

  // VifDevice: what the state machine drives.

  connect(config: NetbackConfig): string | undefined {
    return this.#netback.connect(config);
  }
  disconnect(): void {
    this.#netback.disconnect();
  }
  setRate(rate: { bytes: number; usec: number } | undefined): void {
    this.#netback.setRate(rate);
  }
  failed(code: string, text: string): void {
    this.#host.fault(FaultSeverity.DEVICE, code, text);
  }
  gone(): void {
    if (this.#removed) return;
    this.#removed = true;
    destroyVif(this.#machine.store, this.domid);
  }

  // Domain: what the machine tells.

  upcall(port: number): void {
    if (!this.#destroyed) this.#host.post("event", { port });
  }
  deliver(message: Uint8Array): void {
    if (!this.#destroyed) this.#host.post("xenstore", { bytes: message });
  }
  room(): boolean {
    return !this.#host.backlogged;
  }
  cut(reason: WireError): void {
    this.#host.fault(FaultSeverity.DEVICE, reason.code, reason.message);
  }

  // GuestCalls: what the guest asks.

  grant({ version, records }: Received<"grant">): void {
    const count = records.length / GRANT_RECORD_BYTES[version];
    this.grants.grant(version, viewOf(records), 0, count);
  }
  endGrant({ records }: Received<"end_grant">): void {
    this.grants.endGrant(viewOf(records), 0, records.length / END_GRANT_RECORD_SIZE);
  }
  hypercall({ tag, number, command, bytes }: Received<"hypercall">): void {
    const result = this.#machine.hypercalls.dispatch(this.domid, number, command, bytes);
    this.#host.post("hypercall_reply", { tag, ...result });
  }
  event({ port }: Received<"event">): void {
    this.#machine.events.send(this.domid, port);
  }
  xenstore({ bytes }: Received<"xenstore">): void {
    this.#machine.xenstore.request(this.domid, bytes);
  }

  sharedRings(): readonly Mirror[] {
    return this.#netback.sharedRings();
  }

  suspended(): number {
    const done = this.#suspended;
    if (done === undefined) return XenErrno.EINVAL;
    this.#suspended = undefined;
    done();
    return 0;
  }

  // Nic.

  windowRemoved(address: number, length: number): void {
    this.#netback.windowRemoved(address, length);
  }

  suspend(done: () => void): void {
    this.#suspended = done;
    this.#machine.store.write(shutdownPath(this.domid), "suspend");
    this.#machine.settle();
  }

  batchEnd(): void {
    this.#machine.settle();
    this.#netback.batchEnd();
    this.grants.flushUses();
  }
  writableAgain(): void {
    this.#machine.settle();
    this.#netback.writableAgain();
    this.grants.flushUses();
  }
  tick(): void {
    this.#netback.tick(this.#host.clock.now());
    this.#machine.settle();
    this.grants.flushUses();
  }

  destroy(): void {
    if (this.#destroyed) return;
    this.#destroyed = true;
    this.#backend.stop();
    this.#netback.destroy();
    const { store } = this.#machine;
    const token = `vif-${this.domid}`;
    store.unwatch(`${this.#front}/${VifKey.STATE}`, token);
    store.unwatch(`${this.#back}/${VifKey.RATE}`, token);
    this.gone();
    forgetErrors(store, this.domid);
    this.#machine.release(this);
  }

  /** One record at a time: what outlasts a batch is rare. */
  #tellUse(reference: number, readers: number, writers: number): void {
    grantUseRecord.write(this.#useView, 0, reference, readers, writers);
    if (!this.#destroyed) this.#host.post("grant_use", { records: this.#useRecord });
  }

  /** What the domain has taken of the machine. */
  #shares(): Pick<XenStatus, "store" | "events"> {
    if (this.#destroyed) return {};
    const { xenstore, events } = this.#machine;
    return { store: xenstore.use(this.domid), events: events.use(this.domid) };
  }

  tellState(state: LinkState): void {
    this.grants.tellState(state);
    this.#netback.tellState(state);
  }

  get rxQueued(): number {
    return this.#netback.rxQueued;
  }

  snapshot(): XenStatus {
    return {
      personality: "xen",
      domid: this.domid,
      backend: STATE_NAMES.get(this.#backend.state) ?? "",
      frontend: STATE_NAMES.get(this.#backend.frontend) ?? "",
      grants: this.grants.snapshot(),
      ...this.#netback.snapshot(),
      ...this.#shares(),
    };
  }
}

/** A key's value as text; undefined when it is not there. */
function readText(machine: XenMachine, path: string): string | undefined {
  try {
    return machine.store.read(path);
  } catch (error) {
    if (error instanceof XenstoreError && error.code === "ENOENT") return undefined;
    throw error;
  }
}
