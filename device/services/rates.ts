/**
 * Limits of answers a second: for each kind of service, and for each port of the segment. A port
 * that floods one service finds its own limit first, so others still get answers.
 */

/** A limit. The answers of one second may come at once; then each needs its share of a second. */
export class Rate {
  readonly #share: number;
  /** Time (ms) at which all answers have had their share. */
  #paid = 0;

  constructor(perSecond: number) {
    this.#share = 1000 / perSecond;
  }

  /** Counts an answer. Returns false, counting nothing, above the limit. */
  take(now: number): boolean {
    const paid = Math.max(this.#paid, now) + this.#share;
    if (paid - now > 1000) return false;
    this.#paid = paid;
    return true;
  }

  /** True if the limit knows of nothing any more. */
  isIdle(now: number): boolean {
    return this.#paid <= now;
  }
}

/** Most ports with a limit of their own: more than a device has. All further ones share one. */
const MAX_PORTS = 2048;

/** One limit for each port. */
export class PortRates {
  readonly #perSecond: number;
  readonly #rates = new Map<string, Rate>();

  constructor(perSecond: number) {
    this.#perSecond = perSecond;
  }

  take(port: string, now: number): boolean {
    let rate = this.#rates.get(port);
    if (rate === undefined) {
      if (this.#rates.size >= MAX_PORTS) this.#forget(now);
      const key = this.#rates.size >= MAX_PORTS ? "" : port;
      rate = this.#rates.get(key) ?? new Rate(this.#perSecond);
      this.#rates.set(key, rate);
    }
    return rate.take(now);
  }

  #forget(now: number): void {
    for (const [port, rate] of this.#rates) if (rate.isIdle(now)) this.#rates.delete(port);
  }
}
