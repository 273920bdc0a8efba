/** Signals that count as one, and signals that count as a second one. */
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { onStop, type Stop } from "../../cli/common/signals.ts";

describe("signals by the clock", () => {
  let now = 0;
  let stop: Stop;
  const ended = vi.fn();

  beforeEach(() => {
    now = 1000;
    vi.spyOn(performance, "now").mockImplementation(() => now);
    vi.spyOn(process.stderr, "write").mockReturnValue(true);
    vi.spyOn(process, "exit").mockImplementation(ended as never);
    stop = onStop();
  });
  afterEach(() => {
    stop.forget();
    vi.restoreAllMocks();
    ended.mockClear();
  });

  const at = (ms: number, signal: NodeJS.Signals): void => {
    now = 1000 + ms;
    process.emit(signal, signal);
  };

  it("ux-S7 the same kind within 200 ms is the same wish", async () => {
    at(0, "SIGINT");
    at(199, "SIGINT");
    expect(ended).not.toHaveBeenCalled();
    at(200, "SIGINT");
    expect(ended).toHaveBeenCalledExactlyOnceWith(1);
    expect(await stop.asked).toBe("SIGINT");
  });

  it("ux-S7 another kind is a second wish at once", async () => {
    at(0, "SIGINT");
    at(0, "SIGTERM");
    expect(ended).toHaveBeenCalledExactlyOnceWith(1);
  });

  it("ux-P6 a terminal may send SIGHUP at any distance", async () => {
    at(0, "SIGHUP");
    at(5000, "SIGHUP");
    expect(ended).not.toHaveBeenCalled();
    expect(await stop.asked).toBe("SIGHUP");
    at(5000, "SIGTERM");
    expect(ended).toHaveBeenCalledExactlyOnceWith(1);
  });

  it("after the end signals do what they always do", () => {
    const before = process.listenerCount("SIGHUP");
    stop.forget();
    expect(process.listenerCount("SIGHUP")).toBe(before - 1);
  });
});
