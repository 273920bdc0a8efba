/**
 * Watches by the path they watch, so that a change costs as many look-ups as its path has parts,
 * however many watches there are.
 *
 * What a watch hears of: a change of its path or of anything below it. What went because a node
 * above it was removed is told to the watches of exactly that path.
 *
 * Source: xen: docs/misc/xenstore.txt, "Watches".
 */
import { domainPath, isSpecialPath, XENSTORE_ABS_PATH_MAX } from "../../../shared/xen/xenstore.ts";
import type { PendingEvent } from "./domain.ts";
import type { Happened } from "./edit.ts";
import { parentOf } from "./node.ts";

/** Called in the device's own process. May use the store. */
export type WatchHandler = (path: string, token: string) => void;

export interface Watch {
  readonly domid: number;
  /** Absolute, or special. */
  readonly path: string;
  readonly token: string;
  /** Its events name paths as it was named: from the domain's own directory on. */
  readonly relative: boolean;
  /** Of a watch of the device's own; a guest's is told by message. */
  readonly handler: WatchHandler | undefined;
  /** Its events that wait, by path. */
  readonly pending: Map<string, PendingEvent>;
}

const WATCH_BYTES = 64;

/** What a watch, or an event that waits, adds to its domain's memory. */
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
