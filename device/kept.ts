/**
 * Completions of transmitted packets that wait for the next message to their driver, over all queues
 * of a NIC: ENA's completions, Xen's responses.
 *
 *   packet completed ──► kept ──► with the next batch, or at a deadline
 *                         '── a driver may be waiting for it ──► at once
 */
import { Limits } from "../shared/wire/protocol.ts";
import type { NicHost } from "./nic.ts";

/** Most packets. The source above a driver may have as few as 256 buffers: the slots of a TAP. */
const MOST_PACKETS = 64;

export class Kept {
  packets = 0;
  /** Bytes that the driver had pushed for these packets. */
  bytes = 0;
  /** True if a packet had to wait for room or for its bytes, so its driver may wait for it. */
  urgent = false;
  readonly #host: Pick<NicHost, "memory" | "pushBytes">;

  constructor(host: Pick<NicHost, "memory" | "pushBytes">) {
    this.#host = host;
  }

  /**
   * True if no driver waits for them. `occupied` of the `size` entries of a ring are not free again
   * yet, as far as the driver knows. It must be far from the end of its ring, of its budget of
   * pushes, even for the longest frame, and of the buffers above.
   */
  mayWait(occupied: number, size: number): boolean {
    if (this.urgent || this.packets >= MOST_PACKETS || occupied > size / 4) return false;
    const { memory, pushBytes } = this.#host;
    const most = Math.min(pushBytes / 4, pushBytes - Limits.PUSH_BYTES_MIN);
    return memory.pushes.bytes + this.bytes <= most;
  }

  /** Called when all were sent, or dropped. */
  clear(): void {
    this.packets = 0;
    this.bytes = 0;
    this.urgent = false;
  }
}
