/**
 * The tree, as values that never change. A change creates new nodes from the changed one up to the
 * root, and shares all others. A transaction's private copy of the whole store is therefore one
 * reference, a request that fails half-way leaves nothing behind, and trees are compared by identity.
 *
 *        root                      root'          /a/c changed
 *        /  \                      /   \
 *      /a    /b ◄───── shared ────+    /a'
 *      / \                             / \
 *  /a/b   /a/c            /a/b shared +   /a/c'
 *
 * The record of a node holds its own value, permissions and list of children. A change below the
 * node does not replace its record. So "the same record" is the test whether a node has changed.
 */
import { type Children, NO_CHILDREN } from "./children.ts";
import { Access, type Permissions, PRIVILEGED } from "./permissions.ts";

export interface NodeRecord {
  readonly value: Uint8Array;
  readonly permissions: Permissions;
  /** Bytes of the children's names, each with its terminating NUL. */
  readonly namesBytes: number;
  /** Number of the change that created this record. */
  readonly generation: number;
  /** The domain that created this record. */
  readonly by: number;
}

export interface Node {
  /** The last part of its path; empty for the root. */
  readonly name: string;
  readonly record: NodeRecord;
  readonly children: Children;
}

export const NO_VALUE = new Uint8Array(0);

/** Bytes of a stored node's header and of one permission. Source: xen: tools/xenstored, node_hdr. */
const HEAD_BYTES = 16;
const PERMISSION_BYTES = 8;

/** Size of a record in bytes, as the quota of a node counts it. */
export function recordBytes(record: NodeRecord): number {
  return (
    HEAD_BYTES +
    record.permissions.length * PERMISSION_BYTES +
    record.value.length +
    record.namesBytes
  );
}

/** Bytes that a node adds to its owner's memory: its record and its path. */
export function nodeBytes(path: string, record: NodeRecord): number {
  return recordBytes(record) + path.length;
}

export function emptyTree(): Node {
  const record: NodeRecord = {
    value: NO_VALUE,
    permissions: [{ domid: PRIVILEGED, access: Access.NONE }],
    namesBytes: 0,
    generation: 0,
    by: PRIVILEGED,
  };
  return { name: "", record, children: NO_CHILDREN };
}

/** The names in a path; none for "/". The path is valid: absolute, without empty names. */
function namesOf(path: string): string[] {
  return path === "/" ? [] : path.slice(1).split("/");
}

export function parentOf(path: string): string {
  const slash = path.lastIndexOf("/");
  return slash <= 0 ? "/" : path.slice(0, slash);
}

export function leafOf(path: string): string {
  return path.slice(path.lastIndexOf("/") + 1);
}

export function childPath(path: string, name: string): string {
  return path === "/" ? `/${name}` : `${path}/${name}`;
}

export function find(root: Node, path: string): Node | undefined {
  let node: Node | undefined = root;
  for (const name of namesOf(path)) {
    node = node.children.get(name);
    if (node === undefined) return undefined;
  }
  return node;
}

/** The nearest existing ancestor of `path`: the node itself when it exists, else at least the root. */
export function nearest(root: Node, path: string): { path: string; node: Node } {
  let node = root;
  let at = "/";
  for (const name of namesOf(path)) {
    const child = node.children.get(name);
    if (child === undefined) break;
    node = child;
    at = childPath(at, name);
  }
  return { path: at, node };
}

/** Counts the work of changing a tree, in the unit of debt.ts. */
export interface Work {
  work: number;
}

/** A new record for one node. Undefined removes the node and all nodes below it. */
export interface Change {
  readonly path: string;
  readonly record: NodeRecord | undefined;
}

/** A node under construction: no other code has a reference to it yet, so it may change. */
interface Draft extends Node {
  record: NodeRecord;
  children: Children;
}

/**
 * A tree with all changes applied. Changes of parents come before those of their children. An
 * existing node keeps its children. Each node on the way is made anew once, however many changes lie
 * below it, because one message can create or remove a chain of a thousand nodes.
 */
export function withChanges(root: Node, changes: Iterable<Change>, cost: Work): Node {
  const top: Draft = { ...root };
  const drafts = new Map<string, Draft>([["/", top]]);
  const gone = new Set<string>();
  for (const { path, record } of changes) {
    if (path === "/") {
      if (record !== undefined) top.record = record;
      continue;
    }
    const above = parentOf(path);
    if (record === undefined) {
      const draft = gone.has(above) ? undefined : openDraft(drafts, above, cost);
      if (draft !== undefined) draft.children = draft.children.without(leafOf(path), cost);
      gone.add(path);
      continue;
    }
    const own = drafts.get(path);
    if (own !== undefined) {
      own.record = record;
      continue;
    }
    const parent = openDraft(drafts, above, cost);
    if (parent === undefined) throw new Error(`xenstore: ${path} has nothing above it`);
    const name = leafOf(path);
    const children = parent.children.get(name)?.children ?? NO_CHILDREN;
    parent.children = parent.children.with({ name, record, children }, cost);
  }
  return top;
}

/** The draft of a node. Creates drafts of its ancestors too. Undefined where there is no node. */
function openDraft(drafts: Map<string, Draft>, path: string, cost: Work): Draft | undefined {
  const names: string[] = [];
  let at = path;
  let draft = drafts.get(at);
  while (draft === undefined) {
    names.push(leafOf(at));
    at = parentOf(at);
    draft = drafts.get(at);
  }
  for (let name = names.pop(); name !== undefined; name = names.pop()) {
    const child = draft.children.get(name);
    if (child === undefined) return undefined;
    const own: Draft = { ...child };
    draft.children = draft.children.with(own, cost);
    at = childPath(at, name);
    drafts.set(at, own);
    draft = own;
  }
  return draft;
}

/** Looks up many paths of one tree. It remembers each node, so that a child is found in one step. */
export class Finder {
  readonly #root: Node;
  readonly #known = new Map<string, Node | undefined>();

  constructor(root: Node) {
    this.#root = root;
  }

  find(path: string): Node | undefined {
    const parent = parentOf(path);
    const node =
      path !== "/" && this.#known.has(parent)
        ? this.#known.get(parent)?.children.get(leafOf(path))
        : find(this.#root, path);
    this.#known.set(path, node);
    return node;
  }
}

/**
 * Every node at and below `node`, parents before children. It does not recurse, because guests
 * decide how deep the tree is.
 */
export function* walk(path: string, node: Node): Generator<[path: string, node: Node]> {
  const rest: [string, Node][] = [[path, node]];
  for (let next = rest.pop(); next !== undefined; next = rest.pop()) {
    yield next;
    for (const child of next[1].children) rest.push([childPath(next[0], child.name), child]);
  }
}
