/**
 * How many of the frames that went to a frontend it has: it reports bytes, and each batch that was
 * sent stands here with the frames given to the NIC until then.
 *
 *   sent:      | 1,400 B: 3 frames | 9,000 B: 20 | 17,200 B: 41 |      progress: 9,000 -> 20 arrived
 *
 * When the link ends, what did not arrive is lost with it. A batch that was applied and not reported
 * yet counts as lost: a report rides with every batch of the frontend, and with its close.
 */

/** Batches under way; beyond it the last two become one. */
const MAX_BATCHES = 4096;

export class Deliveries {
  readonly #bytes = new Float64Array(MAX_BATCHES);
  readonly #frames = new Float64Array(MAX_BATCHES);
  #head = 0;
  #count = 0;
  #last = 0;
  #arrived = 0;

  /** Frames that have arrived. */
  get arrived(): number {
    return this.#arrived;
  }

  /** A batch left: bytes and frames are totals since the connection began. */
  sent(bytes: number, frames: number): void {
    if (frames === this.#last) return;
    this.#last = frames;
    if (this.#count < MAX_BATCHES) this.#count++;
    const at = (this.#head + this.#count - 1) % MAX_BATCHES;
    this.#bytes[at] = bytes;
    this.#frames[at] = frames;
  }

  /** The frontend has applied so many bytes since the connection began. */
  reported(bytes: number): void {
    while (this.#count > 0 && this.#bytes[this.#head]! <= bytes) {
      this.#arrived = this.#frames[this.#head]!;
      this.#head = (this.#head + 1) % MAX_BATCHES;
      this.#count--;
    }
  }
}
