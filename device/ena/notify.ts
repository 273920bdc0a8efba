/**
 * MSI-X vectors. The armed state belongs to the vector, not to a queue. The transmit and receive
 * completion queues of a pair share a vector, and drivers write only the transmit queue's unmask
 * register.
 *
 *   post     armed     -> interrupt, disarmed
 *            disarmed  -> remembered
 *   unmask   remembered -> interrupt, disarmed      (the race: entries posted while masked)
 *            otherwise  -> armed
 *
 * Vector 0 serves the admin and event queues. INTR_MASK masks it in place of an unmask register.
 * Moderation delays are accepted but not timed. Instead each burst causes at most one
 * interrupt for a vector, for any number of frames. No timer runs in the data path.
 */
import type { NicHost } from "../nic.ts";

/** A completion queue without interrupts names this vector. */
export const NO_VECTOR = 0xffff_ffff;

export class Vectors {
  readonly count: number;
  readonly raised: Float64Array;
  readonly armed: Uint8Array;
  readonly pending: Uint8Array;
  readonly #host: NicHost;
  #managementMasked = false;
  #managementPending = false;

  constructor(host: NicHost, count: number) {
    this.#host = host;
    this.count = count;
    this.raised = new Float64Array(count);
    this.armed = new Uint8Array(count);
    this.pending = new Uint8Array(count);
  }

  /** Called after entries were published to a completion queue of this vector. */
  post(vector: number): void {
    if (this.armed[vector] === 1) this.#fire(vector);
    else this.pending[vector] = 1;
  }

  /** Handles the unmask register. A write without the unmask bit keeps the armed state. */
  unmask(vector: number): void {
    if (this.pending[vector] === 1) this.#fire(vector);
    else this.armed[vector] = 1;
  }

  /** Called after an admin completion or an event was written. */
  postManagement(): void {
    if (this.#managementMasked) this.#managementPending = true;
    else this.#raise(0);
  }

  /** Handles INTR_MASK. Unmasking raises a pending interrupt at once, even if the driver polled. */
  maskManagement(masked: boolean): void {
    this.#managementMasked = masked;
    if (masked || !this.#managementPending) return;
    this.#managementPending = false;
    this.#raise(0);
  }

  reset(): void {
    this.armed.fill(0);
    this.pending.fill(0);
    this.#managementMasked = false;
    this.#managementPending = false;
  }

  #fire(vector: number): void {
    this.armed[vector] = 0;
    this.pending[vector] = 0;
    this.#raise(vector);
  }

  #raise(vector: number): void {
    this.raised[vector]!++;
    this.#host.interrupt(vector);
  }
}
