/** Frontends that ask for the same name, as users and strangers start them. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { DeviceProcess } from "../support/device-process.ts";
import { type Child, eventually, startRingwire } from "../support/process.ts";
import { RawFrontend } from "../support/raw-frontend.ts";
import { allPorts } from "../support/status.ts";

let device: DeviceProcess;

beforeAll(async () => {
  device = await DeviceProcess.start();
});

afterAll(async () => {
  await device.stop();
});

const frontend = (...args: string[]): Child =>
  startRingwire(["frontend", "--connect", device.url, "--json", ...args]);

const ready = (child: Child): Promise<{ name: string; mac: string }> =>
  child.waitForJson((line) => line["event"] === "ready");

const nics = async (): Promise<string[]> =>
  (await device.status()).nics.map((nic) => nic.name).sort();

describe("without --name", () => {
  it("ux-P1 frontends run side by side, and each says what it is called", async () => {
    await using first = frontend();
    expect((await ready(first)).name).toBe("ena0");
    await using second = frontend();
    await using third = frontend();
    const others = await Promise.all([ready(second), ready(third)]);
    expect(others.map(({ name }) => name).sort()).toEqual(["ena1", "ena2"]);
    expect(await nics()).toEqual(["ena0", "ena1", "ena2"]);
    expect(second.stderr).toMatch(/the device has a NIC ena0 already, so this one is ena\d there/);
    // The same in the text output.
    await using plain = startRingwire(["frontend", "--connect", device.url]);
    await plain.waitFor(/^ena3 is up: /m);
    expect(first.stdout).not.toContain("link-lost");
    expect([first.exit, second.exit, third.exit]).toEqual([undefined, undefined, undefined]);
  });

  it("ux-P1 an application on netmap:ena0 leaves the frontend ena0 alone", async () => {
    await using first = frontend();
    expect((await ready(first)).name).toBe("ena0");
    const port = ["-i", "netmap:ena0", "--connect", device.url, "--json"];
    await using generator = startRingwire(["pkt-gen", ...port, "-f", "rx"]);
    await using balancer = startRingwire(["lb", ...port]);
    await eventually("three NICs", async () => ((await nics()).length === 3 ? true : undefined));
    expect(await nics()).toEqual(["ena0", "ena1", "ena2"]);
    expect(first.stdout).not.toContain("link-lost");
    expect([generator.exit, balancer.exit]).toEqual([undefined, undefined]);
  });
});

describe("a NIC that was up", () => {
  it("attack-S5 that a stranger throws out comes back when the stranger leaves", async () => {
    await using victim = frontend("--name", "victim");
    const { mac } = await ready(victim);
    const thief = await RawFrontend.join(device.port, "victim", {
      instance: "thief",
      takeOver: true,
    });
    await victim.waitForJson((line) => line["event"] === "link-lost");
    await victim.waitFor(/"victim" is the name of another NIC/);
    await thief.end();
    await victim.waitForJson((line) => line["event"] === "link-back");
    const status = await device.status();
    expect(status.nics).toMatchObject([{ name: "victim", mac }]);
    expect(victim.exit).toBeUndefined();
  });

  it("attack-S5 whose address a stranger takes while the device restarts comes back", async () => {
    let own = await DeviceProcess.start();
    const { port } = own;
    await using victim = startRingwire([
      ...["frontend", "--connect", own.url, "--name", "victim", "--json"],
    ]);
    const { mac } = await ready(victim);
    // The device is started again on the same port, and the stranger joins before the victim runs
    // on.
    victim.signal("SIGSTOP");
    own.child.signal("SIGKILL");
    await own.child.exited;
    own = await DeviceProcess.start("--listen", `127.0.0.1:${port}`);
    try {
      const thief = await RawFrontend.join(port, "thief", { mac });
      victim.signal("SIGCONT");
      await victim.waitFor(new RegExp(`${mac} is the address of thief`));
      await thief.end();
      await victim.waitForJson((line) => line["event"] === "link-back");
      expect(victim.exit).toBeUndefined();
    } finally {
      await own.stop();
    }
  });
});

it.each(["ena", "xen"])(
  "fault-K2 a frontend of %s that is killed is followed at once by the next of its name",
  async (driver) => {
    const args = ["--driver", driver, "--name", `mortal-${driver}`];
    for (let time = 0; time < 3; time++) {
      await using one = frontend(...args);
      expect(await ready(one)).toMatchObject({ name: `mortal-${driver}` });
      one.signal("SIGKILL");
      await one.exited;
    }
    await eventually("the device to free all", async () => {
      const status = await device.status();
      return allPorts(status).length + status.xen.domains === 0 ? true : undefined;
    });
  },
);

it("--take-over takes the name, and the NIC that had it waits", async () => {
  await using first = frontend("--name", "mine");
  await ready(first);
  await using second = frontend("--name", "mine", "--take-over");
  await ready(second);
  await first.waitForJson((line) => line["event"] === "link-lost");
  await first.waitFor(/"mine" is the name of another NIC/);
  second.signal("SIGTERM");
  expect(await second.ended()).toEqual({ code: 0, signal: null });
  await first.waitForJson((line) => line["event"] === "link-back");
});

it("attack-S4 a spoofer and its victim are named, to the spoofer and in the device's log", async () => {
  const victim = await RawFrontend.join(device.port, "owner");
  await using spoofer = startRingwire([
    ...["pkt-gen", "-f", "tx", "-i", "netmap:ena5", "--connect", device.url],
    ...["-R", "50", "-S", victimMac(await device.status())],
  ]);
  await device.child.waitFor(
    /ena5 sent \d+ frames with the source [0-9a-f:]{17}, which is the address of owner: dropped/,
  );
  await spoofer.waitFor(/which is the address of owner: dropped/);
  await victim.end();
});

function victimMac({ nics: all }: Awaited<ReturnType<DeviceProcess["status"]>>): string {
  return (all as unknown as { name: string; mac: string }[]).find((nic) => nic.name === "owner")!
    .mac;
}
