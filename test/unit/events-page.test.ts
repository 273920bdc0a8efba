/** GET /events of a device in this process, asked by real HTTP clients. */
import { once } from "node:events";
import { type IncomingMessage, request } from "node:http";
import { connect } from "node:net";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { Identity } from "../../device/access/gate.ts";
import { hashOf, newToken } from "../../device/access/token.ts";
import { EventFeed, MAX_READERS } from "../../device/events/feed.ts";
import { eventsPage } from "../../device/events/page.ts";
import { Front } from "../../device/http/front.ts";
import type { Client, Device, DeviceOptions } from "../../device/index.ts";
import { silentLogger } from "../../shared/log.ts";
import { type DeviceEvent, deviceEvent } from "../../shared/status/device-events.ts";
import { Op } from "../../shared/wire/catalogue.ts";
import { testDevice } from "../support/device-server.ts";
import { eventually } from "../support/process.ts";
import { RawFrontend } from "../support/raw-frontend.ts";

let device: Device | undefined;
let answers: IncomingMessage[];

beforeEach(() => {
  answers = [];
  device = undefined;
});

afterEach(async () => {
  for (const answer of answers) answer.destroy();
  await device?.close();
});

async function open(options: DeviceOptions = {}): Promise<void> {
  device = await testDevice(options);
}

type Headers = Readonly<Record<string, string>>;

async function ask(path = "/events", headers: Headers = {}, method = "GET") {
  const { port } = device!;
  const asked = request({ host: "127.0.0.1", port, path, headers, method, agent: false });
  asked.end();
  const [answer] = (await once(asked, "response")) as [IncomingMessage];
  answers.push(answer);
  let text = "";
  let ended = false;
  answer.setEncoding("utf8");
  answer.on("error", () => {});
  answer.on("data", (part: string) => {
    text += part;
  });
  answer.on("close", () => {
    ended = true;
  });
  return {
    status: answer.statusCode,
    type: answer.headers["content-type"],
    answer,
    text: () => text,
    ended: () => ended,
    /** The events so far, of either format. */
    events: (): DeviceEvent[] =>
      text.split("\n").flatMap((line) => {
        const json = line.replace(/^data: /, "");
        return json.startsWith("{") ? [deviceEvent.parse(JSON.parse(json))] : [];
      }),
  };
}
type Reader = Awaited<ReturnType<typeof ask>>;

const until = (reader: Reader, event: string, fields: object = {}) =>
  eventually(`${event} in ${reader.text()}`, () =>
    reader
      .events()
      .find(
        (e) => e.event === event && Object.entries(fields).every(([k, v]) => Object(e)[k] === v),
      ),
  );

describe("the formats", () => {
  it.each<[string, string, Headers, string]>([
    ["a program that accepts anything", "/events", { accept: "*/*" }, "application/x-ndjson"],
    ["a program that says nothing", "/events", {}, "application/x-ndjson"],
    ["a browser", "/events", { accept: "text/event-stream" }, "text/event-stream"],
    ["a list", "/events", { accept: "a/b, Text/Event-Stream;q=1" }, "text/event-stream"],
    ["the URL", "/events?format=sse", { accept: "*/*" }, "text/event-stream"],
    [
      "the URL, other",
      "/events?format=ndjson",
      { accept: "text/event-stream" },
      "application/x-ndjson",
    ],
  ])("%s", async (_who, path, headers, type) => {
    await open();
    const reader = await ask(path, headers);
    expect([reader.status, reader.type]).toEqual([200, type]);
    await until(reader, "begun");
  });

  it("server-sent events have name, id and data", async () => {
    await open();
    const reader = await ask("/events", { accept: "text/event-stream" });
    await RawFrontend.join(device!.port, "a");
    const { id } = await until(reader, "joined");
    expect(reader.text()).toMatch(
      new RegExp(`\\n\\nevent: joined\\nid: ${id}\\ndata: \\{.*"name":"a".*\\}\\n\\n$`),
    );
  });
});

it("tells who joins, breaks a rule and leaves, with the segment", async () => {
  await open({ segments: { name: "lan7" } });
  const reader = await ask();
  const raw = await RawFrontend.join(device!.port, "a");
  const record = Buffer.alloc(16);
  record.writeUInt32LE(4, 8);
  raw.batch([Op.MMIO_WRITE, Buffer.alloc(4), record]);
  await raw.until("the fault", ([what]) => what === "fault");
  await raw.end();
  await until(reader, "left");
  expect(reader.events().slice(1)).toMatchObject([
    { event: "joined", segment: "lan7", name: "a", peer: expect.stringMatching(/^127\.0\.0\.1:/) },
    { event: "fault", segment: "lan7", name: "a", code: "REGISTER_UNDEFINED" },
    { event: "left", segment: "lan7", name: "a", reason: expect.any(String) },
  ]);
});

