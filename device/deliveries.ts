/**
 * Counts the frames that have arrived at a frontend. The frontend reports bytes. For each batch
 * sent, this list holds its bytes and frames, as totals.
 *
 *   sent:      | 1,400 B: 3 frames | 9,000 B: 20 | 17,200 B: 41 |      progress: 9,000 -> 20 arrived
 *
 * When the link ends, frames that did not arrive are lost. A batch that was applied but not
 * reported yet counts as lost. Every batch of the frontend carries a report, and so does its close.
 */

/** Most batches under way. Beyond this number the last two entries are merged. */
const MAX_BATCHES = 4096;
/** Batches for which an idle connection has memory. */
const FIRST_BATCHES = 16;

export class Deliveries {
  #bytes = new Float64Array(FIRST_BATCHES);
  #frames = new Float64Array(FIRST_BATCHES);
  #head = 0;
  #count = 0;
  #last = 0;
  #arrived = 0;

  /** Number of frames that have arrived. */
  get arrived(): number {
    return this.#arrived;
  }

  /** Records a batch that was sent. Bytes and frames are totals since the connection began. */
  sent(bytes: number, frames: number): void {
    if (frames === this.#last) return;
    this.#last = frames;
    if (this.#count === this.#bytes.length && this.#count < MAX_BATCHES) this.#grow();
    if (this.#count < MAX_BATCHES) this.#count++;
    const at = (this.#head + this.#count - 1) % this.#bytes.length;
    this.#bytes[at] = bytes;
    this.#frames[at] = frames;
  }

  /** Records the frontend's report: it has applied `bytes` since the connection began. */
  reported(bytes: number): void {
    while (this.#count > 0 && this.#bytes[this.#head]! <= bytes) {
      this.#arrived = this.#frames[this.#head]!;
      this.#head = (this.#head + 1) % this.#bytes.length;
      this.#count--;
    }
  }

  /** Doubles the room. The ring is full, and begins at index 0 afterwards. */
  #grow(): void {
    const grown = (old: Float64Array): Float64Array<ArrayBuffer> => {
      const larger = new Float64Array(2 * old.length);
      larger.set(old.subarray(this.#head));
      larger.set(old.subarray(0, this.#head), old.length - this.#head);
      return larger;
    };
    this.#bytes = grown(this.#bytes);
    this.#frames = grown(this.#frames);
    this.#head = 0;
  }
}
