/**
 * All faults are counted. They are reported at a bounded rate: the first few of a kind in each
 * second, then a summary. So a peer that breaks a rule 100,000 times fills neither log nor link.
 */
import { FaultSeverity, Limits } from "../shared/wire/protocol.ts";

/** Number of reports of one code in a second before the rest is summed up. */
const TOLD_PER_SECOND = 5;

export class FaultLog {
  /** Number of faults, by code. Codes are constants of this program. */
  readonly counts = new Map<string, number>();
  readonly #tell: (severity: FaultSeverity, code: string, text: string) => void;
  readonly #told = new Map<string, { told: number; hushed: number }>();

  constructor(tell: (severity: FaultSeverity, code: string, text: string) => void) {
    this.#tell = tell;
  }

  report(severity: FaultSeverity, code: string, text: string): void {
    this.counts.set(code, (this.counts.get(code) ?? 0) + 1);
    const recent = this.#told.get(code);
    if (recent === undefined) this.#told.set(code, { told: 1, hushed: 0 });
    else if (recent.told < TOLD_PER_SECOND) recent.told++;
    else {
      recent.hushed++;
      return;
    }
    this.#tell(severity, code, text.slice(0, Limits.TEXT_BYTES / 4));
  }

  /** Called once a second. Reports how many faults of each code were left out. */
  tick(): void {
    for (const [code, { hushed }] of this.#told) {
      if (hushed > 0) {
        this.#tell(FaultSeverity.NOTE, code, `${hushed} more of the same in the last second`);
      }
    }
    this.#told.clear();
  }
}
