/**
 * Counts refused device accesses by name, and reports them to the device and the log at a bounded
 * rate.
 *
 * A hostile device can cause a refusal for every few bytes that it sends, so the cost of reports is
 * bounded. In each second the first ten refusals of a name are reported one by one. The rest are
 * reported as one summary when the second is over.
 */
import type { Logger } from "../../shared/log.ts";
import { FaultSeverity } from "../../shared/wire/protocol.ts";
import type { DeviceLink } from "./device-link.ts";

/** Number of refused accesses by reason. The driver causes `unload_busy`, see DmaMap.busy. */
export class FaultCounters {
  unmapped = 0;
  stale_generation = 0;
  direction = 0;
  range = 0;
  space = 0;
  unload_busy = 0;
  grant = 0;
}
export type DmaFault = keyof FaultCounters;

/** Returns the code in the `fault` transaction: DMA_UNMAPPED and so on. */
const faultCode = (name: DmaFault): string => `DMA_${name.toUpperCase()}`;

const PER_SECOND = 10;
const SECOND_MS = 1000;

/** Reports of one name in the current second. */
interface Told {
  since: number;
  count: number;
  withheld: number;
}

export class FaultReporter {
  readonly counters = new FaultCounters();
  /** The names with a report in the current second, or with reports withheld since an earlier one. */
  readonly #told = new Map<DmaFault, Told>();
  readonly #log: Logger;
  readonly #now: () => number;
  link: DeviceLink | undefined;

  constructor(log: Logger, now: () => number) {
    this.#log = log;
    this.#now = now;
  }

  /** Counts a refusal without a report. */
  count(name: DmaFault): void {
    this.counters[name]++;
  }

  /** Counts a refusal. Reports it unless PER_SECOND of this name were reported in this second. */
  report(name: DmaFault, space: number, address: number, what: string, length: number): void {
    this.counters[name]++;
    const now = this.#now();
    let told = this.#told.get(name);
    if (told === undefined || now - told.since >= SECOND_MS) {
      if (told !== undefined) this.#summarise(name, told);
      told = { since: now, count: 0, withheld: 0 };
      this.#told.set(name, told);
    }
    if (told.count === PER_SECOND) {
      told.withheld++;
      return;
    }
    told.count++;
    this.#say(name, `${what}, ${length} bytes at ${hex(address)}: ${name}`, space, address);
  }

  /** Reports the summaries that are due. Call it about once a second. */
  tick(): void {
    const now = this.#now();
    for (const [name, told] of this.#told) {
      if (now - told.since < SECOND_MS) continue;
      this.#summarise(name, told);
      this.#told.delete(name);
    }
  }

  #summarise(name: DmaFault, { withheld }: Told): void {
    if (withheld > 0) this.#say(name, `${withheld} more accesses refused: ${name}`, 0, 0);
  }

  #say(name: DmaFault, text: string, space: number, address: number): void {
    this.#log.warn({ fault: faultCode(name), space, address: hex(address) }, text);
    // A peer can use addresses that do not fit into a `fault`.
    const told = Number.isSafeInteger(address) && address >= 0 ? address : 0;
    this.link?.fault(FaultSeverity.NOTE, faultCode(name), text, space, told);
  }
}

const hex = (address: number): string =>
  Number.isSafeInteger(address) ? `0x${address.toString(16)}` : String(address);
