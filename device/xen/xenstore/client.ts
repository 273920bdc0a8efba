/**
 * The requests of xenstore as method calls of one domain, for messages of guests and for the
 * device's own use. Values are latin1 text.
 *
 * All methods throw XenstoreError, whose `code` is the name of the error. A path without a leading
 * "/" is relative to the domain's own directory.
 */
import {
  absolutePath,
  isSpecialPath,
  isValidPath,
  XENSTORE_PAYLOAD_MAX,
  XENSTORE_REL_PATH_MAX,
  XenstoreError,
  xsBytes,
  xsText,
} from "../../../shared/xen/xenstore.ts";
import type { Domain } from "./domain.ts";
import type { Edit } from "./edit.ts";
import type { Node } from "./node.ts";
import type { Notices } from "./notices.ts";
import * as operations from "./operations.ts";
import { Access, formatPermissions, parsePermissions } from "./permissions.ts";
import type { Store } from "./store.ts";
import type { WatchHandler } from "./watches.ts";

/** The parts of the store that requests use. */
export interface Parts {
  readonly store: Store;
  readonly notices: Notices;
  readonly domains: ReadonlyMap<number, Domain>;
}

export class XenstoreClient {
  readonly #parts: Parts;
  readonly #domain: Domain;
  readonly #txId: number;

  /** `txId`: the transaction of all requests of this client; 0 for none. */
  constructor(parts: Parts, domain: Domain, txId = 0) {
    this.#parts = parts;
    this.#domain = domain;
    this.#txId = txId;
  }

  read(path: string): string {
    return xsText(this.#readable(path).record.value);
  }

  /** Sets the value of a node. Creates the node and its missing ancestors. */
  write(path: string, value: string): void {
    // A value fits in one message, so that every guest can read it.
    if (value.length > XENSTORE_PAYLOAD_MAX) throw new XenstoreError("E2BIG", "a value too long");
    const bytes = xsBytes(value);
    this.#run(path, (edit, author, at) => operations.write(edit, author, at, bytes));
  }

  mkdir(path: string): void {
    this.#run(path, operations.mkdir);
  }

  /** Removes a node and all nodes below it. A missing node is not an error if its parent exists. */
  rm(path: string): void {
    this.#run(path, operations.rm);
  }

  /** The node whose children are to be listed. */
  directory(path: string): Node {
    return this.#run(path, (edit, author, at) => operations.directory(edit, author.domid, at));
  }

  /** Permissions in the form of messages: "n1", "r0". The first entry names the owner. */
  getPerms(path: string): string[] {
    return formatPermissions(this.#readable(path).record.permissions);
  }

  setPerms(path: string, permissions: readonly string[]): void {
    const parsed = parsePermissions(permissions);
    const most = this.#parts.store.quotas.permissions;
    this.#run(path, (edit, author, at) =>
      operations.setPermissions(edit, author, at, parsed, most),
    );
  }

  /**
   * Sets a watch of a node or of a special event. flushWatches reports the watch itself once, then
   * each change: to `handler`, or to the guest in a message.
   */
  watch(path: string, token: string, handler?: WatchHandler): void {
    const { domid } = this.#domain;
    this.#parts.notices.watch(this.#domain, {
      domid,
      path: this.#watchPath(path),
      token,
      relative: !isSpecialPath(path) && !path.startsWith("/"),
      handler,
      pending: new Map(),
    });
  }

  unwatch(path: string, token: string): void {
    this.#parts.notices.unwatch(this.#domain, this.#watchPath(path), token);
  }

  /** Removes all watches of the domain, and discards its transactions. */
  resetWatches(): void {
    this.#parts.notices.unwatchAll(this.#domain);
    this.#parts.store.endAll(this.#domain);
  }

  /** Begins a transaction and returns its id. */
  begin(): number {
    if (this.#txId !== 0) throw new XenstoreError("EBUSY", "transactions do not nest");
    return this.#parts.store.begin(this.#domain);
  }

  /** Ends the transaction of this client. */
  end(commit: boolean): void {
    this.#parts.store.end(this.#domain, this.#txId, commit);
  }

  isIntroduced(domid: number): boolean {
    return this.#parts.domains.has(domid);
  }

  #readable(path: string): Node {
    return this.#run(path, (edit, author, at) =>
      operations.existing(edit, author.domid, at, Access.READ),
    );
  }

  #run<T>(path: string, work: (edit: Edit, author: operations.Author, at: string) => T): T {
    const at = this.#path(path);
    return this.#parts.store.run(this.#domain, this.#txId, (edit, author) =>
      work(edit, author, at),
    );
  }

  #watchPath(path: string): string {
    if (!isSpecialPath(path)) return this.#path(path);
    if (path.length <= XENSTORE_REL_PATH_MAX) return path;
    throw new XenstoreError("EINVAL", "not a special event");
  }

  #path(path: string): string {
    const absolute = absolutePath(path, this.#domain.domid);
    if (!isValidPath(absolute)) throw new XenstoreError("EINVAL", "not a path");
    return absolute;
  }
}
