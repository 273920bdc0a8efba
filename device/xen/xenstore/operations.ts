/**
 * The operations of the database on an Edit, with their permission checks.
 *
 * All throw XenstoreError. EACCES: the caller is not permitted. ENOENT: the node is missing, and the
 * nearest existing ancestor permits the caller to know that.
 *
 * Source: xen: docs/misc/xenstore.txt, "Database read, write and permissions operations".
 */
import { XenstoreError } from "../../../shared/xen/xenstore.ts";
import type { Edit } from "./edit.ts";
import {
  type Change,
  childPath,
  leafOf,
  NO_VALUE,
  type Node,
  type NodeRecord,
  parentOf,
  walk,
} from "./node.ts";
import { Access, accessOf, ownerOf, type Permissions, PRIVILEGED } from "./permissions.ts";

/** The domain that makes a change, and the change's number. Every new record carries both. */
export interface Author {
  readonly domid: number;
  readonly generation: number;
}

/** The node, to list its children. */
export function directory(edit: Edit, domid: number, path: string): Node {
  const node = existing(edit, domid, path, Access.READ);
  edit.work += node.children.size >>> 3;
  return node;
}

/** Sets the value of a node. Creates the node and its missing ancestors. */
export function write(edit: Edit, author: Author, path: string, value: Uint8Array): void {
  const node = writable(edit, author.domid, path);
  if (node === undefined) {
    create(edit, author, path, value);
  } else {
    edit.apply([{ path, record: renewed(node.record, author, { value }) }]);
  }
  edit.tell(path);
}

/** Creates a node. An existing node stays as it is, and no watch fires. */
export function mkdir(edit: Edit, author: Author, path: string): void {
  if (writable(edit, author.domid, path) !== undefined) return;
  create(edit, author, path, NO_VALUE);
  edit.tell(path);
}

/**
 * Removes the node and all nodes below it. The caller needs permission to write the node. A missing
 * node is not an error if its parent exists.
 */
export function rm(edit: Edit, author: Author, path: string): void {
  const node = writable(edit, author.domid, path);
  const parent = parentOf(path);
  if (node === undefined) {
    if (edit.look(parent) === undefined) throw new XenstoreError("ENOENT", `no ${parent}`);
    return;
  }
  if (path === "/") throw new XenstoreError("EINVAL", "the root stays");
  const below = [...walk(path, node)];
  const record = edit.look(parent)!.record;
  const namesBytes = record.namesBytes - leafOf(path).length - 1;
  edit.apply([
    { path: parent, record: renewed(record, author, { namesBytes }) },
    ...below.map(([gone]): Change => ({ path: gone, record: undefined })),
  ]);
  for (const [gone, was] of below) {
    edit.tell(gone, was.record.permissions, gone !== path);
  }
}

/**
 * Sets permissions. Only the owner may. An unprivileged owner can't give the node away, because a
 * node counts for its owner's quota.
 */
export function setPermissions(
  edit: Edit,
  author: Author,
  path: string,
  permissions: Permissions,
  most: number,
): void {
  const { record } = existing(edit, author.domid, path, Access.WRITE);
  if (author.domid !== PRIVILEGED) {
    if (ownerOf(record.permissions) !== author.domid) {
      throw new XenstoreError("EACCES", `${path} is another domain's`);
    }
    if (ownerOf(permissions) !== author.domid) {
      throw new XenstoreError("EPERM", "a node can't be given away");
    }
    if (permissions.length > most) {
      throw new XenstoreError("ENOSPC", `more than ${most} permissions`);
    }
  }
  edit.apply([{ path, record: renewed(record, author, { permissions }) }]);
  edit.tell(path);
}

/** The node, of which the caller has all of `access`. */
export function existing(edit: Edit, domid: number, path: string, access: Access): Node {
  const node = edit.look(path);
  if (node !== undefined && (accessOf(domid, node.record.permissions) & access) === access) {
    edit.pin(path);
    return node;
  }
  if (node === undefined && mayKnow(edit, domid, path, access)) {
    edit.pin(path);
    throw new XenstoreError("ENOENT", `no ${path}`);
  }
  throw new XenstoreError("EACCES", path);
}

/** The node, or undefined where the caller may make one. */
function writable(edit: Edit, domid: number, path: string): Node | undefined {
  const node = edit.look(path);
  const may =
    node === undefined
      ? mayKnow(edit, domid, path, Access.WRITE)
      : (accessOf(domid, node.record.permissions) & Access.WRITE) !== 0;
  if (!may) throw new XenstoreError("EACCES", path);
  edit.pin(path);
  return node;
}

function mayKnow(edit: Edit, domid: number, path: string, access: Access): boolean {
  return (accessOf(domid, edit.nearest(path).node.record.permissions) & access) !== 0;
}

/** A new node has its parent's permissions, but a guest owns the nodes that it creates. */
function create(edit: Edit, author: Author, path: string, value: Uint8Array): void {
  const from = edit.nearest(path);
  const inherited = from.node.record.permissions;
  const [{ access }, ...others] = inherited;
  const permissions: Permissions =
    author.domid === PRIVILEGED ? inherited : [{ domid: author.domid, access }, ...others];

  const rest = path.slice(from.path === "/" ? 1 : from.path.length + 1).split("/");
  const namesBytes = from.node.record.namesBytes + rest[0]!.length + 1;
  const changes: Change[] = [
    { path: from.path, record: renewed(from.node.record, author, { namesBytes }) },
  ];
  let at = from.path;
  for (const [i, name] of rest.entries()) {
    const child = rest[i + 1];
    at = childPath(at, name);
    const record: NodeRecord = {
      value: child === undefined ? value : NO_VALUE,
      permissions,
      namesBytes: child === undefined ? 0 : child.length + 1,
      generation: author.generation,
      by: author.domid,
    };
    changes.push({ path: at, record });
  }
  edit.apply(changes);
}

function renewed(
  record: NodeRecord,
  author: Author,
  change: Partial<Pick<NodeRecord, "value" | "permissions" | "namesBytes">>,
): NodeRecord {
  return { ...record, ...change, generation: author.generation, by: author.domid };
}
