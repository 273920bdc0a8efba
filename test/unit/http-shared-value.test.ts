import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { ScopedValue, SharedValue } from "../../shared/http/shared-value.ts";

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

it("attack-S1: a thousand who ask at once share one making", async () => {
  let made = 0;
  const shared = new SharedValue(() => ++made);
  const answers = await Promise.all(Array.from({ length: 1000 }, () => shared.get()));
  expect(made).toBe(1);
  expect(new Set(answers)).toEqual(new Set([1]));
});

it("attack-S1: at most four makings a second, and none is older than its question", async () => {
  let made = 0;
  const shared = new SharedValue(() => ++made);
  const answers: Promise<[number, number]>[] = [];
  for (let ms = 0; ms < 2000; ms += 10) {
    const before = made;
    answers.push(shared.get().then((value) => [before, value]));
    await vi.advanceTimersByTimeAsync(10);
  }
  await vi.advanceTimersByTimeAsync(500);
  expect(made).toBeLessThanOrEqual(9);
  expect(made).toBeGreaterThan(6);
  const stale = (await Promise.all(answers)).filter(([before, value]) => value <= before);
  expect(stale).toEqual([]);
});

it("attack-S1: a crowd is answered at once, with the last value", async () => {
  let made = 0;
  const shared = new SharedValue(() => ++made);
  expect(await shared.get()).toBe(1);
  const crowd = Array.from({ length: 1000 }, () => shared.get());
  const answered: number[] = [];
  for (const one of crowd) void one.then((value) => answered.push(value));
  await vi.advanceTimersByTimeAsync(1);
  expect(answered.length).toBe(1000 - 64);
  await vi.advanceTimersByTimeAsync(500);
  expect(answered.filter((value) => value === 2).length).toBe(64);
  expect(made).toBe(2);
});

it("attack-S1: a long making is followed by a longer pause, and never runs twice at once", async () => {
  let running = 0;
  let most = 0;
  let made = 0;
  const shared = new SharedValue(async () => {
    most = Math.max(most, ++running);
    await new Promise((resolve) => setTimeout(resolve, 100));
    running--;
    return ++made;
  });
  for (let ms = 0; ms < 5500; ms += 50) {
    void shared.get();
    await vi.advanceTimersByTimeAsync(50);
  }
  expect(most).toBe(1);
  // Each value takes 100 ms to make, followed by a pause of 1000 ms.
  expect(made).toBe(5);
});

it("a making that fails fails for those who share it, and the next one is made", async () => {
  let fail = true;
  const shared = new SharedValue(() => {
    if (fail) throw new Error("no snapshot");
    return 7;
  });
  const first = Promise.allSettled([shared.get(), shared.get()]);
  await vi.advanceTimersByTimeAsync(1);
  expect((await first).map(({ status }) => status)).toEqual(["rejected", "rejected"]);
  fail = false;
  const next = shared.get();
  await vi.advanceTimersByTimeAsync(300);
  expect(await next).toBe(7);
});

describe("a value of each scope", () => {
  const scope = (...segments: string[]) => ({
    segments,
    sees: (name: string) => segments.includes(name),
  });
  const everything = { segments: undefined, sees: () => true };
  /** Tells which of three segments a client sees. */
  const seen = () =>
    new ScopedValue(async ({ sees }) => ["red", "blue", "green"].filter(sees).join());

  it("is never that of a client with other segments", async () => {
    const value = seen();
    const rows = [
      [everything, "red,blue,green"],
      [scope("red"), "red"],
      [scope("blue"), "blue"],
      [scope("red", "blue"), "red,blue"],
      [scope("green", "blue"), "blue,green"],
      [scope(), ""],
      // Names that are no segment's, but stand in the list of clients.
      [scope("*"), ""],
      [scope("all"), ""],
      [scope("red blue"), ""],
      [scope("red,blue", "green"), "green"],
    ] as const;
    const values = await Promise.all(rows.map(([one]) => value.of(one).get()));
    expect(values).toEqual(rows.map(([, sees]) => sees));
  });

  it("is shared by clients with the same segments", () => {
    const value = seen();
    expect(value.of(scope("blue", "red"))).toBe(value.of(scope("red", "blue")));
    expect(value.of(everything)).toBe(value.of({ ...everything }));
  });

  it("is forgotten when there are 64 newer ones", () => {
    const value = seen();
    const [oldest, next] = ["0", "1"].map((name) => value.of(scope(name)));
    for (let i = 2; i < 65; i++) value.of(scope(String(i)));
    expect(value.of(scope("1"))).toBe(next);
    expect(value.of(scope("0"))).not.toBe(oldest);
  });
});
