/**
 * One netmap_ring as both its users see it: accessors over the shared region.
 *
 *            0        head           tail                   numSlots
 *   tx ring  | netmap | free to fill | netmap: being sent   |
 *   rx ring  | netmap | received     | netmap: to be filled |
 *
 * The application writes head, cur and the slots in [head, tail). netmap writes tail and all other
 * slots. head, cur and tail are stored with Atomics, after the slots that they publish, because the
 * application may run in another thread.
 *
 * These accessors check nothing. sync.ts checks the values that netmap uses.
 *
 * Source: netmap: sys/net/netmap.h, "DATA OWNERSHIP/LOCKING"; netmap_user.h, nm_ring_*.
 */
import { getU64, setU64 } from "../../shared/bytes/u64.ts";
import {
  RING_BUF_OFS,
  RING_BYTES,
  RING_CUR,
  RING_DIR,
  RING_FLAGS,
  RING_HEAD,
  RING_NR_BUF_SIZE,
  RING_NUM_SLOTS,
  RING_RINGID,
  RING_TAIL,
  RING_TS,
  ringBytes,
  SLOT_BUF_IDX,
  SLOT_BYTES,
  SLOT_FLAGS,
  SLOT_LEN,
  SLOT_PTR,
} from "./layout.ts";

const LE = true;
const HEAD_WORD = RING_HEAD / 4;
const CUR_WORD = RING_CUR / 4;
const TAIL_WORD = RING_TAIL / 4;

/** nm_next: the slot after `i`; `lim` is the last slot. */
export const nmNext = (i: number, lim: number): number => (i === lim ? 0 : i + 1);
/** nm_prev */
export const nmPrev = (i: number, lim: number): number => (i === 0 ? lim : i - 1);

/** Number of slots from `from` to `to` in a cyclic ring of `slots`. */
export const slotsBetween = (from: number, to: number, slots: number): number =>
  to >= from ? to - from : to - from + slots;

/**
 * A view of one ring in the shared region, as `struct netmap_ring`: its slots, and the indices
 * head, cur and tail.
 */
export class NetmapRing {
  /** Offset in the region of the ring. */
  readonly at: number;
  readonly numSlots: number;
  /** The last slot. */
  readonly lim: number;
  /** Bytes of each buffer. */
  readonly bufSize: number;
  readonly ringId: number;
  /** Txrx. */
  readonly dir: number;
  /** The bytes of the ring: header and slots. */
  readonly view: DataView<SharedArrayBuffer>;
  /** Offset in the region of buffer 0. */
  readonly buffersAt: number;
  readonly #words: Uint32Array<SharedArrayBuffer>;

  /** The header must have been written before. */
  constructor(region: SharedArrayBuffer, at: number) {
    const header = new DataView(region, at, RING_BYTES);
    this.at = at;
    this.numSlots = header.getUint32(RING_NUM_SLOTS, LE);
    this.lim = this.numSlots - 1;
    this.bufSize = header.getUint32(RING_NR_BUF_SIZE, LE);
    this.ringId = header.getUint16(RING_RINGID, LE);
    this.dir = header.getUint16(RING_DIR, LE);
    this.buffersAt = at + getU64(header, RING_BUF_OFS);
    this.view = new DataView(region, at, ringBytes(this.numSlots));
    this.#words = new Uint32Array(region, at, RING_BYTES / 4);
  }

