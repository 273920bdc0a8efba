/** The common part of transmit and receive queues: a descriptor ring, and its completion queue. */
import type { QueueId } from "../../shared/net/frame.ts";
import { FaultSeverity } from "../../shared/wire/protocol.ts";
import type { CompletionQueue } from "./completion-queue.ts";
import type { EnaContext } from "./context.ts";
import type { DescriptorRing } from "./memory.ts";

export class SubmissionQueue {
  readonly index: QueueId;
  readonly ring: DescriptorRing;
  readonly cq: CompletionQueue;
  packets = 0;
  bytes = 0;
  /** Code of the fault that stopped the queue, or "destroyed"; empty while it runs. */
  stopped = "";
  protected readonly context: EnaContext;
  readonly #kind: "tx" | "rx";

  constructor(kind: "tx" | "rx", context: EnaContext, ring: DescriptorRing, cq: CompletionQueue) {
    this.#kind = kind;
    this.context = context;
    this.index = cq.index;
    this.ring = ring;
    this.cq = cq;
    cq.user = kind;
  }

  doorbell(value: number): void {
    if (this.stopped !== "") return;
    const error = this.ring.announce(value);
    if (error === undefined) return;
    const { cursor, depth } = this.ring;
    this.stop(
      `${this.#kind.toUpperCase()}_DOORBELL_${error}`,
      `doorbell ${value}, head ${cursor.head}, depth ${depth}`,
    );
  }

  /** Stops the queue after a fault, until it is destroyed or the device is reset. */
  stop(code: string, text: string): void {
    this.stopped = code;
    this.context.fault(FaultSeverity.QUEUE, code, `${this.#kind} queue ${this.index}: ${text}`);
  }

  /** Closes the queue for destroy or reset. */
  close(): void {
    if (this.stopped === "") this.stopped = "destroyed";
    this.ring.close();
  }
}
