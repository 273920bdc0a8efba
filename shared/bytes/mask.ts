/** The exclusive or of RFC 6455, 5.3, which masks a payload and removes its mask. */

/**
 * Applies `key` to bytes[at .. at + length). The first byte of the key is the lowest of the word. The
 * zero key exists to avoid this work.
 */
export function maskInPlace(bytes: Uint8Array, at: number, length: number, key: number): void {
  if (key === 0) return;
  let i = at;
  const end = at + length;
  let word = key;
  const step = (): void => {
    bytes[i++]! ^= word & 0xff;
    word = (word >>> 8) | (word << 24);
  };
  while (i < end && ((bytes.byteOffset + i) & 3) !== 0) step();
  const words = (end - i) >>> 2;
  if (words > 0) {
    const body = new Int32Array(bytes.buffer, bytes.byteOffset + i, words);
    for (let w = 0; w < words; w++) body[w]! ^= word;
    i += 4 * words;
  }
  while (i < end) step();
}
