/**
 * Reads the subset of msgpack that the wire uses: arrays, maps, unsigned integers, text, binary.
 *
 * A general decoder would first build everything that the sender claims (an array of 2^32 elements,
 * a hundred thousand levels of nesting) and leave the checks for later. The caller of this decoder
 * names the next expected type, and the decoder refuses everything else before it allocates.
 *
 * Source: msgpack specification (msgpack: spec.md), "Formats".
 */
import { cachedView } from "../bytes/views.ts";
import { WireError } from "./protocol.ts";

const LE = false; // msgpack integers are big-endian, unlike everything inside our columns

/** Formats by first byte. */
export const Fmt = {
  FIXMAP: 0x80,
  FIXARRAY: 0x90,
  FIXSTR: 0xa0,
  NIL: 0xc0,
  FALSE: 0xc2,
  TRUE: 0xc3,
  BIN8: 0xc4,
  BIN16: 0xc5,
  BIN32: 0xc6,
  FLOAT32: 0xca,
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
  MAP16: 0xde,
  NEGATIVE_FIXINT: 0xe0,
} as const;

const NONE = new Uint8Array(0);
const NO_VIEW = new DataView(NONE.buffer);
const utf8 = new TextDecoder("utf-8", { fatal: true });

export class Reader {
  bytes: Uint8Array = NONE;
  view: DataView = NO_VIEW;
  /** Offsets in `bytes` of the next byte, and of the end of the message. */
  at = 0;
  end = 0;
  /** Offset and length of the last `bin`. */
  binAt = 0;
  binLength = 0;

  /** Begins to read bytes[at .. at + length). One reader serves many messages. */
  open(bytes: Uint8Array, at: number, length: number): this {
    this.bytes = bytes;
    this.view = cachedView(bytes);
    this.at = at;
    this.end = at + length;
    return this;
  }

  /** Lets go of the message. */
  close(): void {
    this.bytes = NONE;
    this.view = NO_VIEW;
    this.end = 0;
  }

  /** Reads an array header and returns the number of elements, at most `max`. */
  array(what: string, max: number): number {
    const f = this.#first(what);
    const isShort = (f & 0xf0) === Fmt.FIXARRAY;
    const n = isShort ? f & 0x0f : this.#sized(f, Fmt.ARRAY16, Fmt.ARRAY32, 2, what, "an array");
    if (n > max) throw tooMuch(what, `${n} elements`, max);
    return n;
  }

  /** Reads the header of a map and returns the number of keys, at most `max`. */
  map(what: string, max: number): number {
    const f = this.#first(what);
    const isShort = (f & 0xf0) === Fmt.FIXMAP;
    const n = isShort ? f & 0x0f : this.#sized(f, Fmt.MAP16, Fmt.MAP16, 2, what, "a map");
    if (n > max) throw tooMuch(what, `${n} keys`, max);
    return n;
  }

  /** Reads an unsigned integer up to `max`, in any of msgpack's integer formats. */
  uint(what: string, max: number): number {
    const f = this.#first(what);
    let n: number;
    if (f < 0x80) n = f;
    else if (f >= Fmt.INT8 && f <= Fmt.INT64) {
      // Some encoders use a signed format for every number. It is accepted if not negative.
      const width = 1 << (f - Fmt.INT8);
      this.#need(width, what);
      if (this.bytes[this.at]! >= 0x80) {
        throw new WireError("WIRE_RANGE", `${what}: a negative number`);
      }
      n = this.#number(width, what);
    } else n = this.#sized(f, Fmt.UINT8, Fmt.UINT64, 1, what, "an unsigned integer");
    if (n > max) throw tooMuch(what, `${n}`, max);
    return n;
  }

  /** Steps over a binary string of at most `max` bytes; sets binAt and binLength to its place. */
  bin(what: string, max: number): void {
    const n = this.#sized(this.#first(what), Fmt.BIN8, Fmt.BIN32, 1, what, "binary");
    if (n > max) throw tooMuch(what, `${n} bytes`, max);
    this.binAt = this.at;
    this.binLength = n;
    this.skip(n, what);
  }

  /** Reads text of at most `max` bytes of UTF-8. */
  text(what: string, max: number): string {
    const f = this.#first(what);
    const isShort = (f & 0xe0) === Fmt.FIXSTR;
    const n = isShort ? f & 0x1f : this.#sized(f, Fmt.STR8, Fmt.STR32, 1, what, "text");
    if (n > max) throw tooMuch(what, `${n} bytes of text`, max);
    this.skip(n, what);
    try {
      return utf8.decode(this.bytes.subarray(this.at - n, this.at));
    } catch {
      throw new WireError("WIRE_TEXT", `${what}: text that is not UTF-8`);
    }
  }

  /** Returns the format of the next value. */
  peek(what: string): number {
    this.#need(1, what);
    return this.bytes[this.at]!;
  }

  /** Steps over `n` bytes. */
  skip(n: number, what: string): void {
    this.#need(n, what);
    this.at += n;
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

  /** Reads the number behind `f`, one of the formats `from` to `to`. Each doubles the width. */
  #sized(f: number, from: number, to: number, width: number, what: string, wanted: string): number {
    if (f < from || f > to) throw wrong(what, wanted, f);
    return this.#number(width << (f - from), what);
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
