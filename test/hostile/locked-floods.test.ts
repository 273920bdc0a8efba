/**
 * The floods of test/support/floods.ts at a device that wants tokens, whose neighbours are in the
 * segment red. Each comes once from a stranger at another address, and once from a client with all
 * rights in the segment blue. Nothing may be lost, seen or left behind.
 */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { cases } from "../support/counts.ts";
import { FLOOD_NAMES, FLOODS, type FloodName, type Standing } from "../support/floods.ts";
import { HostileStage } from "../support/hostile-stage.ts";
import { type Child, eventually, NODE, ROOT, sleep, start } from "../support/process.ts";
import { Random, seedOfRun } from "../support/random.ts";
import { RawFrontend } from "../support/raw-frontend.ts";
import { RawSocket, upgradeRequest } from "../support/raw-socket.ts";
import { type DeviceStatus, portsOf } from "../support/status.ts";

const FLOOD_MS = 500;
const LOOK_MS = 50;
const WORKER = `${ROOT}test/support/flood-worker.ts`;
/** The address of the attackers. On Linux all of 127.0.0.0/8 belongs to the loopback interface. */
const ELSEWHERE = "127.0.0.66";
/** How far the memory of a device may grow under floods that it refuses. */
const GROWTH_BYTES = 64 << 20;
/** Twice the refused tries after which an address gets another answer. */
const MOST_OWN_TRIES = 40;
/** Tries of strangers at once, and samples of the device's memory meanwhile. */
const SIDE_BY_SIDE = 32;
const SAMPLES = 10;
const WARM_SAMPLES = 5;
/** Growth that counts as none: 3 KiB for each try of a check, 300 bytes in a soak. */
const FLAT_BYTES = 16 << 20;
/** The device may hold 142 MiB for it, within its budget; the stage allows hardly more. */
const HOLDS_MEMORY: FloodName = "unfinished-messages";

/**
 * Floods of a stranger that are not refused for want of a token, with the counter that stands for
 * their refusal: they never make a whole request, or ask for a page that is open to all.
 */
const NOT_ASKED: Partial<Record<FloodName, string>> = {
  "big-headers": "head_too_large",
  "silent-sockets": "evicted",
  "half-requests": "evicted",
  "keep-alive": "",
  "tcp-churn": "",
};

/** How the attempts of a stranger end. A socket that does not read has no words. */
const REFUSED =
  /^(?:401|429|431|503) |response: (?:401|429)$|\(HTTP (?:401|429)\)|^ended without words$/;

let stage: HostileStage;
let rssBytes: number;

beforeAll(async () => {
  stage = await HostileStage.openLocked();
  rssBytes = stage.device.rssBytes();
});

afterAll(async () => {
  await stage.close();
});

/** Other floods in each run, all in a soak. */
function chosen(from: readonly FloodName[]): FloodName[] {
  const random = new Random(seedOfRun());
  const names = [...from];
  const count = cases(names.length);
  return Array.from({ length: count }, () => names.splice(random.below(names.length), 1)[0]!);
}

/** Floods for a while. `look` gets each status meanwhile. Returns how connections were cut. */
async function flood(
  name: FloodName,
  standing: Standing,
  look: (status: DeviceStatus) => void,
): Promise<Record<string, number>> {
  const argv = [NODE, "--no-warnings", WORKER, String(stage.port), name, JSON.stringify(standing)];
  const child = start(["nice", "-n", "15", ...argv]);
  try {
    await child.waitForJson((line) => line["flooding"] === true);
    const end = performance.now() + FLOOD_MS;
    do {
      await sleep(LOOK_MS);
      look(await stage.status());
    } while (performance.now() < end);
    return await cutsOf(child);
  } finally {
    await child.stop();
    expect(child.stderr).toBe("");
  }
}

async function cutsOf(child: Child): Promise<Record<string, number>> {
  child.tell("1");
  const { cuts } = await child.waitForJson<{ cuts: Record<string, number> }>(
    (line) => line["tag"] === 1,
  );
  return cuts;
}

/** Waits until the device holds nothing for anybody but the neighbours and this question. */
async function released(before: DeviceStatus): Promise<DeviceStatus> {
  const after = await eventually("the places of HTTP to be free", async () => {
    const status = await stage.status();
    const { requests, pages, hellos } = status.http;
    return requests <= 1 && pages <= 1 && hellos === 0 ? status : undefined;
  });
  const { nicMemory } = after;
  expect(nicMemory.windowBytes).toBe(before.nicMemory.windowBytes);
  return after;
}

/** Number of NICs that a segment has and had. */
function nicsIn({ segments }: DeviceStatus, name: string): number {
  const { ports, left } = segments.find((segment) => segment.name === name)!;
  return left.reduce((sum, { times }) => sum + times, ports.length);
}

/** True for a flood by NICs. */
const isNic = (name: FloodName): boolean => FLOODS[name].kind !== "http" && name !== HOLDS_MEMORY;

