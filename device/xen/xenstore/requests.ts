/**
 * A guest's requests: the meaning of each message, and the payload of its reply.
 *
 *   type              payload                         reply
 *   DIRECTORY         path|                           name|*         E2BIG over 4096 bytes
 *   DIRECTORY_PART    path|offset|                    generation|name|*, and | behind the last
 *   READ              path|                           value
 *   GET_PERMS         path|                           permission|+
 *   SET_PERMS         path|permission|+               OK|
 *   WRITE             path|value                      OK|
 *   MKDIR, RM         path|                           OK|
 *   WATCH, UNWATCH    path|token|                     OK|            the transaction is ignored
 *   RESET_WATCHES     anything                        OK|            transactions end too
 *   TRANSACTION_START anything                        id|
 *   TRANSACTION_END   T| or F|                        OK|
 *   GET_DOMAIN_PATH   domid|                          path|
 *   IS_DOMAIN_INTRODUCED  domid|                      T| or F|
 *   CONTROL, INTRODUCE, RELEASE, RESUME, SET_TARGET   EACCES: the toolstack's
 *   anything else                                     ENOSYS
 *
 * Source: xen: docs/misc/xenstore.txt.
 */
import {
  absolutePath,
  domainPath,
  isSpecialPath,
  isValidPath,
  parseXsStrings,
  splitXsPayload,
  XENSTORE_PAYLOAD_MAX,
  XENSTORE_REL_PATH_MAX,
  XenstoreError,
  type XsMessage,
  XsType,
  xsStrings,
} from "../../../shared/xen/xenstore.ts";
import type { Domain } from "./domain.ts";
import type { Notices } from "./notices.ts";
import * as operations from "./operations.ts";
import { formatPermissions, parseDomid, parsePermissions } from "./permissions.ts";
import type { Store } from "./store.ts";
import type { Watch, WatchHandler } from "./watches.ts";

/** The parts of the store that requests use. */
export interface Parts {
  readonly store: Store;
  readonly notices: Notices;
  readonly domains: ReadonlyMap<number, Domain>;
}

type Handler = (parts: Parts, domain: Domain, message: XsMessage) => Uint8Array;

const OK = xsStrings("OK");

/** The absolute path. Throws EINVAL. */
export function nodePath(domid: number, path: string): string {
  const absolute = absolutePath(path, domid);
  if (!isValidPath(absolute)) throw new XenstoreError("EINVAL", "not a path");
  return absolute;
}

/** A watch of a node or of a special event. Throws EINVAL. */
export function newWatch(
  domid: number,
  path: string,
  token: string,
  handler?: WatchHandler,
): Watch {
  const special = isSpecialPath(path);
  if (special && path.length > XENSTORE_REL_PATH_MAX) {
    throw new XenstoreError("EINVAL", "not a special event");
  }
  return {
    domid,
    path: special ? path : nodePath(domid, path),
    token,
    relative: !special && !path.startsWith("/"),
    handler,
    pending: new Map(),
  };
}

/** Whether a request changes the tree at once. Such a request waits while another domain has a turn. */
export function changesTree({ type, txId }: XsMessage): boolean {
  if (type === XsType.TRANSACTION_END) return true;
  const writes =
    type === XsType.WRITE ||
    type === XsType.MKDIR ||
    type === XsType.RM ||
    type === XsType.SET_PERMS;
  return writes && txId === 0;
}

/** The payload of the reply. Throws XenstoreError. */
export function answer(parts: Parts, domain: Domain, message: XsMessage): Uint8Array {
  const handler = HANDLERS.get(message.type);
  if (handler === undefined) throw new XenstoreError("ENOSYS", `request ${message.type}`);
  return handler(parts, domain, message);
}

const refused: Handler = () => {
  throw new XenstoreError("EACCES", "for the toolstack only");
};

const HANDLERS: ReadonlyMap<number, Handler> = new Map<number, Handler>([
  [XsType.DIRECTORY, directory],
  [XsType.DIRECTORY_PART, directoryPart],
  [XsType.READ, read],
  [XsType.GET_PERMS, getPermissions],
  [XsType.SET_PERMS, setPermissions],
  [XsType.WRITE, write],
  [XsType.MKDIR, mkdir],
  [XsType.RM, rm],
  [XsType.WATCH, watch],
  [XsType.UNWATCH, unwatch],
  [XsType.RESET_WATCHES, resetWatches],
  [XsType.TRANSACTION_START, transactionStart],
  [XsType.TRANSACTION_END, transactionEnd],
  [XsType.GET_DOMAIN_PATH, getDomainPath],
  [XsType.IS_DOMAIN_INTRODUCED, isDomainIntroduced],
  [XsType.CONTROL, refused],
  [XsType.INTRODUCE, refused],
  [XsType.RELEASE, refused],
  [XsType.RESUME, refused],
  [XsType.SET_TARGET, refused],
]);

function directory({ store }: Parts, domain: Domain, message: XsMessage): Uint8Array {
  const path = nodePath(domain.domid, strings(message, 1)[0]);
  const node = store.run(domain, message.txId, (edit) =>
    operations.directory(edit, domain.domid, path),
  );
  if (node.record.namesBytes > XENSTORE_PAYLOAD_MAX) {
    throw new XenstoreError("E2BIG", "the names do not fit in one message");
  }
  return xsStrings(...node.children.keys());
}

