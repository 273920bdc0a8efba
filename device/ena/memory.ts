/**
 * Rings in the driver's memory: those the device reads (DescriptorRing) and those it writes
 * (CompletionRing).
 *
 *   ring base lies in a window      the view stands on the window itself: nothing is fetched
 *   ring base lies anywhere else    a shadow of the ring; entries that a doorbell announces are
 *                                   fetched by `read`, in order, and count once they are here
 *   low latency queue               the view stands on the device's own memory
 *
 * Completions go out as posted writes either way: at most two a burst, one unless the ring wraps.
 */
import { advance, distance, type Index16, index16, slotOf } from "../../shared/ring/index16.ts";
import { PhaseCursor } from "../../shared/ring/phase.ts";
import { type RecordType, Space } from "../../shared/wire/records.ts";
import { Limits } from "../../shared/wire/transactions.ts";
import type { HostMemory, Span, Window } from "../dma/host-memory.ts";

/** Why a doorbell value is impossible. */
export type DoorbellError = "BEYOND_RING" | "BACKWARDS";

export class DescriptorRing {
  readonly address: number;
  readonly depth: number;
  readonly entryBytes: number;
  /** Next entry to take, and the phase it must carry. */
  readonly cursor: PhaseCursor;
  readonly view: DataView;
  /** Offset of entry 0 in `view`. */
  readonly base: number;
  /** Doorbell: entries before this were announced. */
  tail: Index16 = index16(0);
  /** Entries before this can be read now; behind `tail` only while a fetch is under way. */
  #limit: Index16 = index16(0);
  readonly #memory: HostMemory;
  readonly #shadow: Uint8Array | undefined;
  readonly #onMore: () => void;
  readonly #onRefused: (error: unknown) => void;
  #fetching = false;
  #closed = false;

  /**
   * `local` is device memory for a low latency queue, with entry 0 at its first byte.
   * `onMore` is called after a fetch; `onRefused` when the frontend refuses one.
   */
  constructor(
    memory: HostMemory,
    address: number,
    depth: number,
    entryBytes: number,
    onMore: () => void,
    onRefused: (error: unknown) => void,
    local?: Uint8Array,
  ) {
    this.address = address;
    this.depth = depth;
    this.entryBytes = entryBytes;
    this.cursor = new PhaseCursor(depth);
    this.#memory = memory;
    this.#onMore = onMore;
    this.#onRefused = onRefused;
    const window = local === undefined ? memory.window(address, depth * entryBytes) : undefined;
    if (window !== undefined) {
      this.view = window.view;
      this.base = address - window.address;
      this.#shadow = undefined;
    } else {
      const bytes = local ?? new Uint8Array(depth * entryBytes);
      this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
      this.base = 0;
      this.#shadow = local === undefined ? bytes : undefined;
    }
  }

