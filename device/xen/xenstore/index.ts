/**
 * A xenstore daemon: one tree of small values, shared by the domains of one machine.
 *
 *   guest ── request() ──►  requests  ──►  Store (tree, accounts, transactions)
 *         ◄── deliver ────  reply                 │ what happened
 *         ◄── deliver ────  flushWatches() ◄── Notices (watches, pending events)
 *                                                 │
 *   the device itself ── local() ──► XenstoreClient, handlers of its watches
 *
 * Everything is synchronous. The only clock is `now` (monotonic milliseconds). A guest's request
 * never throws, except WireError, which ends the guest's connection.
 */

import type { XenStatus } from "../../../shared/status/device-status.ts";
import { WireError } from "../../../shared/wire/protocol.ts";
import {
  domainPath,
  parseXsMessage,
  XenstoreError,
  type XsMessage,
  XsType,
  xsMalformed,
  xsMessage,
  xsStrings,
} from "../../../shared/xen/xenstore.ts";
import { type Parts, XenstoreClient } from "./client.ts";
import { Domain, type Outlet } from "./domain.ts";
import { Notices } from "./notices.ts";
import * as operations from "./operations.ts";
import { ownerOf, PRIVILEGED, withoutDomain } from "./permissions.ts";
import { DEFAULT_QUOTAS, type Quotas } from "./quota.ts";
import { answer } from "./requests.ts";
import { Store } from "./store.ts";

export type { XenstoreClient } from "./client.ts";
export { CONFLICT_WORK, DEBT_MAX, PAID_PER_MS, TURN_WORK } from "./debt.ts";
export type { Outlet } from "./domain.ts";
export { DEFAULT_QUOTAS, type Quotas } from "./quota.ts";
export { REPLACED_BYTES_MAX, TRANSACTION_MS } from "./store.ts";

export interface XenstoreOptions {
  /** Milliseconds of a monotonic clock. */
  readonly now: () => number;
  /** Each quota that is not given has Xen's default. */
  readonly quotas?: Partial<Quotas>;
}

/** Resources that a guest uses, for the status page. */
type DomainUse = NonNullable<XenStatus["store"]>;

/**
 * Highest number of rounds in one flush. Handlers can cause new events, and replies new requests.
 * The rest waits for the next flush, so that two handlers that answer each other can't occupy the
 * device.
 */
const ROUNDS = 64;

