/** Clients with bare Ethernet frames: what they carry, and what they may not do. */
import { once } from "node:events";
import { request } from "node:http";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import WebSocket from "ws";
import { hashOf, newToken } from "../../device/access/token.ts";
import type { Client, Device } from "../../device/index.ts";
import { type Nic, openNic } from "../../frontend/index.ts";
import { parseMac } from "../../shared/net/ethernet.ts";
import { testDevice } from "../support/device-server.ts";
import { eventually } from "../support/process.ts";
import { allPorts, portOf } from "../support/status.ts";

const BROADCAST = "ff:ff:ff:ff:ff:ff";
const clients: Client[] = [];
function tokenOf(id: string, roles: Client["roles"], segments?: string[]): string {
  const token = newToken(id);
  clients.push({ id, hash: hashOf(token), roles, ...(segments === undefined ? {} : { segments }) });
  return token;
}
const box = tokenOf("box", ["ethernet"], ["red"]);
const other = tokenOf("other", ["ethernet"]);
const nicToken = tokenOf("nics", ["nic"]);
const admin = tokenOf("op", ["admin"]);

/** Every line with its fields. */
const lines: unknown[] = [];
const write = (...line: unknown[]): void => void lines.push(line);
const log = { debug: write, info: write, warn: write, error: write };
let device: Device;
let nic: Nic;

beforeAll(async () => {
  device = await testDevice({ clients, log, segments: [{ name: "red" }, { name: "blue" }] });
  nic = await openNic({
    connect: device.url,
    name: "ena0",
    credentials: () => ({ token: nicToken }),
  });
});
afterAll(async () => {
  await nic?.close();
  await device?.close();
});

/** A client that keeps the frames that it receives. */
class RawClient {
  readonly ws: WebSocket;
  readonly got: Buffer[] = [];
  closing: { code: number; reason: string } | undefined;

  constructor(path: string, headers: Record<string, string> = {}) {
    this.ws = new WebSocket(`ws://127.0.0.1:${device.port}${path}`, { headers });
    this.ws.on("message", (bytes: Buffer) => this.got.push(bytes));
    this.ws.on("close", (code, reason) => {
      this.closing = { code, reason: reason.toString() };
    });
    this.ws.on("error", () => {});
  }

  static async open(path: string, headers?: Record<string, string>): Promise<RawClient> {
    const client = new RawClient(path, headers);
    await once(client.ws, "open");
    return client;
  }

  send(to: string, from: string, text: string, length = 100): void {
    const frame = Buffer.alloc(length);
    frame.set([...parseMac(to), ...parseMac(from), 0x88, 0xb5]);
    frame.write(text, 14);
    this.ws.send(frame);
  }

  async end(): Promise<void> {
    this.ws.close();
    await eventually("the end", () => this.closing);
  }
}

/** The status of a refused upgrade, and its sentence. */
function refusalOf(path: string, headers: Record<string, string> = {}) {
  return new Promise<{ status: number | undefined; text: string }>((resolve, reject) => {
    const asked = request({
      ...{ host: "127.0.0.1", port: device.port, path, agent: false },
      headers: {
        ...{ connection: "Upgrade", upgrade: "websocket", "sec-websocket-version": "13" },
        ...{ "sec-websocket-key": "AAAAAAAAAAAAAAAAAAAAAA==", ...headers },
      },
    });
    asked.on("upgrade", () => reject(new Error("upgraded")));
    asked.on("response", async (answer) => {
      let text = "";
      for await (const part of answer) text += String(part);
      resolve({ status: answer.statusCode, text });
    });
    asked.on("error", reject);
    asked.end();
  });
}
const drops = (port: string) => portOf(device.status(), port).in.dropped;
const texts = (client: RawClient): string[] =>
  client.got.map((frame) => frame.toString("latin1", 14).replace(/\0.*$/s, ""));

