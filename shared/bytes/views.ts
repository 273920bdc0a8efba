/**
 * Views of the arrays that the data path uses again and again: buffers of pools, slots, windows. To
 * make a view costs more than most of its uses, so the views of the last arrays are kept. Large
 * arrays live long anyway; at most WAYS others live longer than their owners.
 */
const WAYS = 8;
const NONE = new Uint8Array(0);
const arrays: Uint8Array[] = new Array<Uint8Array>(WAYS).fill(NONE);
const views: (DataView | undefined)[] = new Array<DataView | undefined>(WAYS).fill(undefined);
let next = 0;

/** Returns a view of the whole array. */
export function cachedView(bytes: Uint8Array): DataView {
  return viewIfUsedAgain(bytes) ?? viewIfUsedAgain(bytes)!;
}

/** Returns a view of the whole array, or undefined at its first use. */
export function viewIfUsedAgain(bytes: Uint8Array): DataView | undefined {
  for (let i = 0; i < WAYS; i++) {
    if (arrays[i] !== bytes) continue;
    views[i] ??= new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    return views[i];
  }
  arrays[next] = bytes;
  views[next] = undefined;
  next = (next + 1) % WAYS;
  return undefined;
}
