/**
 * The inner loop of the internet checksum as a WebAssembly SIMD module, assembled here by hand.
 *
 *   sum(at: i32, end: i32): i32     at and end in bytes, end - at a multiple of 16
 *
 * `sum` adds the little-endian 16-bit words of the arena, and returns the sum of four folded lanes.
 * That is below 2^19, and the caller folds it. A lane of 32 bits can add 2^16 words, so all lanes can
 * add 512 KiB of input.
 *
 * Source: WebAssembly core specification 2.0, section 5 (binary format). The constants have the
 * names of their opcodes.
 */
import { onArena } from "../bytes/arena.ts";

const V128 = 0x7b;
const I32 = 0x7f;

const block = [0x02, 0x40];
const loop = [0x03, 0x40];
const end = [0x0b];
const again = [0x0c, 0];
const leaveIf = [0x0d, 1];
const get = (local: number) => [0x20, local];
const set = (local: number) => [0x21, local];
const i32Const = (n: number) => [0x41, ...signedLeb(n)];
const I32_GT_U = [0x4b];
const I32_GE_U = [0x4f];
const I32_ADD = [0x6a];
const load = (offset: number) => [0xfd, 0x00, 0x00, offset];
const I32X4_ADD = [0xfd, 0xae, 0x01];
const I32X4_SHL = [0xfd, 0xab, 0x01];
const I32X4_SHR_U = [0xfd, 0xad, 0x01];
/** i32x4.extadd_pairwise_i16x8_u: adds eight words in pairs, to four sums. */
const ADD_PAIRS = [0xfd, 0x7f];
const lane = (n: number) => [0xfd, 0x1b, n];

const AT = 0;
const END = 1;
const LANES = 2; // to 5: four sums, so that an addition does not wait for the one before

const addBlock = (into: number, offset: number) => [
  ...get(into),
  ...get(AT),
  ...load(offset),
  ...ADD_PAIRS,
  ...I32X4_ADD,
  ...set(into),
];
const step = (bytes: number) => [...get(AT), ...i32Const(bytes), ...I32_ADD, ...set(AT)];

const body = [
  ...[1, 4, V128],
  ...block,
  ...loop,
  ...[...get(AT), ...i32Const(64), ...I32_ADD, ...get(END), ...I32_GT_U, ...leaveIf],
  ...addBlock(LANES, 0),
  ...addBlock(LANES + 1, 16),
  ...addBlock(LANES + 2, 32),
  ...addBlock(LANES + 3, 48),
  ...step(64),
  ...again,
  ...end,
  ...end,
  ...block,
  ...loop,
  ...[...get(AT), ...get(END), ...I32_GE_U, ...leaveIf],
  ...addBlock(LANES, 0),
  ...step(16),
  ...again,
  ...end,
  ...end,
  ...[...get(LANES), ...get(LANES + 1), ...I32X4_ADD],
  ...[...get(LANES + 2), ...I32X4_ADD, ...get(LANES + 3), ...I32X4_ADD, ...set(LANES)],
  // Fold each lane once (high half + low half), so that the sum of all four fits in 32 bits.
  ...[...get(LANES), ...i32Const(16), ...I32X4_SHR_U],
  ...[...get(LANES), ...i32Const(16), ...I32X4_SHL, ...i32Const(16), ...I32X4_SHR_U],
  ...[...I32X4_ADD, ...set(LANES)],
  ...[...get(LANES), ...lane(0), ...get(LANES), ...lane(1), ...I32_ADD],
  ...[...get(LANES), ...lane(2), ...I32_ADD, ...get(LANES), ...lane(3), ...I32_ADD],
  ...end,
];

const TYPE = 1;
const IMPORT = 2;
const FUNCTION = 3;
const EXPORT = 7;
const CODE = 10;

const module = Uint8Array.from([
  ...[0x00, 0x61, 0x73, 0x6d, 1, 0, 0, 0],
  ...section(TYPE, [1, 0x60, 2, I32, I32, 1, I32]),
  ...section(IMPORT, [1, ...name("m"), ...name("m"), 2, 0, 1]),
  ...section(FUNCTION, [1, 0]),
  ...section(EXPORT, [1, ...name("sum"), 0, 0]),
  ...section(CODE, [1, ...leb(body.length), ...body]),
]);

/** Returns the sum of the words from `at` to `end`, which are byte offsets in the arena. */
export type SumWords = (at: number, end: number) => number;

/**
 * Returns the function of a new instance of the module. Returns undefined where there is no arena:
 * the engine has no WebAssembly (--jitless), or the processor lacks its SIMD (QEMU's oldest CPU
 * models). The caller then adds without it.
 */
export const instantiateSum = (): SumWords | undefined =>
  onArena(module)?.["sum"] as SumWords | undefined;

function section(id: number, bytes: readonly number[]): number[] {
  return [id, ...leb(bytes.length), ...bytes];
}

function name(text: string): number[] {
  return [text.length, ...Array.from(text, (c) => c.charCodeAt(0))];
}

/** Returns a number as unsigned LEB128. */
function leb(n: number): number[] {
  return n < 0x80 ? [n] : [(n & 0x7f) | 0x80, ...leb(n >>> 7)];
}

/** Returns a small positive number as signed LEB128. Bit 6 of the last byte is the sign: 0. */
function signedLeb(n: number): number[] {
  return n < 0x40 ? [n] : [(n & 0x7f) | 0x80, ...signedLeb(n >>> 7)];
}
