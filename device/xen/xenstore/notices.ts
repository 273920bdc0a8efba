/**
 * Pending watch events: which domain hears of a change, and when.
 *
 *   change ─► happened() ─► one pending event a watch and path ─► deliver(): may it be read *now*?
 *                                                                     │yes          │no
 *                                                                 WATCH_EVENT     nothing
 *
 * An event waits until deliver(). A second event of the same watch and path is merged with the
 * first, because an event carries no value. Permission is checked at delivery, in the tree as it is
 * then (XSA-115): a watcher that lost its permission in between receives nothing.
 *
 * When a domain has more events than the quota and its link has room, the events are sent at once.
 * When its link has no room, the domain does not read and is cut (XSA-349). A watch of the device
 * itself receives one event for its own path in place of all that exceed the quota. A watch may fire
 * spuriously, so its handler reads the tree in any case.
 */

import { WireError } from "../../../shared/wire/protocol.ts";
import {
  isSpecialPath,
  XENSTORE_PAYLOAD_MAX,
  XenstoreError,
  XsType,
  xsMessage,
  xsStrings,
} from "../../../shared/xen/xenstore.ts";
import { EVENT_WORK } from "./debt.ts";
import type { Domain } from "./domain.ts";
import type { Happened } from "./edit.ts";
import { find, type Node, parentOf } from "./node.ts";
import { Access, accessOf, type Permissions, PRIVILEGED } from "./permissions.ts";
import type { Quotas } from "./quota.ts";
import { eventPath, type PendingEvent, type Watch, WatchTable, watchBytes } from "./watches.ts";

export class Notices {
  readonly #quotas: Quotas;
  readonly #domains: ReadonlyMap<number, Domain>;
  readonly #root: () => Node;
  readonly #table = new WatchTable();
  /** The domains with pending events. */
  readonly #waiting = new Set<Domain>();
  /** The domains that were cut and whose outlet has not been called yet. */
  readonly #stuck = new Set<Domain>();

  constructor(quotas: Quotas, domains: ReadonlyMap<number, Domain>, root: () => Node) {
    this.#quotas = quotas;
    this.#domains = domains;
    this.#root = root;
  }

  /** Throws EEXIST for a watch that is set, E2BIG and ENOMEM by quota. */
  watch(domain: Domain, watch: Watch): void {
    if (this.#table.find(watch.domid, watch.path, watch.token) !== undefined) {
      throw new XenstoreError("EEXIST", `${watch.path} is watched with that token`);
    }
    const bytes = watchBytes(watch.path, watch.token);
    if (domain.domid !== PRIVILEGED) {
      if (domain.watches.size >= this.#quotas.watches) {
        throw new XenstoreError("E2BIG", `more than ${this.#quotas.watches} watches`);
      }
      domain.account.admitBytes(bytes, this.#quotas);
    }
    domain.account.otherBytes += bytes;
    domain.watches.add(watch);
    this.#table.add(watch);
    this.#gather(domain, { watch, path: watch.path, gone: undefined, first: true });
  }

  /** Removes a watch and its pending events. Throws ENOENT for a watch that is not set. */
  unwatch(domain: Domain, path: string, token: string): void {
    const watch = this.#table.find(domain.domid, path, token);
    if (watch === undefined) throw new XenstoreError("ENOENT", `${path} is not watched`);
    this.#drop(domain, watch);
  }

  /** Removes all watches of a domain. */
  unwatchAll(domain: Domain): void {
    this.#stuck.delete(domain);
    for (const watch of domain.watches) this.#drop(domain, watch);
  }

  happened(event: Happened): void {
    for (const watch of this.#table.matching(event)) {
      const domain = this.#domains.get(watch.domid)!;
      this.#gather(domain, { watch, path: event.path, gone: event.gone, first: false });
    }
  }

  /** The domains with events that are not sent yet. */
  get waiting(): ReadonlySet<Domain> {
    return this.#waiting;
  }

  /** True while any domain has both pending events and room. */
  get ready(): boolean {
    for (const domain of this.#waiting) if (domain.hasRoom()) return true;
    return false;
  }

  /** Sends the events that are pending now to every domain with room. */
  deliverAll(): void {
    if (this.#waiting.size === 0) return;
    for (const domain of [...this.#waiting]) this.#deliver(domain);
  }

  /** Calls the outlet of each domain that was cut, once. */
  cutStuck(): void {
    for (const domain of this.#stuck) {
      this.#stuck.delete(domain);
      domain.outlet.cut?.(domain.cut!);
    }
  }

  #gather(domain: Domain, event: PendingEvent): void {
    const { watch } = event;
    if (domain.pending.size >= this.#quotas.events && !watch.pending.has(event.path)) {
      if (domain.domid === PRIVILEGED) event = { ...event, path: watch.path };
      else if (domain.hasRoom()) this.#deliver(domain);
      else {
        this.#cut(domain);
        return;
      }
    }
    const before = watch.pending.get(event.path);
    if (before !== undefined) {
      before.gone = event.gone;
      return;
    }
    domain.charge(EVENT_WORK);
    domain.account.otherBytes += watchBytes(event.path, watch.token);
    watch.pending.set(event.path, event);
    domain.pending.add(event);
    this.#waiting.add(domain);
  }

  #deliver(domain: Domain): void {
    let budget = domain.pending.size;
    for (const event of domain.pending) {
      if (budget-- === 0 || !domain.hasRoom()) return;
      this.#forget(domain, event);
      if (!event.first && !this.#mayHear(domain.domid, event.path, event.gone)) continue;
      const { handler, token } = event.watch;
      const path = eventPath(event.watch, event.path);
      if (handler !== undefined) {
        handler(path, token);
        continue;
      }
      const payload = xsStrings(path, token);
      // No message could carry a path and a token that are both this long.
      if (payload.length > XENSTORE_PAYLOAD_MAX) continue;
      domain.outlet.deliver(xsMessage(XsType.WATCH_EVENT, 0, 0, payload));
    }
  }

  /**
   * Whether a domain may read the node, or the list of names in its parent. The permissions of a
   * removed node are those that it had.
   */
  #mayHear(domid: number, path: string, gone: Permissions | undefined): boolean {
    if (domid === PRIVILEGED) return true;
    if (isSpecialPath(path)) return false;
    const node = find(this.#root(), path);
    const permissions = node === undefined ? gone : node.record.permissions;
    if (permissions !== undefined && canRead(domid, permissions)) return true;
    const parent = find(this.#root(), parentOf(path));
    return parent !== undefined && canRead(domid, parent.record.permissions);
  }

  #drop(domain: Domain, watch: Watch): void {
    domain.watches.delete(watch);
    this.#table.remove(watch);
    domain.account.otherBytes -= watchBytes(watch.path, watch.token);
    for (const event of watch.pending.values()) this.#forget(domain, event);
  }

  #forget(domain: Domain, event: PendingEvent): void {
    domain.pending.delete(event);
    event.watch.pending.delete(event.path);
    domain.account.otherBytes -= watchBytes(event.path, event.watch.token);
    if (domain.pending.size === 0) this.#waiting.delete(domain);
  }

  #cut(domain: Domain): void {
    domain.cut = new WireError(
      "XENSTORE_WATCHER_STUCK",
      `xenstore: ${this.#quotas.events} watch events wait and the domain does not read`,
    );
    this.unwatchAll(domain);
    this.#stuck.add(domain);
  }
}

function canRead(domid: number, permissions: Permissions): boolean {
  return (accessOf(domid, permissions) & Access.READ) !== 0;
}
