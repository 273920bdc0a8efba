/** One whole block of a pcapng file: its numbers in the section's byte order, and its options. */
import type { ByteQueue } from "./byte-queue.ts";
import {
  BLOCK_LENGTH,
  BLOCK_OVERHEAD_BYTES,
  BlockType,
  BYTE_ORDER_MAGIC,
  MAX_BLOCK_BYTES,
  OPT_COMMENT,
  OPT_END,
  OPTION_CODE,
  OPTION_HEADER_BYTES,
  OPTION_LENGTH,
  padded,
  SHB_MAGIC,
} from "./layout.ts";
import { type CaptureFormatCode, CaptureFormatError, type CaptureOption } from "./packet.ts";

/** A mark of byte order is a character like others: what was written comes back. */
const decoder = new TextDecoder("utf-8", { ignoreBOM: true });

export class Block {
  readonly type: number;
  readonly bytes: Uint8Array;
  /** Bytes from the start of the file. */
  readonly offset: number;
  readonly little: boolean;
  readonly #view: DataView;

  constructor(type: number, bytes: Uint8Array, offset: number, little: boolean) {
    this.type = type;
    this.bytes = bytes;
    this.offset = offset;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    this.little = little;
  }

  /** The same in memory of its own: for a block that is remembered longer than its input. */
  copy(): Block {
    return new Block(this.type, new Uint8Array(this.bytes), this.offset, this.little);
  }

  /** Bytes in front of the second length. */
  get end(): number {
    return this.bytes.length - 4;
  }

  u16(at: number): number {
    return this.#view.getUint16(at, this.little);
  }

  u32(at: number): number {
    return this.#view.getUint32(at, this.little);
  }

  fail(code: CaptureFormatCode, text: string): CaptureFormatError {
    return new CaptureFormatError(code, this.offset, text);
  }

  /** Refuses a block too short for its fixed part. */
  atLeast(bytes: number): void {
    if (this.bytes.length < bytes + 4) {
      throw this.fail(
        "BLOCK_LENGTH",
        `a block of type ${this.type} with ${this.bytes.length} bytes`,
      );
    }
  }

  /** The options from `at` to the end of the block. */
  options(at: number): CaptureOption[] {
    const found: CaptureOption[] = [];
    const { end } = this;
    while (at < end) {
      if (at + OPTION_HEADER_BYTES > end) throw this.fail("OPTION", "an option without its header");
      const code = this.u16(at + OPTION_CODE);
      const length = this.u16(at + OPTION_LENGTH);
      if (code === OPT_END) break;
      at += OPTION_HEADER_BYTES;
      if (length > end - at) {
        throw this.fail("OPTION", `option ${code} of ${length} bytes, ${end - at} are left`);
      }
      found.push({ code, bytes: this.bytes.subarray(at, at + length) });
      at += padded(length);
    }
    return found;
  }

  /** The number in an option of `bytes` bytes (4 or 8); undefined without such an option. */
  number(options: readonly CaptureOption[], code: number, bytes: 4): number | undefined;
  number(options: readonly CaptureOption[], code: number, bytes: 8): bigint | undefined;
  number(
    options: readonly CaptureOption[],
    code: number,
    bytes: 4 | 8,
  ): number | bigint | undefined {
    const option = options.find((candidate) => candidate.code === code);
    if (option === undefined) return undefined;
    if (option.bytes.length !== bytes) {
      throw this.fail("OPTION", `option ${code} of ${option.bytes.length} bytes, not ${bytes}`);
    }
    const at = option.bytes.byteOffset - this.bytes.byteOffset;
    return bytes === 4 ? this.u32(at) : this.#view.getBigUint64(at, this.little);
  }

  /** Two words, the high one first in either byte order. */
  time(at: number): bigint {
    return (BigInt(this.u32(at)) << 32n) | BigInt(this.u32(at + 4));
  }
}

/**
 * Takes the next whole block from the input. A section block tells its own byte order; `little` is
 * the order of the section at hand. Returns undefined until a block is whole.
 */
export function nextBlock(input: ByteQueue, little: boolean): Block | undefined {
  const head = input.peek(SHB_MAGIC + 4);
  if (head === undefined) return undefined;
  const { offset } = input;
  const view = new DataView(head.buffer, head.byteOffset, head.length);
  // The type of a section is the same in both byte orders. The magic number tells the order.
  if (view.getUint32(0, true) === BlockType.SECTION) {
    little = view.getUint32(SHB_MAGIC, true) === BYTE_ORDER_MAGIC;
    if (!little && view.getUint32(SHB_MAGIC, false) !== BYTE_ORDER_MAGIC) {
      throw new CaptureFormatError("FORMAT", offset, "a section without a byte order");
    }
  } else if (offset === 0) {
    throw new CaptureFormatError("FORMAT", offset, "no pcapng file");
  }
  const type = view.getUint32(0, little);
  const length = view.getUint32(BLOCK_LENGTH, little);
  if (length < BLOCK_OVERHEAD_BYTES || length > MAX_BLOCK_BYTES || length % 4 !== 0) {
    throw new CaptureFormatError("BLOCK_LENGTH", offset, `a block that claims ${length} bytes`);
  }
  const bytes = input.peek(length);
  if (bytes === undefined) return undefined;
  const block = new Block(type, bytes, offset, little);
  if (block.u32(block.end) !== length) {
    throw block.fail("BLOCK_LENGTH", `${length} bytes in front, ${block.u32(block.end)} behind`);
  }
  input.skip(length);
  return block;
}

export function optionText(options: readonly CaptureOption[], code: number): string | undefined {
  const option = options.find((candidate) => candidate.code === code);
  return option && text(option.bytes);
}

export function comments(options: readonly CaptureOption[]): string[] {
  return options.filter(({ code }) => code === OPT_COMMENT).map(({ bytes }) => text(bytes));
}

/** UTF-8 up to a zero byte, which some writers add; bad bytes become U+FFFD. */
export function text(bytes: Uint8Array): string {
  const end = bytes.indexOf(0);
  return decoder.decode(end < 0 ? bytes : bytes.subarray(0, end));
}
