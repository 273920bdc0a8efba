/**
 * Watches, indexed by path. A change costs one look-up for each part of its path, however many
 * watches there are.
 *
 * A watch reports changes of its path and of every node below it. When a node disappears because an
 * ancestor was removed, only the watches of exactly that node report it.
 *
 * Source: xen: docs/misc/xenstore.txt, "Watches".
 */
import { domainPath, isSpecialPath, XENSTORE_ABS_PATH_MAX } from "../../../shared/xen/xenstore.ts";
import type { Happened } from "./edit.ts";
import { parentOf } from "./node.ts";
import type { Permissions } from "./permissions.ts";

/** Handler of a watch of the device itself. It may use the store. */
export type WatchHandler = (path: string, token: string) => void;

export interface Watch {
  readonly domid: number;
  /** An absolute path, or the name of a special event. */
  readonly path: string;
  readonly token: string;
  /** The watch was set with a relative path, so its events carry paths relative to the domain's home. */
  readonly relative: boolean;
  /** Given for a watch of the device itself. A guest's watch sends a message instead. */
  readonly handler: WatchHandler | undefined;
  /** Pending events of this watch, by path. */
  readonly pending: Map<string, PendingEvent>;
}

export interface PendingEvent {
  readonly watch: Watch;
  readonly path: string;
  /** Permissions of a node that was removed, as they were at its last removal. */
  gone: Permissions | undefined;
  /** True for the event that confirms a new watch. It is delivered without a permission check. */
  readonly first: boolean;
}

const WATCH_BYTES = 64;

/** Bytes that a watch, or a pending event, adds to its domain's memory. */
export function watchBytes(path: string, token: string): number {
  return WATCH_BYTES + path.length + token.length;
}

/** The path that an event of this watch carries. */
export function eventPath(watch: Watch, path: string): string {
  return watch.relative ? path.slice(domainPath(watch.domid).length + 1) : path;
}

export class WatchTable {
  readonly #byPath = new Map<string, Set<Watch>>();
  /** How many paths of each length are watched: of a long path few beginnings need be looked up. */
  readonly #lengths = new Uint32Array(XENSTORE_ABS_PATH_MAX + 1);

  add(watch: Watch): void {
    const { path } = watch;
    const here = this.#byPath.get(path);
    if (here !== undefined) here.add(watch);
    else {
      this.#byPath.set(path, new Set([watch]));
      this.#lengths[path.length]!++;
    }
  }

  remove(watch: Watch): void {
    const { path } = watch;
    const here = this.#byPath.get(path);
    if (!here?.delete(watch) || here.size > 0) return;
    this.#byPath.delete(path);
    this.#lengths[path.length]!--;
  }

  find(domid: number, path: string, token: string): Watch | undefined {
    for (const watch of this.#byPath.get(path) ?? []) {
      if (watch.domid === domid && watch.token === token) return watch;
    }
    return undefined;
  }

  *matching({ path, exact }: Happened): Generator<Watch> {
    for (let at = path; ; at = parentOf(at)) {
      if (this.#lengths[at.length] !== 0) yield* this.#byPath.get(at) ?? [];
      if (exact || at === "/" || isSpecialPath(at)) return;
    }
  }
}
