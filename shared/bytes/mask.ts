/** The exclusive or of RFC 6455, 5.3, which masks a payload and removes its mask. */
import { ArenaOffset, maskBlocks } from "./arena.ts";

/** Bytes of a block of `maskBlocks`, and a length from which it is worth its call. */
const BLOCK = 16;
const WORTH = 4 * BLOCK;

/** The key as it lies on the words of this machine. */
const keyBytes = new Uint8Array(4);
const keyWord = new Int32Array(keyBytes.buffer);

const masked = new ArenaOffset();

/**
 * Applies `key` to bytes[at .. at + length). The first byte of the key is the lowest of the word. The
 * zero key exists to avoid this work.
 */
export function maskInPlace(bytes: Uint8Array, at: number, length: number, key: number): void {
  if (key === 0) return;
  let i = at;
  const end = at + length;
  if (length >= WORTH) {
    const offset = masked.of(bytes);
    if (offset >= 0) {
      const blocks = length - (length % BLOCK);
      maskBlocks(offset + i, offset + i + blocks, key);
      i += blocks;
    } else i += maskWords(bytes, at, length, key);
  }
  for (let n = i - at; i < end; i++, n++) bytes[i]! ^= key >>> (8 * (n & 3));
}

/** Masks all bytes but up to three at the end. Returns their number. */
function maskWords(bytes: Uint8Array, at: number, length: number, key: number): number {
  const lead = -(bytes.byteOffset + at) & 3;
  for (let n = 0; n < lead; n++) bytes[at + n]! ^= key >>> (8 * n);
  for (let n = 0; n < 4; n++) keyBytes[n] = key >>> (8 * ((lead + n) & 3));
  const word = keyWord[0]!;
  const words = (length - lead) >>> 2;
  const body = new Int32Array(bytes.buffer, bytes.byteOffset + at + lead, words);
  for (let w = 0; w < words; w++) body[w]! ^= word;
  return lead + 4 * words;
}
