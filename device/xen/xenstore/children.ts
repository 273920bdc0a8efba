/**
 * The children of a node, sorted by name, as a value that never changes.
 *
 *   before      [ a ab b ] [ ba c  ] [ d e f ]      runs, each sorted and none empty
 *   after           │      [ ba c' ]     │          a change of c copies its run,
 *                   └──── shared ────────┘          and the list of runs
 *
 * The directories of all domains and of all backends have a child for each NIC, and each change of
 * a NIC's keys replaces a child of both. The part that a change copies is small beside them.
 *
 * Guests choose names. In a hash table they could choose names that collide. A search in sorted
 * names costs the same whatever the names are.
 */
import type { Node, Work } from "./node.ts";

/** Most children in a run. A run that grows beyond is split. */
const RUN = 64;
/** References that are copied in one unit of work (debt.ts). */
const COPIED_PER_UNIT = 512;

type Run = readonly Node[];

export class Children {
  readonly size: number;
  readonly #runs: readonly Run[];

  constructor(runs: readonly Run[] = [], size = 0) {
    this.#runs = runs;
    this.size = size;
  }

  get(name: string): Node | undefined {
    const run = this.#runs[this.#runOf(name)];
    const child = run?.[placeIn(run, name)];
    return child?.name === name ? child : undefined;
  }

  /** Sorted by name, in the order of the codes of characters. */
  *[Symbol.iterator](): Generator<Node> {
    for (const run of this.#runs) yield* run;
  }

  *names(): Generator<string> {
    for (const { name } of this) yield name;
  }

  /** These children with `child` among them, in place of the one of its name. */
  with(child: Node, cost: Work): Children {
    const at = this.#runOf(child.name);
    const run = this.#runs[at]?.slice() ?? [];
    const i = placeIn(run, child.name);
    const before = run[i]?.name === child.name ? 1 : 0;
    run.splice(i, before, child);
    return this.#replaced(at, run, 1 - before, cost);
  }

  /** These children without the one of this name. */
  without(name: string, cost: Work): Children {
    const at = this.#runOf(name);
    const run = this.#runs[at]?.slice() ?? [];
    const i = placeIn(run, name);
    if (run[i]?.name !== name) return this;
    run.splice(i, 1);
    return this.#replaced(at, run, -1, cost);
  }

  #replaced(at: number, run: Run, more: number, cost: Work): Children {
    const runs = this.#runs.slice();
    cost.work += Math.floor((runs.length + run.length) / COPIED_PER_UNIT);
    if (run.length > RUN) runs.splice(at, 1, run.slice(0, RUN / 2), run.slice(RUN / 2));
    else if (run.length > 0) runs[at] = run;
    else runs.splice(at, 1);
    return new Children(runs, this.size + more);
  }

  /** The first run whose last name is not before `name`, else the last run. */
  #runOf(name: string): number {
    let from = 0;
    let to = this.#runs.length - 1;
    while (from < to) {
      const middle = (from + to) >>> 1;
      if (this.#runs[middle]!.at(-1)!.name < name) from = middle + 1;
      else to = middle;
    }
    return from;
  }
}

export const NO_CHILDREN = new Children();

/** Index of the first child in the run whose name is not before `name`. */
function placeIn(run: Run, name: string): number {
  let from = 0;
  let to = run.length;
  while (from < to) {
    const middle = (from + to) >>> 1;
    if (run[middle]!.name < name) from = middle + 1;
    else to = middle;
  }
  return from;
}