  get head(): number {
    return Atomics.load(this.#words, HEAD_WORD);
  }
  set head(slot: number) {
    Atomics.store(this.#words, HEAD_WORD, slot);
  }
  /** Wake-up point: poll returns when tail has moved past it. */
  get cur(): number {
    return Atomics.load(this.#words, CUR_WORD);
  }
  set cur(slot: number) {
    Atomics.store(this.#words, CUR_WORD, slot);
  }
  get tail(): number {
    return Atomics.load(this.#words, TAIL_WORD);
  }
  set tail(slot: number) {
    Atomics.store(this.#words, TAIL_WORD, slot);
  }

  /**
   * Sets head and cur to `slot`, which passes the slots before it to netmap. cur is stored first. A
   * sync may read both between the two stores, and cur may be ahead of head but not behind it.
   */
  advance(slot: number): void {
    Atomics.store(this.#words, CUR_WORD, slot);
    Atomics.store(this.#words, HEAD_WORD, slot);
  }

  /** RingFlag bits. */
  get flags(): number {
    return this.view.getUint32(RING_FLAGS, LE);
  }
  set flags(flags: number) {
    this.view.setUint32(RING_FLAGS, flags, LE);
  }

  /** ts, a struct timeval, as microseconds since 1970. */
  get timestampUs(): number {
    return getU64(this.view, RING_TS) * 1e6 + getU64(this.view, RING_TS + 8);
  }
  set timestampUs(us: number) {
    const seconds = Math.floor(us / 1e6);
    setU64(this.view, RING_TS, seconds);
    setU64(this.view, RING_TS + 8, us - seconds * 1e6);
  }

  /** nm_ring_next */
  next(slot: number): number {
    return slot === this.lim ? 0 : slot + 1;
  }
  /** Returns the slot before `slot`, around the end of the ring. */
  prev(slot: number): number {
    return slot === 0 ? this.lim : slot - 1;
  }

  /** nm_ring_space: number of slots that the application owns now. */
  get space(): number {
    const space = this.tail - this.head;
    return space < 0 ? space + this.numSlots : space;
  }

  /** nm_ring_empty: whether the application owns no slot. */
  get isEmpty(): boolean {
    return this.head === this.tail;
  }

  /** nm_tx_pending: whether netmap has not returned all slots yet. */
  get isTxPending(): boolean {
    return this.next(this.tail) !== this.head;
  }

  /** Returns the index of the slot's buffer (`buf_idx`). */
  bufIdx(slot: number): number {
    return this.view.getUint32(RING_BYTES + slot * SLOT_BYTES + SLOT_BUF_IDX, LE);
  }
  /** Sets the index of the slot's buffer. */
  setBufIdx(slot: number, index: number): void {
    this.view.setUint32(RING_BYTES + slot * SLOT_BYTES + SLOT_BUF_IDX, index, LE);
  }

  /** Bytes of the frame, or of this slot's part of it. */
  len(slot: number): number {
    return this.view.getUint16(RING_BYTES + slot * SLOT_BYTES + SLOT_LEN, LE);
  }
  /** Sets the length of the slot's frame, in bytes. */
  setLen(slot: number, bytes: number): void {
    this.view.setUint16(RING_BYTES + slot * SLOT_BYTES + SLOT_LEN, bytes, LE);
  }

  /** Ns bits; the high byte counts the slots of a packet from a VALE port. */
  slotFlags(slot: number): number {
    return this.view.getUint16(RING_BYTES + slot * SLOT_BYTES + SLOT_FLAGS, LE);
  }
  /** Sets the flags of the slot (NS_*). */
  setSlotFlags(slot: number, flags: number): void {
    this.view.setUint16(RING_BYTES + slot * SLOT_BYTES + SLOT_FLAGS, flags, LE);
  }

  /** Returns the slot's `ptr`, which an indirect buffer uses. */
  ptr(slot: number): number {
    return getU64(this.view, RING_BYTES + slot * SLOT_BYTES + SLOT_PTR);
  }
  /** Sets the slot's `ptr`. */
  setPtr(slot: number, ptr: number): void {
    setU64(this.view, RING_BYTES + slot * SLOT_BYTES + SLOT_PTR, ptr);
  }

  /** Copies all 16 bytes of slot `from` of `other` to `slot`. */
  copySlot(slot: number, other: NetmapRing, from: number): void {
    const to = RING_BYTES + slot * SLOT_BYTES;
    const src = RING_BYTES + from * SLOT_BYTES;
    this.view.setUint32(to, other.view.getUint32(src, LE), LE);
    this.view.setUint32(to + 4, other.view.getUint32(src + 4, LE), LE);
    this.view.setUint32(to + 8, other.view.getUint32(src + 8, LE), LE);
    this.view.setUint32(to + 12, other.view.getUint32(src + 12, LE), LE);
  }

  /** Initialises a slot. */
  setSlot(slot: number, index: number, bytes: number, flags: number): void {
    this.setBufIdx(slot, index);
    this.setLen(slot, bytes);
    this.setSlotFlags(slot, flags);
    this.setPtr(slot, 0);
  }
}
