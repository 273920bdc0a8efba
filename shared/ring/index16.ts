/**
 * Free-running 16-bit ring indexes: ENA tails, heads and doorbell values.
 *
 * An index counts every slot ever used and is masked only when it is turned
 * into a slot number. JavaScript numbers do not wrap at 2^16 by themselves, so
 * no other file adds or subtracts such indexes: it calls these.
 */
export type Index16 = number & { readonly __index16: unique symbol };

/** Folds any number into 16 bits, such as a doorbell value read from a register. */
export const index16 = (n: number): Index16 => (n & 0xffff) as Index16;

export const advance = (i: Index16, by: number): Index16 => ((i + by) & 0xffff) as Index16;

/** Returns how far `to` is ahead of `from`, across the wrap: 0 to 65535. */
export const distance = (from: Index16, to: Index16): number => (to - from) & 0xffff;

/** Returns the slot of an index in a ring of `depth` slots, a power of two. */
export const slotOf = (i: Index16, depth: number): number => i & (depth - 1);
