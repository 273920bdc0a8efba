/**
 * The store for the device's own use: what requests do, as calls. Values are latin1 text.
 *
 * All methods throw XenstoreError; `code` is the error's name. A path that does not begin with "/"
 * begins at the domain's own directory.
 */
import { XENSTORE_PAYLOAD_MAX, xsBytes, xsText } from "../../../shared/xen/xenstore.ts";
import type { Domain } from "./domain.ts";
import { XenstoreError } from "./errors.ts";
import * as operations from "./operations.ts";
import { formatPermissions, parsePermissions } from "./permissions.ts";
import { newWatch, nodePath, type Parts } from "./requests.ts";
import type { WatchHandler } from "./watches.ts";

export class XenstoreClient {
  readonly #parts: Parts;
  readonly #domain: Domain;
  readonly #txId: number;

  /** Made by Xenstore.local and by `transaction`. */
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

  /** Creates the node, and the missing ones above it, or changes its value. */
  write(path: string, value: string): void {
    const absolute = this.#path(path);
    // No longer than a message could have said, so that every guest can read it.
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

  /** With all below it. A node that is not there is no error if the one above it is. */
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

  /** As messages say them: "n1", "r0". The first names the owner. */
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

  /** `handler` is called from flushWatches: once for the watch itself, then for changes. */
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
   * All that `work` does with the client it is given, or nothing of it when it throws. Nobody else
   * acts meanwhile, so it never loses a race.
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
