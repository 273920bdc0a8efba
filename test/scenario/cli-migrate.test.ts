/** The outcome of `ringwire migrate` for the NIC: works there, is back here, or can't be seen. */
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { NicStatus } from "../../shared/status/device-status.ts";
import { type Child, eventually, runRingwire, startRingwire } from "../support/process.ts";
import { type DeviceStatus, merged, pageOf, portsOf } from "../support/status.ts";

interface Moved {
  readonly event: string;
  readonly nic: string;
  readonly to: string;
  readonly outcome: string;
  readonly segment?: string;
  readonly state?: string;
  readonly reason?: string;
}

const devices: Child[] = [];
const ports: number[] = [];
const servers: Server[] = [];

const url = (i: number): string => `ws://127.0.0.1:${ports[i]}`;
const status = async (i: number): Promise<DeviceStatus> =>
  (await (await fetch(`http://127.0.0.1:${ports[i]}/status`)).json()) as DeviceStatus;
const migrate = (nic: string, from: string, to: string, ...flags: string[]) =>
  runRingwire(["migrate", nic, "--connect", from, "--to", to, ...flags]);
const toldBy = (child: Child): Moved => JSON.parse(child.stdout) as Moved;

async function serve(handler: Parameters<typeof createServer>[1]): Promise<string> {
  const server = createServer(handler as never);
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return `127.0.0.1:${(server.address() as AddressInfo).port}`;
}

/** Pages of a device with one NIC, which leaves on request. */
async function pages(nic: NicStatus): Promise<string> {
  let nics = [nic];
  return await serve((request, response) => {
    if (request.method === "POST") nics = [];
    const there = request.method === "POST" ? { ok: true } : { ...pageOf(), nics };
    response.setHeader("content-type", "application/json");
    response.end(JSON.stringify(there));
  });
}

/** An address where no process listens. */
async function nobody(): Promise<string> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return `127.0.0.1:${port}`;
}

beforeAll(async () => {
  for (const segment of ["left", "right"]) {
    const device = startRingwire([
      ...["device", "--listen", "127.0.0.1:0", "--segment", segment, "--json"],
    ]);
    devices.push(device);
    const { port } = await device.waitForJson<{ port: number }>((l) => l.event === "listening");
    ports.push(port);
  }
});

afterAll(async () => {
  for (const device of devices) await device.stop();
  for (const server of servers) server.close();
});

/** A frontend of device 0. */
async function join(driver: "ena" | "xen", name: string): Promise<Child> {
  const frontend = startRingwire([
    ...["frontend", "--connect", url(0), "--driver", driver, "--name", name, "--json"],
  ]);
  await frontend.waitForJson((line) => line.event === "ready");
  return frontend;
}

it.each([
  ["xen", "connected"],
  ["ena", "ready"],
] as const)("a NIC of %s that is at work there has arrived", async (driver, state) => {
  await using frontend = await join(driver, driver);
  const moved = await migrate(driver, url(0), url(1), "--json");
  expect(moved.exit?.code, moved.said()).toBe(0);
  expect(toldBy(moved)).toEqual({
    event: "moved",
    nic: driver,
    to: url(1),
    outcome: "arrived",
    segment: "right",
    state,
  });
  const back = await frontend.waitForJson((line) => line.event === "link-back");
  expect(back).toEqual({
    event: "link-back",
    name: driver,
    segment: "right",
    epoch: expect.any(Number),
  });
  expect(portsOf(await status(0))).not.toContain(driver);
  expect(portsOf(await status(1))).toContain(driver);
});

