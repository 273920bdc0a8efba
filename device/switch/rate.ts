/**
 * A token bucket for the bytes that one port sends. Frames above it are dropped, as policers do.
 *
 * One number describes the bucket: the time at which all accepted bytes have had their share of the
 * rate (storm.ts counts frames in the same way).
 */
const BURST_MS = 100;
/** Least default of the burst: the longest frame. Otherwise a slow port could never send it. */
const MIN_BURST_BYTES = 65_536 + 64;

export class RateLimit {
  readonly #bytesPerMs: number;
  readonly #burstMs: number;
  #paid = 0;

  /** `rate` in bits a second, `burst` in bytes. */
  constructor(rate: number, burst?: number) {
    this.#bytesPerMs = rate / 8000;
    const least = MIN_BURST_BYTES / this.#bytesPerMs;
    this.#burstMs = burst === undefined ? Math.max(BURST_MS, least) : burst / this.#bytesPerMs;
  }

  /** Returns true, and counts the bytes, if the port may send them at `now` (ms). */
  accepts(bytes: number, now: number): boolean {
    const paid = Math.max(this.#paid, now) + bytes / this.#bytesPerMs;
    if (paid - now > this.#burstMs) return false;
    this.#paid = paid;
    return true;
  }
}