it("a reader goes on behind its Last-Event-ID, and by the URL", async () => {
  await open();
  const first = await ask();
  await RawFrontend.join(device!.port, "a");
  const { id } = await until(first, "joined");
  first.answer.destroy();
  await RawFrontend.join(device!.port, "b");
  for (const [path, headers] of [
    ["/events", { "last-event-id": id }],
    [`/events?after=${id}`, {}],
    // The header is newer than the URL of the first connection.
    ["/events?after=0", { "last-event-id": id }],
  ] as const) {
    const second = await ask(path, headers);
    await until(second, "joined");
    expect(second.events()).toMatchObject([{ event: "begun", missed: false }, { name: "b" }]);
  }
});

describe("refusals", () => {
  it.each([
    ["/events?after=x", /take the id of an event/],
    ["/events?after=0123abcd-1&after=0", /"after" is given twice/],
    ["/events?format=xml", /"format" takes sse or ndjson/],
    ["/events?segment=lan0", /"segment" is unknown; there is format, after/],
    [`/events?after=0123abcd-${"9".repeat(40)}`, /take the id/],
  ])("%s", async (path, says) => {
    await open();
    const reader = await ask(path);
    await eventually("the end of the answer", () => reader.ended() || undefined);
    expect(reader.status).toBe(400);
    expect(JSON.parse(reader.text()).error).toMatch(says);
  });

  it("HEAD is none: an answer without an end has no head alone", async () => {
    await open();
    expect((await ask("/events", {}, "HEAD")).status).toBe(405);
  });

  it("more readers than places; a place is free again when a reader leaves", async () => {
    await open();
    const readers = await Promise.all(Array.from({ length: MAX_READERS }, () => ask()));
    expect(device!.status().events.readers).toBe(MAX_READERS);
    const late = await ask();
    expect([late.status, late.answer.headers["retry-after"]]).toEqual([503, "1"]);
    readers[0]!.answer.destroy();
    await eventually(
      "a free place",
      () => device!.status().events.readers < MAX_READERS || undefined,
    );
    expect((await ask()).status).toBe(200);
  });
});

it("an answer without an end has no time limit, and ends when its reader half-closes", async () => {
  await open();
  const socket = connect({ port: device!.port, host: "127.0.0.1" });
  socket.write("GET /events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
  await once(socket, "data");
  socket.resume().end();
  await once(socket, "close");
  const { events, http } = device!.status();
  expect(events.readers).toBe(0);
  expect(http.refused).toEqual({});
});

describe("the end", () => {
  it("of the device is said, and the answer ends", async () => {
    await open();
    const reader = await ask();
    await until(reader, "begun");
    await device!.close();
    await until(reader, "end", { reason: "the device stops" });
    await eventually("the end of the answer", () => reader.ended() || undefined);
  });

  it("comes with the end of the reader's rights", async () => {
    const token = newToken("a");
    const client = (roles: Client["roles"]): Client => ({ id: "a", hash: hashOf(token), roles });
    await open({ clients: [client(["inspect"])] });
    const shows = { authorization: `Bearer ${token}` };
    const reader = await ask("/events", shows);
    await until(reader, "begun");
    device!.renew({ clients: [client(["nic"])] });
    await until(reader, "end", { reason: "a: the rights of this client changed" });
    await eventually("the end of the answer", () => reader.ended() || undefined);
    expect((await ask("/events", shows)).status).toBe(403);
    expect((await ask("/events")).status).toBe(401);
  });
});

describe("a reader that reads nothing", () => {
  it("is cut before it holds much memory; another reads on", async () => {
    const feed = new EventFeed();
    const front = new Front({
      ...{ host: "127.0.0.1", port: 0, allowHosts: [], log: silentLogger },
      admit: () => new Identity(undefined),
      misses: () => false,
      page: (asked, to, response) => void eventsPage(feed, asked, to, response),
      upgradeRefusal: () => ["404 Not Found", "no NICs here"],
      upgrade: () => {},
    });
    const { port } = await front.listen();
    const deaf = connect({ port, host: "127.0.0.1" }).pause();
    const heard = connect({ port, host: "127.0.0.1" });
    let bytes = 0;
    heard.on("data", (part) => {
      bytes += part.length;
    });
    try {
      let wasCut = false;
      deaf.on("error", () => {});
      deaf.on("close", () => {
        wasCut = true;
      });
      for (const socket of [deaf, heard])
        socket.write("GET /events HTTP/1.1\r\nHost: a.localhost\r\n\r\n");
      await eventually("both", () => feed.snapshot().readers === 2 || undefined);
      const text = "x".repeat(400);
      const fault = {
        event: "fault",
        segment: "lan0",
        name: "a",
        severity: "warning",
        code: "C",
        text,
      } as const;
      await eventually("the cut", async () => {
        for (let i = 0; i < 1000 && feed.snapshot().cutOff === 0; i++) feed.publish(fault);
        return feed.snapshot().cutOff > 0 || undefined;
      });
      expect(feed.snapshot()).toMatchObject({ readers: 1, cutOff: 1 });
      const before = bytes;
      feed.publish(fault);
      await eventually("another event", () => bytes > before || undefined);
      deaf.resume();
      await eventually("the end of the connection", () => wasCut || undefined);
    } finally {
      deaf.destroy();
      heard.destroy();
      await front.close(0);
    }
  });
});
