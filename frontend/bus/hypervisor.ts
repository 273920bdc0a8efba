/**
 * The hypervisor for a paravirtual guest: hypercalls, grants, event channels, xenstore. A driver
 * reaches its device through the hypervisor or through the PCI function.
 *
 *   driver ── grant, event, hypercall, xenstore ──► Hypervisor ──► HypervisorLink ──► wire
 *          ◄── onEvent, onXenstore, onGrantUse ────     ◄── session
 *
 * Without a link, posts are dropped and hypercalls are refused. Handlers run at their place in the
 * batch, to their end without await.
 */

import type { GrantVersion } from "../../shared/wire/protocol.ts";
import type { GrantRef } from "../../shared/xen/grant.ts";

/** Interface of the session's end of the link for the hypervisor. */
export interface HypervisorLink {
  /** Posts `count` packed records of `grant`. Copies them at once. */
  grants(version: GrantVersion, records: Uint8Array, count: number): void;
  endGrants(records: Uint8Array, count: number): void;
  event(port: number): void;
  /** Resolves to the structures as the hypervisor changed them. Rejects with HypercallError. */
  hypercall(number: number, command: number, bytes: Uint8Array): Promise<Uint8Array>;
  /** Sends one whole xs_wire message. */
  xenstore(message: Uint8Array): void;
  scheduleFlush(): void;
}

/** A hypercall was refused (`errno` as Xen numbers it), or gets no answer (errno 0). */
export class HypercallError extends Error {
  readonly errno: number;
  constructor(errno: number, message: string) {
    super(message);
    this.name = "HypercallError";
    this.errno = errno;
  }
}

export class Hypervisor {
  #link: HypervisorLink | undefined;
  /** Called when an event channel of this guest was notified. */
  onEvent: (port: number) => void = () => {};
  /** Called for a message of xenstore: src[at .. at + length), valid during the call. */
  onXenstore: (src: Uint8Array, at: number, length: number) => void = () => {};
  /** Called when the backend's use counts of a reference change by these unverified numbers. */
  onGrantUse: (reference: GrantRef, readers: number, writers: number) => void = () => {};
  /** Called before any post that may let the device act on grants, see `beforeNotice`. */
  #gathered: (() => void) | undefined;

  get attached(): boolean {
    return this.#link !== undefined;
  }

  /** Called by the session at each welcome, and (`detachLink`) at the end of each connection. */
  attachLink(link: HypervisorLink): void {
    this.#link = link;
  }
  detachLink(): void {
    this.#link = undefined;
  }

  /**
   * Sets the function that sends the gathered changes of the grant table. This class calls `post`
   * before every message that lets the device use a new grant, so callers need not call it.
   */
  beforeNotice(post: (() => void) | undefined): void {
    this.#gathered = post;
  }

  /** Sends the changes that the grant table has gathered. */
  post(): void {
    this.#gathered?.();
  }

  grants(version: GrantVersion, records: Uint8Array, count: number): void {
    this.#link?.grants(version, records, count);
  }

  endGrants(records: Uint8Array, count: number): void {
    this.#link?.endGrants(records, count);
  }

  /** EVTCHNOP_send on a port of this guest. The batch leaves at the end of this turn. */
  event(port: number): void {
    this.post();
    this.#link?.event(port);
    this.#link?.scheduleFlush();
  }

  hypercall(number: number, command: number, bytes: Uint8Array): Promise<Uint8Array> {
    this.post();
    if (this.#link === undefined) {
      return Promise.reject(new HypercallError(0, "no hypervisor is connected"));
    }
    return this.#link.hypercall(number, command, bytes);
  }

  xenstore(message: Uint8Array): void {
    this.post();
    this.#link?.xenstore(message);
  }
}
