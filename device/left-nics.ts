/**
 * Totals of faults, reports and reset reasons of NICs whose connections have ended, by name.
 * Without them the status would contain only the reset that begins a new connection.
 */
import type { Counts, DeviceStatus, NicStatus } from "../shared/status/device-status.ts";

const MAX_NAMES = 256;
/** Most kinds in one record. Codes are constants of the program, and reports are bounded, too. */
const MAX_KINDS = 256;

interface LeftNic {
  personality: string;
  connections: number;
  readonly sums: Readonly<Record<Sum, Map<string, number>>>;
}

type Sum = "faults" | "reports" | "resets";

export class LeftNics {
  /** Records in the order in which the NICs left. */
  readonly #byName = new Map<string, LeftNic>();
  /** Number of names that were removed to make room. */
  #forgotten = 0;

  /** Adds the counters of `last`, the last snapshot of a NIC that left. */
  add(last: NicStatus): void {
    const { name } = last;
    const left = this.#byName.get(name) ?? {
      personality: "",
      connections: 0,
      sums: { faults: new Map(), reports: new Map(), resets: new Map() },
    };
    left.personality = last.personality;
    left.connections++;
    addTo(left.sums.faults, last.faults);
    addTo(left.sums.reports, last.reports);
    if (last.nic.personality === "ena") addTo(left.sums.resets, last.nic.resets);
    this.#byName.delete(name);
    this.#byName.set(name, left);
    if (this.#byName.size <= MAX_NAMES) return;
    const oldest = this.#byName.keys().next().value!;
    this.#byName.delete(oldest);
    this.#forgotten++;
  }

  snapshot(): DeviceStatus["left"] {
    return {
      forgotten: this.#forgotten,
      nics: [...this.#byName].map(([name, { personality, connections, sums }]) => ({
        name,
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
