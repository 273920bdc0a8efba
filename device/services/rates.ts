/**
 * Limits of requests a second: for each service, and in it for each port of the segment. A port that
 * floods a service finds its own limit first, so the others still get answers.
 */

/** Time (ms) whose requests may come at once. */
const BURST_MS = 100;
/** A port gets this part of what a service gives. */
const SHARE_OF_PORT = 4;
/** Most ports with a limit of their own: more than a device has. All further ones share one. */
const MAX_PORTS = 2048;

/** A limit. The requests of a tenth of a second may come at once; then each needs its share. */
export class Rate {
  readonly #share: number;
  /** Time (ms) at which all requests have had their share. */
  #paid = 0;

  constructor(perSecond: number) {
    this.#share = 1000 / perSecond;
  }

  /** Counts a request. Returns false, counting nothing, above the limit. */
  take(now: number): boolean {
    const paid = Math.max(this.#paid, now) + this.#share;
    if (paid - now > BURST_MS) return false;
    this.#paid = paid;
    return true;
  }

  /** True if the limit knows of nothing any more. */
  isIdle(now: number): boolean {
    return this.#paid <= now;
  }
}

export const Limit = { NONE: 0, PORT: 1, SERVICE: 2 } as const;
export type Limit = (typeof Limit)[keyof typeof Limit];

/** The limits of one service. */
export class ServiceRates {
  readonly #perPort: number;
  readonly #all: Rate;
  readonly #ports = new Map<string, Rate>();
  /** Time (ms) at which ports without requests were forgotten last. */
  #forgotAt = Number.NEGATIVE_INFINITY;

  constructor(perSecond: number) {
    this.#perPort = perSecond / SHARE_OF_PORT;
    this.#all = new Rate(perSecond);
  }

  /** Counts a request of a port. Returns which limit it is above. */
  take(port: string, now: number): Limit {
    if (!this.#rateOf(port, now).take(now)) return Limit.PORT;
    return this.#all.take(now) ? Limit.NONE : Limit.SERVICE;
  }

  #rateOf(port: string, now: number): Rate {
    const known = this.#ports.get(port);
    if (known !== undefined) return known;
    if (this.#ports.size >= MAX_PORTS && now - this.#forgotAt >= BURST_MS) this.#forget(now);
    const key = this.#ports.size >= MAX_PORTS ? "" : port;
    const rate = this.#ports.get(key) ?? new Rate(this.#perPort);
    this.#ports.set(key, rate);
    return rate;
  }

  #forget(now: number): void {
    this.#forgotAt = now;
    for (const [port, rate] of this.#ports) if (rate.isIdle(now)) this.#ports.delete(port);
  }
}