export class Xenstore {
  readonly #domains = new Map<number, Domain>();
  readonly #parts: Parts;
  readonly #quotas: Quotas;
  readonly #clock: () => number;
  /** The time, read once between two flushes; undefined until it is read. */
  #time: number | undefined;
  /**
   * The clock of the store's parts. It stands still while a batch is served: time pays the debt of
   * a domain, so slow work would pay for itself.
   */
  readonly #now = (): number => {
    this.#time ??= this.#clock();
    return this.#time;
  };
  /** The domains whose requests were served since the last flush. */
  readonly #worked = new Set<Domain>();
  /** The domains with requests that wait. */
  readonly #holding = new Set<Domain>();
  #flushing = false;

  constructor({ now, quotas }: XenstoreOptions) {
    this.#clock = now;
    this.#quotas = { ...DEFAULT_QUOTAS, ...quotas };
    const notices = new Notices(this.#quotas, this.#domains, () => store.root);
    const store = new Store(this.#quotas, this.#now, this.#domains, notices);
    this.#parts = { store, notices, domains: this.#domains };
    this.#domains.set(PRIVILEGED, new Domain(PRIVILEGED, { deliver: () => {} }, this.#now));
  }

  /** Adds a guest. The toolstack makes the guest's directory. */
  introduce(domid: number, outlet: Outlet): void {
    if (this.#domains.has(domid)) throw new Error(`domain ${domid} is introduced already`);
    this.#domains.set(domid, new Domain(domid, outlet, this.#now));
    this.#parts.notices.happened({ path: "@introduceDomain", exact: true, gone: undefined });
  }

  /**
   * Removes a guest: its directory, every node that it owns with all nodes below, its watches,
   * transactions, held requests and pending events, and its entries in the permissions of other
   * nodes. The next domain with the same number inherits nothing.
   */
  release(domid: number): void {
    const domain = this.#domain(domid);
    if (domid === PRIVILEGED) throw new Error("the privileged domain stays");
    const { store, notices } = this.#parts;
    store.endAll(domain);
    store.loseGrantsTo(domid);
    notices.unwatchAll(domain);
    domain.held.length = 0;
    this.#holding.delete(domain);
    this.#worked.delete(domain);
    this.#domains.delete(domid);
    this.#removeTraces(domid);
    notices.happened({ path: "@releaseDomain", exact: true, gone: undefined });
  }

  /**
   * Serves one message of a guest. `message` is valid during the call only. The reply is delivered
   * before this returns, or by flushWatches when the request must wait. Throws WireError, which ends
   * the connection: for bytes that are not a message, for too many waiting requests, and for a
   * domain that was cut.
   */
  request(domid: number, message: Uint8Array): void {
    const domain = this.#domain(domid);
    if (domain.cut !== undefined) throw domain.cut;
    const parsed = parseXsMessage(message);
    if (parsed === undefined) {
      throw new WireError("XENSTORE_MESSAGE", `xenstore: ${xsMalformed(message)}`);
    }
    if (domain.held.length === 0 && domain.hasRoom()) {
      this.#serve(domain, parsed);
      return;
    }
    if (domain.held.length >= this.#quotas.outstanding) {
      const most = this.#quotas.outstanding;
      throw new WireError("XENSTORE_OUTSTANDING", `xenstore: more than ${most} requests wait`);
    }
    domain.held.push(message.slice());
    this.#holding.add(domain);
    domain.account.otherBytes += message.length;
  }

  /** A client for the device's own backends and toolstack. */
  local(domid: number): XenstoreClient {
    return new XenstoreClient(this.#parts, this.#domain(domid));
  }

  /**
   * Ends transactions whose time is over, serves held requests, and delivers pending
   * events. Call it after each batch, when a link has room again, and at `nextTick`.
   */
  flushWatches(): void {
    if (this.#flushing) return;
    this.#flushing = true;
    this.#time = undefined;
    try {
      const { store, notices } = this.#parts;
      if (this.#worked.size > 0) {
        for (const { debt } of this.#worked) debt.turn = 0;
        this.#worked.clear();
      }
      store.expire();
      for (let round = 0; round < ROUNDS; round++) {
        const served = this.#serveHeld();
        notices.deliverAll();
        if (!served && !notices.ready) break;
      }
      notices.cutStuck();
    } finally {
      this.#flushing = false;
      this.#time = undefined;
    }
  }

  /**
   * Time (ms of `now`) at which flushWatches must be called although no message came; Infinity when
   * nothing waits for time.
   */
  get nextTick(): number {
    const { store, notices } = this.#parts;
    let next = store.nextTick;
    if (this.#holding.size === 0 && notices.waiting.size === 0) return next;
    const now = this.#clock();
    for (const waiting of [this.#holding, notices.waiting]) {
      for (const { debt, turnOver } of waiting) {
        if (debt.freeAt > now) next = Math.min(next, debt.freeAt);
        else if (turnOver) next = Math.min(next, now);
      }
    }
    return next;
  }

  /** Number of nodes in the tree, without the root. */
  get nodes(): number {
    return this.#parts.store.nodes;
  }

  /** The resources of every guest. */
  snapshot(): DomainUse[] {
    const guests = [...this.#domains.keys()].filter((domid) => domid !== PRIVILEGED);
    return guests.map((domid) => this.use(domid));
  }

  /** The resources of one guest. */
  use(domid: number): DomainUse {
    const { account, watches, transactions, held, pending } = this.#domain(domid);
    return {
      domid,
      nodes: account.nodes,
      watches: watches.size,
      transactions: transactions.size,
      nodeBytes: account.bytes,
      memoryBytes: account.memory,
      overSoftQuota: account.memory > this.#quotas.memorySoftBytes,
      held: held.length,
      pending: pending.size,
    };
  }

  #domain(domid: number): Domain {
    const domain = this.#domains.get(domid);
    if (domain === undefined) throw new Error(`domain ${domid} is not introduced`);
    return domain;
  }

  /** Serves held requests while possible. Returns whether it served any. */
  #serveHeld(): boolean {
    let served = false;
    if (this.#holding.size === 0) return served;
    for (const domain of [...this.#holding]) {
      for (let oldest = domain.held[0]; oldest !== undefined; oldest = domain.held[0]) {
        if (domain.cut !== undefined || !domain.hasRoom()) break;
        domain.held.shift();
        domain.account.otherBytes -= oldest.length;
        if (domain.held.length === 0) this.#holding.delete(domain);
        this.#serve(domain, parseXsMessage(oldest)!);
        served = true;
      }
    }
    return served;
  }

  #serve(domain: Domain, message: XsMessage): void {
    this.#worked.add(domain);
    const { type, reqId, txId } = message;
    let reply: Uint8Array;
    try {
      const client = new XenstoreClient(this.#parts, domain, txId);
      reply = xsMessage(type as XsType, reqId, txId, answer(client, message));
    } catch (error) {
      if (!(error instanceof XenstoreError)) throw error;
      reply = xsMessage(XsType.ERROR, reqId, txId, xsStrings(error.code));
    }
    domain.outlet.deliver(reply);
  }

  #removeTraces(domid: number): void {
    const { store } = this.#parts;
    store.run(this.#domain(PRIVILEGED), 0, (edit, author) => {
      const home = domainPath(domid);
      if (edit.look(home) !== undefined) operations.rm(edit, author, home);
      for (const path of store.naming(domid)) {
        const permissions = edit.look(path)?.record.permissions;
        // Undefined when a node above was the domain's, and is removed.
        if (permissions === undefined) continue;
        if (ownerOf(permissions) === domid) operations.rm(edit, author, path);
        else {
          const kept = withoutDomain(permissions, domid);
          operations.setPermissions(edit, author, path, kept, Infinity);
        }
      }
    });
  }
}
