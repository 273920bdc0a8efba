/**
 * Reads the subset of msgpack that the wire uses: arrays, unsigned integers, text, binary.
 *
 * A general decoder would first build everything that the sender claims (an array of 2^32 elements,
 * a hundred thousand levels of nesting) and leave the checks for later. The caller of this decoder
 * names the next expected type, and the decoder refuses everything else before it allocates.
 *
 * Source: msgpack specification (msgpack: spec.md), "Formats".
 */
import { WireError } from "./transactions.ts";

const LE = false; // msgpack integers are big-endian, unlike everything inside our columns

/** Formats by first byte. */
export const Fmt = {
  FIXARRAY: 0x90,
  FIXSTR: 0xa0,
  NIL: 0xc0,
  BIN8: 0xc4,
  BIN16: 0xc5,
  BIN32: 0xc6,
  UINT8: 0xcc,
  UINT16: 0xcd,
  UINT32: 0xce,
  UINT64: 0xcf,
  INT8: 0xd0,
  INT64: 0xd3,
  STR8: 0xd9,
  STR16: 0xda,
  STR32: 0xdb,
  ARRAY16: 0xdc,
  ARRAY32: 0xdd,
} as const;

const utf8 = new TextDecoder("utf-8", { fatal: true });

export class Reader {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly end: number;
  at = 0;
  /** Offset and length of the last `bin`. */
  binAt = 0;
  binLength = 0;

  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.end = bytes.byteLength;
  }

  /** Reads an array header and returns the number of elements, at most `max`. */
  array(what: string, max: number): number {
    const f = this.#first(what);
    let n: number;
    if ((f & 0xf0) === Fmt.FIXARRAY) n = f & 0x0f;
    else if (f === Fmt.ARRAY16) n = this.#number(2, what);
    else if (f === Fmt.ARRAY32) n = this.#number(4, what);
    else throw wrong(what, "an array", f);
    if (n > max) throw tooMuch(what, `${n} elements`, max);
    return n;
  }

  /** Reads an unsigned integer up to `max`, in any of msgpack's integer formats. */
  uint(what: string, max: number): number {
    const f = this.#first(what);
    let n: number;
    if (f < 0x80) n = f;
    else if (f === Fmt.UINT8) n = this.#number(1, what);
    else if (f === Fmt.UINT16) n = this.#number(2, what);
    else if (f === Fmt.UINT32) n = this.#number(4, what);
    else if (f === Fmt.UINT64) n = this.#number(8, what);
    else if (f >= Fmt.INT8 && f <= Fmt.INT64) {
      // Some encoders use a signed format for every number. It is accepted if not negative.
      const width = 1 << (f - Fmt.INT8);
      this.#need(width, what);
      if (this.bytes[this.at]! >= 0x80) {
        throw new WireError("WIRE_RANGE", `${what}: a negative number`);
      }
      n = this.#number(width, what);
    } else throw wrong(what, "an unsigned integer", f);
    if (n > max) throw tooMuch(what, `${n}`, max);
    return n;
  }

  /** Steps over a binary string of at most `max` bytes; sets binAt and binLength to its place. */
  bin(what: string, max: number): void {
    const f = this.#first(what);
    let n: number;
    if (f === Fmt.BIN8) n = this.#number(1, what);
    else if (f === Fmt.BIN16) n = this.#number(2, what);
    else if (f === Fmt.BIN32) n = this.#number(4, what);
    else throw wrong(what, "binary", f);
    if (n > max) throw tooMuch(what, `${n} bytes`, max);
    this.#need(n, what);
    this.binAt = this.at;
    this.binLength = n;
    this.at += n;
  }

  /** Reads text of at most `max` bytes of UTF-8. */
  text(what: string, max: number): string {
    const f = this.#first(what);
    let n: number;
    if ((f & 0xe0) === Fmt.FIXSTR) n = f & 0x1f;
    else if (f === Fmt.STR8) n = this.#number(1, what);
    else if (f === Fmt.STR16) n = this.#number(2, what);
    else if (f === Fmt.STR32) n = this.#number(4, what);
    else throw wrong(what, "text", f);
    if (n > max) throw tooMuch(what, `${n} bytes of text`, max);
    this.#need(n, what);
    const bytes = this.bytes.subarray(this.at, this.at + n);
    this.at += n;
    try {
      return utf8.decode(bytes);
    } catch {
      throw new WireError("WIRE_TEXT", `${what}: text that is not UTF-8`);
    }
  }

  finish(what: string): void {
    if (this.at !== this.end) {
      throw new WireError("WIRE_TRAILING", `${what}: ${this.end - this.at} bytes after its end`);
    }
  }

  #first(what: string): number {
    this.#need(1, what);
    return this.bytes[this.at++]!;
  }

  #number(width: number, what: string): number {
    this.#need(width, what);
    const at = this.at;
    this.at += width;
    if (width === 1) return this.bytes[at]!;
    if (width === 2) return this.view.getUint16(at, LE);
    if (width === 4) return this.view.getUint32(at, LE);
    // Above 2^53 the sum is inexact, but every bound checked afterwards is far below.
    return this.view.getUint32(at, LE) * 2 ** 32 + this.view.getUint32(at + 4, LE);
  }

  #need(n: number, what: string): void {
    if (n > this.end - this.at) {
      throw new WireError("WIRE_TRUNCATED", `${what}: the message ends inside it`);
    }
  }
}

function wrong(what: string, wanted: string, first: number): WireError {
  return new WireError(
    "WIRE_TYPE",
    `${what}: expected ${wanted}, found msgpack format 0x${first.toString(16).padStart(2, "0")}`,
  );
}

function tooMuch(what: string, found: string, max: number): WireError {
  return new WireError("WIRE_RANGE", `${what}: ${found}, the limit is ${max}`);
}
