/** openDevice, as a program that embeds a device uses it. */
import { once } from "node:events";
import { request } from "node:https";
import { connect } from "node:net";
import { text } from "node:stream/consumers";
import { afterEach, describe, expect, it, vi } from "vitest";
import { Gate, Identity } from "../../device/access/gate.ts";
import { hashOf, newToken } from "../../device/access/token.ts";
import { Refusal } from "../../device/admission.ts";
import type { Client, Device, DeviceOptions } from "../../device/index.ts";
import { Op } from "../../shared/wire/catalogue.ts";
import { NIC_PATH, SUBPROTOCOL } from "../../shared/wire/protocol.ts";
import { MemoryOutput } from "../support/capture-output.ts";
import { CERTIFICATES, KEY } from "../support/certificates.ts";
import { testDevice } from "../support/device-server.ts";
import { eventually } from "../support/process.ts";
import { RawFrontend } from "../support/raw-frontend.ts";

const opened: Device[] = [];
afterEach(async () => {
  for (const device of opened.splice(0)) await device.close();
});

async function open(options: DeviceOptions = {}): Promise<Device> {
  const device = await testDevice(options);
  opened.push(device);
  return device;
}

const nicsOf = (device: Device) =>
  (device.status()["nics"] as { name: string }[]).map(({ name }) => name);

it("a connection that has ended leaves the list of its identity", async () => {
  const made: { client: Identity; end: unknown }[] = [];
  const { use } = Identity.prototype;
  const spy = vi.spyOn(Identity.prototype, "use").mockImplementation(function (
    this: Identity,
    end,
  ) {
    made.push({ client: this, end });
    return use.call(this, end);
  });
  const device = await open();
  const [stays, leaves] = [
    await RawFrontend.join(device.port, "stays"),
    await RawFrontend.join(device.port, "leaves"),
  ];
  spy.mockRestore();
  const { client } = made[0]!;
  expect(client.uses).toBe(2);
  await leaves.end();
  await vi.waitFor(() => expect(client.uses).toBe(1));
  await stays.end();
  await vi.waitFor(() => expect(client.uses).toBe(0));
});

describe("a POST whose body is slow", () => {
  const BODY = '{"path":"/status"}';
  const token = newToken("a");
  const clients: Client[] = [{ id: "a", hash: hashOf(token), roles: ["admin"] }];

  /** Sends a request for a ticket up to the last byte of its body. */
  async function begin(device: Device) {
    const admit = vi.spyOn(Gate.prototype, "admit");
    const socket = connect({ host: "127.0.0.1", port: device.port });
    const answer = text(socket).catch(() => "");
    socket.write(
      `POST /ticket HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nAuthorization: Bearer ${token}\r\nContent-Length: ${BODY.length}\r\n\r\n${BODY.slice(0, -1)}`,
    );
    await eventually("the request", () => (admit.mock.results.length > 0 ? true : undefined));
    const identity = admit.mock.results[0]!.value as Identity;
    admit.mockRestore();
    return { socket, answer, identity };
  }

  it("makes no ticket for a client that was revoked meanwhile", async () => {
    const device = await open({ clients });
    const { socket, answer } = await begin(device);
    device.renew({ clients: [] });
    socket.write(BODY.slice(-1));
    expect(await answer).not.toContain("200 OK");
  });

  it("makes a ticket that ends with its client, also if the client held nothing else", async () => {
    const device = await open({ clients });
    const ticked = vi.spyOn(Gate.prototype, "tick");
    const { socket, answer, identity } = await begin(device);
    await eventually("two ticks", () => (ticked.mock.calls.length > 1 ? true : undefined));
    ticked.mockRestore();
    socket.write(BODY.slice(-1));
    const ticket = /"ticket":"([\w-]+)"/.exec(await answer)?.[1];
    expect(identity.uses).toBe(0);
    device.renew({ clients: [] });
    const headers = { cookie: `ringwire-ticket=${ticket}` };
    const { status } = await fetch(`http://127.0.0.1:${device.port}/status`, { headers });
    expect([typeof ticket, status]).toEqual(["string", 401]);
  });
});

