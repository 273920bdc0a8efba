/**
 * Memory that blocks are written into, one behind the other. It grows when a block does not fit,
 * so no caller has to guess; after a large enough `reserve` it never grows.
 */
import { BLOCK_BODY, BLOCK_LENGTH, BLOCK_TYPE, LE, OPTION_HEADER_BYTES, padded } from "./layout.ts";

export class BlockBuffer {
  bytes: Uint8Array<ArrayBuffer>;
  view: DataView;
  /** Bytes written so far. */
  used = 0;

  constructor(bytes: number) {
    this.bytes = new Uint8Array(bytes);
    this.view = new DataView(this.bytes.buffer);
  }

  /** Makes room for `bytes` more. */
  reserve(bytes: number): void {
    const need = this.used + bytes;
    if (need <= this.bytes.length) return;
    const larger = new Uint8Array(Math.max(need, 2 * this.bytes.length));
    larger.set(this.bytes.subarray(0, this.used));
    this.bytes = larger;
    this.view = new DataView(larger.buffer);
  }

  /** The bytes written so far; good until the next write. */
  written(): Uint8Array<ArrayBuffer> {
    return this.bytes.subarray(0, this.used);
  }

  /** Starts a block whose body is appended by the calls below. Returns its place, for `endBlock`. */
  beginBlock(type: number): number {
    const at = this.used;
    this.reserve(BLOCK_BODY);
    this.view.setUint32(at + BLOCK_TYPE, type, LE);
    this.used += BLOCK_BODY;
    return at;
  }

  /** Ends the block that begins at `at`: writes its length at both ends. */
  endBlock(at: number): void {
    this.reserve(4);
    const length = this.used + 4 - at;
    this.view.setUint32(at + BLOCK_LENGTH, length, LE);
    this.view.setUint32(this.used, length, LE);
    this.used += 4;
  }

  /** Appends a number of 16 bits, little-endian. */
  u16(value: number): void {
    this.reserve(2);
    this.view.setUint16(this.used, value, LE);
    this.used += 2;
  }

  /** Appends a number of 32 bits, little-endian. */
  u32(value: number): void {
    this.reserve(4);
    this.view.setUint32(this.used, value, LE);
    this.used += 4;
  }

  /** An option or a record of names: header, the parts one behind the other, padding. */
  option(code: number, ...parts: readonly Uint8Array[]): void {
    const length = parts.reduce((sum, part) => sum + part.length, 0);
    if (length > 0xffff) throw new RangeError(`option ${code} of ${length} bytes`);
    this.reserve(OPTION_HEADER_BYTES + padded(length));
    this.u16(code);
    this.u16(length);
    for (const part of parts) {
      this.bytes.set(part, this.used);
      this.used += part.length;
    }
    this.bytes.fill(0, this.used, this.used + padded(length) - length);
    this.used += padded(length) - length;
  }

  /** An option that is a u64, from a number below 2^53. */
  optionU64(code: number, value: number): void {
    this.optionWords(code, value, Math.floor(value / 2 ** 32));
  }

  /** An option of two words, as a time is: the high one first in either byte order. */
  optionWords(code: number, first: number, second: number): void {
    this.u16(code);
    this.u16(8);
    this.u32(first);
    this.u32(second);
  }
}
