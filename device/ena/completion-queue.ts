/**
 * An IO completion queue: staged entries, one posted write and at most one interrupt a burst.
 *
 * Nothing is overwritten before the driver has read it, although no driver writes a head doorbell:
 * a completion is outstanding until the submission entry that it answers is posted again. A queue
 * pair has as many completion entries as submission entries (CREATE_SQ insists), and the driver
 * never has more than that many descriptors unanswered, so there is always room.
 */
import type { CompletionRing } from "./memory.ts";
import { NO_VECTOR, type Vectors } from "./notify.ts";

export class CompletionQueue {
  readonly index: number;
  readonly ring: CompletionRing;
  readonly vector: number;
  readonly interrupts: boolean;
  /** The submission queue that reports here: at most one. */
  user: "tx" | "rx" | undefined;
  /** Published in the burst that ends now. */
  fresh = false;
  numaNode = -1;
  /** As last written to the unmask register; units of 1 microsecond. */
  rxDelay = 0;
  txDelay = 0;

  constructor(index: number, ring: CompletionRing, vector: number, interrupts: boolean) {
    this.index = index;
    this.ring = ring;
    this.vector = vector;
    this.interrupts = interrupts && vector !== NO_VECTOR;
  }

  /** Sends what is staged. True when there was something. The interrupt is a step of its own. */
  publish(): boolean {
    return this.ring.publish() > 0;
  }

  notify(vectors: Vectors): void {
    if (this.interrupts) vectors.post(this.vector);
  }
}
