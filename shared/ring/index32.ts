/**
 * Free-running 32-bit ring indexes, as Xen's shared rings use them.
 *
 * The same functions as in index16.ts at another width. The sign bit needs care:
 * JavaScript's bitwise operators return signed numbers, so each result passes
 * through `>>> 0`. No other module does arithmetic on these indexes.
 */
export type Index32 = number & { readonly __index32: unique symbol };

/** Folds any number into 32 bits, such as an index read from a shared page. */
export const index32 = (n: number): Index32 => (n >>> 0) as Index32;

export const advance = (i: Index32, by: number): Index32 => ((i + by) >>> 0) as Index32;

/** Returns how far `to` is ahead of `from`, across the wrap: 0 to 2^32 - 1. */
export const distance = (from: Index32, to: Index32): number => (to - from) >>> 0;

/** Returns the slot of an index in a ring of `size` slots, a power of two. */
export const slotOf = (i: Index32, size: number): number => (i & (size - 1)) >>> 0;

/**
 * Returns true when `event` lies in (before, after]. Then the producer, on its
 * way from `before` to `after`, has passed the index at which the peer wants an
 * event. This is the notify rule of Xen's ring.h. Each side is one unsigned
 * subtraction, so the wrap is not a special case.
 */
export const passed = (event: Index32, before: Index32, after: Index32): boolean =>
  distance(event, after) < distance(before, after);

// The rules of ring.h for the indexes of a shared ring of `size` slots. reqProdPvt and rspCons are
// private to a frontend, rspProdPvt and reqCons to a backend. reqProd and rspProd come from the
// page. They are read once, and are claims of the peer.

/** RING_FREE_REQUESTS. Returns the number of slots that a frontend may fill; 0 for a full ring. */
export const freeRequests = (size: number, reqProdPvt: Index32, rspCons: Index32): number =>
  size - distance(rspCons, reqProdPvt);

/**
 * Returns the number of requests that a backend has not consumed, at most the number for which it
 * has room to respond. So a frontend with a false reqProd can't make it overrun responses.
 */
export const unconsumedRequests = (
  size: number,
  reqProd: Index32,
  reqCons: Index32,
  rspProdPvt: Index32,
): number => Math.min(distance(reqCons, reqProd), (size - distance(rspProdPvt, reqCons)) >>> 0);

/** RING_REQUEST_PROD_OVERFLOW. Returns true for a `reqProd` that no honest frontend writes. */
export const requestProdOverflow = (size: number, reqProd: Index32, rspProdPvt: Index32): boolean =>
  distance(rspProdPvt, reqProd) > size;

/** The notify rule of `passed`, with the arguments in the order in which a push obtains them. */
export const needNotify = (before: Index32, after: Index32, event: Index32): boolean =>
  passed(event, before, after);
