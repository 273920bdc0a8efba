/**
 * A device and a NIC on two hosts, between which the line is cut: one way, the other way, or by a
 * host that vanishes without a word. And processes that are paused, with limits that allow it.
 */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { DeviceProcess } from "../support/device-process.ts";
import { Neighbour } from "../support/neighbour.ts";
import { joinByVeth, Namespace, whyNoNamespaces } from "../support/netns.ts";
import { type Child, eventually, sleep, startRingwire } from "../support/process.ts";

const why = whyNoNamespaces();
const PORT = 7700;
const DEVICE = "198.51.100.1";
const HOST = "198.51.100.2";

const gone = (child: Child): Promise<Record<string, unknown>> =>
  child.waitForJson((line) => line["event"] === "left");

describe.skipIf(why !== undefined)(`a line between two hosts${why ? `: ${why}` : ""}`, () => {
  let ends: [device: Namespace, host: Namespace];
  beforeAll(() => {
    ends = [new Namespace("device"), new Namespace("host")];
    joinByVeth(
      { namespace: ends[0], device: "line", address: `${DEVICE}/24` },
      { namespace: ends[1], device: "line", address: `${HOST}/24` },
    );
  });
  afterAll(() => {
    for (const end of ends) end.destroy();
  });

  /** Each cuts the line, or mends it. */
  const cuts: readonly (readonly [string, (isCut: boolean) => void])[] = [
    ["from the NIC to the device", (isCut) => misdirect(ends[1], DEVICE, isCut)],
    ["from the device to the NIC", (isCut) => misdirect(ends[0], HOST, isCut)],
    [
      "both ways, by a host that vanishes",
      (isCut) => void ends[1].ip("link", "set", "line", isCut ? "down" : "up"),
    ],
  ];

  it.each(cuts)(
    "fault-K4, fault-A9 cut %s is noticed at both ends and heals",
    async (_what, cut) => {
      const [there, here] = ends;
      await using device = disposable(
        startRingwire(["device", "--listen", `${DEVICE}:${PORT}`, "--insecure", "--json"], {
          namespace: there,
        }),
      );
      await device.child.waitForJson((line) => line["event"] === "listening");
      await using nic = disposable(
        startRingwire(["frontend", "--connect", `${DEVICE}:${PORT}`, "--name", "far", "--json"], {
          namespace: here,
        }),
      );
      await nic.child.waitForJson((line) => line["event"] === "ready");
      cut(true);
      try {
        // The NIC is freed at the device, whoever of both notices first.
        expect(await gone(device.child)).toMatchObject({ name: "far" });
        await nic.child.waitForJson((line) => line["event"] === "link-lost");
      } finally {
        cut(false);
      }
      await nic.child.waitForJson((line) => line["event"] === "link-back");
      const joined = device.child.stdout
        .split("\n")
        .filter((line) => line.includes('"joined"') && line.includes('"far"'));
      expect(joined.length).toBeGreaterThanOrEqual(2);
      expect([device.child.exit, nic.child.exit]).toEqual([undefined, undefined]);
    },
  );
});

const disposable = (child: Child) => ({
  child,
  [Symbol.asyncDispose]: async () => {
    await child.stop();
  },
});

/** Sends what `from` has for `to` to an Ethernet address that nobody has, so that it is lost. */
function misdirect(from: Namespace, to: string, isCut: boolean): void {
  if (isCut) {
    const nobody = ["lladdr", "02:00:00:00:00:99", "nud", "permanent"];
    from.ip("neigh", "replace", to, "dev", "line", ...nobody);
  } else from.ip("neigh", "del", to, "dev", "line");
}

/** Longer than the limit without options (4 to 5 s), and than the watchdogs of the drivers (6 s). */
const PAUSE_MS = 9000;

it.concurrent.each([
  ["the device", "ena"],
  ["the device", "xen"],
  ["the frontends", "ena"],
  ["the frontends", "xen"],
] as const)(
  "fault-K3 %s may be paused with --dead-after, and %s NICs stay",
  async (who, driver) => {
    await using device = await DeviceProcess.start("--dead-after", "60");
    const pair = await Neighbour.start(device, [driver, driver]);
    const paused = who === "the device" ? device.child : pair.child;
    try {
      paused.signal("SIGSTOP");
      await sleep(PAUSE_MS);
      paused.signal("SIGCONT");
      await pair.flows();
      const { ab, ba, reconnects } = await pair.counts();
      expect([ab.wrong, ba.wrong, reconnects]).toEqual([0, 0, 0]);
      const { nics } = await device.status();
      const resets = nics.map(
        ({ nic }) => (nic as { resets?: Record<string, number> }).resets ?? {},
      );
      for (const { NORMAL: _, ...others } of resets) expect(others).toEqual({});
    } finally {
      paused.signal("SIGCONT");
      await pair.stop();
    }
  },
);

it("fault-K3 a NIC with --dead-after off may be paused, and stays", async () => {
  await using device = await DeviceProcess.start();
  await using nic = disposable(
    startRingwire([
      "frontend",
      "--connect",
      device.url,
      "--name",
      "slow",
      "--json",
      "--dead-after",
      "off",
    ]),
  );
  await nic.child.waitForJson((line) => line["event"] === "ready");
  nic.child.signal("SIGSTOP");
  try {
    await sleep(PAUSE_MS);
    expect((await device.status()).nics.map(({ name }) => name)).toEqual(["slow"]);
  } finally {
    nic.child.signal("SIGCONT");
  }
  await eventually("a sign of life", async () => {
    const [slow] = (await device.status()).nics;
    return (slow?.link.roundTripMs ?? 0) > 0 || undefined;
  });
  expect(nic.child.stdout).not.toContain("link-lost");
});
