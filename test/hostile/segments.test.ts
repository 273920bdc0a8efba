/**
 * Two segments of one device, and a client that has rights on one of them: nothing seen, nothing
 * taken, nobody thrown out. (fault-L5)
 */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { hashOf, newToken } from "../../device/access/token.ts";
import type { Client, Device } from "../../device/index.ts";
import { type Nic, openNic } from "../../frontend/index.ts";
import { parseMac } from "../../shared/net/ethernet.ts";
import type { DeviceStatus } from "../../shared/status/device-status.ts";
import { testDevice } from "../support/device-server.ts";
import { eventually } from "../support/process.ts";
import { RawFrontend } from "../support/raw-frontend.ts";

const BROADCAST = [255, 255, 255, 255, 255, 255];
/** Stands in every frame and name of the segment red. */
const CANARY = "canary";

const clients: Client[] = [];
function tokenOf(
  id: string,
  roles: Client["roles"],
  segments?: string[],
  names?: string[],
): string {
  const token = newToken(id);
  clients.push({
    ...{ id, hash: hashOf(token), roles },
    ...(segments === undefined ? {} : { segments }),
    ...(names === undefined ? {} : { names }),
  });
  return token;
}
const redToken = tokenOf("red", ["nic"], ["red"]);
const blueToken = tokenOf("blue", ["admin"], ["blue"]);
const operator = tokenOf("operator", ["admin"]);
const namedToken = tokenOf("named", ["nic"], ["blue"], ["named"]);
const elsewhere = tokenOf("elsewhere", ["admin"], ["green"]);

let device: Device;
let red: Nic;
let other: Nic;
let blue: Nic;

const open = (name: string, token: string, more: object = {}) =>
  openNic({ connect: `127.0.0.1:${device.port}`, name, credentials: () => ({ token }), ...more });

beforeAll(async () => {
  device = await testDevice({ clients, segments: [{ name: "red" }, { name: "blue" }] });
  red = await open(`${CANARY}-a`, redToken);
  other = await open(`${CANARY}-b`, redToken, { driver: "xen" });
  blue = await open("b0", blueToken);
});

afterAll(async () => {
  for (const nic of [red, other, blue]) await nic?.close();
  await device?.close();
});

async function ask(path: string, token: string, body?: object) {
  const answer = await fetch(`http://127.0.0.1:${device.port}${path}`, {
    headers: {
      authorization: `Bearer ${token}`,
      ...(body === undefined ? {} : { "content-type": "application/json" }),
    },
    ...(body === undefined ? {} : { method: "POST", body: JSON.stringify(body) }),
  });
  return { status: answer.status, text: await answer.text() };
}

/** A broadcast with the canary from a NIC. */
function shout(nic: Nic): Promise<unknown> {
  const frame = Buffer.alloc(100);
  frame.set([...BROADCAST, ...parseMac(nic.status().mac), 0x88, 0xb5]);
  frame.write(CANARY, 20);
  return nic.send(frame);
}

/** Frames that a NIC receives until it has the one with `text`. */
async function heard(nic: Nic, text: string): Promise<string[]> {
  const all: string[] = [];
  for await (const frame of nic) {
    all.push(Buffer.from(frame).toString("latin1"));
    if (all.at(-1)!.includes(text)) break;
  }
  return all;
}

const names = (status: DeviceStatus) =>
  status.nics.map(({ name, segment }) => `${segment}/${name}`);

describe("a NIC", () => {
  it("joins the segment of its token, or the one that it names", async () => {
    expect([red, other, blue].map((nic) => nic.status().segment)).toEqual(["red", "red", "blue"]);
    const named = await open("op", operator, { segment: "blue" });
    expect(named.status().segment).toBe("blue");
    await named.close();
    const first = await open("op", operator);
    expect(first.status().segment).toBe("red");
    await first.close();
  });

  it.each(["red", "green", "toString"])(
    "is refused %s with the names that it may know",
    async (segment) => {
      const wanted = new RegExp(`no segment "${segment}" for this NIC; there is blue`);
      await expect(open("x", blueToken, { segment })).rejects.toThrow(wanted);
    },
  );

  it("has a name that its token allows, also with a number of the device's choice", async () => {
    const join = (name: string, more: object = {}) =>
      RawFrontend.join(device.port, name, more, namedToken);
    await expect(join("b0")).rejects.toThrow(/may have no NIC with the name/);
    const first = await join("named");
    await expect(join("named", { numbered: true, instance: "other" })).rejects.toThrow(
      /is the name of another NIC/,
    );
    expect(device.status().nics.filter(({ name }) => name.startsWith("named"))).toHaveLength(1);
    await first.end();
  });

  it("of a client without rights here does not reach hello", async () => {
    await expect(open("x", elsewhere)).rejects.toThrow(/no rights on any segment/);
  });

  it("takes neither name nor address of another segment", async () => {
    const { mac } = red.status();
    const left: string[] = [];
    device.on("left", ({ name, segment }) => left.push(`${segment}/${name}`));
    // It gets both, in its own segment.
    const twin = await RawFrontend.join(
      device.port,
      `${CANARY}-a`,
      { mac, takeOver: true, instance: "attacker" },
      blueToken,
    );
    const [, welcome] = await twin.until("welcome", ([what]) => what === "welcome");
    expect(welcome).toMatchObject({ name: `${CANARY}-a`, mac, segment: "blue" });
    expect(left).toEqual([]);
    expect(names(device.status())).toEqual([
      `red/${CANARY}-a`,
      `red/${CANARY}-b`,
      "blue/b0",
      `blue/${CANARY}-a`,
    ]);
    await twin.end();
    await eventually("the twin to leave", () =>
      Promise.resolve(left.includes(`blue/${CANARY}-a`) ? true : undefined),
    );
    expect(red.status().state).toBe("attached");
  });

  it("sees no frame of another segment", async () => {
    const listener = await open("b1", blueToken, { driver: "xen" });
    const blues = heard(listener, "the end");
    const reds = heard(other, CANARY);
    for (let i = 0; i < 50; i++) await shout(red);
    expect((await reds).at(-1)).toContain(CANARY);
    const end = Buffer.alloc(100);
    end.set([...BROADCAST, ...parseMac(blue.status().mac), 0x88, 0xb5]);
    end.write("the end", 20);
    await blue.send(end);
    expect((await blues).join()).not.toContain(CANARY);
    await listener.close();
  });
});

