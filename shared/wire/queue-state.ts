/**
 * A NIC's queues at one moment, as both its driver and its device know them: for whoever begins to
 * look at a link in the middle of its life. What the wire has carried so far counts, and nothing
 * that is still to be sent.
 *
 * Plain values. `bytes` and `page` are views, good until the next step of the NIC.
 */

import type { GrantVersion } from "./transactions.ts";

/** Live entries of a grant table: packed records, as `grant` and `grant_use` carry them. */
export interface GrantState {
  readonly version: GrantVersion;
  /** Entries that are not 0. */
  readonly records: Uint8Array;
  /** Entries in use. */
  readonly uses: Uint8Array;
}

/** A ring of ENA entries; who writes it is at `head`. */
export interface EnaRing {
  /** Bus address; of a low latency queue, offset in BAR 2. */
  readonly address: number;
  readonly depth: number;
  readonly entryBytes: number;
  /** Entries written since the ring was made, modulo 2^16. */
  readonly head: number;
}

/** A ring that the device writes, with its whole memory. */
export interface EnaWrittenRing extends EnaRing {
  readonly bytes: Uint8Array;
}

/** A request that is not completed. */
export interface EnaRequest {
  readonly reqId: number;
  /** Bus address and bytes of its buffer; 0 and 0 when its owner has not kept them. */
  readonly address: number;
  readonly length: number;
}

export interface EnaCompletionQueue {
  readonly index: number;
  readonly vector: number;
  readonly ring: EnaWrittenRing;
  /** Offset in BAR 0 of its interrupt register, and of its NUMA register or 0. */
  readonly unmask: number;
  readonly numa: number;
}

export interface EnaSubmissionQueue {
  /** SqDirection. */
  readonly direction: number;
  readonly index: number;
  /** Of its completion queue. */
  readonly cqIndex: number;
  /** The ring lies in BAR 2. */
  readonly inDevice: boolean;
  readonly ring: EnaRing;
  /** Offset in BAR 0. */
  readonly doorbell: number;
  /** In the order of their posting. */
  readonly outstanding: readonly EnaRequest[];
}

export interface EnaQueueState {
  readonly personality: "ena";
  readonly commands: EnaRing;
  readonly completions: EnaWrittenRing;
  readonly events: EnaWrittenRing;
  /** Admin commands without a completion, each a whole entry. */
  readonly waiting: readonly Uint8Array[];
  /** The shape of LLQ entries that the driver chose. */
  readonly llq: { readonly entryBytes: number; readonly descsBeforeHeader: number } | undefined;
  readonly completionQueues: readonly EnaCompletionQueue[];
  readonly submissionQueues: readonly EnaSubmissionQueue[];
}

/** A shared ring: its grant, and the page of 4096 bytes with its indexes. */
export interface XenRingState {
  readonly reference: number;
  readonly address: number;
  readonly page: Uint8Array;
}

export interface XenQueueState {
  readonly personality: "xen";
  /** Ports are the guest's; equal ones are one channel. */
  readonly queues: readonly {
    readonly tx: XenRingState;
    readonly rx: XenRingState;
    readonly txPort: number;
    readonly rxPort: number;
  }[];
  readonly control: { readonly ring: XenRingState; readonly port: number } | undefined;
}

export type QueueState = EnaQueueState | XenQueueState;
