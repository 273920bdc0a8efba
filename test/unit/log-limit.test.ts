import { describe, expect, test } from "vitest";
import { LogLimit } from "../../shared/log-limit.ts";
import { RecordingLog } from "../support/recording-log.ts";

function stage() {
  const log = new RecordingLog();
  const clock = { now: 0 };
  return { log, clock, limit: new LogLimit(log, () => clock.now) };
}

describe("LogLimit", () => {
  test("attack-S11, fault-J7 of ten thousand lines of a kind in a second one is written, and the next says how many were left out", () => {
    const { log, clock, limit } = stage();
    for (let i = 0; i < 10_000; i++) limit.of("reset").info({}, `reset ${i}`);
    expect(log.infos).toEqual(["reset 0"]);
    clock.now = 1000;
    limit.tick();
    expect(log.infos).toEqual(["reset 0", "reset 9999 (and 9998 more like it)"]);
    clock.now = 2000;
    limit.tick();
    limit.tick();
    expect(log.infos.length).toBe(2);
  });

  test("lines more than a second apart are all written", () => {
    const { log, clock, limit } = stage();
    for (let i = 0; i < 5; i++) {
      limit.of("late").warn({}, `line ${i}`);
      clock.now += 1000;
    }
    expect(log.warnings).toEqual(["line 0", "line 1", "line 2", "line 3", "line 4"]);
  });

  test("a tick within the second writes nothing; kinds do not hold each other back", () => {
    const { log, clock, limit } = stage();
    limit.of("a").info({}, "a1");
    limit.of("a").info({}, "a2");
    limit.of("b").info({}, "b1");
    clock.now = 999;
    limit.tick();
    expect(log.infos).toEqual(["a1", "b1"]);
  });

  test("flush writes what is left out without waiting for the second", () => {
    const { log, limit } = stage();
    for (let i = 0; i < 3; i++) limit.of("a").info({}, `a${i}`);
    limit.flush();
    limit.flush();
    expect(log.infos).toEqual(["a0", "a2 (and 1 more like it)"]);
  });

  test("kinds are bounded: those beyond the bound share one", () => {
    const { log, limit } = stage();
    for (let i = 0; i < 1000; i++) limit.of(`kind ${i}`).info({}, "line");
    expect(log.infos.length).toBe(65);
  });
});
