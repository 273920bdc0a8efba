/** The WebSocket transport at its end: peers that go on sending, hosts that never answer. */
import { once } from "node:events";
import { createServer, type Server } from "node:http";
import { type AddressInfo, connect, type Socket } from "node:net";
import { afterEach, describe, expect, it } from "vitest";
import { MemoryAccount, MemoryBudget } from "../../shared/memory-budget.ts";
import { FRAME_ROOM } from "../../shared/transport/frames.ts";
import type { Transport } from "../../shared/transport/transport.ts";
import {
  acceptUpgrade,
  ConnectError,
  dial,
  prepareTransport,
} from "../../shared/transport/websocket.ts";
import { CloseCode } from "../../shared/wire/protocol.ts";
import { NODE, start } from "../support/process.ts";
import { RawSocket, WsOpcode, wsFrame } from "../support/raw-socket.ts";

const servers: Server[] = [];
afterEach(() => {
  for (const server of servers.splice(0)) {
    server.closeAllConnections();
    server.close();
  }
});

/** An upgraded socket of a stranger, and our end of the connection. */
async function joined(): Promise<{
  raw: RawSocket;
  transport: Transport;
  closed: Promise<number>;
}> {
  const { promise, resolve } = Promise.withResolvers<Transport>();
  const server = createServer();
  servers.push(server);
  const account = new MemoryAccount(new MemoryBudget(Number.POSITIVE_INFINITY));
  server.on("upgrade", (request, socket, head) => {
    acceptUpgrade(request, socket, head, account, resolve);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const raw = await RawSocket.upgraded((server.address() as AddressInfo).port);
  const transport = await promise;
  const closed = new Promise<number>((told) => {
    transport.onClose = (code) => told(code);
  });
  return { raw, transport, closed };
}

/** Sends frames until the socket is closed. Resolves to the bytes that the other side has read. */
async function flood(raw: RawSocket, frame: Buffer, transport: Transport): Promise<number> {
  const { socket } = raw;
  const more = Buffer.concat(Array(Math.ceil((1 << 18) / frame.length)).fill(frame));
  const push = (): void => {
    while (!socket.destroyed && socket.write(more));
  };
  socket.on("drain", push);
  push();
  // Without `once`, which rejects when an error comes before the end.
  if (!socket.closed) await new Promise((resolve) => socket.once("close", resolve));
  return transport.receivedBytes;
}

/** One read of a socket, which may happen before the pause. */
const READ_BYTES = 1 << 18;

describe("a side that has ended a connection", () => {
  it.each([
    ["pings", wsFrame(Buffer.alloc(100), { opcode: WsOpcode.PING })],
    ["messages", wsFrame(Buffer.alloc(1000))],
  ])("attack-S2b reads no more of the %s of a peer that broke a rule", async (_what, frame) => {
    const { raw, transport, closed } = await joined();
    raw.socket.write(wsFrame(Buffer.from("text"), { opcode: WsOpcode.TEXT }));
    expect(await closed).toBe(1003);
    const before = transport.receivedBytes;
    expect((await flood(raw, frame, transport)) - before).toBeLessThanOrEqual(READ_BYTES);
    // The close frame arrived before the connection was cut.
    expect(raw.received.toString("latin1")).toContain("only binary messages are understood here");
  });

  it("attack-S2b reads no more behind a frame that RFC 6455 does not allow", async () => {
    const { raw, transport, closed } = await joined();
    raw.socket.write(wsFrame(Buffer.alloc(10), { reserved: 0x40 }));
    expect(await closed).toBe(1002);
    const before = transport.receivedBytes;
    const read = await flood(raw, wsFrame(Buffer.alloc(1000)), transport);
    expect(read - before).toBeLessThanOrEqual(READ_BYTES);
  });

  it("attack-S2b pings whose answers nobody reads end it, and what follows stays unread", async () => {
    const { raw, transport, closed } = await joined();
    raw.socket.pause();
    const ping = wsFrame(Buffer.alloc(125), { opcode: WsOpcode.PING });
    const read = flood(raw, ping, transport);
    expect(await closed).toBe(1008);
    const before = transport.receivedBytes;
    raw.socket.resume();
    expect((await read) - before).toBeLessThanOrEqual(READ_BYTES);
  });

  it("attack-S2b whose link ended reads what was under way, and no flood", async () => {
    const { raw, transport } = await joined();
    transport.close(CloseCode.PROTOCOL, "a rule was broken");
    const read = await flood(raw, wsFrame(Buffer.alloc(1000)), transport);
    expect(read).toBeLessThanOrEqual(3 * READ_BYTES);
    expect(raw.received.toString("latin1")).toContain("a rule was broken");
  });

  it("hears the answer of a peer that ends as the protocol asks", async () => {
    const { raw, transport, closed } = await joined();
    transport.close(CloseCode.PROTOCOL, "a rule was broken");
    const payload = Buffer.alloc(2);
    payload.writeUInt16BE(CloseCode.PROTOCOL);
    raw.socket.write(wsFrame(payload, { opcode: WsOpcode.CLOSE }));
    expect(await closed).toBe(CloseCode.PROTOCOL);
  });
});

describe("an abort", () => {
  it.each([
    ["a socket of Node, or the reactor if it runs already", async () => {}],
    ["the reactor, where it can be had", prepareTransport],
  ])(
    "drops what has not begun to leave, and its code arrives behind the rest: %s",
    async (_, prepare) => {
      await prepare();
      const { raw, transport } = await joined();
      raw.socket.pause();
      const room = new Uint8Array(FRAME_ROOM + 100_000);
      let waiting = 0;
      for (; transport.unsentBytes < 8 << 20; waiting++) {
        transport.send(room.slice(), FRAME_ROOM, 100_000, () => waiting--);
      }
      transport.abort(CloseCode.LIMIT, "too much waits");
      expect(transport.unsentBytes).toBeLessThan(1 << 20);
      raw.socket.resume();
      expect(await raw.closeCode()).toBe(CloseCode.LIMIT);
      expect(waiting).toBe(0);
    },
  );
});

describe("a dial", () => {
  it("attack-S17 to a host that drops SYNs ends after its own limit, not the handshake's", async () => {
    // A stopped process with a full accept queue: its kernel answers no SYN.
    await using host = start([
      NODE,
      "-e",
      "const s=require('net').createServer().listen({port:0,host:'127.0.0.1',backlog:1},()=>{console.log('port '+s.address().port+';')})",
    ]);
    const port = Number((await host.waitFor(/port (\d+);/))[1]);
    host.signal("SIGSTOP");
    const fillers: Socket[] = [];
    for (let i = 0; i < 8; i++) {
      fillers.push(connect({ host: "127.0.0.1", port }).on("error", () => {}));
    }
    try {
      await expect(
        dial({ url: `ws://127.0.0.1:${port}/nic`, timeoutMs: 3_600_000, connectMs: 200 }),
      ).rejects.toThrow(new ConnectError("ETIMEDOUT", "no connection"));
    } finally {
      for (const filler of fillers) filler.destroy();
      host.signal("SIGKILL");
    }
  });
});
