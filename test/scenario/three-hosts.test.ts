/** Three frontends on one device: one is killed, and the others continue. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { iperf, ping } from "../support/iperf.ts";
import { Lab, MIXES } from "../support/lab.ts";
import { whyNoNamespaces } from "../support/netns.ts";
import { type Child, eventually } from "../support/process.ts";
import { type DeviceStatus, portsOf } from "../support/status.ts";

const why = whyNoNamespaces();

const title = `three hosts on one device, $mix${why ? `: ${why}` : ""}`;
describe.skipIf(why !== undefined).each(MIXES)(title, ({ drivers }) => {
  let lab: Lab;
  let device: Child;
  let third: Child;

  beforeAll(async () => {
    lab = new Lab(3, drivers);
    device = await lab.startDevice();
    const frontends = await Promise.all([0, 1, 2].map((i) => lab.startFrontend(i)));
    third = frontends[2]!;
  });

  afterAll(async () => {
    await lab.close();
  });

  it("reach each other, all pairs, without loss or doubles", async () => {
    const pairs = [0, 1, 2].flatMap((i) => [0, 1, 2].filter((j) => j !== i).map((j) => [i, j]));
    const results = await Promise.all(
      pairs.map(([i, j]) =>
        ping({
          from: lab.host(i!).namespace,
          address: lab.host(j!).address,
          count: 50,
          intervalSeconds: 0.02,
        }),
      ),
    );
    for (const { sent, received, duplicates } of results) {
      expect({ received, duplicates }).toEqual({ received: sent, duplicates: 0 });
    }
  });

  it("answer pings of one while two exchange TCP", async () => {
    const load = iperf({
      from: lab.host(0).namespace,
      to: lab.host(1).namespace,
      address: lab.host(1).address,
    });
    const { received } = await ping({
      from: lab.host(2).namespace,
      address: lab.host(1).address,
      count: 50,
      intervalSeconds: 0.02,
    });
    // A port under load drops frames, so some pings may be lost, but not all.
    expect(received).toBeGreaterThan(0);
    expect((await load).sum_received.bits_per_second).toBeGreaterThan(0);
  });

  it("fault-K2 lose the port of a killed frontend at once, and notice nothing else", async () => {
    const before = await lab.status<DeviceStatus>();
    expect(portsOf(before)).toEqual(["host0", "host1", "host2"]);

    const neighbours = ping({
      from: lab.host(0).namespace,
      address: lab.host(1).address,
      count: 300,
      intervalSeconds: 0.01,
    });
    third.signal("SIGKILL");
    const { signal } = await third.exited;
    expect(signal).toBe("SIGKILL");
    await eventually(
      "the killed frontend's port to go",
      async () => !portsOf(await lab.status<DeviceStatus>()).includes("host2") || undefined,
    );
    // The device noticed the closed socket at once, not a silence of some seconds.
    const left = (line: Record<string, unknown>) => line["event"] === "left";
    expect(await device.waitForJson(left)).toMatchObject({
      name: "host2",
      reason: expect.not.stringContaining("no sign of life"),
    });

    const { sent, received, duplicates } = await neighbours;
    expect({ received, duplicates }).toEqual({ received: sent, duplicates: 0 });
    // The kernel removes a TAP that the frontend made when the process ends.
    expect(lab.tap(2)).toBeUndefined();
  });

  it("take a killed frontend back", async () => {
    await lab.startFrontend(2);
    const { sent, received } = await ping({
      from: lab.host(0).namespace,
      address: lab.host(2).address,
      count: 20,
      intervalSeconds: 0.02,
    });
    expect(received).toBe(sent);
  });
});
