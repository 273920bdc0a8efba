/**
 * A private copy of the tree on which one request, or one transaction, works.
 *
 *   base ───────────────► what is compared with the store's tree when a transaction ends
 *     \  apply(changes)
 *      └──► root ───────► what the request sees, and what becomes the store's tree
 *
 * The base is the whole tree at the moment the edit began, held by reference. An edit that is thrown
 * away has changed nothing.
 */
import { XenstoreError } from "./errors.ts";
import {
  type Change,
  Finder,
  find,
  leafOf,
  type Node,
  type NodeRecord,
  nearest,
  nodeBytes,
  parentOf,
  recordBytes,
  withChanges,
  without,
  withRecord,
} from "./node.ts";
import type { Permissions } from "./permissions.ts";

/** A change to be told to watchers. */
export interface Happened {
  readonly path: string;
  /** Told only to watches of exactly this path: it went with something above it. */
  readonly exact: boolean;
  /** Of a node that was removed: who might read it. */
  readonly gone: Permissions | undefined;
}

/** What one edit may do. */
export interface EditLimits {
  /** Largest node, in bytes of `recordBytes`. */
  readonly nodeBytes: number;
  /** Most nodes read or changed. */
  readonly nodes: number;
  /** Asked before the edit holds `bytes` in all. Throws ENOMEM. */
  readonly admit: (bytes: number) => void;
}

/** A node of the base: the one that was looked at, or the nearest above one that is not there. */
interface Pin {
  readonly path: string;
  readonly node: Node;
}

/** Book-keeping for a node that an edit has looked at. */
const SEEN_BYTES = 64;

export class Edit {
  readonly base: Node;
  readonly changed = new Map<string, NodeRecord | undefined>();
  readonly #limits: EditLimits;
  /** The records that were read, which must be the same ones when a transaction ends. */
  readonly #read: Map<string, NodeRecord> | undefined;
  /** What was looked at, and the node of the base that stands for it. */
  readonly #seen = new Map<string, Pin>();
  readonly #happened = new Map<string, Happened>();
  #root: Node;
  #bytes = 0;
  /** What was looked at, listed, and changed so far, in the unit of debt.ts. */
  work = 0;

  /** With `tracked`, what is read is remembered for `conflicts`. */
  constructor(base: Node, limits: EditLimits, tracked = false) {
    this.base = base;
    this.#root = base;
    this.#limits = limits;
    this.#read = tracked ? new Map() : undefined;
  }

  get root(): Node {
    return this.#root;
  }

  /** In the order in which they were first told. */
  get happened(): Iterable<Happened> {
    return this.#happened.values();
  }

  /** Memory that this edit holds beside the tree it began with. */
  get bytes(): number {
    return this.#bytes;
  }

  /** The node, or undefined. Throws ENOSPC when the edit has seen too many nodes. */
  look(path: string): Node | undefined {
    this.#see(path);
    return find(this.#root, path);
  }

  /**
   * What was looked at and shown: it must be the same when a transaction ends. A node that its
   * domain may not see is not pinned, or the end of the transaction would say that it changed.
   */
  pin(path: string): void {
    if (this.#read === undefined) return;
    const { path: at, node } = this.#seen.get(path)!;
    this.#read.set(at, node.record);
  }

  /** The longest beginning of `path` that exists. */
  nearest(path: string): { path: string; node: Node } {
    const found = nearest(this.#root, path);
    this.#see(found.path);
    return found;
  }

  /** All changes, or none: throws ENOSPC for a node too large or too many nodes, ENOMEM. */
  apply(changes: readonly Change[]): void {
    for (const { path, record } of changes) {
      if (record !== undefined) this.#admitRecord(path, recordBytes(record));
      this.#see(path);
      this.pin(path);
    }
    let bytes = this.#bytes;
    for (const { path, record } of changes) {
      const before = this.changed.get(path);
      if (before !== undefined) bytes -= nodeBytes(path, before);
      if (record !== undefined) bytes += nodeBytes(path, record);
    }
    this.#limits.admit(bytes);
    this.#bytes = bytes;
    for (const { path, record } of changes) {
      this.work += workOf(path);
      this.changed.set(path, record);
    }
    const [only] = changes;
    this.#root =
      changes.length === 1 ? this.#withOne(only!) : withChanges(this.#root, changes, this);
  }

  /** Once a path, however often it changes: the event carries no value. */
  tell(path: string, gone?: Permissions, exact = false): void {
    this.#happened.set(path, { path, gone, exact });
  }

  #withOne({ path, record }: Change): Node {
    const root = this.#root;
    return record === undefined ? without(root, path, this) : withRecord(root, path, record, this);
  }

  /** The paths that were read or changed here and are not what they were in `now`. */
  conflicts(now: Node): string[] {
    if (now === this.base) return [];
    const paths: string[] = [];
    const today = new Finder(now);
    for (const [path, record] of this.#read ?? []) {
      if (today.find(path)?.record !== record) paths.push(path);
    }
    return paths;
  }

  /** What makes a node smaller is never refused. */
  #admitRecord(path: string, bytes: number): void {
    if (bytes <= this.#limits.nodeBytes) return;
    const before = find(this.#root, path);
    if (before !== undefined && bytes <= recordBytes(before.record)) return;
    throw new XenstoreError("ENOSPC", `a node of ${bytes} bytes`);
  }

  /**
   * A node that does not exist is pinned by the nearest one above it that does: it can't appear
   * without changing that one's list of children.
   */
  #see(path: string): void {
    if (this.#seen.has(path)) return;
    this.work += workOf(path);
    if (this.#seen.size >= this.#limits.nodes) {
      throw new XenstoreError("ENOSPC", `more than ${this.#limits.nodes} nodes in one transaction`);
    }
    const bytes = this.#bytes + SEEN_BYTES + path.length;
    this.#limits.admit(bytes);
    this.#seen.set(path, this.#pinOf(path));
    this.#bytes = bytes;
  }

  /** From the parent's where that was seen: a request that makes a branch sees each node of it. */
  #pinOf(path: string): Pin {
    const parent = parentOf(path);
    const above = path === "/" ? undefined : this.#seen.get(parent);
    if (above === undefined) return nearest(this.base, path);
    if (above.path !== parent) return above;
    const node = above.node.children.get(leafOf(path));
    return node === undefined ? above : { path, node };
  }
}

const workOf = (path: string): number => 1 + (path.length >>> 6);
