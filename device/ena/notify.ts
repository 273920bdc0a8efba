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
 *
 * Each burst causes at most one interrupt for a vector, for any number of frames. The delays of the
 * unmask register moderate further: completions of that direction wait, with their interrupt, for
 * the next message to the driver, at most for the delay. The deadline is the link's, in whole
 * milliseconds as its timers are. A shorter delay is none. After a reset there is none either.
 */
import { intrReg } from "../../shared/ena/io.ts";
import type { NicHost } from "../nic.ts";
import type { CompletionQueue } from "./completion-queue.ts";

/** Unit of the moderation delays, in microseconds. GET_FEATURE answers it. */
export const INTR_RESOLUTION_US = 1;
/** A completion queue without interrupts names this vector. */
export const NO_VECTOR = 0xffff_ffff;

export class Vectors {
  readonly count: number;
  readonly raised: Float64Array;
  readonly armed: Uint8Array;
  readonly pending: Uint8Array;
  /** 1 for each vector whose completion queues have new entries in the burst that ends now. */
  readonly due: Uint8Array;
  /** Moderation delays in steps of INTR_RESOLUTION_US. */
  readonly rxDelay: Uint16Array;
  readonly txDelay: Uint16Array;
  readonly #host: NicHost;
  #managementMasked = false;
  #managementPending = false;

  constructor(host: NicHost, count: number) {
    this.#host = host;
    this.count = count;
    this.raised = new Float64Array(count);
    this.armed = new Uint8Array(count);
    this.pending = new Uint8Array(count);
    this.due = new Uint8Array(count);
    this.rxDelay = new Uint16Array(count);
    this.txDelay = new Uint16Array(count);
  }

  /** Called after entries were published to completion queues of the vectors in `due`. */
  postDue(): void {
    for (let vector = 0; vector < this.count; vector++) {
      if (this.due[vector] === 0) continue;
      this.due[vector] = 0;
      if (this.armed[vector] === 1) this.#fire(vector);
      else this.pending[vector] = 1;
    }
  }

  /** Handles the unmask register. A write without the unmask bit keeps the armed state. */
  control(vector: number, value: number): void {
    if (intrReg.keepsModeration(value) === 0) {
      this.rxDelay[vector] = intrReg.rxDelay(value);
      this.txDelay[vector] = intrReg.txDelay(value);
    }
    if (intrReg.unmask(value) === 0) return;
    if (this.pending[vector] === 1) this.#fire(vector);
    else this.armed[vector] = 1;
  }

  /** Returns the time (ms) for which completions of the queue may wait for company. */
  delayMs({ interrupts, vector, user }: CompletionQueue): number {
    if (!interrupts || user === undefined) return 0;
    const us = (user === "tx" ? this.txDelay : this.rxDelay)[vector]! * INTR_RESOLUTION_US;
    return Math.floor(us / 1000);
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
    this.rxDelay.fill(0);
    this.txDelay.fill(0);
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