it("an upgrade over TLS ends with the rights of its client while its answer is on the way", async () => {
  const token = newToken("a");
  const clients: Client[] = [{ id: "a", hash: hashOf(token), roles: ["nic"] }];
  const device = await open({ clients, tls: { cert: CERTIFICATES.SELF_SIGNED, key: String(KEY) } });
  const { admit } = Gate.prototype;
  let identity: Identity | undefined;
  let uses = 0;
  const admitted = vi.spyOn(Gate.prototype, "admit").mockImplementation(function (
    this: Gate,
    ...given
  ) {
    const found = admit.apply(this, given);
    if (found instanceof Identity) identity = found;
    // Behind all work of this turn, and before TLS tells of the written answer.
    process.nextTick(() => {
      uses = identity!.uses;
      device.renew({ clients: [] });
    });
    return found;
  });
  const asked = request({
    ...{ host: "127.0.0.1", port: device.port, path: NIC_PATH, rejectUnauthorized: false },
    headers: {
      ...{ connection: "Upgrade", upgrade: "websocket", authorization: `Bearer ${token}` },
      ...{ "sec-websocket-version": "13", "sec-websocket-key": "AAAAAAAAAAAAAAAAAAAAAA==" },
      "sec-websocket-protocol": SUBPROTOCOL,
    },
  });
  asked.on("upgrade", (_answer, socket) => void socket.resume());
  const closed = once(asked, "close");
  asked.on("error", () => {});
  asked.end();
  await closed;
  admitted.mockRestore();
  expect(uses).toBe(1);
  await eventually("no use of its rights", () => (identity!.uses === 0 ? true : undefined));
});

describe("two devices of one process", () => {
  it("have NICs, segments, domains and counters of their own", async () => {
    const [one, two] = [await open(), await open({ segments: { name: "lan1" } })];
    // The same name gives the same address, which one device would refuse the second time.
    const first = await RawFrontend.join(one.port, "same", { personality: "xen" });
    const second = await RawFrontend.join(two.port, "same", { personality: "xen" });
    await RawFrontend.join(two.port, "other");
    expect(nicsOf(one)).toEqual(["same"]);
    expect(nicsOf(two)).toEqual(["same", "other"]);
    expect(one.status()).toMatchObject({ segments: [{ name: "lan0" }], xen: { domains: 1 } });
    expect(two.status()).toMatchObject({ segments: [{ name: "lan1" }], xen: { domains: 1 } });
    // Both are the first domain of their device.
    for (const device of [one, two]) {
      const [nic] = device.status()["nics"] as object[];
      expect(nic).toMatchObject({ name: "same", nic: { domid: 1 } });
    }
    await one.close();
    expect(first.closing ?? (await first.closed)).toMatchObject({ reason: "the device stops" });
    expect(second.open).toBe(true);
    expect(nicsOf(two)).toEqual(["same", "other"]);
  });

  it("capture their own frames", async () => {
    const outputs = [new MemoryOutput(), new MemoryOutput()];
    const request = { sources: ["any"], frames: true, ring: true };
    const [one, two] = [await open(), await open()];
    const recorders = [one.capture(outputs[0]!, request), two.capture(outputs[1]!, request)];
    await RawFrontend.join(one.port, "a");
    const [first, second] = await Promise.all(recorders.map((r) => r.stop("test")));
    expect(first!.packets).toBeGreaterThan(0);
    expect(second!.packets).toBe(0);
  });
});

describe("events", () => {
  it("tell who joined, which rule was broken and who left", async () => {
    const device = await open();
    const seen = Promise.all(["joined", "fault", "left"].map((event) => once(device, event)));
    const raw = await RawFrontend.join(device.port, "a");
    raw.batch([Op.MMIO_WRITE, Buffer.alloc(4), badRegister()]);
    await raw.until("the fault", ([what]) => what === "fault");
    await raw.end();
    const [joined, fault, left] = (await seen).flat();
    expect(joined).toMatchObject({ name: "a", peer: expect.stringMatching(/^127\.0\.0\.1:\d+$/) });
    expect(fault).toMatchObject({ name: "a", code: "REGISTER_UNDEFINED" });
    expect(left).toMatchObject({ name: "a", reason: expect.any(String) });
  });
});

