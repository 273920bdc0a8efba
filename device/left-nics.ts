/**
 * Totals of faults, reports and reset reasons of NICs whose connections have ended, by segment
 * and name. Without them the status would contain only the reset that begins a new connection.
 */
import type { Counts, DeviceStatus, NicStatus } from "../shared/status/device-status.ts";

const MAX_NAMES = 256;
/** Most kinds in one record. Codes are constants of the program, and reports are bounded, too. */
const MAX_KINDS = 256;

interface LeftNic {
  readonly name: string;
  readonly segment: string;
  personality: string;
  connections: number;
  readonly sums: Readonly<Record<Sum, Map<string, number>>>;
}

type Sum = "faults" | "reports" | "resets";

export class LeftNics {
  /** Records in the order in which the NICs left. */
  readonly #byKey = new Map<string, LeftNic>();
  /** Number of names that were removed to make room. */
  #forgotten = 0;

  /** Adds the counters of `last`, the last snapshot of a NIC that left. */
  add(last: NicStatus): void {
    const { name, segment } = last;
    // No name has a slash.
    const key = `${segment}/${name}`;
    const left = this.#byKey.get(key) ?? {
      ...{ name, segment },
      personality: "",
      connections: 0,
      sums: { faults: new Map(), reports: new Map(), resets: new Map() },
    };
    left.personality = last.personality;
    left.connections++;
    addTo(left.sums.faults, last.faults);
    addTo(left.sums.reports, last.reports);
    if (last.nic.personality === "ena") addTo(left.sums.resets, last.nic.resets);
    this.#byKey.delete(key);
    this.#byKey.set(key, left);
    if (this.#byKey.size <= MAX_NAMES) return;
    const oldest = this.#byKey.keys().next().value!;
    this.#byKey.delete(oldest);
    this.#forgotten++;
  }

  snapshot(): DeviceStatus["left"] {
    return {
      forgotten: this.#forgotten,
      nics: [...this.#byKey.values()].map(({ name, segment, personality, connections, sums }) => ({
        name,
        segment,
        personality,
        connections,
        faults: Object.fromEntries(sums.faults),
        reports: Object.fromEntries(sums.reports),
        resets: Object.fromEntries(sums.resets),
      })),
    };
  }
}

function addTo(sums: Map<string, number>, counts: Counts): void {
  for (const [key, n] of Object.entries(counts)) {
    const before = sums.get(key);
    if (before === undefined && sums.size >= MAX_KINDS) continue;
    sums.set(key, (before ?? 0) + n);
  }
}
