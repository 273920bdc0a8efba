/**
 * Buffers for messages that come in pieces, of a few sizes. A few of each size wait to be used again:
 * a buffer that is only dropped stays in memory until the next collection of garbage, however little
 * a peer may hold.
 */
import { Limits } from "../wire/protocol.ts";

/** The last size holds the longest message with its header, and room for a read behind it. */
const SIZES = [64 * 1024, 256 * 1024, Limits.MESSAGE_BYTES + 2 * 4096];
const KEEP = 4;
const spare: readonly Uint8Array[][] = SIZES.map(() => []);

/** Returns a buffer of at least `bytes`. Its content is undefined. */
export function takeBuffer(bytes: number): Uint8Array {
  const i = SIZES.findIndex((size) => size >= bytes);
  return spare[i]?.pop() ?? new Uint8Array(SIZES[i] ?? bytes);
}

/** Gives back a buffer that nobody looks at any more. Buffers of other sizes are ignored. */
export function giveBuffer(buffer: Uint8Array): void {
  const list = spare[SIZES.indexOf(buffer.length)];
  if (list !== undefined && list.length < KEEP) list.push(buffer);
}
