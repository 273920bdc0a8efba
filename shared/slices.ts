/**
 * Long work in slices, so that the rest of the process has its turn in between. All long work of the
 * process shares one slice of each turn of the event loop. So the work of many requests keeps the
 * data path waiting no longer than the work of one.
 *
 *   slice of a turn:  work ─► its next ticks and promises ─► the next work that waits ─► ...
 */

/** Time (ms) after which a slice begins no further work. */
const SLICE_MS = 5;

// The functions of this moment: a test may replace the global ones by a clock of its own.
const { setImmediate, queueMicrotask } = globalThis;
const { nextTick } = process;

/** Work that waits for a slice, in order. Each caller waits for one thing at a time. */
const waiting: (() => void)[] = [];
/** Time (ms) at which the slice of this turn began. Undefined in a turn without long work. */
let began: number | undefined;

/** Runs `work` now, or in a later turn when this one's slice is used. */
export function inSlice(work: () => void): void {
  if (hasTime()) work();
  else waiting.push(work);
}

/** Returns a promise of the next slice, or undefined when this one still has time. */
export function slice(): Promise<void> | undefined {
  return hasTime() ? undefined : new Promise((resolve) => void waiting.push(resolve));
}

/** Returns true for the first work of a turn, and then while the slice has time. */
function isOpen(): boolean {
  if (began !== undefined) return performance.now() - began < SLICE_MS;
  began = performance.now();
  setImmediate(nextSlice);
  return true;
}

const hasTime = (): boolean => isOpen() && waiting.length === 0;

function nextSlice(): void {
  began = undefined;
  next();
}

/** Runs the work that waits, piece by piece, while the slice has time. */
function next(): void {
  if (waiting.length === 0 || !isOpen()) return;
  waiting.shift()!();
  // The work's next ticks and promises come first.
  nextTick(() => queueMicrotask(next));
}
