/**
 * Declares byte layouts. The offset of each field is written once, and reader
 * and writer use the same declaration, so the two cannot disagree.
 *
 * For cold structures only (admin queue, features, events), because `parse`
 * allocates an object. Descriptors on the data path have hand-written field
 * functions instead; see shared/ena/io.ts.
 *
 *   const mtuBody = struct(4, { mtu: u32(0) });
 *   mtuBody.parse(view, at).mtu
 *   mtuBody.write(view, at, { mtu: 1500 });
 *
 * `write` zeroes all `size` bytes, then sets the given fields. Reserved bytes and
 * fields that are not given are zero, as in a C initialiser.
 */
import { getU48, getU64, setU48, setU64 } from "./u64.ts";

const LE = true;

/** One field: its offset, its reader and its writer. `at` is the first byte of the structure. */
export interface Field<T> {
  readonly offset: number;
  readonly bytes: number;
  /** First bit of the field in those bytes, and its width in bits. Absent for whole bytes. */
  readonly shift?: number;
  readonly width?: number;
  get(view: DataView, at: number): T;
  set(view: DataView, at: number, value: T): void;
}

type Fields = Readonly<Record<string, Field<unknown>>>;
type ValueOf<F extends Fields> = {
  readonly [K in keyof F]: F[K] extends Field<infer T> ? T : never;
};

export interface Struct<T> {
  readonly size: number;
  parse(view: DataView, at: number): T;
  write(view: DataView, at: number, value: Partial<T>): void;
  /** Sets the given fields and keeps every other byte, as a callee does with its OUT fields. */
  patch(view: DataView, at: number, value: Partial<T>): void;
}

/** The plain value of a structure: `type Mtu = Parsed<typeof mtuBody>`. */
export type Parsed<S> = S extends Struct<infer T> ? T : never;

/**
 * Returns the structure of the fields. Throws RangeError if a field ends past `size` bytes or two
 * fields share a bit. Layouts are constants, so this happens when their module loads.
 */
export function struct<const F extends Fields>(size: number, fields: F): Struct<ValueOf<F>> {
  const entries = Object.entries(fields);
  const owner: (string | undefined)[] = [];
  for (const [name, field] of entries) {
    const first = field.offset * 8 + (field.shift ?? 0);
    const end = first + (field.width ?? field.bytes * 8);
    if (end > size * 8) throw new RangeError(`field ${name} ends past the ${size} bytes`);
    for (let bit = first; bit < end; bit++) {
      if (owner[bit] !== undefined) throw new RangeError(`${name} overlaps ${owner[bit]}`);
      owner[bit] = name;
    }
  }
  const set = (view: DataView, at: number, value: Partial<ValueOf<F>>): void => {
    for (const [name, field] of entries) {
      const given = value[name as keyof F];
      if (given !== undefined) field.set(view, at, given);
    }
  };
  return {
    size,
    parse(view, at) {
      const value: Record<string, unknown> = {};
      for (const [name, field] of entries) value[name] = field.get(view, at);
      return value as ValueOf<F>;
    },
    write(view, at, value) {
      zero(view, at, size);
      set(view, at, value);
    },
    patch: set,
  };
}

/** Zeroes `length` bytes at `at`. */
export function zero(view: DataView, at: number, length: number): void {
  new Uint8Array(view.buffer, view.byteOffset + at, length).fill(0);
}

/** Declares a number by the accessors of DataView. */
const word =
  (bytes: number, get: "getUint8" | "getUint16" | "getInt16" | "getUint32", set: WordSetter) =>
  <T extends number = number>(offset: number): Field<T> => ({
    offset,
    bytes,
    get: (v, at) => v[get](at + offset, LE) as T,
    set: (v, at, n) => v[set](at + offset, n, LE),
  });
type WordSetter = "setUint8" | "setUint16" | "setInt16" | "setUint32";

export const u8 = word(1, "getUint8", "setUint8");
export const u16 = word(2, "getUint16", "setUint16");
/** A signed field, for status words. */
export const i16 = word(2, "getInt16", "setInt16");
export const u32 = word(4, "getUint32", "setUint32");

/** A field of 64 bits. See u64.ts for values from 2^53 on. */
export const u64 = (offset: number): Field<number> => ({
  offset,
  bytes: 8,
  get: (v, at) => getU64(v, at + offset),
  set: (v, at, n) => setU64(v, at + offset, n),
});

/** A field of 48 bits in six bytes. */
export const u48 = <T extends number = number>(offset: number): Field<T> => ({
  offset,
  bytes: 6,
  get: (v, at) => getU48(v, at + offset) as T,
  set: (v, at, n) => setU48(v, at + offset, n),
});

/** A field of `width` bits from bit `shift` of `word`. A write keeps the other bits of `word`. */
export function bits(word: Field<number>, shift: number, width: number): Field<number> {
  const mask = (2 ** width - 1) >>> 0;
  return {
    offset: word.offset,
    bytes: word.bytes,
    shift,
    width,
    get: (v, at) => ((word.get(v, at) >>> shift) & mask) >>> 0,
    set: (v, at, n) => {
      const others = word.get(v, at) & ~(mask << shift);
      word.set(v, at, (others | ((n & mask) << shift)) >>> 0);
    },
  };
}

/** A field of one bit, as a boolean. */
export function flag(word: Field<number>, bit: number): Field<boolean> {
  const field = bits(word, bit, 1);
  return {
    ...field,
    get: (v, at) => field.get(v, at) === 1,
    set: (v, at, on) => field.set(v, at, on ? 1 : 0),
  };
}

/** A field of `length` raw bytes. A read copies. A write truncates or pads with zeroes. */
export const raw = (offset: number, length: number): Field<Uint8Array> => ({
  offset,
  bytes: length,
  get: (v, at) => new Uint8Array(v.buffer, v.byteOffset + at + offset, length).slice(),
  set: (v, at, from) => {
    const to = new Uint8Array(v.buffer, v.byteOffset + at + offset, length);
    to.fill(0);
    to.set(from.subarray(0, length));
  },
});

/** A C string in `length` bytes. A read ends at the first zero byte. A write always adds one. */
export const cString = (offset: number, length: number): Field<string> => {
  const field = raw(offset, length);
  return {
    ...field,
    get: (v, at) => {
      const all = field.get(v, at);
      const end = all.indexOf(0);
      return new TextDecoder("latin1").decode(end < 0 ? all : all.subarray(0, end));
    },
    set: (v, at, text) => field.set(v, at, Buffer.from(text, "latin1").subarray(0, length - 1)),
  };
};

/** `count` equal fields, `stride` bytes apart. `item` is the first of them. */
export const list = <T>(item: Field<T>, count: number, stride: number): Field<readonly T[]> => ({
  offset: item.offset,
  bytes: (count - 1) * stride + item.bytes,
  get: (v, at) => Array.from({ length: count }, (_, i) => item.get(v, at + i * stride)),
  set: (v, at, values) => {
    for (let i = 0; i < count; i++) {
      const value = values[i];
      if (value !== undefined) item.set(v, at + i * stride, value);
    }
  },
});
