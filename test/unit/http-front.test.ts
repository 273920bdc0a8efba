/** One connection to the device's port, from its first byte to its end, in this process. */
import { once } from "node:events";
import type { IncomingMessage, ServerResponse } from "node:http";
import { connect, type Socket } from "node:net";
import { connect as connectTls } from "node:tls";
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { Identity } from "../../device/access/gate.ts";
import { type Asked, Front, type FrontOptions } from "../../device/http/front.ts";
import { reply } from "../../shared/http/answers.ts";
import { silentLogger } from "../../shared/log.ts";
import { CERTIFICATES, KEY } from "../support/certificates.ts";
import { eventually } from "../support/process.ts";

const REQUEST = "GET /page HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n";

type Page = (asked: Asked, request: IncomingMessage, response: ServerResponse) => void;

let front: Front;
let options: FrontOptions;
let page: Page;
let port: number;
let sockets: Socket[];
/** Milliseconds by which the clock is ahead. */
let ahead: number;

beforeEach(async () => {
  sockets = [];
  page = (_asked, _request, response) => reply(response, 200, "text/plain", "well\n");
  options = {
    host: "127.0.0.1",
    port: 0,
    allowHosts: [],
    log: silentLogger,
    admit: () => new Identity(undefined),
    misses: () => false,
    page: (asked, request, response) => page(asked, request, response),
    upgradeRefusal: () => ["404 Not Found", "no NICs here"],
    upgrade: () => {},
  };
  front = new Front(options);
  ({ port } = await front.listen());
  ahead = 0;
  const now = performance.now.bind(performance);
  vi.spyOn(performance, "now").mockImplementation(() => now() + ahead);
});

afterEach(async () => {
  vi.restoreAllMocks();
  for (const socket of sockets) socket.destroy();
  await front.close(0);
});

/** A client that ends its side only when the test says so. */
async function client(text: string): Promise<{ socket: Socket; said: () => string }> {
  const socket = connect({ port, host: "127.0.0.1", allowHalfOpen: true });
  sockets.push(socket);
  socket.on("error", () => {});
  let said = "";
  socket.on("data", (bytes) => {
    said += bytes.toString("latin1");
  });
  await once(socket, "connect");
  socket.write(text);
  return { socket, said: () => said };
}

const holds = (): Record<"requests" | "pages", number> => {
  const { requests, pages } = front.snapshot();
  return { requests, pages };
};
const empty = (): true | undefined =>
  holds().requests === 0 && holds().pages === 0 ? true : undefined;
const refused = (): unknown => front.snapshot().refused;

it("a client that half-closes behind its request has its answer", async () => {
  let answer = (): void => {};
  page = (_asked, _request, response) => {
    answer = () => reply(response, 200, "text/plain", "well\n");
  };
  const { socket, said } = await client(REQUEST);
  socket.end();
  await eventually("the page", () => (holds().pages === 1 ? true : undefined));
  // The client's end has arrived by now: with the request, or in the next turns.
  for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setImmediate(resolve));
  answer();
  await once(socket, "end");
  expect(said()).toMatch(/^HTTP\/1.1 200 .*well\n$/s);
});

it("a client that half-closes has left a stream", async () => {
  page = (asked, _request, response) => {
    asked.stream();
    response.write("and so on");
  };
  const { socket, said } = await client(REQUEST);
  await eventually("the stream", () => (said().includes("and so on") ? true : undefined));
  socket.end();
  await eventually("its end", empty);
});

it("a client that has its answer, and does not close, is not waited for", async () => {
  const { socket, said } = await client(REQUEST);
  await once(socket, "end");
  expect(said()).toMatch(/well\n$/);
  await eventually("the end", empty);
});

it("attack-S1 what follows a request is dropped, and a mebibyte of it ends the connection", async () => {
  page = () => {};
  const { socket } = await client(REQUEST);
  const more = Buffer.alloc(64 * 1024, "x");
  const over = new Promise((resolve) => socket.once("close", resolve));
  const write = (): void => {
    if (socket.writable) socket.write(more, write);
  };
  write();
  await over;
  await eventually("the end", empty);
  expect(refused()).toEqual({ pipelined: 1 });
});

it("attack-S1 of a body no more is read than a request may have", async () => {
  let bytes = 0;
  page = (asked, request) => {
    asked.wantBody();
    request.on("data", (some: Buffer) => {
      bytes += some.length;
    });
  };
  const { socket } = await client(
    "POST /page HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000000\r\n\r\n",
  );
  socket.write(Buffer.alloc(200_000, "x"));
  await eventually("the body", () => (bytes > 16 * 1024 ? true : undefined));
  await eventually("the rest", () =>
    (refused() as Record<string, number>)["pipelined"] === 1 ? true : undefined,
  );
  expect(bytes).toBeLessThanOrEqual(17 * 1024);
});

it("attack-S16 a body that is not whole in time is refused once, however long its client stays", async () => {
  let isAsked = false;
  page = (asked, request) => {
    asked.wantBody();
    request.once("data", () => {
      isAsked = true;
    });
  };
  const { socket, said } = await client(
    "POST /page HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9\r\n\r\nhalf",
  );
  await eventually("half of the body", () => isAsked || undefined);
  ahead += 10_000;
  front.tick();
  await once(socket, "end");
  front.tick();
  expect(said()).toMatch(/^HTTP\/1.1 408 /);
  expect(refused()).toEqual({ timeout: 1 });
  socket.end();
  await eventually("the end", empty);
});

