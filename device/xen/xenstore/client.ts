/**
 * The requests of xenstore as method calls, for the device's own use. Values are latin1 text.
 *
 * All methods throw XenstoreError, whose `code` is the name of the error. A path without a leading
 * "/" is relative to the domain's own directory.
 */
import {
  XENSTORE_PAYLOAD_MAX,
  XenstoreError,
  xsBytes,
  xsText,
} from "../../../shared/xen/xenstore.ts";
import type { Domain } from "./domain.ts";
import * as operations from "./operations.ts";
import { formatPermissions, parsePermissions } from "./permissions.ts";
import { newWatch, nodePath, type Parts } from "./requests.ts";
import type { WatchHandler } from "./watches.ts";

export class XenstoreClient {
  readonly #parts: Parts;
  readonly #domain: Domain;
  readonly #txId: number;

  /** A client of one domain. Xenstore.local and `transaction` create it. */
  constructor(parts: Parts, domain: Domain, txId = 0) {
    this.#parts = parts;
    this.#domain = domain;
    this.#txId = txId;
  }

  read(path: string): string {
    const absolute = this.#path(path);
    return xsText(
      this.#parts.store.run(this.#domain, this.#txId, (edit) =>
        operations.read(edit, this.#domain.domid, absolute),
      ),
    );
  }

  /** Sets the value of a node. Creates the node and its missing ancestors. */
  write(path: string, value: string): void {
    const absolute = this.#path(path);
    // A value fits in one message, so that every guest can read it.
    if (value.length > XENSTORE_PAYLOAD_MAX) throw new XenstoreError("E2BIG", "a value too long");
    const bytes = xsBytes(value);
    this.#parts.store.run(this.#domain, this.#txId, (edit, author) =>
      operations.write(edit, author, absolute, bytes),
    );
  }

  mkdir(path: string): void {
    const absolute = this.#path(path);
    this.#parts.store.run(this.#domain, this.#txId, (edit, author) =>
      operations.mkdir(edit, author, absolute),
    );
  }

  /** Removes a node and all nodes below it. A missing node is not an error if its parent exists. */
  rm(path: string): void {
    const absolute = this.#path(path);
    this.#parts.store.run(this.#domain, this.#txId, (edit, author) =>
      operations.rm(edit, author, absolute),
    );
  }

  /** The names of the children. */
  directory(path: string): string[] {
    const absolute = this.#path(path);
    const node = this.#parts.store.run(this.#domain, this.#txId, (edit) =>
      operations.directory(edit, this.#domain.domid, absolute),
    );
    return [...node.children.keys()];
  }

  /** Permissions in the form of messages: "n1", "r0". The first entry names the owner. */
  getPerms(path: string): string[] {
    const absolute = this.#path(path);
    return formatPermissions(
      this.#parts.store.run(this.#domain, this.#txId, (edit) =>
        operations.permissionsOf(edit, this.#domain.domid, absolute),
      ),
    );
  }

  setPerms(path: string, permissions: readonly string[]): void {
    const absolute = this.#path(path);
    const parsed = parsePermissions(permissions);
    const { store } = this.#parts;
    store.run(this.#domain, this.#txId, (edit, author) =>
      operations.setPermissions(edit, author, absolute, parsed, store.quotas.permissions),
    );
  }

  /** Sets a watch. flushWatches calls `handler` once for the watch itself, then for each change. */
  watch(path: string, token: string, handler: WatchHandler): void {
    this.#parts.notices.watch(this.#domain, newWatch(this.#domain.domid, path, token, handler));
  }

  unwatch(path: string, token: string): void {
    this.#parts.notices.unwatch(
      this.#domain,
      newWatch(this.#domain.domid, path, token).path,
      token,
    );
  }

  /**
   * Runs `work` as one transaction: all of its changes are made, or none when it throws. Everything
   * is synchronous, so no other change can come between.
   */
  transaction<T>(work: (client: XenstoreClient) => T): T {
    if (this.#txId !== 0) throw new XenstoreError("EBUSY", "transactions do not nest");
    const { store } = this.#parts;
    const txId = store.begin(this.#domain);
    let done = false;
    try {
      const result = work(new XenstoreClient(this.#parts, this.#domain, txId));
      done = true;
      return result;
    } finally {
      store.end(this.#domain, txId, done);
    }
  }

  #path(path: string): string {
    return nodePath(this.#domain.domid, path);
  }
}
