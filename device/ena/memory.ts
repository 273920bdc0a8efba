/**
 * Rings in the driver's memory: those that the device reads (DescriptorRing) and those that it
 * writes (CompletionRing).
 *
 *   ring base lies in a window      the view is the window itself, and nothing is fetched
 *   ring base lies anywhere else    the view is a shadow of the ring; `read` fetches the entries
 *                                   that a doorbell announces, in order, before they count
 *   low latency queue               the view is the device's own memory
 *
 * Completions always go out as posted writes: one per burst, or two if the ring wraps.
 */
import { advance, distance, type Index16, index16, slotOf } from "../../shared/ring/index16.ts";
import { PhaseCursor } from "../../shared/ring/phase.ts";
import type { EnaRingState } from "../../shared/wire/link-state.ts";
import { Limits } from "../../shared/wire/protocol.ts";
import { type BusAddress, beyond, type RecordType, Space } from "../../shared/wire/records.ts";
import type { HostMemory, Span, Window } from "../dma/host-memory.ts";

/** A ring and the driver's or the device's index in it, for a capture. */
type RingPlace = Pick<EnaRingState, "address" | "depth" | "entryBytes" | "head">;

/** Reason why a doorbell value is impossible. */
export type DoorbellError = "BEYOND_RING" | "BACKWARDS";

export class DescriptorRing {
  readonly address: BusAddress;
  readonly depth: number;
  readonly entryBytes: number;
  /** Next entry to consume, and the phase that it must carry. */
  readonly cursor: PhaseCursor;
  readonly view: DataView;
  /** Offset of entry 0 in `view`. */
  readonly base: number;
  /** The device memory of a low latency queue. */
  readonly local: Uint8Array | undefined;
  /** Last doorbell: entries before this index were announced. */
  tail: Index16 = index16(0);
  /** Entries before this index can be read now. It differs from `tail` only during a fetch. */
  #limit: Index16 = index16(0);
  readonly #memory: HostMemory;
  readonly #shadow: Uint8Array | undefined;
  readonly #onMore: () => void;
  readonly #onRefused: (error: unknown) => void;
  #fetching = false;
  #closed = false;

  /**
   * `local` is device memory for a low latency queue, with entry 0 at its first byte.
   * `onMore` is called after a fetch, and `onRefused` if the frontend refuses a fetch.
   */
  constructor(
    memory: HostMemory,
    address: BusAddress,
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
    this.local = local;
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

  get place(): RingPlace {
    const { address, depth, entryBytes, tail } = this;
    return { address, depth, entryBytes, head: tail };
  }

  /** Number of entries that can be read now. */
  get readable(): number {
    return distance(this.cursor.head, this.#limit);
  }

  /** Number of entries that are announced and not yet consumed. */
  get announced(): number {
    return distance(this.cursor.head, this.tail);
  }

  /** Returns the offset in `view` of the entry `ahead` places after the next one. */
  at(ahead: number): number {
    return this.base + ((this.cursor.slot + ahead) & (this.depth - 1)) * this.entryBytes;
  }

  /** Returns the phase that this entry must carry. `ahead` must be below the depth. */
  phase(ahead: number): 0 | 1 {
    const { phase, slot } = this.cursor;
    if (slot + ahead < this.depth) return phase;
    return phase === 1 ? 0 : 1;
  }

  /** Handles a doorbell. Returns an error if the value is impossible, else announces entries. */
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

  /** Closes the ring for a reset or destroy. A fetch under way has no effect then. */
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
        bytes = await this.#memory.read(Space.BUS, beyond(this.address, at), length);
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

/** A ring that the device fills. Entries are staged in `view`, and `publish` sends them. */
export class CompletionRing {
  readonly address: BusAddress;
  readonly depth: number;
  readonly entryBytes: number;
  readonly cursor: PhaseCursor;
  /** The whole ring as the device wrote it last, with entry 0 at byte 0. */
  readonly view: DataView;
  readonly bytes: Uint8Array;
  readonly #memory: HostMemory;
  readonly #type: RecordType;
  #published: Index16 = index16(0);

  constructor(
    memory: HostMemory,
    address: BusAddress,
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

  get place(): RingPlace {
    const { address, depth, entryBytes, cursor } = this;
    return { address, depth, entryBytes, head: cursor.head };
  }

  /** Offset in `view` of the entry to fill next. The entry carries `cursor.phase`. */
  get at(): number {
    return this.cursor.slot * this.entryBytes;
  }

  /** Advances to the next entry, after the caller has filled this one. */
  next(): void {
    this.cursor.next();
    // The next lap must not overwrite a staged entry before it is sent.
    if (distance(this.#published, this.cursor.head) === this.depth) this.publish();
  }

  /** Number of entries filled and not yet written. */
  get staged(): number {
    return distance(this.#published, this.cursor.head);
  }

  /** Writes the entries filled since the last call. Returns their number. */
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
    const to = beyond(this.address, at);
    this.#memory.write(Space.BUS, to, this.#type, this.bytes, at, length);
  }
}

/**
 * Returns a copy of a control buffer or host page, from a window, a push or a `read`. Rejects with
 * DmaError. `length` is at most 64 KiB.
 */
export function fetchBytes(
  memory: HostMemory,
  address: BusAddress,
  length: number,
): Uint8Array | Promise<Uint8Array> {
  const window: Window | undefined = memory.window(address, length);
  if (window !== undefined) {
    const at = address - window.address;
    return window.bytes.slice(at, at + length);
  }
  const span: Span = { buffer: NOTHING, at: 0, length: 0 };
  if (memory.pushes.find(address, length, span)) {
    const copy = span.buffer.slice(span.at, span.at + length);
    memory.pushes.release(address);
    return copy;
  }
  return memory.read(Space.BUS, address, length);
}

const NOTHING = new Uint8Array(0);
