/**
 * Free-running 32-bit ring indexes, as Xen's shared rings use them.
 *
 * The same idea as index16.ts at another width. The sign bit needs care in
 * JavaScript: bitwise operators answer signed numbers, so each result passes
 * through `>>> 0`, and nobody else does arithmetic on these.
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
 * True when `event` lies in (before, after]: moving the producer from `before`
 * to `after` has stepped over the place where the peer asked to be woken.
 * This is the notify rule of Xen's ring.h. One unsigned subtraction on each
 * side, no cases, so the wrap is not special.
 */
export const passed = (event: Index32, before: Index32, after: Index32): boolean =>
  distance(event, after) < distance(before, after);

// What ring.h asks of the indexes of a shared ring of `size` slots. A frontend keeps reqProdPvt and
// rspCons to itself, a backend rspProdPvt and reqCons; reqProd and rspProd are read from the page,
// once, and are the peer's word.

/** RING_FREE_REQUESTS: slots a frontend may still fill; 0 is a full ring. */
export const freeRequests = (size: number, reqProdPvt: Index32, rspCons: Index32): number =>
  size - distance(rspCons, reqProdPvt);

/**
 * Requests a backend has not taken, never more than it has room to answer: a frontend that lies
 * about reqProd can't make it overrun responses.
 */
export const unconsumedRequests = (
  size: number,
  reqProd: Index32,
  reqCons: Index32,
  rspProdPvt: Index32,
): number => Math.min(distance(reqCons, reqProd), (size - distance(rspProdPvt, reqCons)) >>> 0);

/** RING_REQUEST_PROD_OVERFLOW: no honest frontend has `reqProd` there. */
export const requestProdOverflow = (size: number, reqProd: Index32, rspProdPvt: Index32): boolean =>
  distance(rspProdPvt, reqProd) > size;

/** The notify rule in the order in which a push knows its words: see `passed`. */
export const needNotify = (before: Index32, after: Index32, event: Index32): boolean =>
  passed(event, before, after);