describe("a stranger", () => {
  it.each(chosen(FLOOD_NAMES))("fault-L12, attack-S2: a flood of %s is refused", async (name) => {
    const before = await stage.status();
    const cuts = await flood(name, { from: ELSEWHERE }, (status) => {
      // Nothing exists for a stranger, not even for a moment.
      expect(portsOf(status)).toEqual(portsOf(before));
      expect(status.connections).toBe(2);
      expect(status.http.hellos).toBe(0);
      expect(status.xen.domains).toBe(before.xen.domains);
      expect(status.captures.running).toBe(0);
      expect(status.nicMemory.windowBytes).toBe(before.nicMemory.windowBytes);
      expect(status.nicMemory.refused).toEqual(before.nicMemory.refused);
    });
    const { http } = await released(before);
    const count = (reason: string) =>
      (http.refused[reason] ?? 0) - (before.http.refused[reason] ?? 0);
    const reason = NOT_ASKED[name] ?? "unknown_client";
    if (reason !== "") expect(count(reason), reason).toBeGreaterThan(0);
    // /livez is open to all.
    if (name === "keep-alive") delete cuts["200 OK"];
    expect(Object.keys(cuts).filter((words) => !REFUSED.test(words))).toEqual([]);
    await stage.unharmed();
    expect(stage.device.rssBytes() - rssBytes).toBeLessThan(GROWTH_BYTES);
  });
});

describe("a client of another segment", () => {
  const names = FLOOD_NAMES.filter((name) => name !== HOLDS_MEMORY);

  it.each(chosen(names))(
    "attack-S2, fault-L5: a flood of %s leaves the neighbours whole",
    async (name) => {
      const before = await stage.status();
      const nics = nicsIn(before, "blue");
      const standing = { from: ELSEWHERE, token: stage.lock!.blue, segment: "blue" };
      await flood(name, standing, ({ segments }) => {
        const red = segments.find((segment) => segment.name === "red")!;
        expect(red.ports.map((port) => port.name).sort()).toEqual(["pair-a", "pair-b"]);
      });
      await released(before);
      await stage.unharmed();
      // It was let in, so it was a flood.
      const joined = nicsIn(await stage.status(), "blue") - nics;
      expect(joined > 0, `${joined} NICs joined`).toBe(isNic(name));
    },
  );
});

/** An address of 127/8 that is not used elsewhere here. */
const addressOf = (n: number): string => `127.${1 + (n >> 16)}.${(n >> 8) & 255}.${n & 255}`;

/** What a stranger tries: an upgrade or a page, with nothing to show or with a guess. */
function tryOf(n: number): string {
  const shown = [{}, { Authorization: `Bearer rw_red_${n}` }, { Cookie: `ringwire-ticket=${n}` }];
  const path = ["/nic", "/status", `/nic?ticket=${n}`, "/capture?source=any"][n % 4];
  const lines = n % 2 === 0 ? {} : { Upgrade: "", Connection: "", "Sec-WebSocket-Key": "" };
  return upgradeRequest(stage.port, { ...lines, ...shown[n % 3] }, path);
}

it("fault-L12 refused upgrades and requests of thousands of addresses leave no trace", async () => {
  const before = await stage.status();
  const refusedStatus = async (n: number, from?: string): Promise<string> => {
    const raw = await RawSocket.connect(stage.port, from);
    raw.write(tryOf(n));
    await raw.ended();
    return raw.received.toString("latin1", 9, 12);
  };
  // The test's own address has too many refused tries. A flood before this test may have added some.
  let own = 1;
  while ((await refusedStatus(own)) !== "429") expect(own++).toBeLessThan(MOST_OWN_TRIES);
  const tries = cases(100_000);
  const samples: number[] = [];
  let next = 0;
  const others: string[] = [];
  const worker = async (): Promise<void> => {
    while (next < tries) {
      const n = next++;
      if (n % (tries / SAMPLES) === 0) samples.push(stage.device.rssBytes());
      const status = await refusedStatus(n, addressOf(n));
      if (status !== "401") others.push(status);
    }
  };
  const flooding = Promise.all(Array.from({ length: SIDE_BY_SIDE }, worker));
  // Meanwhile a client that is known comes in from that address, again and again.
  let joined = 0;
  while (next < tries) {
    const guest = await RawFrontend.join(stage.port, "known", {}, stage.lock!.blue);
    expect(await guest.survived()).toBe(true);
    await guest.end();
    joined++;
  }
  await flooding;
  samples.push(stage.device.rssBytes());
  // While the heap warms up it grows by some megabytes, whatever happens.
  expect(samples.at(-1)! - samples[WARM_SAMPLES]!).toBeLessThan(FLAT_BYTES);
  expect(others).toEqual([]);
  expect(joined).toBeGreaterThan(0);
  const { http } = await released(before);
  const refused =
    (http.refused["unknown_client"] ?? 0) - (before.http.refused["unknown_client"] ?? 0);
  expect(refused).toBe(tries + own);
  await stage.unharmed();
});
