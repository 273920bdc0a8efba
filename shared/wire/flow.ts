/**
 * How much may be under way on a link: the byte queue limit.
 *
 * As the kernel's byte queue limits do for a NIC, it keeps just enough bytes between sender and
 * receiver to keep the link busy: about 20 ms of the rate that it measures, so that on a slow link
 * a heartbeat or a reset never waits long behind data. The receiver reports what it has applied
 * (`progress`), so that bytes in the buffers of sockets and proxies count as under way.
 */

/** Never less: on a link of 10 Mbit/s this is 105 ms of queue. */
const MIN_BYTES = 128 * 1024;
/** Never more: what a receiver may be made to buffer. */
const MAX_BYTES = 8 << 20;
const AIM_MS = 20;
/** A rate is measured over at least this long. */
const WINDOW_MS = 20;
/** The best of so many windows counts: an idle moment does not shrink the limit. */
const WINDOWS = 16;

export class ByteQueueLimit {
  #sent = 0;
  #acknowledged = 0;
  #limit = MIN_BYTES;
  #windowStart = 0;
  #windowBytes = 0;
  readonly #rates = new Float64Array(WINDOWS);
  #next = 0;

  /** Bytes sent since the start. */
  get sentBytes(): number {
    return this.#sent;
  }

  get inFlight(): number {
    return this.#sent - this.#acknowledged;
  }

  get limit(): number {
    return this.#limit;
  }

  /** Measured rate in bytes per millisecond. */
  get rate(): number {
    return Math.max(...this.#rates);
  }

  get open(): boolean {
    return this.#sent - this.#acknowledged < this.#limit;
  }

  sent(bytes: number): void {
    this.#sent += bytes;
  }

  /**
   * The receiver has applied `total` bytes since the start. False when that is impossible: it
   * went backwards or past what was sent.
   */
  acknowledge(total: number, now: number): boolean {
    if (total < this.#acknowledged || total > this.#sent) return false;
    const elapsed = now - this.#windowStart;
    // Bytes of a burst after an idle time would look like a slow link: start over.
    if (elapsed > 10 * WINDOW_MS) {
      this.#windowStart = now;
      this.#windowBytes = 0;
    } else if (elapsed >= WINDOW_MS) {
      this.#rates[this.#next] = this.#windowBytes / elapsed;
      this.#next = (this.#next + 1) % WINDOWS;
      this.#windowStart = now;
      this.#windowBytes = 0;
      this.#limit = Math.min(MAX_BYTES, Math.max(MIN_BYTES, this.rate * AIM_MS));
    }
    this.#windowBytes += total - this.#acknowledged;
    this.#acknowledged = total;
    return true;
  }
}
