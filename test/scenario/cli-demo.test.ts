/** `ringwire demo` as a new user runs it. It leaves nothing behind. */
import { describe, expect, it } from "vitest";
import { eventually, runRingwire, startRingwire } from "../support/process.ts";

interface Way {
  readonly from: string;
  readonly to: string;
  readonly frames: number;
  readonly bytes: number;
  readonly verified: number;
  readonly corrupt: number;
  readonly duplicate: number;
  readonly lost: number;
  readonly framesPerSecond: number;
  readonly bitsPerSecond: number;
}

interface Result {
  readonly event: "result";
  readonly ok: boolean;
  readonly ways: readonly Way[];
  readonly roundTripUs: number;
  readonly drops: Readonly<Record<string, number>>;
  readonly processes: Readonly<Record<string, number>>;
}

/** Refuses to load any module of the TAP except names and errors, which call nothing. */
const WITHOUT_TAP = `
import { registerHooks } from "node:module";
registerHooks({
  resolve(specifier, context, next) {
    if (/koffi|shared.tap.(?!errors)|\\/tap\\/tap\\./.test(specifier)) throw new Error("no TAP here: " + specifier);
    return next(specifier, context);
  },
});`;

function alive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

describe("ringwire demo", () => {
  it("--json: every frame verified, numbers that agree, no process left", async () => {
    const child = await runRingwire(["demo", "--seconds", "1", "--json"], {}, 60_000);
    expect(child.exit, child.said()).toEqual({ code: 0, signal: null });
    expect(child.stderr).toBe("");
    const lines = child.stdout.trimEnd().split("\n");
    expect(lines).toHaveLength(1);
    const result = JSON.parse(lines[0] ?? "") as Result;
    expect(result).toMatchObject({ event: "result", ok: true, drops: {} });
    expect(result.ways.map(({ from, to }) => [from, to])).toEqual([
      ["ena0", "xn0"],
      ["xn0", "ena0"],
    ]);
    for (const way of result.ways) {
      expect(way.frames).toBeGreaterThan(0);
      expect(way.verified + way.corrupt + way.lost).toBe(way.frames);
      expect(way).toMatchObject({ lost: 0, corrupt: 0, duplicate: 0 });
      // Sizes are mixed, from 60 to 1514 bytes.
      expect(way.bytes / way.frames).toBeGreaterThan(60);
      expect(way.bytes / way.frames).toBeLessThan(1514);
      // Both rates are of the same time, and rounded.
      const framesPerSecond = (way.frames * way.bitsPerSecond) / (8 * way.bytes);
      expect(Math.abs(way.framesPerSecond - framesPerSecond)).toBeLessThan(0.6);
    }
    expect(result.roundTripUs).toBeGreaterThan(0);
    const pids = Object.values(result.processes);
    expect(new Set([child.pid, ...pids]).size).toBe(4);
    for (const pid of pids) expect(alive(pid), `process ${pid}`).toBe(false);
  });

  it("for people: what happened, and what to try next", async () => {
    const child = await runRingwire(["demo", "--seconds", "1"], {}, 60_000);
    expect(child.exit?.code, child.said()).toBe(0);
    expect(child.stdout).toMatch(/device +process \d+, listening on ws:\/\/127\.0\.0\.1:\d+/);
    expect(child.stdout).toMatch(/ena0 -> xn0 +[\d,]+ +[\d,]+ +0 +0 /);
    expect(child.stdout).toMatch(/round trip [\d.]+ ms/);
    expect(child.stdout).toMatch(/drops +none/);
    expect(child.stdout).toContain("ringwire device --trace");
  });

  it("needs nothing of the TAP, so that it runs where there is none", async () => {
    const child = await runRingwire(
      ["demo", "--seconds", "1", "--json"],
      { env: { NODE_OPTIONS: `--import=data:text/javascript,${encodeURIComponent(WITHOUT_TAP)}` } },
      60_000,
    );
    expect(child.exit, child.said()).toEqual({ code: 0, signal: null });
    // Proves that the hook works, in this process and its children: a command with a TAP fails.
    const frontend = await runRingwire(["frontend", "--connect", "127.0.0.1:9", "--tap", "rw0"], {
      env: { NODE_OPTIONS: `--import=data:text/javascript,${encodeURIComponent(WITHOUT_TAP)}` },
    });
    expect(frontend.exit?.code).toBe(1);
    expect(frontend.stderr).toContain("no TAP here");
  });

  it.each(["SIGINT", "SIGKILL"] as const)("leaves no process behind after %s", async (signal) => {
    await using child = startRingwire(["demo", "--seconds", "60"]);
    await child.waitFor(/both ways/);
    const pids = [...child.stdout.matchAll(/process (\d+)/g)].map((match) => Number(match[1]));
    expect(pids).toHaveLength(3);
    child.signal(signal);
    const exit = await child.ended();
    expect(exit).toEqual(signal === "SIGINT" ? { code: 1, signal: null } : { code: null, signal });
    await eventually("the children to end", () => (pids.some(alive) ? undefined : true));
  });

  it("fails with a sentence when a child dies", async () => {
    await using child = startRingwire(["demo", "--seconds", "60"]);
    await child.waitFor(/both ways/);
    const pid = Number(/xn0 +process (\d+)/.exec(child.stdout)?.[1]);
    process.kill(pid, "SIGKILL");
    expect(await child.ended()).toEqual({ code: 1, signal: null });
    expect(child.stderr).toMatch(/ringwire: the demo's process xn0 ended with SIGKILL/);
  });
});
