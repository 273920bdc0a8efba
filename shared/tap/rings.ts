/**
 * The memory that the data-path thread and the TAP worker share: two rings of frame slots.
 *
 *              data-path thread                       worker
 *   receive    take  <---- used[]  rxUsedProd <----   read(2) into a slot
 *              give  ----> free[]  rxFreeProd ---->   next empty slot
 *   send       fill slot ----> txProd ---------->     write(2) from the slot
 *                         <---- txCons <---------     slot may be filled again
 *
 * Every index is free-running and has one writer. Receive has two rings because its slots come back
 * in any order: a driver keeps a slot until its transmit completion. Send works in order, so a slot
 * number is the masked index.
 *
 * A slot holds the vnet header and the frame behind the header. The header ends at byte 16, so that
 * the frame is aligned for copies by words.
 *
 *   0       6              16
 *   | ----- | vnet header  | frame, up to MAX_FRAME_BYTES |
 */
import { MAX_FRAME_BYTES } from "../net/frame.ts";
import { isPowerOfTwo } from "../ring/phase.ts";
import { VNET_HEADER_BYTES } from "./vnet-header.ts";

const LINE_BYTES = 64;
const LINE_WORDS = LINE_BYTES / 4;

export const FRAME_AT = 16;
export const HEADER_AT = FRAME_AT - VNET_HEADER_BYTES;
/** Bytes of a slot. One byte more than the longest frame fits, so a truncated read is detected. */
export const SLOT_BYTES = Math.ceil((FRAME_AT + MAX_FRAME_BYTES + 1) / LINE_BYTES) * LINE_BYTES;
export const SLOT_ROOM = SLOT_BYTES - HEADER_AT;
export const DEFAULT_SLOTS = 256;
export const MAX_SLOTS = 4096;

/** Words of the control area, each on its own cache line. (d) and (w): data path or worker writes. */
export const Word = {
  /** (d) Nonzero when the worker must end. */
  STOP: 0 * LINE_WORDS,
  /** (d) Nonzero while a message waits on the worker's port. */
  CONTROL: 1 * LINE_WORDS,
  /** (w) sets it before it sleeps. (d) clears it and then must write to the eventfd once. */
  WORKER_ARMED: 2 * LINE_WORDS,
  /** (w) Producer index of used[]: frames read. */
  RX_USED_PROD: 3 * LINE_WORDS,
  /** (d) Producer index of free[]: slots given back. */
  RX_FREE_PROD: 4 * LINE_WORDS,
  /** (d) sets it before it sleeps. (w) clears it and then must send one message. */
  RX_ARMED: 5 * LINE_WORDS,
  /** (w) Nonzero while the worker has no empty slot and does not read the TAP. */
  RX_STARVED: 6 * LINE_WORDS,
  /** (d) Producer index of the send ring. */
  TX_PROD: 7 * LINE_WORDS,
  /** (w) Consumer index of the send ring. */
  TX_CONS: 8 * LINE_WORDS,
  /** (d) sets it when send has no slot. (w) clears it and then must send one message. */
  TX_WAITING: 9 * LINE_WORDS,
} as const;
const CONTROL_BYTES = 16 * LINE_BYTES;

/** Counters (doubles) that only the worker writes. The data path reads them for status. */
export const Count = {
  RX_FRAMES: 0,
  RX_BYTES: 1,
  RX_STALLS: 2,
  RX_TRUNCATED: 3,
  TX_FRAMES: 4,
  TX_BYTES: 5,
  LATE_WAKES: 6,
} as const;
const COUNTS = 8;
/** Size of the table of send errors by errno. Linux has no errno at or above this number. */
export const ERRNO_LIMIT = 256;

/** Views of the shared memory. Each side builds its own from the same SharedArrayBuffer. */
export class TapRings {
  readonly memory: SharedArrayBuffer;
  readonly slots: number;
  readonly mask: number;
  readonly words: Int32Array<SharedArrayBuffer>;
  readonly counts: Float64Array<SharedArrayBuffer>;
  readonly errors: Int32Array<SharedArrayBuffer>;
  readonly used: Int32Array<SharedArrayBuffer>;
  readonly free: Int32Array<SharedArrayBuffer>;
  /** Bytes of vnet header plus frame, by slot. */
  readonly rxLength: Int32Array<SharedArrayBuffer>;
  readonly txLength: Int32Array<SharedArrayBuffer>;
  /** Time (ms, `sharedNow`) at which the worker read the frame, by receive slot. */
  readonly rxStamp: Float64Array<SharedArrayBuffer>;
  /** The whole memory. The slot offsets below count from its first byte. */
  readonly bytes: Uint8Array<SharedArrayBuffer>;
  readonly view: DataView<SharedArrayBuffer>;
  readonly #rxAt: number;
  readonly #txAt: number;

  static allocate(slots: number): TapRings {
    if (!isPowerOfTwo(slots) || slots > MAX_SLOTS) {
      throw new RangeError(`a TAP ring of ${slots} slots is not a power of two up to ${MAX_SLOTS}`);
    }
    const rings = new TapRings(new SharedArrayBuffer(memoryBytes(slots)), slots);
    for (let slot = 0; slot < slots; slot++) rings.free[slot] = slot;
    Atomics.store(rings.words, Word.RX_FREE_PROD, slots);
    return rings;
  }

  constructor(memory: SharedArrayBuffer, slots: number) {
    let at = 0;
    const take = (bytes: number): number => {
      const here = at;
      at += Math.ceil(bytes / LINE_BYTES) * LINE_BYTES;
      return here;
    };
    this.memory = memory;
    this.slots = slots;
    this.mask = slots - 1;
    this.words = new Int32Array(memory, take(CONTROL_BYTES), CONTROL_BYTES / 4);
    this.counts = new Float64Array(memory, take(COUNTS * 8), COUNTS);
    this.errors = new Int32Array(memory, take(ERRNO_LIMIT * 4), ERRNO_LIMIT);
    this.used = new Int32Array(memory, take(slots * 4), slots);
    this.free = new Int32Array(memory, take(slots * 4), slots);
    this.rxLength = new Int32Array(memory, take(slots * 4), slots);
    this.txLength = new Int32Array(memory, take(slots * 4), slots);
    this.rxStamp = new Float64Array(memory, take(slots * 8), slots);
    this.bytes = new Uint8Array(memory);
    this.view = new DataView(memory);
    this.#rxAt = take(slots * SLOT_BYTES);
    this.#txAt = take(slots * SLOT_BYTES);
  }

  /** Returns the byte offset of the vnet header of a receive slot. */
  rxHeader(slot: number): number {
    return this.#rxAt + slot * SLOT_BYTES + HEADER_AT;
  }

  /** Returns the byte offset of the vnet header of the send slot that `index` names. */
  txHeader(index: number): number {
    return this.#txAt + (index & this.mask) * SLOT_BYTES + HEADER_AT;
  }
}

const memoryBytes = (slots: number): number =>
  CONTROL_BYTES +
  COUNTS * 8 +
  ERRNO_LIMIT * 4 +
  4 * (slots * 4 + LINE_BYTES) +
  slots * 8 +
  LINE_BYTES +
  2 * slots * SLOT_BYTES;

/** Returns milliseconds of a monotonic clock that all threads of the process share. */
export const sharedNow = (): number => performance.timeOrigin + performance.now();

/** Returns how far a free-running index is ahead of another, across the wrap of 32-bit words. */
export const ahead = (from: number, to: number): number => (to - from) | 0;
