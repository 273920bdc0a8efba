/**
 * Transmit credit of one queue: a number of bytes for each period, which add up to a burst.
 *
 *   take(bytes) ── enough ──► taken
 *       '── not enough ──► `due`: when to ask again
 *
 * Source: linux: drivers/net/xen-netback/netback.c, tx_add_credit and tx_credit_exceeded. Unlike
 * Linux, a late call adds the credit of every period that has passed.
 */
import type { Rate } from "./config.ts";

/** Smallest burst in bytes: with any rate, the largest packet must be able to go in the end. */
const MIN_BURST_BYTES = 131072;

export class Credit {
  readonly #now: () => number;
  #rate: Rate | undefined;
  #periodMs = 0;
  #burst = 0;
  #bytes = 0;
  #windowStart = 0;

  constructor(now: () => number) {
    this.#now = now;
  }

  /** Begins with the credit of one period. */
  setRate(rate: Rate | undefined): void {
    this.#rate = rate;
    if (rate === undefined) return;
    this.#periodMs = rate.usec / 1000;
    this.#burst = Math.max(MIN_BURST_BYTES, rate.bytes);
    this.#bytes = rate.bytes;
    this.#windowStart = this.#now();
  }

  /** Takes `bytes` of credit. Returns false and takes nothing when there is less. */
  take(bytes: number): boolean {
    const rate = this.#rate;
    if (rate === undefined) return true;
    if (bytes > this.#bytes) this.#refill(rate);
    if (bytes > this.#bytes) return false;
    this.#bytes -= bytes;
    return true;
  }

  /** Time (ms of the clock) of the next credit. */
  get due(): number {
    return this.#windowStart + this.#periodMs;
  }

  /** Bytes that may be sent now; Infinity without a limit. */
  get bytes(): number {
    return this.#rate === undefined ? Number.POSITIVE_INFINITY : this.#bytes;
  }

  #refill(rate: Rate): void {
    const periods = Math.floor((this.#now() - this.#windowStart) / this.#periodMs);
    if (periods < 1) return;
    this.#windowStart += periods * this.#periodMs;
    this.#bytes = Math.min(this.#bytes + periods * rate.bytes, this.#burst);
  }
}