it("a NIC that nobody takes comes back, which is a failure", async () => {
  await using _frontend = await join("ena", "returns");
  const at = await nobody();
  const moved = await migrate("returns", url(0), at, "--json");
  expect(moved.exit?.code, moved.said()).toBe(1);
  expect(toldBy(moved)).toMatchObject({ nic: "returns", to: at, outcome: "came-back" });
  expect(moved.stderr).toMatch(/came back to 127\.0\.0\.1:\d+: .*frontend's log/);
  // The command warned before the move that it may not see the NIC there.
  expect(moved.stderr).toMatch(/warn .*nothing listens at .*may not be seen/);
  expect(portsOf(await status(0))).toContain("returns");
});

it("ux-S9 a NIC that is where it is to go stays up, and the command says that it is there", async () => {
  await using frontend = await join("xen", "stays");
  for (const flags of [[], ["--wait", "0"]]) {
    const moved = await migrate(
      "stays",
      url(0),
      url(0).replace("127.0.0.1", "localhost"),
      ...flags,
    );
    expect(moved.exit?.code, moved.said()).toBe(1);
    expect(moved.stderr).toMatch(/stays is at localhost:\d+ already/);
  }
  expect(frontend.stdout).not.toContain("link-lost");
});

it("ux-S10 a move to another segment warns, and one to a joined segment does not", async () => {
  const joined: Child[] = [];
  const at: string[] = [];
  for (let i = 0; i < 2; i++) {
    const device = startRingwire([
      ...["device", "--listen", "127.0.0.1:0", "--segment-id", "lab", "--json"],
    ]);
    joined.push(device);
    const { port } = await device.waitForJson<{ port: number }>((l) => l.event === "listening");
    at.push(`127.0.0.1:${port}`);
  }
  try {
    await using frontend = await join("ena", "traveller");
    const away = await migrate("traveller", url(0), at[0]!);
    expect(away.exit?.code, away.said()).toBe(0);
    expect(away.stderr).toMatch(/is on a segment of its own \(lan0\).*segment here \(left\)/);
    const on = await migrate("traveller", at[0]!, at[1]!);
    expect(on.exit?.code, on.said()).toBe(0);
    expect(on.stderr).not.toMatch(/segment of its own/);
    expect(frontend.exit).toBeUndefined();
  } finally {
    for (const device of joined) await device.stop();
  }
});

it("a NIC that goes to where another has its name ends none", async () => {
  await using first = await join("xen", "twin");
  const there = await migrate("twin", url(0), url(1), "--wait", "0", "--json");
  expect(there.exit?.code, there.said()).toBe(0);
  expect(toldBy(there)).toEqual({ event: "moved", nic: "twin", to: url(1), outcome: "left" });

  await using second = await join("xen", "twin");
  await eventually("both", async () => portsOf(await status(1)).includes("twin") || undefined);
  const refused = await migrate("twin", url(1), url(0), "--json");
  expect(refused.exit?.code, refused.said()).toBe(1);
  expect(toldBy(refused)).toMatchObject({ event: "error", code: "FAILED" });
  expect(refused.stderr).toMatch(/has another NIC twin already.*--name/);
  expect(portsOf(await status(1))).toContain("twin");
  expect([first.exit, second.exit]).toEqual([undefined, undefined]);
});

describe.concurrent("a NIC that left", () => {
  const nic = merged(pageOf().nics[1], { peer: "a:1" }) as NicStatus;

  it.each<[string, () => Promise<string>, RegExp]>([
    ["where nobody can be asked", nobody, /can't be seen from here: nothing listens at/],
    [
      "where it is not",
      () => serve((_request, response) => response.end(JSON.stringify({ ...pageOf(), nics: [] }))),
      /left 127\.0\.0\.1:\d+ and is not at 127\.0\.0\.1/,
    ],
  ])("for a place %s was not seen", async (_what, there, says) => {
    const moved = await migrate("xn0", await pages(nic), await there(), "--wait", "1", "--json");
    expect(moved.exit?.code, moved.said()).toBe(1);
    expect(toldBy(moved)).toMatchObject({ outcome: "not-seen" });
    expect(toldBy(moved).reason).toMatch(says);
    expect(moved.stderr).toMatch(says);
  });

  it("and does not get to work there has not arrived", async () => {
    let asked = 0;
    // The first request, before the move, shows no NIC.
    const there = await serve((_request, response) => {
      const arrived = merged(nic, { peer: "a:2", nic: { backend: "initialising" } });
      const page = merged(pageOf(), { pid: 2, segments: [{ name: "lan9" }] }) as DeviceStatus;
      response.end(JSON.stringify({ ...page, nics: asked++ === 0 ? [] : [arrived] }));
    });
    const moved = await migrate("xn0", await pages(nic), there, "--wait", "1", "--json");
    expect(moved.exit?.code, moved.said()).toBe(1);
    expect(toldBy(moved)).toMatchObject({
      outcome: "not-seen",
      segment: "lan9",
      state: "initialising",
    });
    expect(moved.stderr).toMatch(/but its state is initialising/);
  });
});
