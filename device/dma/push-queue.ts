/**
 * Bytes pushed ahead of the doorbells that need them, in order of arrival. Entries are views of
 * the current message until `settle`, then of a copy. Most entries are released before that.
 *
 * A driver nearly always uses pushed bytes in the order of its pushes. So a look-up first tries
 * the entry after the last hit. Only when that fails, an index by address is built. The index is
 * kept until the queue is empty.
 *
 *   released | live (hit before) | next expected | live ... | room
 *            ^ head                ^ cursor                   ^ tail
 */
import { Limits } from "../../shared/wire/protocol.ts";
import { type BusAddress, beyond, busAddresses } from "../../shared/wire/records.ts";
import type { Span } from "./host-memory.ts";

const FIRST_SLOTS = 1024;
/** Most live entries of a peer. More close its connection, as too many bytes do. */
export const MAX_PUSHES = Limits.PUSHES;
/** Most live entries with which a full queue is packed. */
const PACKED_MAX = (MAX_PUSHES / 4) * 3;
/** Number of entries searched for a range that begins inside an entry. */
const CONTAIN_SCAN = 256;

const EMPTY = new Uint8Array(0);

/** Makes slots: one array per field, in which an entry has the same index. */
const slotsOf = (count: number) => ({
  address: busAddresses(count),
  /** 0 for a released entry. */
  length: new Int32Array(count),
  at: new Int32Array(count),
  buffer: new Array<Uint8Array>(count).fill(EMPTY),
  /** Bytes that the entry added to `#pinned`. A message's first entry adds the whole message. */
  share: new Int32Array(count),
});

export class PushQueue {
  readonly #pinLimit: number;
  /** Bytes of all messages that entries between head and tail keep in memory. */
  #pinned = 0;
  #lastMessage: Uint8Array = EMPTY;
  /** Count of the first entry of that message. */
  #messageAt = 0;
  /** Bytes in all live entries. */
  bytes = 0;
  live = 0;
  /** Number of look-ups that found nothing, so that the bytes were requested by `read`. */
  misses = 0;
  /** Number of look-ups that did not follow the order of arrival. */
  searches = 0;
  #size = FIRST_SLOTS;
  #slots = slotsOf(FIRST_SLOTS);
  /** Free-running counts. The slot of a count is count & (size - 1). */
  #head = 0;
  #tail = 0;
  #cursor = 0;
  /** Counts of entries by address; undefined while the order of arrival is enough. */
  #index: Map<number, number> | undefined;
  #indexed = 0;

  /** Entries that keep more than `pinLimit` bytes of messages in memory are copied. */
  constructor(pinLimit: number) {
    this.#pinLimit = pinLimit;
  }

