/**
 * A Xen network device: one guest domain with one vif for each connection.
 * README.md in this folder has a drawing.
 */

import { L2_BYTES } from "../../shared/net/ethernet.ts";
import type { XenStatus } from "../../shared/status/device-status.ts";
import type { LinkState } from "../../shared/wire/link-state.ts";
import { XenbusState } from "../../shared/xen/xenbus.ts";
import type { Mirror } from "../dma/mirror-check.ts";
import type { GuestHost, Nic } from "../nic.ts";
import { GuestDomain } from "./domain.ts";
import type { XenMachine } from "./machine.ts";
import { Netback } from "./netback/netback.ts";
import type { XenOptions } from "./options.ts";
import { createHome, VifDirectories } from "./toolstack.ts";
import type { VifOffer } from "./vif-keys.ts";
import { XenbusBackend } from "./xenbus-backend.ts";

/** Returns a function that creates a NIC of the machine for each connection. */
export function createXenPersonality(
  machine: XenMachine,
  options: XenOptions = {},
): (host: GuestHost) => XenGuest {
  return (host) => new XenGuest(machine, host, options);
}

/** Maximum number of queue pairs of a vif (linux: usual value of xenvif_max_queues). */
const MAX_QUEUES = 8;

const STATE_NAMES = new Map<number, string>(
  Object.entries(XenbusState).map(([name, state]) => [state, name.toLowerCase()]),
);

export class XenGuest implements Nic {
  readonly guest: GuestDomain;
  readonly #machine: XenMachine;
  readonly #host: GuestHost;
  readonly #netback: Netback;
  readonly #vif: VifDirectories;
  readonly #backend: XenbusBackend;
  #destroyed = false;

  constructor(machine: XenMachine, host: GuestHost, options: XenOptions) {
    this.#machine = machine;
    this.#host = host;
    this.guest = new GuestDomain(machine, host);
    const { name, segment, mac, maxMtu, queues } = host.config;
    const { domid, grants } = this.guest;
    const { store, events } = machine;
    const offer: VifOffer = {
      maxQueues: Math.min(queues, MAX_QUEUES),
      splitEventChannels: options.splitEventChannels ?? true,
      controlRing: options.controlRing ?? true,
      multicastControl: options.multicastControl ?? true,
    };
    this.#netback = new Netback({
      host,
      grants,
      events,
      domid,
      maxFrameBytes: maxMtu + L2_BYTES,
      fatal: (code, text) => this.#backend.fatal(code, text),
    });
    createHome(store, domid, name);
    this.#vif = new VifDirectories(store, {
      domid,
      mac,
      mtu: maxMtu,
      trusted: options.trusted ?? true,
      bridge: options.bridge ?? segment,
      rate: options.rate,
      offer,
    });
    this.#backend = new XenbusBackend(this.#vif, this.#netback, offer);
    this.#backend.start();
    this.#vif.watch(this.#backend);
    machine.settle();
  }

  windowRemoved(address: number, length: number): void {
    this.#netback.windowRemoved(address, length);
  }

  suspend(done: () => void): void {
    this.guest.suspend(done);
  }

  batchEnd(): void {
    this.guest.batchEnd();
    this.#machine.settle();
    this.#netback.batchEnd();
    this.guest.grants.flushUses();
  }
  beforeFlush(): void {
    this.#netback.beforeFlush();
  }
  writableAgain(): void {
    this.#machine.settle();
    this.#netback.writableAgain();
    this.guest.grants.flushUses();
  }
  tick(): void {
    this.#netback.tick(this.#host.clock.now());
    this.#machine.settle();
    this.guest.grants.flushUses();
  }

  destroy(): void {
    if (this.#destroyed) return;
    this.#destroyed = true;
    this.#backend.stop();
    this.#netback.destroy();
    this.#vif.close();
    this.guest.release();
  }

  sharedRings(): readonly Mirror[] {
    return this.#netback.sharedRings();
  }

  tellState(state: LinkState): void {
    this.guest.grants.tellState(state);
    this.#netback.tellState(state);
  }

  get rxQueued(): number {
    return this.#netback.rxQueued;
  }

  snapshot(): XenStatus {
    return {
      personality: "xen",
      domid: this.guest.domid,
      backend: STATE_NAMES.get(this.#backend.state) ?? "",
      frontend: STATE_NAMES.get(this.#backend.frontend) ?? "",
      grants: this.guest.grants.snapshot(),
      ...this.#netback.snapshot(),
      ...this.guest.use(),
    };
  }
}
