/**
 * The byte queue limit: how many bytes may be under way on a link.
 *
 * The limit works as the kernel's byte queue limits do for a NIC. It allows just enough bytes to
 * keep the link busy: about 20 ms of the measured rate. So a heartbeat or a reset never waits long
 * behind data, even on a slow link. The receiver reports the bytes that it has applied
 * (`progress`), so bytes in the buffers of sockets and proxies count as under way.
 */

/** Lower bound of the limit. On a link of 10 Mbit/s this is 105 ms of queue. */
const MIN_BYTES = 128 * 1024;
/** Upper bound of the limit, which is also the most that a receiver must buffer. */
const MAX_BYTES = 8 << 20;
const AIM_MS = 20;
/** Least time (ms) over which a rate is measured. */
const WINDOW_MS = 20;
/** Number of measurements kept. The highest rate counts, so a short pause keeps the limit. */
const WINDOWS = 16;

export class ByteQueueLimit {
  /** Bytes sent since the start. */
  sentBytes = 0;
  limit = MIN_BYTES;
  #acknowledged = 0;
  #windowStart = 0;
  #windowBytes = 0;
  readonly #rates = new Float64Array(WINDOWS);
  #next = 0;

  get inFlight(): number {
    return this.sentBytes - this.#acknowledged;
  }

  /** Measured rate in bytes per millisecond. */
  get rate(): number {
    let highest = 0;
    for (let i = 0; i < WINDOWS; i++) highest = Math.max(highest, this.#rates[i]!);
    return highest;
  }

  get open(): boolean {
    return this.inFlight < this.limit;
  }

  sent(bytes: number): void {
    this.sentBytes += bytes;
  }

  /**
   * Notes the receiver's report that it has applied `total` bytes since the start. Returns false
   * for an impossible report: below the previous one, or above the bytes sent.
   */
  acknowledge(total: number, now: number): boolean {
    if (total < this.#acknowledged || total > this.sentBytes) return false;
    const elapsed = now - this.#windowStart;
    // After an idle time a burst would look like a slow link, so the measurement starts again.
    if (elapsed > 10 * WINDOW_MS) {
      this.#windowStart = now;
      this.#windowBytes = 0;
    } else if (elapsed >= WINDOW_MS) {
      this.#rates[this.#next] = this.#windowBytes / elapsed;
      this.#next = (this.#next + 1) % WINDOWS;
      this.#windowStart = now;
      this.#windowBytes = 0;
      this.limit = Math.min(MAX_BYTES, Math.max(MIN_BYTES, this.rate * AIM_MS));
    }
    this.#windowBytes += total - this.#acknowledged;
    this.#acknowledged = total;
    return true;
  }
}
