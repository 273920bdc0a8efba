/**
 * What NICs counted whose connections have ended, by name: faults, reports and reset reasons. The
 * reset that begins a new connection would otherwise be the only one that status knows of.
 */
import type { Counts, DeviceStatus, NicStatus } from "../shared/status/device-status.ts";

const MAX_NAMES = 256;
/** Kinds of one record; codes are constants of the program, reports are bounded where they come in. */
const MAX_KINDS = 256;

interface LeftNic {
  personality: string;
  connections: number;
  readonly sums: Readonly<Record<Sum, Map<string, number>>>;
}

type Sum = "faults" | "reports" | "resets";

export class LeftNics {
  /** In the order in which they left. */
  readonly #byName = new Map<string, LeftNic>();
  /** Names that were forgotten to make room. */
  #forgotten = 0;

  /** `last` is the NIC's snapshot before it is gone. */
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
