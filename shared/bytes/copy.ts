/**
 * Copies bytes without allocation, short or long, at any alignment.
 *
 * Measured on Node 24.21, on two cores of an AMD EPYC shared with other work. Each
 * variant ran in its own process. Sources were Buffers and Uint8Arrays in turn,
 * as messages and memory regions are. Nanoseconds for one copy, about:
 *
 *   bytes   element loop   set(subarray)   Buffer copy   DataView words
 *      16        21              43             41             10
 *      60        75              52             42             22
 *     256       315              47             43            115
 *    1514      1730              84             80            390
 *
 * With 64-bit words of DataViews, 60 bytes need 17 ns and 192 bytes as long as Buffer
 * copy. To make a view costs more than it saves. So short copies use the views of the arrays
 * that were used last (views.ts): most frames come from and go to a few large memories. (A lane
 * is a BigInt on the heap until the loop is optimised. Lanes of 32 bits need 28 ns. Float64
 * lanes may change NaNs.)
 *
 * Without views the element loop wins up to 24 bytes. On a full frame it has a twentieth of
 * Buffer copy's speed. Buffer copy is as fast as set(subarray) or faster, and does not
 * allocate, as subarray does (0 to 199 scavenges in that run). Inside the arena, WebAssembly copies
 * 1448 bytes in 66 ns where Buffer copy needs 90.
 */
import { ArenaOffset, copyBlocks } from "./arena.ts";
import { viewIfUsedAgain } from "./views.ts";

const LOOP_BYTES = 24;
/** Most bytes that are copied by lanes. */
const LANES_BYTES = 192;
const LANE_BYTES = 8;
const bufferCopy = Buffer.prototype.copy;

const sources = new ArenaOffset();
const targets = new ArenaOffset();

/**
 * Copies `length` bytes. Throws RangeError for a span outside its array, because
 * numbers of a peer are checked before this call. Spans must not overlap.
 */
export function copyBytes(
  src: Uint8Array,
  srcAt: number,
  dst: Uint8Array,
  dstAt: number,
  length: number,
): void {
  // Buffer copy would shorten a span that does not fit. Old bytes would stay in `dst`.
  if (!(length >= 0 && srcAt >= 0 && dstAt >= 0)) throw new RangeError("copyBytes: negative span");
  if (srcAt + length > src.length || dstAt + length > dst.length) {
    throw new RangeError("copyBytes: span outside its array");
  }
  if (length > LANES_BYTES) {
    const from = sources.ofUsedAgain(src);
    const to = targets.ofUsedAgain(dst);
    if (from >= 0 && to >= 0) copyBlocks(to + dstAt, from + srcAt, length);
    else bufferCopy.call(src as Buffer, dst, dstAt, srcAt, srcAt + length);
    return;
  }
  if (length <= LOOP_BYTES) {
    for (let i = 0; i < length; i++) dst[dstAt + i] = src[srcAt + i]!;
    return;
  }
  const from = viewIfUsedAgain(src);
  const to = viewIfUsedAgain(dst);
  if (from !== undefined && to !== undefined) {
    const end = srcAt + length - LANE_BYTES;
    let at = dstAt;
    for (let i = srcAt; i < end; i += LANE_BYTES, at += LANE_BYTES) {
      to.setBigInt64(at, from.getBigInt64(i));
    }
    // The last lane may repeat bytes of the one before it.
    to.setBigInt64(dstAt + length - LANE_BYTES, from.getBigInt64(end));
  } else bufferCopy.call(src as Buffer, dst, dstAt, srcAt, srcAt + length);
}