it("attack-S16 an answer that is not read in time is cut", async () => {
  page = (_asked, _request, response) => reply(response, 200, "text/plain", Buffer.alloc(64 << 20));
  const { socket } = await client(REQUEST);
  socket.pause();
  await eventually("the page", () => (holds().pages === 1 ? true : undefined));
  await new Promise((resolve) => setImmediate(resolve));
  front.tick();
  expect(holds().pages).toBe(1);
  ahead += 10_000;
  front.tick();
  expect(empty()).toBe(true);
  expect(refused()).toEqual({ timeout: 1 });
});

it("attack-S16 an answer that has left is read in time, although its client does not close", async () => {
  const { socket, said } = await client(REQUEST);
  await once(socket, "end");
  await eventually("the page's end", () => (holds().pages === 0 ? true : undefined));
  ahead += 10_000;
  front.tick();
  expect(said()).toMatch(/well\n$/);
  expect(refused()).toEqual({});
});

it("without a free place for a page the process still answers its monitors", async () => {
  page = ({ path }, _request, response) => {
    if (path !== "/page") reply(response, 200, "text/plain", "well\n");
  };
  await Promise.all(Array.from({ length: 256 }, () => client(REQUEST)));
  await eventually("all places", () => (holds().pages === 256 ? true : undefined));
  for (const [path, status] of [
    ["/page", 503],
    ["/livez", 200],
    ["/readyz", 200],
  ] as const) {
    const { socket, said } = await client(REQUEST.replace("/page", path));
    await once(socket, "end");
    expect([path, Number(said().slice(9, 12))]).toEqual([path, status]);
  }
});

it("the requests of many clients in one turn share a slice of it", async () => {
  /** Turns of the event loop in which the pages ran. */
  const at: number[] = [];
  let turn = 0;
  let counts = true;
  const count = (): void => {
    turn++;
    if (counts) setImmediate(count);
  };
  page = (_asked, _request, response) => {
    at.push(turn);
    ahead += 6;
    reply(response, 200, "text/plain", "well\n");
  };
  const clients = await Promise.all(Array.from({ length: 16 }, () => client("")));
  await eventually("all", () => (holds().requests === 16 ? true : undefined));
  setImmediate(count);
  const ends = clients.map(({ socket }) => once(socket, "end"));
  for (const { socket } of clients) socket.write(REQUEST);
  await Promise.all(ends);
  counts = false;
  expect(new Set(at).size).toBe(16);
  for (const { said } of clients) expect(said()).toMatch(/^HTTP\/1.1 200 .*well\n$/s);
});

it("a client whose request waits for a slice may leave, or be too slow", async () => {
  const pages: string[] = [];
  page = ({ path }, _request, response) => {
    pages.push(path);
    ahead += 6;
    reply(response, 200, "text/plain", "well\n");
  };
  const [one, leaves, stays] = await Promise.all([client(""), client(""), client("")]);
  await eventually("all", () => (holds().requests === 3 ? true : undefined));
  const ended = once(stays.socket, "end");
  for (const { socket } of [one, leaves, stays]) socket.write(REQUEST);
  leaves.socket.resetAndDestroy();
  await ended;
  await eventually("the end", empty);
  expect(pages.length).toBeLessThanOrEqual(3);
  expect(stays.said()).toMatch(/^HTTP\/1.1 200 .*well\n$/s);
});

it("fault-L12 a TLS handshake that is not over in time ends, and no other", async () => {
  await front.close(0);
  front = new Front({ ...options, tls: { cert: CERTIFICATES.SELF_SIGNED, key: String(KEY) } });
  ({ port } = await front.listen());
  const [silent, half] = await Promise.all([client(""), client("\x16\x03\x01\x02\x00")]);
  await eventually("both", () => (holds().requests === 2 ? true : undefined));
  ahead += 6000;
  const late = await client("");
  await eventually("all", () => (holds().requests === 3 ? true : undefined));
  ahead += 5000;
  const gone = [silent, half].map(({ socket }) => once(socket, "end"));
  front.tick();
  await Promise.all(gone);
  expect([refused(), holds().requests, late.socket.destroyed]).toEqual([{ timeout: 2 }, 1, false]);
});

it("fault-L12 a TLS handshake that is over has no time limit any more", async () => {
  await front.close(0);
  front = new Front({ ...options, tls: { cert: CERTIFICATES.SELF_SIGNED, key: String(KEY) } });
  ({ port } = await front.listen());
  page = ({ stream }) => stream();
  const socket = connectTls({ port, host: "127.0.0.1", ca: CERTIFICATES.SELF_SIGNED });
  sockets.push(socket);
  socket.on("error", () => {});
  await once(socket, "secureConnect");
  socket.write(REQUEST);
  await eventually("the page", () => (holds().pages === 1 ? true : undefined));
  ahead += 60_000;
  front.tick();
  expect([refused(), holds().pages]).toEqual([{}, 1]);
});
