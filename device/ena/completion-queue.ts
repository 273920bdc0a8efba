/**
 * An IO completion queue: staged entries, one posted write and at most one interrupt per burst.
 *
 * No entry is overwritten before the driver has read it, although no driver writes a head doorbell.
 * A completion is outstanding until the driver posts the submission entry that it answers again. A
 * queue pair has as many completion entries as submission entries (CREATE_SQ enforces this). The
 * driver never has more descriptors unanswered, so there is always room.
 */
import type { QueueId } from "../../shared/net/frame.ts";
import type { CompletionRing } from "./memory.ts";
import { NO_VECTOR } from "./notify.ts";

export class CompletionQueue {
  readonly index: QueueId;
  readonly ring: CompletionRing;
  readonly vector: number;
  readonly interrupts: boolean;
  /** The submission queue that completes here. There is at most one. */
  user: "tx" | "rx" | undefined;

  constructor(index: QueueId, ring: CompletionRing, vector: number, interrupts: boolean) {
    this.index = index;
    this.ring = ring;
    this.vector = vector;
    this.interrupts = interrupts && vector !== NO_VECTOR;
  }
}