  /** Entries that can be read now. */
  get readable(): number {
    return distance(this.cursor.head, this.#limit);
  }

  /** Entries announced and not yet taken. */
  get announced(): number {
    return distance(this.cursor.head, this.tail);
  }

  /** Offset in `view` of the entry `ahead` places beyond the next one. */
  at(ahead: number): number {
    return this.base + ((this.cursor.slot + ahead) & (this.depth - 1)) * this.entryBytes;
  }

  /** The phase that entry must carry; `ahead` stays below the depth. */
  phase(ahead: number): 0 | 1 {
    const { phase, slot } = this.cursor;
    if (slot + ahead < this.depth) return phase;
    return phase === 1 ? 0 : 1;
  }

  /** A doorbell: checks the value against what is possible, then believes it. */
  announce(value: number): DoorbellError | undefined {
    const tail = index16(value);
    const ahead = distance(this.cursor.head, tail);
    if (ahead > this.depth) return "BEYOND_RING";
    if (ahead < distance(this.cursor.head, this.tail)) return "BACKWARDS";
    this.tail = tail;
    if (this.#shadow === undefined) this.#limit = tail;
    else if (!this.#fetching) void this.#fetch(this.#shadow);
    return undefined;
  }

  /** Reset or destroy: a fetch under way comes to nothing. */
  close(): void {
    this.#closed = true;
  }

  async #fetch(shadow: Uint8Array): Promise<void> {
    this.#fetching = true;
    while (this.#limit !== this.tail) {
      const slot = slotOf(this.#limit, this.depth);
      const count = Math.min(
        distance(this.#limit, this.tail),
        this.depth - slot,
        Math.floor(Limits.READ_BYTES / this.entryBytes),
      );
      const at = slot * this.entryBytes;
      const length = count * this.entryBytes;
      let bytes: Uint8Array;
      try {
        bytes = await this.#memory.read(Space.BUS, this.address + at, length);
      } catch (error) {
        if (!this.#closed) this.#onRefused(error);
        return;
      }
      if (this.#closed) return;
      shadow.set(bytes.subarray(0, length), at);
      this.#limit = advance(this.#limit, count);
      this.#onMore();
      if (this.#closed) return;
    }
    this.#fetching = false;
  }
}

/** A ring that the device fills. Entries are staged in `view` and go out at `publish`. */
export class CompletionRing {
  readonly address: number;
  readonly depth: number;
  readonly entryBytes: number;
  readonly cursor: PhaseCursor;
  /** The whole ring as last written by the device; entry 0 at byte 0. */
  readonly view: DataView;
  readonly bytes: Uint8Array;
  readonly #memory: HostMemory;
  readonly #type: RecordType;
  #published: Index16 = index16(0);

  constructor(
    memory: HostMemory,
    address: number,
    depth: number,
    entryBytes: number,
    type: RecordType,
  ) {
    this.address = address;
    this.depth = depth;
    this.entryBytes = entryBytes;
    this.cursor = new PhaseCursor(depth);
    this.bytes = new Uint8Array(depth * entryBytes);
    this.view = new DataView(this.bytes.buffer);
    this.#memory = memory;
    this.#type = type;
  }

  /** Offset in `view` of the entry to fill next; it carries `cursor.phase`. */
  get at(): number {
    return this.cursor.slot * this.entryBytes;
  }

  /** The entry is filled. */
  next(): void {
    this.cursor.next();
    // A staged entry must not be overwritten by the next lap before it went out.
    if (distance(this.#published, this.cursor.head) === this.depth) this.publish();
  }

  /** Writes what was filled since the last call. Returns the number of entries. */
  publish(): number {
    const count = distance(this.#published, this.cursor.head);
    if (count === 0) return 0;
    const slot = slotOf(this.#published, this.depth);
    const first = Math.min(count, this.depth - slot);
    this.#write(slot, first);
    if (count > first) this.#write(0, count - first);
    this.#published = this.cursor.head;
    return count;
  }

  #write(slot: number, count: number): void {
    const at = slot * this.entryBytes;
    const length = count * this.entryBytes;
    this.#memory.write(Space.BUS, this.address + at, this.#type, this.bytes, at, length);
  }
}

/** True when the queue's ring lies, even partly, in the window that goes away. */
export function overlaps(
  address: number,
  bytes: number,
  windowAddress: number,
  windowBytes: number,
): boolean {
  return address < windowAddress + windowBytes && windowAddress < address + bytes;
}

/**
 * A control buffer or host page, wherever it lies: window, push, or a read that takes time.
 * The bytes are a copy. Rejects with DmaError. `length` is at most 64 KiB.
 */
export function fetchBytes(
  memory: HostMemory,
  address: number,
  length: number,
): Uint8Array | Promise<Uint8Array> {
  const window: Window | undefined = memory.window(address, length);
  if (window !== undefined) {
    const at = address - window.address;
    return window.bytes.slice(at, at + length);
  }
  const span: Span = { buffer: NOTHING, at: 0, length: 0 };
  if (memory.pushed(Space.BUS, address, length, span)) {
    const copy = span.buffer.slice(span.at, span.at + length);
    memory.releasePushed(Space.BUS, address);
    return copy;
  }
  return memory.read(Space.BUS, address, length);
}

const NOTHING = new Uint8Array(0);
