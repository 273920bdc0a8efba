/** Helpers for the one-line descriptions of all rooms. Never on the data path. */

export const hex = (n: number): string => `0x${n.toString(16)}`;

/** Joins the words that are not empty with a space. */
export const line = (...words: readonly string[]): string =>
  words.filter((word) => word !== "").join(" ");

/** "admin command truncated: 2 of 64 bytes" */
export const truncated = (what: string, bytes: Uint8Array, size: number): string =>
  `${what} truncated: ${bytes.length} of ${size} bytes`;

/** Small numbers as they are, large ones as addresses and masks are read. */
export const showNumber = (n: number): string => (n > 0xffff ? hex(n) : `${n}`);

export const viewOf = (b: Uint8Array): DataView =>
  new DataView(b.buffer, b.byteOffset, b.byteLength);
