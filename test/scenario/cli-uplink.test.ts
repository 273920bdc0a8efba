/** Kernel interfaces on a user's request: an uplink of the device, a TAP of a frontend. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { iperf, ping } from "../support/iperf.ts";
import { Lab, TAP } from "../support/lab.ts";
import { whyNoNamespaces } from "../support/netns.ts";
import { type Child, eventually, NODE, run } from "../support/process.ts";
import { type DeviceStatus, portsOf } from "../support/status.ts";

const why = whyNoNamespaces();
const UPLINK = "lab0";
const ADDRESS = "10.202.0.200";

const title = `an uplink of the device, and a NIC of %s${why ? `: ${why}` : ""}`;

describe.skipIf(why !== undefined).each(["ena", "xen"] as const)(title, (driver) => {
  let lab: Lab;
  let device: Child;
  let frontend: Child;

  beforeAll(async () => {
    lab = new Lab(1, [driver]);
    device = await lab.startDevice(["--uplink", `tap:${UPLINK}`]);
    lab.device.ip("addr", "add", `${ADDRESS}/24`, "dev", UPLINK);
    frontend = await lab.startFrontend(0);
  });

  afterAll(async () => {
    await lab.close();
  });

  it("joins its kernel to the segment", async () => {
    const { sent, received, duplicates } = await ping({
      from: lab.host(0).namespace,
      address: ADDRESS,
      count: 50,
      intervalSeconds: 0.02,
    });
    expect({ received, duplicates }).toEqual({ received: sent, duplicates: 0 });
    const ports = portsOf(await lab.status<DeviceStatus>());
    expect(ports.sort()).toEqual(["host0", UPLINK]);
  });

  it("carries TCP both ways", async () => {
    const both = [
      { from: lab.host(0).namespace, to: lab.device, address: ADDRESS },
      { from: lab.device, to: lab.host(0).namespace, address: lab.host(0).address },
    ];
    for (const way of both) {
      expect((await iperf(way)).sum_received.bits_per_second).toBeGreaterThan(0);
    }
  });

  it("gives its name to no NIC", async () => {
    const child = lab.launchFrontend(0, { name: UPLINK, tap: "other0" });
    expect(await child.ended()).toEqual({ code: 1, signal: null });
    expect(child.stderr).toMatch(/"lab0" is the name of an uplink .*--name/);
    expect(lab.host(0).namespace.link("other0")).toBeUndefined();
  });

  it("TAPs have the NIC's address, and are gone when the commands end", async () => {
    const { mac } = await frontend.waitForJson<{ mac: string }>((line) => line.event === "ready");
    expect(lab.tap(0)?.address).toBe(mac);
    frontend.signal("SIGTERM");
    expect(await frontend.ended()).toEqual({ code: 0, signal: null });
    expect(lab.tap(0)).toBeUndefined();
    expect(lab.device.link(UPLINK)).toBeDefined();
    device.signal("SIGINT");
    expect(await device.ended()).toEqual({ code: 0, signal: null });
    expect(lab.device.link(UPLINK)).toBeUndefined();
  });

  it("a TAP that is deleted ends the frontend with a sentence, and is one port less", async () => {
    await using again = await lab.startDevice(["--uplink", `tap:${UPLINK}`]);
    const victim = await lab.startFrontend(0);
    lab.host(0).namespace.ip("link", "del", TAP);
    expect(await victim.ended()).toEqual({ code: 1, signal: null });
    expect(victim.stderr).toMatch(new RegExp(`${TAP} was deleted`));
    await eventually("the NIC to leave", () =>
      again.stdout.includes('"event":"left"') ? true : undefined,
    );
    lab.device.ip("link", "del", UPLINK);
    const lost = await again.waitForJson<{ name: string; reason: string }>(
      (line) => line.event === "uplink-lost",
    );
    expect(lost).toMatchObject({ name: UPLINK, reason: expect.stringMatching(/was deleted/) });
    // The log has the message once.
    expect(again.stderr.split("was deleted")).toHaveLength(2);
    const status = await lab.status<DeviceStatus>();
    expect(portsOf(status)).toEqual([]);
    expect(status.uplinks).toEqual([{ name: UPLINK, segment: "lan0", up: false }]);
    const { port } = await again.waitForJson<{ port: number }>((l) => l.event === "listening");
    const ask = `fetch("http://127.0.0.1:${port}/readyz").then(async (a) => console.log(a.status, await a.text()))`;
    const { stdout } = await run([NODE, "-e", ask], { namespace: lab.device });
    expect(stdout.trim()).toBe('503 {"ok":false,"reasons":["uplink_lost"]}');
  });
});
