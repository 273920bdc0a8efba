/**
 * Counters of ports that have left, by name. Losses before a reconnect therefore stay counted.
 * When a port of the name is attached again, it counts from 0. The totals of a name are the sum of
 * both.
 *
 * The number of names is bounded. Above the bound, the counters of the name that left longest ago
 * and is not back are added to OTHERS. The sums over all ports stay complete.
 */
import type { LeftPortStatus } from "../../shared/status/device-status.ts";
import { PortCounters } from "./counters.ts";

const MAX_NAMES = 256;
/** No port can have this name, because names contain no parentheses. */
const OTHERS = "(others)";

interface Left {
  kind: string;
  /** Number of times that a port of the name left. For OTHERS: the number of names in it. */
  times: number;
  readonly counters: PortCounters;
}

export class LeftPorts {
  /** Entries in the order in which their ports left. */
  readonly #byName = new Map<string, Left>();
  readonly #others: Left = { kind: "", times: 0, counters: new PortCounters() };

  /** Adds the counters of a port. `isBack` tells whether a port of a name is attached now. */
  add(
    { name, kind }: { readonly name: string; readonly kind: string },
    counters: PortCounters,
    isBack: (name: string) => boolean,
  ): void {
    const left = this.#byName.get(name) ?? { kind, times: 0, counters: new PortCounters() };
    left.kind = kind;
    left.times++;
    left.counters.add(counters);
    this.#byName.delete(name);
    this.#byName.set(name, left);
    if (this.#byName.size <= MAX_NAMES) return;
    const names = [...this.#byName.keys()];
    const folded = names.find((candidate) => !isBack(candidate)) ?? names[0]!;
    this.#others.times++;
    this.#others.counters.add(this.#byName.get(folded)!.counters);
    this.#byName.delete(folded);
  }

  snapshot(): LeftPortStatus[] {
    const all = [...this.#byName];
    if (this.#others.times > 0) all.push([OTHERS, this.#others]);
    return all.map(([name, { kind, times, counters }]) => ({
      name,
      kind,
      times,
      ...counters.snapshot(),
    }));
  }
}
