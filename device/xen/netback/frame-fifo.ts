/**
 * Frames that wait for receive requests: bytes in one circular arena, facts beside them.
 *
 *   arena  | newest ... |  free  | oldest ...   |     a frame may go round the end
 *
 * The queue is bounded in bytes, so that a guest that does not read costs a limited amount of memory
 * (XSA-392). Beyond the bytes of a burst it is also bounded in time. Linux stops the device's queue
 * at its bound, and the queueing discipline in front of it holds further packets. A switch has no
 * such queue, so this one serves both purposes. The arena is allocated for the first frame that
 * waits.
 */
import { type Frame, Gso } from "../../../shared/net/frame.ts";

/** Bound of a slow guest's queue, as in linux: drivers/net/xen-netback: half a ring of pages. */
export const FIFO_LOW_BYTES = 512 * 1024;
/** Most bytes that wait. Together with the ring it holds what one TCP sender may have in flight. */
export const FIFO_BYTES = 4 << 20;
/** Above FIFO_LOW_BYTES, a frame is accepted only while the oldest has waited less than this (ms). */
export const FIFO_BURST_MS = 50;
const MAX_FRAMES = 8192;

interface Arena {
  readonly bytes: Uint8Array;
  /** Facts by slot; a slot is a free-running count & (MAX_FRAMES - 1). */
  readonly length: Int32Array;
  readonly start: Int32Array;
  readonly gso: Uint8Array;
  readonly gsoSize: Uint16Array;
  readonly headerLength: Int32Array;
  readonly csumStart: Int32Array;
  readonly csumOffset: Int32Array;
  readonly bits: Uint8Array;
  readonly hash: Uint32Array;
  readonly hashType: Int8Array;
  readonly since: Float64Array;
  readonly id: Float64Array;
}

const NEEDS_CSUM = 1;
const CSUM_VALID = 2;
const GSO_ECN = 4;

export class FrameFifo {
  #arena: Arena | undefined;
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
    return bytes <= FIFO_BYTES && (this.length === 0 || now - this.since <= FIFO_BURST_MS);
  }

  /** Copies a frame that `fits`. `since` is the current time (ms). A negative hash type means no hash. */
  push(frame: Frame, hash: number, hashType: number, since: number): void {
    this.#arena ??= createArena();
    const a = this.#arena;
    const i = this.#tail++ & (MAX_FRAMES - 1);
    const start = this.#next;
    const { length } = frame;
    const run = Math.min(length, FIFO_BYTES - start);
    frame.copyTo(a.bytes, start, 0, run);
    if (run < length) frame.copyTo(a.bytes, 0, run, length - run);
    this.#next = (start + length) % FIFO_BYTES;
    this.bytes += length;
    a.length[i] = length;
    a.start[i] = start;
    a.gso[i] = frame.gso;
    a.gsoSize[i] = frame.gsoSize;
    a.headerLength[i] = frame.headerLength;
    a.csumStart[i] = frame.csumStart;
    a.csumOffset[i] = frame.csumOffset;
    a.bits[i] =
      (frame.needsCsum ? NEEDS_CSUM : 0) |
      (frame.csumValid ? CSUM_VALID : 0) |
      (frame.gsoEcn ? GSO_ECN : 0);
    a.hash[i] = hash;
    a.hashType[i] = hashType;
    a.since[i] = since;
    a.id[i] = frame.id;
  }

  /** Fills `out` with views of the oldest frame. Call it only when `length` is above 0. */
  peek(out: Frame): void {
    const a = this.#arena!;
    const i = this.#head & (MAX_FRAMES - 1);
    const start = a.start[i]!;
    const length = a.length[i]!;
    const run = Math.min(length, FIFO_BYTES - start);
    out.reset();
    out.push(a.bytes, start, run);
    if (run < length) out.push(a.bytes, 0, length - run);
    const bits = a.bits[i]!;
    out.needsCsum = (bits & NEEDS_CSUM) !== 0;
    out.csumValid = (bits & CSUM_VALID) !== 0;
    out.gsoEcn = (bits & GSO_ECN) !== 0;
    out.csumStart = a.csumStart[i]!;
    out.csumOffset = a.csumOffset[i]!;
    out.gso = a.gso[i] as Gso;
    out.gsoSize = a.gsoSize[i]!;
    out.headerLength = a.headerLength[i]!;
    out.id = a.id[i]!;
  }

  // Facts of the oldest frame. Read them only when `length` is above 0.

  get frameBytes(): number {
    return this.#arena!.length[this.#head & (MAX_FRAMES - 1)]!;
  }
  get isGso(): boolean {
    return this.#arena!.gso[this.#head & (MAX_FRAMES - 1)] !== Gso.NONE;
  }
  get hash(): number {
    return this.#arena!.hash[this.#head & (MAX_FRAMES - 1)]!;
  }
  get hashType(): number {
    return this.#arena!.hashType[this.#head & (MAX_FRAMES - 1)]!;
  }
  /** Time (ms) at which the frame came. */
  get since(): number {
    return this.#arena!.since[this.#head & (MAX_FRAMES - 1)]!;
  }

  shift(): void {
    this.bytes -= this.frameBytes;
    this.#head++;
    // Start at the front again, so that the same few pages are used while little waits.
    if (this.#head === this.#tail) this.#next = 0;
  }

  /** Forgets every frame and frees the memory. */
  clear(): void {
    this.#arena = undefined;
    this.#head = 0;
    this.#tail = 0;
    this.#next = 0;
    this.bytes = 0;
  }
}

function createArena(): Arena {
  return {
    bytes: new Uint8Array(FIFO_BYTES),
    length: new Int32Array(MAX_FRAMES),
    start: new Int32Array(MAX_FRAMES),
    gso: new Uint8Array(MAX_FRAMES),
    gsoSize: new Uint16Array(MAX_FRAMES),
    headerLength: new Int32Array(MAX_FRAMES),
    csumStart: new Int32Array(MAX_FRAMES),
    csumOffset: new Int32Array(MAX_FRAMES),
    bits: new Uint8Array(MAX_FRAMES),
    hash: new Uint32Array(MAX_FRAMES),
    hashType: new Int8Array(MAX_FRAMES),
    since: new Float64Array(MAX_FRAMES),
    id: new Float64Array(MAX_FRAMES),
  };
}
