/**
 * What ports counted that have left, by name, so that nothing lost before a reconnect is without a
 * counter. A name that comes back goes on in its live port; both together are the name's totals.
 *
 * The number of names is bounded. Beyond it the name that left longest ago, and is not back, joins
 * the totals under OTHERS: the sums over all ports stay whole.
 */
import type { LeftPortStatus } from "../../shared/status/device-status.ts";
import { PortCounters } from "./counters.ts";

const MAX_NAMES = 256;
/** No port is called so: names hold no parentheses. */
const OTHERS = "(others)";

interface Left {
  kind: string;
  /** Times that a port of the name left; of OTHERS, the names in it. */
  times: number;
  readonly counters: PortCounters;
}

export class LeftPorts {
  /** In the order in which they left. */
  readonly #byName = new Map<string, Left>();
  #others: Left | undefined;

  /** `isBack`: whether a port of a name is plugged in now. */
  add(
    port: { readonly name: string; readonly kind: string },
    counters: PortCounters,
    isBack: (name: string) => boolean,
  ): void {
    const { name, kind } = port;
    const known = this.#byName.get(name);
    const left = known ?? { kind, times: 0, counters: new PortCounters() };
    left.kind = kind;
    left.times++;
    left.counters.add(counters);
    this.#byName.delete(name);
    this.#byName.set(name, left);
    if (this.#byName.size > MAX_NAMES) this.#fold(isBack);
  }

  #fold(isBack: (name: string) => boolean): void {
    const names = [...this.#byName.keys()];
    const name = names.find((candidate) => !isBack(candidate)) ?? names[0]!;
    const { counters } = this.#byName.get(name)!;
    this.#byName.delete(name);
    this.#others ??= { kind: "", times: 0, counters: new PortCounters() };
    this.#others.times++;
    this.#others.counters.add(counters);
  }

  snapshot(): LeftPortStatus[] {
    const all = [...this.#byName];
    if (this.#others !== undefined) all.push([OTHERS, this.#others]);
    return all.map(([name, { kind, times, counters }]) => ({
      name,
      kind,
      times,
      ...counters.snapshot(),
    }));
  }
}
