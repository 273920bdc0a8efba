/** Single bits of a word as numbers, so that a bit read can be written on without a conversion. */
export type Bit = 0 | 1;

/** Bit `n` of a 32-bit word. */
export const bit = (word: number, n: number): Bit => ((word >>> n) & 1) as Bit;
