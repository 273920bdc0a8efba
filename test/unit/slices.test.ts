/** Long work of many callers shares one slice of each turn. */
import { setImmediate as immediate } from "node:timers/promises";
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { inSlice, slice } from "../../shared/slices.ts";

let clock: number;
beforeEach(async () => {
  clock = 1000;
  vi.spyOn(performance, "now").mockImplementation(() => clock);
  // The slice of the turn in which the test begins may have been opened by real time.
  await immediate();
  await immediate();
});
afterEach(() => {
  vi.restoreAllMocks();
});

/** Work that uses `ms` and tells its name. */
const work = (done: string[], name: string, ms: number) => () => {
  clock += ms;
  done.push(name);
};

/** Runs turns until `done` returns true. Returns what `sample` was after each turn. */
async function turns<T>(sample: () => T, done: () => boolean): Promise<T[]> {
  const samples: T[] = [];
  for (let turn = 0; turn < 100 && !done(); turn++) {
    await immediate();
    samples.push(sample());
  }
  return samples;
}

it("work runs at once while the slice has time, and then in the next turns, in order", async () => {
  const done: string[] = [];
  for (const name of "abcdefgh") inSlice(work(done, name, 2));
  expect(done.join("")).toBe("abc");
  // Short work does not pass long work that waits.
  inSlice(work(done, "i", 0));
  expect(done.join("")).toBe("abc");
  const after = await turns(
    () => done.join(""),
    () => done.length === 9,
  );
  expect(after.filter((one, i) => one !== after[i - 1])).toEqual(["abcdef", "abcdefghi"]);
});

it("tasks that run side by side have one slice together", async () => {
  let pieces = 0;
  const task = async (): Promise<void> => {
    for (let i = 0; i < 10; i++) {
      await slice();
      clock += 1;
      pieces++;
    }
  };
  let over = 0;
  for (let i = 0; i < 6; i++) void task().then(() => over++);
  const after = await turns(
    () => pieces,
    () => over === 6,
  );
  // Each task whose slice has come runs a piece, although the pieces before it have used the time.
  const most = 5 + 6;
  const more = after.slice(1).map((count, i) => count - after[i]!);
  expect(Math.max(...more)).toBeLessThanOrEqual(most);
  expect([pieces, more.length >= 3]).toEqual([60, true]);
});

it("the ticks and promises of a piece of work come before the next one", async () => {
  const done: string[] = [];
  inSlice(work(done, "first", 5));
  for (const name of ["a", "b"]) {
    inSlice(() => {
      done.push(name);
      process.nextTick(() => void done.push(`tick of ${name}`));
      void Promise.resolve().then(() => void done.push(`promise of ${name}`));
    });
  }
  await turns(
    () => 0,
    () => done.length === 7,
  );
  expect(done.slice(0, 4)).toEqual(["first", "a", "tick of a", "promise of a"]);
  expect(done.slice(4).toSorted()).toEqual(["b", "promise of b", "tick of b"]);
});

it("each turn has a piece of work, however long the process stood still before it", async () => {
  const done: string[] = [];
  const spy = vi.spyOn(performance, "now").mockImplementation(() => (clock += 100));
  for (const name of "abc") inSlice(() => void done.push(name));
  expect(done).toEqual(["a"]);
  await turns(
    () => 0,
    () => done.length === 3,
  );
  expect(done).toEqual(["a", "b", "c"]);
  spy.mockRestore();
});

it("new work does not pass work that waits, although the slice has time", async () => {
  const done: string[] = [];
  inSlice(work(done, "first", 5));
  inSlice(() => {
    done.push("a");
    inSlice(work(done, "c", 0));
    expect(slice()).toBeInstanceOf(Promise);
  });
  inSlice(work(done, "b", 0));
  await turns(
    () => 0,
    () => done.length === 4,
  );
  expect(done).toEqual(["first", "a", "b", "c"]);
});