describe("a client of one segment", () => {
  it.each(["/status", "/metrics", "/addresses", "/addresses?segment=blue"])(
    "reads nothing of another one at %s",
    async (path) => {
      const { status, text } = await ask(path, blueToken);
      expect(status).toBe(200);
      expect(text).toMatch(/b0|total/);
      // The name of the other NIC was taken in this segment, too.
      expect(text).not.toContain(`${CANARY}-b`);
      expect(text).not.toMatch(/"red"|red\//);
      expect(text).not.toContain(other.status().mac);
    },
  );

  it.each(["/addresses?segment=red", "/capture?segment=red", "/capture?segment=blue&segment=red"])(
    "gets 404 at %s",
    async (path) => {
      const { status, text } = await ask(path, blueToken);
      expect(status).toBe(404);
      expect(text).toContain('there is no segment \\"red\\"; there is blue');
    },
  );

  it.each([`${CANARY}-a`, `red/${CANARY}-a`, "red/switch", "red/any"])(
    "can't capture %s",
    async (source) => {
      const { status, text } = await ask(`/capture?ring=1&source=${source}`, blueToken);
      expect(status).toBe(404);
      expect(text).toContain("there is blue/b0");
    },
  );

  it.each([`${CANARY}-a`, `red/${CANARY}-a`])("can't move %s", async (nic) => {
    const { status, text } = await ask("/migrate", blueToken, { nic, to: "ws://127.0.0.1:9" });
    expect([status, text]).toEqual([404, expect.stringContaining(`no NIC \\"${nic}\\"`)]);
  });

  it("captures frames and rings of its own segment only", async () => {
    const done = ask("/capture?source=any&source=switch&ring=1&count=20", blueToken);
    await eventually("the capture", async () =>
      device.status().captures.running > 0 ? true : undefined,
    );
    for (let i = 0; i < 20; i++) await shout(red);
    const frame = Buffer.alloc(60);
    frame.set([...BROADCAST, ...parseMac(blue.status().mac), 0x88, 0xb5]);
    for (let i = 0; i < 20; i++) await blue.send(frame);
    const { text } = await done;
    expect(text).toContain("blue/b0");
    expect(text).not.toContain(CANARY);
    expect(text).not.toContain("red/");
  });
});

describe("a client of all segments", () => {
  it("reads both, and names a NIC by its segment where that is needed", async () => {
    const { text } = await ask("/status", operator);
    const status = JSON.parse(text) as DeviceStatus;
    expect(status.segments.map(({ name }) => name)).toEqual(["red", "blue"]);
    expect(names(status)).toEqual([`red/${CANARY}-a`, `red/${CANARY}-b`, "blue/b0"]);
    const twin = await RawFrontend.join(device.port, `${CANARY}-a`, {}, blueToken);
    const to = "ws://127.0.0.1:9";
    const answer = await ask("/migrate", operator, { nic: `${CANARY}-a`, to });
    expect(answer.status).toBe(404);
    expect(answer.text).toContain(`name one of them as red/${CANARY}-a, blue/${CANARY}-a`);
    await twin.end();
  });

  it("captures both in one file, whose interfaces name the segment", async () => {
    const done = ask("/capture?source=switch&count=2", operator);
    await eventually("the capture", async () =>
      device.status().captures.running > 0 ? true : undefined,
    );
    await shout(red);
    await shout(blue);
    const { text } = await done;
    expect(text).toContain("red/switch");
    expect(text).toContain("blue/switch");
  });
});

describe("rights that change", () => {
  it("end the connections of the client", async () => {
    const nic = await RawFrontend.join(device.port, "b9", {}, blueToken);
    device.renew({
      clients: clients.map((client) =>
        client.id === "blue" ? { ...client, segments: ["red"] } : client,
      ),
    });
    expect(await nic.closed).toMatchObject({
      code: 4001,
      reason: "blue: the rights of this client changed",
    });
    expect((await ask("/addresses?segment=blue", blueToken)).status).toBe(404);
    device.renew({ clients });
  });
});
