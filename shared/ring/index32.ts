/**
 * Free-running 32-bit ring indexes, as Xen's shared rings use them.
 *
 * The same idea as index16.ts at another width. The sign bit needs care in
 * JavaScript: bitwise operators answer signed numbers, so each result passes
 * through `>>> 0`, and nobody else does arithmetic on these.
 */
export type Index32 = number & { readonly __index32: unique symbol };

/** Any number, folded into 32 bits: how an index read from a shared page enters. */
export const index32 = (n: number): Index32 => (n >>> 0) as Index32;

export const advance = (i: Index32, by: number): Index32 => ((i + by) >>> 0) as Index32;

/** How far `to` is ahead of `from`, across the wrap: 0 to 2^32 - 1. */
export const distance = (from: Index32, to: Index32): number => (to - from) >>> 0;

/** The slot that an index names in a ring of `size` slots, a power of two. */
export const slotOf = (i: Index32, size: number): number => (i & (size - 1)) >>> 0;

/**
 * True when `event` lies in (before, after]: moving the producer from `before`
 * to `after` has stepped over the place where the peer asked to be woken.
 * This is the notify rule of Xen's ring.h. One unsigned subtraction on each
 * side, no cases, so the wrap is not special.
 */
export const passed = (event: Index32, before: Index32, after: Index32): boolean =>
  distance(event, after) < distance(before, after);
