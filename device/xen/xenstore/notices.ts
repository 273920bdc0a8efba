/**
 * Who is told of a change, and when.
 *
 *   change ─► happened() ─► one pending event a watch and path ─► deliver(): may it be read *now*?
 *                                                                     │yes          │no
 *                                                                 WATCH_EVENT     nothing
 *
 * An event waits until deliver(); a second one of the same watch and path is the same event, since
 * it carries no value. Permission is asked at delivery, of the tree as it is then (XSA-115): a
 * watcher that lost its permission in between hears nothing.
 *
 * Who has room is sent to as soon as its events are more than the quota; who has none by then does
 * not read, and is cut (XSA-349). The device's own watches are told of their own path, once each,
 * for what does not fit: a watch may fire spuriously, so its handler looks itself.
 */
import { WireError } from "../../../shared/wire/transactions.ts";
import {
  isSpecialPath,
  XENSTORE_PAYLOAD_MAX,
  XsType,
  xsMessage,
  xsStrings,
} from "../../../shared/xen/xenstore.ts";
import { EVENT_WORK } from "./debt.ts";
import type { Domain, PendingEvent } from "./domain.ts";
import type { Happened } from "./edit.ts";
import { XenstoreError } from "./errors.ts";
import { find, type Node, parentOf } from "./node.ts";
import { Access, accessOf, type Permissions, PRIVILEGED } from "./permissions.ts";
import type { Quotas } from "./quota.ts";
import { eventPath, type Watch, WatchTable, watchBytes } from "./watches.ts";

export class Notices {
  readonly #quotas: Quotas;
  readonly #domains: ReadonlyMap<number, Domain>;
  readonly #root: () => Node;
  readonly #table = new WatchTable();
  /** The domains with pending events. */
  readonly #waiting = new Set<Domain>();
  /** The domains that were cut and have not been told. */
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

  /** Throws ENOENT for a watch that is not set. Its events that wait go too. */
  unwatch(domain: Domain, path: string, token: string): void {
    const watch = this.#table.find(domain.domid, path, token);
    if (watch === undefined) throw new XenstoreError("ENOENT", `${path} is not watched`);
    this.#drop(domain, watch);
  }

  /** The domain is gone, or wants no watches. */
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

  /** The domains with events that were not sent yet. */
  get waiting(): ReadonlySet<Domain> {
    return this.#waiting;
  }

  /** True while a domain that has room has events. */
  get ready(): boolean {
    for (const domain of this.#waiting) if (domain.hasRoom()) return true;
    return false;
  }

  /** Sends what there was when it was called, to everybody with room. */
  deliverAll(): void {
    for (const domain of [...this.#waiting]) this.#deliver(domain);
  }

  /** Tells the owners of the domains that were cut. Once each. */
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
    if (domain.domid !== PRIVILEGED) domain.debt.charge(EVENT_WORK, domain.now());
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
      // A path so long, with a token so long, has no message that could carry both.
      if (payload.length > XENSTORE_PAYLOAD_MAX) continue;
      domain.outlet.deliver(xsMessage(XsType.WATCH_EVENT, 0, 0, payload));
    }
  }

  /** Who may read the node, or the names in the one above; of a node that is gone, who could. */
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
