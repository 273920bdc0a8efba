/**
 * A private copy of the tree on which one request, or one transaction, works.
 *
 *   base ───────────────► what is compared with the store's tree when a transaction ends
 *     \  apply(changes)
 *      └──► root ───────► what the request sees, and what becomes the store's tree
 *
 * The base is the whole tree as it was when the edit began, held by reference. An edit that is
 * discarded changes nothing.
 */
import { XenstoreError } from "../../../shared/xen/xenstore.ts";
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
} from "./node.ts";
import type { Permissions } from "./permissions.ts";

/** A change that watches must report. */
export interface Happened {
  readonly path: string;
  /** Only watches of exactly this path report it, because the node was removed with a node above it. */
  readonly exact: boolean;
  /** Permissions of a node that was removed; undefined for any other change. */
  readonly gone: Permissions | undefined;
}

/** Limits of one edit. */
export interface EditLimits {
  /** Largest node, in bytes of `recordBytes`. */
  readonly nodeBytes: number;
  /** Most nodes read or changed. */
  readonly nodes: number;
  /** Called before the edit grows to `bytes` in all. Throws ENOMEM to refuse. */
  readonly admit: (bytes: number) => void;
}

/** A node of the base: the one that was read, or the nearest existing ancestor of a missing one. */
interface Pin {
  readonly path: string;
  readonly node: Node;
}

/** Memory charged for each node that an edit has read, besides its path. */
const SEEN_BYTES = 64;

export class Edit {
  readonly base: Node;
  readonly changed = new Map<string, NodeRecord | undefined>();
  readonly #limits: EditLimits;
  /** The records that were read. All must be unchanged when the transaction ends. */
  readonly #read: Map<string, NodeRecord> | undefined;
  /** Each path that was read, with the node of the base that represents it. */
  readonly #seen = new Map<string, Pin>();
  readonly #happened = new Map<string, Happened>();
  #root: Node;
  #bytes = 0;
  /** Work of reading, listing and changing so far, in the unit of debt.ts. */
  work = 0;

  /** `tracked`: remember every record that is read, so that `conflicts` can compare it later. */
  constructor(base: Node, limits: EditLimits, tracked = false) {
    this.base = base;
    this.#root = base;
    this.#limits = limits;
    this.#read = tracked ? new Map() : undefined;
  }

  get root(): Node {
    return this.#root;
  }

  /** Changes for the watches, in the order in which each was first reported. */
  get happened(): Iterable<Happened> {
    return this.#happened.values();
  }

  /** Bytes that this edit holds besides the tree that it began with. */
  get bytes(): number {
    return this.#bytes;
  }

  /** The node, or undefined. Throws ENOSPC when the edit has seen too many nodes. */
  look(path: string): Node | undefined {
    this.#see(path);
    return find(this.#root, path);
  }

  /**
   * Marks a path whose content was shown to the domain: it must be unchanged when the transaction
   * ends. A node that the domain may not see is not pinned. Otherwise the end of the transaction
   * would reveal that the node changed.
   */
  pin(path: string): void {
    if (this.#read === undefined) return;
    const { path: at, node } = this.#seen.get(path)!;
    this.#read.set(at, node.record);
  }

  /** The nearest existing ancestor of `path`, or the node itself when it exists. */
  nearest(path: string): { path: string; node: Node } {
    const found = nearest(this.#root, path);
    this.#see(found.path);
    return found;
  }

  /** Applies all changes or none. Throws ENOSPC (node too large, too many nodes) or ENOMEM. */
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
    this.#root = withChanges(this.#root, changes, this);
  }

  /** Records an event for the watches: one for each path, because an event carries no value. */
  tell(path: string, gone?: Permissions, exact = false): void {
    this.#happened.set(path, { path, gone, exact });
  }

  /** The paths that this edit read or changed and whose record is a different one in `now`. */
  conflicts(now: Node): string[] {
    if (now === this.base) return [];
    const paths: string[] = [];
    const today = new Finder(now);
    for (const [path, record] of this.#read ?? []) {
      if (today.find(path)?.record !== record) paths.push(path);
    }
    return paths;
  }

  /** Throws ENOSPC for a node over the limit. A change that makes a node smaller always passes. */
  #admitRecord(path: string, bytes: number): void {
    if (bytes <= this.#limits.nodeBytes) return;
    const before = find(this.#root, path);
    if (before !== undefined && bytes <= recordBytes(before.record)) return;
    throw new XenstoreError("ENOSPC", `a node of ${bytes} bytes`);
  }

  /**
   * Remembers which node of the base represents `path`. For a missing node that is the nearest
   * existing ancestor: the node can't appear without a change of that ancestor's list of children.
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

  /** Starts at the parent's pin where there is one, so that creating a long branch stays cheap. */
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
