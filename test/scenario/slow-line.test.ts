/** Full load over a line of 10 Mbit/s and 100 ms round trip. */
import process from "node:process";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { iperf, ping } from "../support/iperf.ts";
import { Lab } from "../support/lab.ts";
import { whyNoNamespaces } from "../support/netns.ts";
import type { Child } from "../support/process.ts";
import type { DeviceStatus } from "../support/status.ts";

const why = whyNoNamespaces();
const SECONDS = process.env["RINGWIRE_SOAK"] === "1" ? 60 : 6;
const LINE = { bitsPerSecond: 10_000_000, latencyMs: 50 } as const;
/** The promise, including the 100 ms of the line itself. */
const PING_MS = 500;

const title = `a slow line between NICs of %s${why ? `: ${why}` : ""}`;

describe.skipIf(why !== undefined).each(["ena", "xen"] as const)(title, (driver) => {
  let lab: Lab;
  let slow: Child;

  beforeAll(async () => {
    lab = new Lab(2, [driver, driver]);
    await lab.startDevice();
    await lab.startProxy(LINE);
    slow = await lab.startFrontend(0, { viaProxy: true });
    await lab.startFrontend(1);
  });

  afterAll(async () => {
    await lab.close();
  });

  it.each([
    { way: "out of the slow host", reverse: false },
    { way: "into the slow host", reverse: true },
  ])("stays up and answers at full load $way", async ({ reverse }) => {
    const from = lab.host(0).namespace;
    const { address } = lab.host(1);
    const before = await lab.status<DeviceStatus>();
    const to = lab.host(1).namespace;
    const load = iperf({ from, to, address, seconds: SECONDS, args: reverse ? ["-R"] : [] });
    const pings = await ping({ from, address, count: (SECONDS - 1) * 20, intervalSeconds: 0.05 });
    const bitsPerSecond = (await load).sum_received.bits_per_second;
    const after = await lab.status<DeviceStatus>();

    // The test needs full load, or the rest proves nothing.
    expect(bitsPerSecond).toBeGreaterThan(LINE.bitsPerSecond / 4);
    // A standing queue would delay all pings. A pause of half a second in one of the five processes
    // on this machine delays a tenth of them.
    const late = pings.times.filter((ms) => ms >= PING_MS);
    expect(late.length).toBeLessThanOrEqual(pings.sent / 10);
    // The driver drops frames that have waited for more than 100 ms, and a ping may be among them.
    expect(pings.received).toBeGreaterThanOrEqual(pings.sent * 0.8);

    // The connection is still the first: no heartbeat was missed, and no reset ended it.
    const age = (status: DeviceStatus) =>
      status.nics.find((nic) => nic.name === "host0")?.seconds ?? -1;
    expect(age(after)).toBeGreaterThanOrEqual(age(before) + SECONDS - 1);
    expect(slow.exit).toBeUndefined();
    expect(slow.stderr).not.toMatch(/link is gone|reset|watchdog|no sign of life/i);
  });
});