describe("a client with a URL of its own", () => {
  it("exchanges frames with a NIC, from a page of any origin", async () => {
    const client = await RawClient.open(`/ethernet/${box}`, {
      origin: "https://elsewhere.example",
    });
    expect(portOf(device.status(), "box")).toMatchObject({ kind: "ws-ethernet" });
    client.send(BROADCAST, "02:00:00:00:00:07", "hello");
    for await (const frame of nic) {
      if (Buffer.from(frame).includes("hello")) break;
    }
    const answer = Buffer.alloc(60);
    const { mac } = nic.status();
    answer.set([...parseMac("02:00:00:00:00:07"), ...parseMac(mac), 0x88, 0xb5]);
    answer.write("answer", 14);
    await nic.send(answer);
    await eventually("the answer", () => (texts(client).includes("answer") ? true : undefined));
    await client.end();
    await eventually("the port to go", () =>
      allPorts(device.status()).some(({ name }) => name === "box") ? undefined : true,
    );
  });

  it("has a number when its name is taken, also by a NIC", async () => {
    const first = await RawClient.open(`/ethernet/${box}`);
    const second = await RawClient.open(`/ethernet/${box}`);
    const names = allPorts(device.status()).map(({ name }) => name);
    expect(names).toEqual(expect.arrayContaining(["box", "box-2"]));
    await Promise.all([first.end(), second.end()]);
  });

  it("joins the segment of its URL, if its token allows it", async () => {
    const client = await RawClient.open(`/ethernet/${other}?segment=blue`);
    const [red, blue] = device.status().segments;
    expect(blue!.ports.map(({ name }) => name)).toEqual(["other"]);
    expect(red!.ports.map(({ name }) => name)).not.toContain("other");
    await client.end();
    const { status, text } = await refusalOf(`/ethernet/${box}?segment=blue`);
    expect([status, text]).toEqual([404, expect.stringContaining("there is red")]);
  });

  it("takes no address of another port, and keeps to few", async () => {
    const client = await RawClient.open(`/ethernet/${box}`);
    const rival = await RawClient.open(`/ethernet/${other}`);
    rival.send(BROADCAST, "02:00:00:00:00:55", "mine");
    await eventually("the address", () => (texts(client).includes("mine") ? true : undefined));
    client.send(BROADCAST, "02:00:00:00:00:55", "stolen");
    client.send(BROADCAST, nic.status().mac, "stolen");
    for (let i = 0; i < 30; i++) client.send(BROADCAST, `02:00:00:00:01:0${i % 10}`, "ok");
    for (let i = 0; i < 9; i++) client.send(BROADCAST, `02:00:00:00:02:0${i}`, "some");
    await eventually("the drops", () =>
      (drops("box")["address_denied"] ?? 0) >= 3 && drops("box")["mac_spoof"] === 2
        ? true
        : undefined,
    );
    expect(texts(rival)).not.toContain("stolen");
    await Promise.all([client.end(), rival.end()]);
  });

  it("sends frames of every length, and loses those that are none", async () => {
    const client = await RawClient.open(`/ethernet/${box}`);
    for (const length of [0, 1, 13]) client.ws.send(Buffer.alloc(length, 2));
    client.send(BROADCAST, "02:00:00:00:00:07", "long", 1518);
    client.send(BROADCAST, "02:00:00:00:00:07", "too long", 1519);
    client.send(BROADCAST, "02:00:00:00:00:07", "far too long", 1_000_000);
    await eventually("the counts", () => {
      const { in: into, lost } = portOf(device.status(), "box");
      return into.dropped["runt"] === 3 && lost.in["too_big"] === 2 ? true : undefined;
    });
    // Fragments of a message are one frame.
    const frame = Buffer.alloc(60);
    frame.set([...parseMac(BROADCAST), 2, 0, 0, 0, 0, 7, 0x88, 0xb5]);
    client.ws.send(frame.subarray(0, 20), { fin: false });
    client.ws.send(frame.subarray(20), { fin: true });
    await eventually("the frame", () =>
      portOf(device.status(), "box").in.flooded === 2 ? true : undefined,
    );
    client.ws.send("text");
    expect(await eventually("the end", () => client.closing)).toMatchObject({ code: 1003 });
  });

  it("that does not read loses frames, and holds no memory", async () => {
    const client = await RawClient.open(`/ethernet/${box}`);
    const sender = await RawClient.open(`/ethernet/${other}`);
    client.send(BROADCAST, "02:00:00:00:00:07", "here I am");
    await eventually("the address", () => (texts(sender).includes("here I am") ? true : undefined));
    client.ws.pause();
    await eventually("a full line", () => {
      for (let i = 0; i < 500; i++)
        sender.send("02:00:00:00:00:07", "02:00:00:00:00:09", "x", 1514);
      return portOf(device.status(), "box").out.dropped["link_backlog"] ?? undefined;
    });
    client.ws.resume();
    await Promise.all([client.end(), sender.end()]);
  });

  it("fault-L11 loses its port with its token", async () => {
    const client = await RawClient.open(`/ethernet/${box}`);
    device.renew({ clients: clients.filter(({ id }) => id !== "box") });
    expect(await eventually("the end", () => client.closing)).toEqual({
      code: 4001,
      reason: "box: it was revoked",
    });
    expect((await refusalOf(`/ethernet/${box}`)).status).toBe(401);
    device.renew({ clients });
  });
});

describe("refused", () => {
  it.each([
    ["without a token", "/ethernet", 401],
    ["with a wrong token", `/ethernet/${box}x`, 401],
    ["with a token of another role", `/ethernet/${nicToken}`, 401],
    ["with a token of more roles", `/ethernet/${admin}`, 401],
    ["with more in its path", `/ethernet/${box}/more`, 401],
    ["with its token for another path", `/nic/${box}`, 401],
    ["with its token in the query", `/ethernet?token=${box}`, 401],
  ])("fault-L1 %s", async (_, path, status) => {
    expect((await refusalOf(path)).status).toBe(status);
  });

  it("fault-L5 a token of the role ethernet opens no page", async () => {
    const headers = { authorization: `Bearer ${box}` };
    for (const path of ["/status", "/metrics", "/capture", "/addresses", "/events"]) {
      const answer = await fetch(`http://127.0.0.1:${device.port}${path}`, { headers });
      expect([path, answer.status]).toEqual([path, 403]);
    }
  });

  it("fault-L3 a page of another origin without a token in its URL", async () => {
    const headers = { authorization: `Bearer ${box}`, origin: "https://elsewhere.example" };
    expect((await refusalOf("/ethernet", headers)).status).toBe(403);
  });
});

it("fault-L4 no token is in a log, a page or an answer", async () => {
  const client = await RawClient.open(`/ethernet/${box}`);
  const headers = { authorization: `Bearer ${admin}` };
  const pages = await Promise.all(
    ["/status", "/metrics", "/addresses", `/ethernet/${box}`].map(async (path) =>
      (await fetch(`http://127.0.0.1:${device.port}${path}`, { headers })).text(),
    ),
  );
  const refused = await refusalOf(`/ethernet/${box}?segment=blue`);
  const all = JSON.stringify([pages, refused.text, lines]);
  for (const token of [box, other, nicToken, admin]) expect(all).not.toContain(token);
  expect(all).toContain("box joined");
  await client.end();
});