/** One record of mmio_write: four bytes for a read-only register. */
function badRegister(): Buffer {
  const record = Buffer.alloc(16);
  record.writeUInt32LE(4, 8);
  return record;
}

describe("levers", () => {
  it("break an ENA function, and a Xen vif has none", async () => {
    const device = await open();
    const raw = await RawFrontend.join(device.port, "a");
    await RawFrontend.join(device.port, "b", { personality: "xen" });
    device.levers("a")!.fail("SCRIPT", "the script says so");
    const fault = await raw.until("the fault", ([what]) => what === "fault");
    expect(fault).toEqual(expect.arrayContaining(["SCRIPT", "the script says so"]));
    // The driver has no event ring, so the device can't ask it for a reset.
    expect(device.levers("a")!.requestReset()).toBe(false);
    expect(device.levers("b")).toBeUndefined();
    expect(device.levers("nobody")).toBeUndefined();
  });
});

describe("admission", () => {
  it("refuses a frontend with the policy's words, and limits another", async () => {
    const asked: unknown[] = [];
    const device = await open({
      admission: (request) => {
        asked.push(request);
        if (request.name === "stranger") throw new Refusal("DENIED", "only friends join");
        return { queues: 2, maxMtu: 1500 };
      },
    });
    const stranger = await RawFrontend.connect(device.port);
    stranger.hello("stranger");
    await stranger.closed;
    expect(stranger.heard.told).toContainEqual(["refuse", "DENIED", "only friends join"]);
    const friend = await RawFrontend.join(device.port, "friend", { queues: 8 });
    const [, welcome] = friend.heard.told.find(([what]) => what === "welcome")!;
    expect(welcome).toMatchObject({ queues: 2, maxMtu: 1500 });
    expect(asked).toMatchObject([{ name: "stranger" }, { name: "friend", personality: "ena" }]);
  });
});

describe("opening", () => {
  it("begins a capture before the first frontend can speak", async () => {
    const output = new MemoryOutput();
    const device = await open({
      capture: (start) => start(output, { sources: ["switch"], frames: false, ring: true }),
    });
    await RawFrontend.join(device.port, "a");
    await device.close();
    const { bytes, closed } = output.files[0]!;
    // Only a capture that began before the first message holds the hello.
    expect(Buffer.from(bytes).toString("latin1")).toContain("instance");
    expect(closed).toBe(true);
  });

  it("that fails leaves nothing behind", async () => {
    const first = await open();
    const output = new MemoryOutput();
    await expect(
      testDevice({
        listen: { port: first.port },
        capture: (start) => start(output, { sources: ["switch"], frames: true, ring: true }),
      }),
    ).rejects.toMatchObject({ code: "EADDRINUSE" });
    expect(output.files.filter(({ closed }) => !closed)).toEqual([]);
  });

  it.each<[DeviceOptions, RegExp]>([
    [{ segments: [] }, /segments: Too small/],
    [{ segments: [{}, {}] }, /segments\[1\]\.name: is there twice/],
    [{ segments: { uplinks: ["eth0"] } }, /takes tap:NAME, not "eth0"/],
    [{ segments: { uplinks: ["tap:any"] } }, /takes no reserved name: "any"/],
  ])("refuses %o", async (options, says) => {
    await expect(testDevice(options)).rejects.toThrow(says);
  });

  it("closes once, by close or by `await using`", async () => {
    let port: number;
    {
      await using device = await testDevice();
      ({ port } = device);
      await Promise.all([device.close(), device.close()]);
    }
    await expect(RawFrontend.connect(port)).rejects.toThrow(/ECONNREFUSED/);
  });
});