function directoryPart({ store }: Parts, domain: Domain, message: XsMessage): Uint8Array {
  const [name, from] = strings(message, 2);
  const path = nodePath(domain.domid, name);
  if (!/^\d{1,10}$/.test(from)) throw new XenstoreError("EINVAL", "not an offset");
  const { record, children } = store.run(domain, message.txId, (edit) =>
    operations.directory(edit, domain.domid, path),
  );
  const generation = `${record.generation}`;
  let room = XENSTORE_PAYLOAD_MAX - generation.length - 2;
  let at = 0;
  const part: string[] = [];
  for (const child of children.keys()) {
    const begins = at;
    at += child.length + 1;
    if (at <= Number(from)) continue;
    // An offset inside a name yields the rest of that name, because offsets count bytes.
    const rest = child.slice(Math.max(0, Number(from) - begins));
    room -= rest.length + 1;
    if (room < 0) return xsStrings(generation, ...part);
    part.push(rest);
  }
  return xsStrings(generation, ...part, "");
}

function read({ store }: Parts, domain: Domain, message: XsMessage): Uint8Array {
  const path = nodePath(domain.domid, strings(message, 1)[0]);
  return store.run(domain, message.txId, (edit) => operations.read(edit, domain.domid, path));
}

function getPermissions({ store }: Parts, domain: Domain, message: XsMessage): Uint8Array {
  const path = nodePath(domain.domid, strings(message, 1)[0]);
  const permissions = store.run(domain, message.txId, (edit) =>
    operations.permissionsOf(edit, domain.domid, path),
  );
  return xsStrings(...formatPermissions(permissions));
}

function setPermissions({ store }: Parts, domain: Domain, message: XsMessage): Uint8Array {
  const [name, ...texts] = parseXsStrings(message.payload) ?? [];
  if (name === undefined) throw new XenstoreError("EINVAL", "no path");
  const path = nodePath(domain.domid, name);
  const permissions = parsePermissions(texts);
  store.run(domain, message.txId, (edit, author) =>
    operations.setPermissions(edit, author, path, permissions, store.quotas.permissions),
  );
  return OK;
}

function write({ store }: Parts, domain: Domain, message: XsMessage): Uint8Array {
  const split = splitXsPayload(message.payload);
  if (split === undefined) throw new XenstoreError("EINVAL", "no path");
  const path = nodePath(domain.domid, split.first);
  // The link reuses the bytes of the message after this call, so the value is a copy.
  const value = split.rest.slice();
  store.run(domain, message.txId, (edit, author) => operations.write(edit, author, path, value));
  return OK;
}

function mkdir({ store }: Parts, domain: Domain, message: XsMessage): Uint8Array {
  const path = nodePath(domain.domid, strings(message, 1)[0]);
  store.run(domain, message.txId, (edit, author) => operations.mkdir(edit, author, path));
  return OK;
}

function rm({ store }: Parts, domain: Domain, message: XsMessage): Uint8Array {
  const path = nodePath(domain.domid, strings(message, 1)[0]);
  store.run(domain, message.txId, (edit, author) => operations.rm(edit, author, path));
  return OK;
}

function watch({ notices }: Parts, domain: Domain, message: XsMessage): Uint8Array {
  const [path, token] = strings(message, 2);
  notices.watch(domain, newWatch(domain.domid, path, token));
  return OK;
}

function unwatch({ notices }: Parts, domain: Domain, message: XsMessage): Uint8Array {
  const [path, token] = strings(message, 2);
  notices.unwatch(domain, newWatch(domain.domid, path, token).path, token);
  return OK;
}

function resetWatches({ store, notices }: Parts, domain: Domain): Uint8Array {
  notices.unwatchAll(domain);
  store.endAll(domain);
  return OK;
}

function transactionStart({ store }: Parts, domain: Domain, message: XsMessage): Uint8Array {
  if (message.txId !== 0) throw new XenstoreError("EBUSY", "transactions do not nest");
  return xsStrings(`${store.begin(domain)}`);
}

function transactionEnd({ store }: Parts, domain: Domain, message: XsMessage): Uint8Array {
  const [how] = strings(message, 1);
  if (how !== "T" && how !== "F") throw new XenstoreError("EINVAL", "neither T nor F");
  store.end(domain, message.txId, how === "T");
  return OK;
}

function getDomainPath(_parts: Parts, _domain: Domain, message: XsMessage): Uint8Array {
  return xsStrings(domainPath(parseDomid(strings(message, 1)[0])));
}

function isDomainIntroduced({ domains }: Parts, _domain: Domain, message: XsMessage): Uint8Array {
  return xsStrings(domains.has(parseDomid(strings(message, 1)[0])) ? "T" : "F");
}

type Exactly<N extends 1 | 2> = N extends 1 ? [string] : [string, string];

/** The payload as so many strings. Throws EINVAL when there are more or fewer. */
function strings<N extends 1 | 2>(message: XsMessage, count: N): Exactly<N> {
  const found = parseXsStrings(message.payload);
  if (found?.length !== count) throw new XenstoreError("EINVAL", `not ${count} strings`);
  return found as Exactly<N>;
}
