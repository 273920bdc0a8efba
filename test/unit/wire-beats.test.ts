/** Links whose seconds begin close to each other share one timer. */
import { expect, it } from "vitest";
import type { Timer } from "../../shared/clock.ts";
import { beatsOf, HEARTBEAT_MS } from "../../shared/wire/beats.ts";
import { TestClock } from "../support/test-clock.ts";

/** Counts the timers that run, and runs immediates when it is told. */
class CountingClock extends TestClock {
  intervals = 0;
  readonly later: (() => void)[] = [];
  override setInterval(run: () => void, ms: number): Timer {
    this.intervals++;
    return super.setInterval(run, ms);
  }
  override setImmediate(run: () => void): void {
    this.later.push(run);
  }
  override clear(timer: Timer | undefined): void {
    if (timer !== undefined) this.intervals--;
    super.clear(timer);
  }
}

it("a thousand links that join within a second have ten timers, and each beats once a second", () => {
  const clock = new CountingClock();
  const beats = beatsOf(clock);
  const times = Array.from({ length: 1000 }, () => [] as number[]);
  const joined: number[] = [];
  const leave = times.map((own) => {
    joined.push(clock.now());
    const left = beats.join({ beat: () => void own.push(clock.now()), judge() {} });
    clock.advance(HEARTBEAT_MS / 1000);
    return left;
  });
  expect(clock.intervals).toBe(10);
  clock.advance(3 * HEARTBEAT_MS);
  // The first second is shorter by less than a tenth of one, all others are whole.
  expect(times.every((own, i) => own[0]! - joined[i]! > 900 && own[0]! - joined[i]! <= 1000)).toBe(
    true,
  );
  expect(times.every((own) => own[2]! - own[0]! === 2 * HEARTBEAT_MS)).toBe(true);
  for (const left of leave) left();
  expect(clock.intervals).toBe(0);
});

it("judges each member of a group behind the beats of all, and none that has left", () => {
  const clock = new CountingClock();
  const beats = beatsOf(clock);
  const log: string[] = [];
  const member = (name: string) => ({
    beat: () => void log.push(`${name} beats`),
    judge: () => void log.push(`${name} is judged`),
  });
  beats.join(member("a"));
  const leaveB = beats.join(member("b"));
  const leaveC = beats.join({ ...member("c"), beat: () => leaveC() });
  clock.advance(HEARTBEAT_MS);
  leaveB();
  for (const run of clock.later) run();
  expect(log).toEqual(["a beats", "b beats", "a is judged"]);
});
