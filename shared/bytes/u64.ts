/**
 * 64-bit and 48-bit little-endian quantities as plain JavaScript numbers.
 *
 * Bus addresses have 48 bits and counters stay below 2^53 for centuries, so a
 * number holds every honest value and costs no BigInt. A value that does not fit
 * reads as Infinity, which is too large in every bounds check and which
 * Number.isSafeInteger refuses. Nothing here throws.
 */
const LE = true;
const TWO_32 = 0x1_0000_0000;
/** The first high word that no longer fits: 2^53 / 2^32. */
const HIGH_LIMIT = 0x20_0000;

/** Returns the value, or Infinity when it is 2^53 or more. */
export function getU64(view: DataView, at: number): number {
  const high = view.getUint32(at + 4, LE);
  return high < HIGH_LIMIT ? high * TWO_32 + view.getUint32(at, LE) : Number.POSITIVE_INFINITY;
}

/** `value` is an integer below 2^53. Infinity writes all ones, so what was read can be written. */
export function setU64(view: DataView, at: number, value: number): void {
  if (value === Number.POSITIVE_INFINITY) {
    view.setUint32(at, 0xffff_ffff, LE);
    view.setUint32(at + 4, 0xffff_ffff, LE);
    return;
  }
  view.setUint32(at, value >>> 0, LE);
  view.setUint32(at + 4, Math.floor(value / TWO_32), LE);
}

/** The low 48 bits at `at`, six bytes: an address without its two reserved bytes. */
export function getU48(view: DataView, at: number): number {
  return view.getUint16(at + 4, LE) * TWO_32 + view.getUint32(at, LE);
}

/** Writes six bytes. `value` is an integer below 2^48; higher bits are cut off. */
export function setU48(view: DataView, at: number, value: number): void {
  view.setUint32(at, value >>> 0, LE);
  view.setUint16(at + 4, Math.floor(value / TWO_32), LE);
}