  /**
   * Adds an entry of a message of `messageBytes` bytes, which lies in `buffer`. Returns false when
   * there are too many.
   */
  add(
    address: BusAddress,
    buffer: Uint8Array,
    at: number,
    length: number,
    messageBytes: number = buffer.byteLength,
  ): boolean {
    if (this.#tail - this.#head === this.#size && !this.#makeRoom()) return false;
    const slots = this.#slots;
    const i = this.#tail & (this.#size - 1);
    slots.address[i] = address;
    slots.length[i] = length;
    slots.at[i] = at;
    slots.buffer[i] = buffer;
    slots.share[i] = 0;
    if (buffer !== this.#lastMessage) {
      this.#lastMessage = buffer;
      this.#messageAt = this.#tail;
      slots.share[i] = messageBytes;
      this.#pinned += messageBytes;
    }
    this.#tail++;
    this.live++;
    this.bytes += length;
    if (this.#pinned > this.#pinLimit) this.#unpin();
    return true;
  }

  /** Bytes of messages that entries keep in memory. */
  get pinned(): number {
    return this.#pinned;
  }

  /** Finds the entry that covers [address, address + length) and fills `out`. False on a miss. */
  find(address: BusAddress, length: number, out: Span): boolean {
    const count = this.#locate(address, length);
    if (count < 0) {
      this.misses++;
      return false;
    }
    const slots = this.#slots;
    const i = count & (this.#size - 1);
    out.buffer = slots.buffer[i]!;
    out.at = slots.at[i]! + (address - slots.address[i]!);
    out.length = length;
    this.#cursor = count + 1;
    return true;
  }

  /**
   * Releases the entry that covers `address`. An entry that begins there keeps what lies behind
   * `length` bytes: another packet's bytes, pushed in one record with these. Returns the end of the
   * released range, or 0 for an unknown address, which changes nothing.
   */
  release(address: BusAddress, length = Number.POSITIVE_INFINITY): number {
    // Packets complete in order, so the entry is usually the oldest one.
    let count = this.#head;
    if (!this.#covers(count, address, 1)) {
      count = this.#locate(address, 1);
      if (count < 0) return 0;
    }
    const slots = this.#slots;
    const i = count & (this.#size - 1);
    if (slots.length[i]! > length && slots.address[i] === address) return this.#cut(count, length);
    const end = slots.address[i]! + slots.length[i]!;
    this.bytes -= slots.length[i]!;
    this.live--;
    this.#index?.delete(slots.address[i]!);
    slots.buffer[i] = EMPTY;
    slots.length[i] = 0;
    while (this.#head < this.#tail && slots.length[this.#head & (this.#size - 1)] === 0) {
      this.#pinned -= slots.share[this.#head & (this.#size - 1)]!;
      this.#head++;
    }
    if (this.#cursor < this.#head) this.#cursor = this.#head;
    if (this.#head === this.#tail) this.#clearCounts();
    return end;
  }

  /** Removes the first `bytes` bytes of an entry. Returns the address of those that stay. */
  #cut(count: number, bytes: number): number {
    const slots = this.#slots;
    const i = count & (this.#size - 1);
    const address = beyond(slots.address[i]!, bytes);
    if (this.#index?.delete(slots.address[i]!)) this.#index.set(address, count);
    slots.address[i] = address;
    slots.at[i]! += bytes;
    slots.length[i]! -= bytes;
    this.bytes -= bytes;
    return address;
  }

  /**
   * Replaces the current message in live entries by one copy of their part of it, because the
   * transport is about to reuse the message.
   */
  settle(): void {
    const message = this.#lastMessage;
    if (message === EMPTY) return;
    this.#lastMessage = EMPTY;
    const slots = this.#slots;
    if (this.#messageAt >= this.#head) {
      const i = this.#messageAt & (this.#size - 1);
      this.#pinned -= slots.share[i]!;
      slots.share[i] = 0;
    }
    let first = this.#tail;
    let from = message.length;
    let end = 0;
    for (let c = this.#tail - 1; c >= Math.max(this.#head, this.#messageAt); c--) {
      const i = c & (this.#size - 1);
      if (slots.length[i] === 0) continue;
      first = c;
      from = Math.min(from, slots.at[i]!);
      end = Math.max(end, slots.at[i]! + slots.length[i]!);
    }
    if (first === this.#tail) return;
    const copy = message.slice(from, end);
    for (let c = first; c < this.#tail; c++) {
      const i = c & (this.#size - 1);
      if (slots.length[i] === 0) continue;
      slots.buffer[i] = copy;
      slots.at[i]! -= from;
    }
    slots.share[first & (this.#size - 1)]! += copy.length;
    this.#pinned += copy.length;
  }

  clear(): void {
    for (let c = this.#head; c < this.#tail; c++) this.#slots.buffer[c & (this.#size - 1)] = EMPTY;
    this.#head = this.#tail;
    this.#cursor = this.#tail;
    this.bytes = 0;
    this.live = 0;
    this.#clearCounts();
  }

  #clearCounts(): void {
    this.#index = undefined;
    this.#pinned = 0;
    this.#lastMessage = EMPTY;
  }

  /** Copies live entries out of their messages, so that the messages can be freed. */
  #unpin(): void {
    const slots = this.#slots;
    this.#pinned = 0;
    for (let c = this.#head; c < this.#tail; c++) {
      const i = c & (this.#size - 1);
      const length = slots.length[i]!;
      slots.share[i] = length;
      this.#pinned += length;
      if (length === 0) continue;
      const at = slots.at[i]!;
      slots.buffer[i] = slots.buffer[i]!.slice(at, at + length);
      slots.at[i] = 0;
    }
    this.#lastMessage = EMPTY;
  }

  #covers(count: number, address: BusAddress, length: number): boolean {
    if (count < this.#head || count >= this.#tail) return false;
    const slots = this.#slots;
    const i = count & (this.#size - 1);
    const from = slots.address[i]!;
    return address >= from && address + length <= from + slots.length[i]!;
  }

  #locate(address: BusAddress, length: number): number {
    if (this.#covers(this.#cursor, address, length)) return this.#cursor;
    // The range is another piece of the last push, or the last range again.
    if (this.#covers(this.#cursor - 1, address, length)) return this.#cursor - 1;
    if (this.#head === this.#tail) return -1;
    this.searches++;
    if (this.#index === undefined) {
      this.#index = new Map();
      this.#indexed = this.#head;
    }
    for (; this.#indexed < this.#tail; this.#indexed++) {
      const i = this.#indexed & (this.#size - 1);
      if (this.#slots.length[i] !== 0) this.#index.set(this.#slots.address[i]!, this.#indexed);
    }
    const exact = this.#index.get(address);
    if (exact !== undefined && this.#covers(exact, address, length)) return exact;
    const stop = Math.min(this.#tail, this.#head + CONTAIN_SCAN);
    for (let c = this.#head; c < stop; c++) if (this.#covers(c, address, length)) return c;
    return -1;
  }

  /**
   * Doubles the slots. When there are as many as a peer may have, it reuses those of released
   * entries, and returns false when too many entries live. An entry that stays at the head keeps
   * all slots behind it, even when their entries are released. A packet that is held in one of
   * several queues has such an entry.
   */
  #makeRoom(): boolean {
    const packs = this.#size >= MAX_PUSHES;
    if (packs && this.live > PACKED_MAX) return false;
    // Packing removes released entries, and the shares of `#pinned` that they carry.
    if (packs) this.#unpin();
    const from = this.#slots;
    const fromMask = this.#size - 1;
    if (!packs) {
      this.#size *= 2;
      this.#slots = slotsOf(this.#size);
    }
    const to = this.#slots;
    const toMask = this.#size - 1;
    let next = this.#head;
    for (let c = this.#head; c < this.#tail; c++) {
      if (c === this.#cursor) this.#cursor = next;
      const i = c & fromMask;
      if (packs && from.length[i] === 0) continue;
      const j = next++ & toMask;
      to.address[j] = from.address[i]!;
      to.length[j] = from.length[i]!;
      to.at[j] = from.at[i]!;
      to.buffer[j] = from.buffer[i]!;
      to.share[j] = from.share[i]!;
    }
    for (let c = next; c < this.#tail; c++) to.buffer[c & toMask] = EMPTY;
    this.#tail = next;
    this.#cursor = Math.min(this.#cursor, next);
    this.#index = undefined;
    return true;
  }
}
