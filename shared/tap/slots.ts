/**
 * The slots into which a TAP's frames are read. A user keeps a slot until its transmit completion,
 * so slots come back in any order. The slot that came back last is filled next: its lines are still
 * in the cache.
 *
 *   free ──fill──► waiting, in order ──take──► the user's ──release──► free
 *
 * A slot holds the vnet header and the frame behind the header. The header ends at byte 16, so that
 * the frame is aligned for copies by words.
 *
 *   0       6              16
 *   | ----- | vnet header  | frame, up to MAX_FRAME_BYTES |
 */
import { MAX_FRAME_BYTES } from "../net/frame.ts";
import * as sys from "../reactor/sys.ts";
import { VNET_HEADER_BYTES } from "./vnet-header.ts";

const LINE_BYTES = 64;
const FRAME_AT = 16;
const HEADER_AT = FRAME_AT - VNET_HEADER_BYTES;
/** Bytes of a slot. One byte more than the longest frame fits, so a truncated read is detected. */
const SLOT_BYTES = Math.ceil((FRAME_AT + MAX_FRAME_BYTES + 1) / LINE_BYTES) * LINE_BYTES;
/** Bytes of a slot from the vnet header on. */
export const SLOT_ROOM = SLOT_BYTES - HEADER_AT;
const DEFAULT_SLOTS = 256;
const MAX_SLOTS = 4096;

export class Slots {
  readonly count: number;
  /** All slots. Untouched ones use no memory. */
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly address: number;
  /** Bytes of vnet header plus frame, by slot. */
  readonly lengths: Int32Array;
  /** Time (ms, performance.now) at which the frame was read, by slot. */
  readonly stamps: Float64Array;
  readonly #free: Int32Array;
  #freeCount: number;
  /** Ring of the slots that wait. */
  readonly #queue: Int32Array;
  #head = 0;
  /** Number of frames that wait. */
  waiting = 0;

  /** Throws RangeError for a number of slots outside 1 to MAX_SLOTS. */
  constructor(count = DEFAULT_SLOTS) {
    if (!Number.isInteger(count) || count < 1 || count > MAX_SLOTS) {
      throw new RangeError(`a TAP of ${count} slots; it may have 1 to ${MAX_SLOTS}`);
    }
    this.count = count;
    this.bytes = new Uint8Array(count * SLOT_BYTES);
    this.view = new DataView(this.bytes.buffer);
    this.address = sys.addressOf(this.bytes);
    this.lengths = new Int32Array(count);
    this.stamps = new Float64Array(count);
    this.#free = Int32Array.from({ length: count }, (_, i) => count - 1 - i);
    this.#freeCount = count;
    this.#queue = new Int32Array(count);
  }

  /** Returns the byte offset of the vnet header of a slot. */
  headerOf(slot: number): number {
    return slot * SLOT_BYTES + HEADER_AT;
  }

  /** The slot that `fill` fills next, or -1 when none is free. */
  get free(): number {
    return this.#freeCount === 0 ? -1 : this.#free[this.#freeCount - 1]!;
  }

  /** Adds the frame that was read into the slot `free`: `length` bytes with the vnet header. */
  fill(length: number, now: number): void {
    const slot = this.#free[--this.#freeCount]!;
    this.lengths[slot] = length;
    this.stamps[slot] = now;
    this.#queue[(this.#head + this.waiting++) % this.count] = slot;
  }

  /** Returns the slot of the next frame, which belongs to the caller, or -1 when none waits. */
  take(): number {
    if (this.waiting === 0) return -1;
    this.waiting--;
    const slot = this.#queue[this.#head]!;
    this.#head = (this.#head + 1) % this.count;
    return slot;
  }

  /** Takes a slot back. */
  release(slot: number): void {
    this.#free[this.#freeCount++] = slot;
  }
}
