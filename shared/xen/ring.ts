/**
 * The page of a shared ring: four indexes that both ends see, then the slots.
 *
 * Source: xen: xen/include/public/io/ring.h, DEFINE_RING_TYPES.
 *
 *   0          4           8          12          16         64                4096
 *   | req_prod | req_event | rsp_prod | rsp_event | padding  | slot 0 | slot 1 ...
 *
 * The arithmetic of indexes is in ../ring/index32.ts. The peer writes its indexes at
 * any time, so an index is read once here, checked there, then used.
 */
import { zero } from "../bytes/struct.ts";
import { type Index32, index32, slotOf } from "../ring/index32.ts";

const LE = true;

export const RING_PAGE_BYTES = 4096;
/** Offset of the first slot. */
export const RING_HEADER_SIZE = 64;

/** Offsets of the header's words: each is written on its own. */
export const RingWord = { REQ_PROD: 0, REQ_EVENT: 4, RSP_PROD: 8, RSP_EVENT: 12 } as const;
export type RingWord = (typeof RingWord)[keyof typeof RingWord];

/** Slots that fit in a page behind the header, rounded down to a power of two, as masking needs. */
export const ringSlots = (slotBytes: number): number =>
  1 << (31 - Math.clz32(Math.floor((RING_PAGE_BYTES - RING_HEADER_SIZE) / slotBytes)));

/** The header of a ring page; `at` is the page's first byte. */
export const sring = {
  reqProd: (v: DataView, at: number): Index32 => index32(v.getUint32(at + RingWord.REQ_PROD, LE)),
  reqEvent: (v: DataView, at: number): Index32 => index32(v.getUint32(at + RingWord.REQ_EVENT, LE)),
  rspProd: (v: DataView, at: number): Index32 => index32(v.getUint32(at + RingWord.RSP_PROD, LE)),
  rspEvent: (v: DataView, at: number): Index32 => index32(v.getUint32(at + RingWord.RSP_EVENT, LE)),

  /** Any word of the header, by its offset. */
  setWord: (v: DataView, at: number, word: RingWord, index: Index32): void =>
    v.setUint32(at + word, index, LE),

  /**
   * Initialises an empty ring, as SHARED_RING_INIT does. The frontend calls it once, before it grants
   * the page. Each end asks for an event at the first message. It clears the header and all slots,
   * because the page may have held other data.
   */
  init(v: DataView, at: number): void {
    zero(v, at, RING_PAGE_BYTES);
    v.setUint32(at + RingWord.REQ_EVENT, 1, LE);
    v.setUint32(at + RingWord.RSP_EVENT, 1, LE);
  },
} as const;

/** Offset in the page of the slot at `index`. */
export const slotOffset = (index: Index32, slotBytes: number, size: number): number =>
  RING_HEADER_SIZE + slotOf(index, size) * slotBytes;
