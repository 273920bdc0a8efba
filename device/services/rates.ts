/**
 * Limits of requests a second: for each service, and in it for each port of the segment. A port that
 * floods a service finds its own limit first, so the others still get answers.
 */
import { TokenBucket } from "../../shared/token-bucket.ts";

/** Time (ms) whose requests may come at once. */
const BURST_MS = 100;
/** A port gets this part of what a service gives. */
const SHARE_OF_PORT = 4;
/** Most ports with a limit of their own: more than a device has. All further ones share one. */
const MAX_PORTS = 2048;

/** The requests of a tenth of a second may come at once; then each needs its share. */
const bucketOf = (perSecond: number): TokenBucket => new TokenBucket(1000 / perSecond, BURST_MS);

export const Limit = { NONE: 0, PORT: 1, SERVICE: 2 } as const;
export type Limit = (typeof Limit)[keyof typeof Limit];

/** The limits of one service. */
export class ServiceRates {
  readonly #perPort: number;
  readonly #all: TokenBucket;
  readonly #ports = new Map<string, TokenBucket>();
  /** Time (ms) at which ports without requests were forgotten last. */
  #forgotAt = Number.NEGATIVE_INFINITY;

  constructor(perSecond: number) {
    this.#perPort = perSecond / SHARE_OF_PORT;
    this.#all = bucketOf(perSecond);
  }

  /** Counts a request of a port. Returns which limit it is above. */
  take(port: string, now: number): Limit {
    if (!this.#rateOf(port, now).take(1, now)) return Limit.PORT;
    return this.#all.take(1, now) ? Limit.NONE : Limit.SERVICE;
  }

  #rateOf(port: string, now: number): TokenBucket {
    const known = this.#ports.get(port);
    if (known !== undefined) return known;
    if (this.#ports.size >= MAX_PORTS && now - this.#forgotAt >= BURST_MS) this.#forget(now);
    const key = this.#ports.size >= MAX_PORTS ? "" : port;
    const rate = this.#ports.get(key) ?? bucketOf(this.#perPort);
    this.#ports.set(key, rate);
    return rate;
  }

  #forget(now: number): void {
    this.#forgotAt = now;
    for (const [port, rate] of this.#ports) if (rate.isFull(now)) this.#ports.delete(port);
  }
}
