/**
 * Frames that wait for receive requests: bytes in one circular arena, facts in a ring of entries.
 *
 *   arena  | newest ... |  free  | oldest ...   |     a frame may go round the end
 *
 * The queue is bounded in bytes, so that a guest that does not read costs a limited amount of memory
 * (XSA-392). Beyond the bytes of a burst it is also bounded in time. Linux stops the device's queue
 * at its bound, and the queueing discipline in front of it holds further packets. A switch has no
 * such queue, so this one serves both purposes. The arena is allocated for the first frame that
 * waits, and each entry when it is first needed.
 */
import { type Frame, Gso } from "../../../shared/net/frame.ts";

/** Bound of a slow guest's queue, as in linux: drivers/net/xen-netback: half a ring of pages. */
export const FIFO_LOW_BYTES = 512 * 1024;
/** Most bytes that wait. Together with the ring it holds what one TCP sender may have in flight. */
export const FIFO_BYTES = 4 << 20;
/** Above FIFO_LOW_BYTES, a frame is accepted only while the oldest has waited less than this (ms). */
export const FIFO_BURST_MS = 50;
const MAX_FRAMES = 8192;

/** The facts of a frame that wait with it. */
type Facts = Pick<
  Frame,
  | "needsCsum"
  | "csumStart"
  | "csumOffset"
  | "csumValid"
  | "gso"
  | "gsoEcn"
  | "gsoSize"
  | "headerLength"
  | "id"
>;

function copyFacts(from: Facts, to: Facts): void {
  to.needsCsum = from.needsCsum;
  to.csumStart = from.csumStart;
  to.csumOffset = from.csumOffset;
  to.csumValid = from.csumValid;
  to.gso = from.gso;
  to.gsoEcn = from.gsoEcn;
  to.gsoSize = from.gsoSize;
  to.headerLength = from.headerLength;
  to.id = from.id;
}

/** A frame that waits. */
class Entry implements Facts {
  /** The frame's place in the arena. */
  start = 0;
  length = 0;
  hash = 0;
  /** A negative hash type means no hash. */
  hashType = 0;
  /** Time (ms) at which the frame came. */
  since = 0;
  needsCsum = false;
  csumStart = 0;
  csumOffset = 0;
  csumValid = false;
  gso: Gso = Gso.NONE;
  gsoEcn = false;
  gsoSize = 0;
  headerLength = 0;
  id = 0;
}

export class FrameFifo {
  #arena: Uint8Array | undefined;
  /** By a free-running count & (MAX_FRAMES - 1). */
  #entries: Entry[] = [];
  #head = 0;
  #tail = 0;
  #next = 0;
  bytes = 0;

  get length(): number {
    return this.#tail - this.#head;
  }

  /** Whether one more frame of `length` bytes fits at `now` (ms). */
  fits(length: number, now: number): boolean {
    if (this.length === MAX_FRAMES) return false;
    const bytes = this.bytes + length;
    if (bytes <= FIFO_LOW_BYTES) return true;
    return bytes <= FIFO_BYTES && (this.length === 0 || now - this.first.since <= FIFO_BURST_MS);
  }

  /** Copies a frame that `fits`. `since` is the current time (ms). A negative hash type means no hash. */
  push(frame: Frame, hash: number, hashType: number, since: number): void {
    this.#arena ??= new Uint8Array(FIFO_BYTES);
    const i = this.#tail++ & (MAX_FRAMES - 1);
    this.#entries[i] ??= new Entry();
    const entry = this.#entries[i];
    const start = this.#next;
    const { length } = frame;
    const run = Math.min(length, FIFO_BYTES - start);
    frame.copyTo(this.#arena, start, 0, run);
    if (run < length) frame.copyTo(this.#arena, 0, run, length - run);
    this.#next = (start + length) % FIFO_BYTES;
    this.bytes += length;
    entry.start = start;
    entry.length = length;
    entry.hash = hash;
    entry.hashType = hashType;
    entry.since = since;
    copyFacts(frame, entry);
  }

  /** The oldest frame. Call it, `peek` and `shift` only when `length` is above 0. */
  get first(): Readonly<Entry> {
    return this.#entries[this.#head & (MAX_FRAMES - 1)]!;
  }

  /** Fills `out` with views of the oldest frame. */
  peek(out: Frame): void {
    const arena = this.#arena!;
    const { first } = this;
    const { start, length } = first;
    const run = Math.min(length, FIFO_BYTES - start);
    out.reset();
    out.push(arena, start, run);
    if (run < length) out.push(arena, 0, length - run);
    copyFacts(first, out);
  }

  shift(): void {
    this.bytes -= this.first.length;
    this.#head++;
    // Start at the front again, so that the same few pages are used while little waits.
    if (this.#head === this.#tail) this.#next = 0;
  }

  /** Forgets every frame and frees the memory. */
  clear(): void {
    this.#arena = undefined;
    this.#entries = [];
    this.#head = 0;
    this.#tail = 0;
    this.#next = 0;
    this.bytes = 0;
  }
}
