/**
 * Faults are counted always and told at a bounded rate: the first few of a kind in each second,
 * then a summary. A peer that breaks a rule a hundred thousand times fills neither log nor link.
 */
import { FaultSeverity, Limits } from "../shared/wire/transactions.ts";

/** Reports of one code in a second before the rest is summed up. */
const TOLD_PER_SECOND = 5;
/** Kinds kept; a code is a constant of ours, so this is only a belt to the braces. */
const MAX_CODES = 256;

export class FaultLog {
  readonly counts = new Map<string, number>();
  readonly #tell: (severity: FaultSeverity, code: string, text: string) => void;
  readonly #told = new Map<string, { told: number; hushed: number }>();

  constructor(tell: (severity: FaultSeverity, code: string, text: string) => void) {
    this.#tell = tell;
  }

  report(severity: FaultSeverity, code: string, text: string): void {
    const n = this.counts.get(code);
    if (n === undefined && this.counts.size >= MAX_CODES) return;
    this.counts.set(code, (n ?? 0) + 1);
    const recent = this.#told.get(code);
    if (recent === undefined) this.#told.set(code, { told: 1, hushed: 0 });
    else if (recent.told < TOLD_PER_SECOND) recent.told++;
    else {
      recent.hushed++;
      return;
    }
    this.#tell(severity, code, text.slice(0, Limits.TEXT_BYTES / 4));
  }

  /** Once a second: sums up what was hushed. */
  tick(): void {
    for (const [code, { hushed }] of this.#told) {
      if (hushed > 0) {
        this.#tell(FaultSeverity.NOTE, code, `${hushed} more of the same in the last second`);
      }
    }
    this.#told.clear();
  }
}
