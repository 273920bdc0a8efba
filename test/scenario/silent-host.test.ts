/**
 * A host that never answers a SYN (a firewall) is told apart from one that accepts and is silent.
 */
import { createServer, connect as openSocket, type Server, type Socket } from "node:net";
import { afterAll, beforeAll, expect, it } from "vitest";
import { getPage } from "../../cli/common/device-page.ts";
import { explainDial } from "../../frontend/session-error.ts";
import { dial } from "../../shared/transport/websocket.ts";
import { type Child, NODE, start } from "../support/process.ts";

/** Long enough for a connection on this machine, and too short for a repeated SYN (one second). */
const WAIT_MS = 800;
/** A backlog of one is full with two connections. */
const LISTEN = `const server = require("node:net").createServer();
server.listen(0, "127.0.0.1", 1, () => console.log(JSON.stringify(server.address())));`;

const at: Record<string, string> = {};
const sockets: Socket[] = [];
let deaf: Child;
let silent: Server;

beforeAll(async () => {
  deaf = start([NODE, "-e", LISTEN]);
  const { port } = await deaf.waitForJson<{ port: number }>((line) => "port" in line);
  // The stopped process accepts no connection. The kernel does until the backlog is full, then
  // drops every SYN.
  deaf.signal("SIGSTOP");
  for (let i = 0; i < 8; i++) {
    const socket = openSocket(port, "127.0.0.1");
    sockets.push(socket);
    socket.on("error", () => {});
  }
  await Promise.race(sockets.slice(1).map((s) => new Promise((done) => s.on("connect", done))));
  at["deaf"] = `127.0.0.1:${port}`;
  silent = createServer(() => {});
  await new Promise<void>((resolve) => silent.listen(0, "127.0.0.1", resolve));
  at["silent"] = `127.0.0.1:${(silent.address() as { port: number }).port}`;
});

afterAll(async () => {
  for (const socket of sockets) socket.destroy();
  deaf.signal("SIGCONT");
  await deaf.stop();
  silent.close();
});

it.each([
  ["deaf", /^127\.0\.0\.1:\d+ can't be reached \(ETIMEDOUT\); check the address and the firewalls/],
  ["silent", /^127\.0\.0\.1:\d+ accepted the connection but did not answer/],
])("a host that is %s: %s", async (host, says) => {
  const url = `ws://${at[host]}`;
  const dialled = await dial({ url, timeoutMs: WAIT_MS }).catch((e: unknown) =>
    explainDial(e, url),
  );
  expect(dialled).toMatchObject({ message: expect.stringMatching(says) });
  await expect(getPage({ connect: url }, "/status", WAIT_MS)).rejects.toThrow(says);
});
