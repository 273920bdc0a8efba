/** Rules of HTTP and RFC 6455 broken by hand, on plain sockets. (fault-A1 to A14) */
import { Socket } from "node:net";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Op } from "../../shared/wire/catalogue.ts";
import { Limits, NIC_PATH } from "../../shared/wire/protocol.ts";
import { ChaosProxy } from "../support/chaos-proxy.ts";
import { cases } from "../support/counts.ts";
import { HostileStage } from "../support/hostile-stage.ts";
import { eventually, sleep, startRingwire } from "../support/process.ts";
import { packBatch, RawFrontend } from "../support/raw-frontend.ts";
import { RawSocket, upgradeRequest, WsOpcode, wsFrame } from "../support/raw-socket.ts";

let stage: HostileStage;

beforeAll(async () => {
  stage = await HostileStage.open();
});

afterAll(async () => {
  await stage.close();
});

const helloFrame = (name: string) =>
  wsFrame(packBatch([[Op.HELLO, { version: 1, personality: "ena", name, instance: name }]]));

/** A NIC behind a plain socket. */
async function joined(): Promise<RawSocket> {
  const raw = await RawSocket.upgraded(stage.port);
  raw.write(helloFrame(stage.name()));
  await eventually("the welcome", () => raw.received.includes("pushBytes") || undefined);
  return raw;
}

describe("frames that RFC 6455 forbids", () => {
  afterAll(() => stage.unharmed());

  const some = Buffer.from([0x90]);
  const close = (code: number) => Buffer.from([code >> 8, code & 0xff]);
  it.each<[string, Buffer[], number]>([
    ["fault-A1: unmasked", [wsFrame(some, { masked: false })], 1002],
    ["fault-A1: RSV1 without an extension", [wsFrame(some, { reserved: 0x40 })], 1002],
    ["fault-A1: RSV2", [wsFrame(some, { reserved: 0x20 })], 1002],
    ["fault-A1: RSV3", [wsFrame(some, { reserved: 0x10 })], 1002],
    ...[3, 4, 5, 6, 7, 11, 12, 13, 14, 15]
      .map((opcode) => [`fault-A1: opcode ${opcode}`, [wsFrame(some, { opcode })], 1002] as const)
      .map(([a, b, c]): [string, Buffer[], number] => [a, [...b], c]),
    ["fault-A1: a fragmented ping", [wsFrame(some, { opcode: WsOpcode.PING, fin: false })], 1002],
    [
      "fault-A1: a ping of 126 bytes",
      [wsFrame(Buffer.alloc(126), { opcode: WsOpcode.PING })],
      1002,
    ],
    [
      "fault-A1: a continuation of nothing",
      [wsFrame(some, { opcode: WsOpcode.CONTINUATION })],
      1002,
    ],
    [
      "fault-A1: a new message inside another",
      [wsFrame(some, { fin: false }), wsFrame(some)],
      1002,
    ],
    ["fault-A1: a close of one byte", [wsFrame(some, { opcode: WsOpcode.CLOSE })], 1002],
    ["fault-A1: a close with code 1005", [wsFrame(close(1005), { opcode: WsOpcode.CLOSE })], 1002],
    ["fault-A2: a text message", [wsFrame(Buffer.from("[]"), { opcode: WsOpcode.TEXT })], 1003],
    [
      "fault-A2: text that is no UTF-8",
      [wsFrame(Buffer.from([0xff, 0xfe]), { opcode: WsOpcode.TEXT })],
      1007,
    ],
  ])("%s", async (_what, frames, code) => {
    const raw = await joined();
    for (const frame of frames) raw.write(frame);
    expect(await raw.closeCode()).toBe(code);
  });

  it.each([
    ["one byte more than the limit", BigInt(Limits.MESSAGE_BYTES + 1), 1009],
    ["16 MiB", 16n << 20n, 1009],
    ["2^32", 1n << 32n, 1009],
    ["2^63", 1n << 63n, 1009],
    ["2^64-1", (1n << 64n) - 1n, 1009],
  ])(
    "fault-A3: %s declared, one byte sent: refused before it is buffered",
    async (_w, declared, code) => {
      const raw = await joined();
      const before = stage.device.rssBytes();
      raw.write(wsFrame(Buffer.of(0), { declared }));
      expect(await raw.closeCode()).toBe(code);
      expect(stage.device.rssBytes() - before).toBeLessThan(32 << 20);
    },
  );

  it("fault-A4: endless fragments are cut off", async () => {
    for (const bytes of [0, 1]) {
      const raw = await joined();
      const piece = Buffer.alloc(bytes);
      raw.write(wsFrame(piece, { fin: false }));
      const next = wsFrame(piece, { fin: false, opcode: WsOpcode.CONTINUATION });
      const many = Buffer.concat(Array.from({ length: 1000 }, () => next));
      for (let i = 0; i < 100 && raw.socket.writable; i++) raw.write(many);
      expect([1008, 1009]).toContain(await raw.closeCode());
    }
  });

  it("fault-A5: a legal message in pieces of one byte is a message", async () => {
    const raw = await RawSocket.upgraded(stage.port);
    for (const byte of helloFrame(stage.name())) {
      raw.write(Buffer.of(byte));
      await new Promise((resolve) => setImmediate(resolve));
    }
    await eventually("the welcome", () => raw.received.includes("pushBytes") || undefined);
    raw.socket.destroy();
  });

  it("fault-A7: compression is offered and not taken", async () => {
    const raw = await RawSocket.connect(stage.port);
    raw.write(upgradeRequest(stage.port, { "Sec-WebSocket-Extensions": "permessage-deflate" }));
    const answer = await raw.response();
    expect(answer).toMatch(/^HTTP\/1.1 101 /);
    expect(answer.toLowerCase()).not.toContain("extensions");
    raw.write(wsFrame(Buffer.alloc(40), { reserved: 0x40 }));
    expect(await raw.closeCode()).toBe(1002);
  });

  it("fault-A2: what follows a text message is not looked at", async () => {
    const raw = await RawSocket.upgraded(stage.port);
    const name = stage.name();
    raw.write(
      Buffer.concat([wsFrame(Buffer.from("[]"), { opcode: WsOpcode.TEXT }), helloFrame(name)]),
    );
    expect(await raw.closeCode()).toBe(1003);
    expect((await stage.status()).nics.map((nic) => nic.name)).not.toContain(name);
  });

  it("fault-A8: ten thousand pings at once are answered or cut, with a reason", async () => {
    const raw = await joined();
    const ping = wsFrame(Buffer.alloc(125), { opcode: WsOpcode.PING });
    for (let i = 0; i < 100; i++) {
      raw.write(Buffer.concat(Array.from({ length: 100 }, () => ping)));
    }
    raw.write(wsFrame(Buffer.from([3, 0xe8]), { opcode: WsOpcode.CLOSE }));
    expect([1000, 1008]).toContain(await raw.closeCode());
  });

  it("fault-A8: ten thousand pongs that nobody asked for are ignored", async () => {
    const raw = await joined();
    const pong = wsFrame(Buffer.alloc(125), { opcode: WsOpcode.PONG });
    raw.write(Buffer.concat(Array.from({ length: 10_000 }, () => pong)));
    raw.write(wsFrame(Buffer.from([3, 0xe8]), { opcode: WsOpcode.CLOSE }));
    expect(await raw.closeCode()).toBe(1000);
  });

  it("fault-A8: ten thousand pings a second are answered, and the neighbours' frames flow", async () => {
    const raw = await joined();
    const pings = Buffer.concat(
      Array.from({ length: 100 }, () => wsFrame(Buffer.alloc(4), { opcode: WsOpcode.PING })),
    );
    const before = raw.received.length;
    const ticks = cases(500);
    for (let i = 0; i < ticks; i++) {
      raw.write(pings);
      await sleep(10);
    }
    await stage.neighbour.flows();
    // A pong of four bytes takes six. The device may say other things, too.
    const pongs = () => raw.received.length - before >= ticks * 100 * 6 || undefined;
    await eventually("all pongs", pongs);
    raw.write(wsFrame(Buffer.from([3, 0xe8]), { opcode: WsOpcode.CLOSE }));
    expect(await raw.closeCode()).toBe(1000);
  });

  it("fault-A8: pings whose pongs nobody reads end the connection, not the memory", async () => {
    const raw = await joined();
    raw.socket.pause();
    const ping = wsFrame(Buffer.alloc(125), { opcode: WsOpcode.PING });
    const many = Buffer.concat(Array.from({ length: 5000 }, () => ping));
    for (let i = 0; i < 100 && !raw.over; i++) {
      raw.write(many);
      await new Promise((resolve) => setImmediate(resolve));
    }
    await eventually("the NIC to be gone", async () => {
      const { nics } = await stage.status();
      return nics.length === 2 || undefined;
    });
    raw.socket.destroy();
  });
});

describe("requests that are no upgrade", () => {
  afterAll(() => stage.unharmed());

  async function answerTo(request: string): Promise<string> {
    const raw = await RawSocket.connect(stage.port);
    raw.write(request);
    const answer = await raw.response();
    raw.socket.destroy();
    return answer.split("\r\n")[0] ?? "";
  }

  const up = (lines: Record<string, string>, path = NIC_PATH) =>
    upgradeRequest(stage.port, lines, path);
  const long = "a".repeat(4000);
  it.each<[string, () => string, RegExp]>([
    ["fault-A13: without a subprotocol", () => up({ "Sec-WebSocket-Protocol": "" }), / 400 /],
    ["fault-A13: of another subprotocol", () => up({ "Sec-WebSocket-Protocol": "mqtt" }), / 400 /],
    [
      "fault-A13: of a later version",
      () => up({ "Sec-WebSocket-Protocol": "ringwire.v2" }),
      / 400 /,
    ],
    [
      "fault-A13: of a subprotocol that begins right",
      () => up({ "Sec-WebSocket-Protocol": "ringwire.v1x" }),
      / 400 /,
    ],
    ["fault-A13: of an old WebSocket", () => up({ "Sec-WebSocket-Version": "7" }), / 4(00|26) /],
    ["fault-A10: without a key", () => up({ "Sec-WebSocket-Key": "" }), / 400 /],
    ["fault-A10: with a short key", () => up({ "Sec-WebSocket-Key": "AAAA" }), / 400 /],
    [
      "fault-A10: with a subprotocol list of commas",
      () => up({ "Sec-WebSocket-Protocol": ",".repeat(4000) }),
      / 400 /,
    ],
    [
      "fault-A10: with spaces in the subprotocol",
      () => up({ "Sec-WebSocket-Protocol": `a${" ".repeat(8000)}b` }),
      / 400 /,
    ],
    ["fault-A10: with a giant cookie", () => up({ Cookie: long.repeat(10) }), / 4(00|31) /],
    [
      "fault-A10: with 2500 headers",
      () => up(Object.fromEntries(Array.from({ length: 2500 }, (_, i) => [`x${i}`, "1"]))),
      / (4(00|31)|101) /,
    ],
    ["fault-A11: with a line break in the path", () => up({}, "/nic\r\nX: 1"), / 400 /],
    ["fault-A11: with dots in the path", () => up({}, "/../../etc/passwd"), / 404 /],
    ["fault-A11: for another path", () => up({}, "/nic2"), / 404 /],
    ["fault-A11: for a path of 4000 characters", () => up({}, `/${long}`), / 404 /],
    ["from a page of another origin", () => up({ Origin: "http://evil.example" }), / 403 /],
    [
      "from a page that has the name in front",
      () => up({ Origin: `http://127.0.0.1:${stage.port}.evil.example` }),
      / 403 /,
    ],
    ["from a file", () => up({ Origin: "null" }), / 403 /],
    [
      "fault-A11: two lengths",
      () =>
        `POST /status HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`,
      / 400 /,
    ],
    [
      "that is no HTTP",
      () => "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 hello\r\n\r\n",
      / 400 /,
    ],
    ["with another method", () => `DELETE /status HTTP/1.1\r\nHost: a\r\n\r\n`, / 405 /],
    [
      "of a plain GET to the NICs' path",
      () => `GET ${NIC_PATH} HTTP/1.1\r\nHost: a\r\n\r\n`,
      / 426 /,
    ],
  ])("%s", async (_what, request, status) => {
    expect(await answerTo(request())).toMatch(status);
  });

  it("from a page of the device's own origin is welcome", async () => {
    const raw = await RawSocket.upgraded(stage.port, {
      Origin: `http://127.0.0.1:${stage.port}`,
    });
    raw.socket.destroy();
    await raw.ended();
  });

  it("fault-A6: headers that drip are cut after 10 s, and so is a silent socket", async () => {
    const drips = await Promise.all(
      Array.from({ length: 1000 }, () => RawSocket.connect(stage.port)),
    );
    const silent = await RawSocket.connect(stage.port);
    const request = upgradeRequest(stage.port);
    let at = 0;
    const timer = setInterval(() => {
      for (const raw of drips) raw.write(request[at]!);
      at++;
    }, 300);
    try {
      // Beside a thousand of them the neighbours' frames flow, and a guest may join.
      const guest = await RawFrontend.join(stage.port, stage.name());
      expect(await guest.survived()).toBe(true);
      await guest.end();
      await stage.neighbour.flows();
      expect(drips.some((raw) => !raw.over)).toBe(true);
      await Promise.all([...drips, silent].map((raw) => raw.ended()));
    } finally {
      clearInterval(timer);
    }
    expect(at).toBeGreaterThan(20);
    expect(at).toBeLessThan(request.length);
  });
});

describe("connections that end badly", () => {
  afterAll(() => stage.unharmed());

  it("fault-A14: reset at each byte of a message: nothing of it is applied", async () => {
    const name = stage.name();
    const frame = helloFrame(name);
    for (let cut = 0; cut < frame.length; cut++) {
      const raw = await RawSocket.upgraded(stage.port);
      raw.write(frame.subarray(0, cut));
      await new Promise((resolve) => setImmediate(resolve));
      raw.socket.resetAndDestroy();
    }
    await eventually("the sockets to be gone", async () => {
      const status = await stage.status();
      expect(status.nics.map((nic) => nic.name)).not.toContain(name);
      return status.connections === 2 || undefined;
    });
  });

  it("fault-A12: an influx of connections leaves room, and goes", async () => {
    const sockets: Socket[] = [];
    for (let i = 0; i < 5000; i++) {
      const socket = new Socket();
      socket.on("error", () => {});
      socket.connect(stage.port, "127.0.0.1");
      if (i % 2 === 0) socket.write(upgradeRequest(stage.port));
      sockets.push(socket);
    }
    const guest = await RawFrontend.join(stage.port, stage.name());
    expect(await guest.survived()).toBe(true);
    await guest.end();
    await stage.neighbour.flows();
    for (const socket of sockets) socket.resetAndDestroy();
  });

  /** Waits until the device has given up NIC `name`. Returns the reason. */
  async function givenUp(name: string): Promise<string> {
    const left = new RegExp(`${name} left: (.*)`);
    return (await stage.device.child.waitFor(left))[1]!;
  }

  it("fault-A9, fault-K4: a peer that vanished without a word is noticed after 4 s of silence", async () => {
    const proxy = await ChaosProxy.start({ target: stage.port });
    const name = stage.name();
    const raw = await RawFrontend.join(proxy.port, name);
    proxy.toxics.up = proxy.toxics.down = { lost: true };
    expect(await givenUp(name)).toMatch(/^no sign of life for 4 s/);
    raw.ws.terminate();
    await proxy.close();
  });

  it("fault-A9, fault-K3: a frontend that is stopped is noticed after 4 s of silence", async () => {
    const name = stage.name();
    const frontend = startRingwire([
      "frontend",
      "--connect",
      stage.device.url,
      "--name",
      name,
      "--json",
    ]);
    try {
      await frontend.waitForJson((value) => value["event"] === "ready");
      frontend.signal("SIGSTOP");
      expect(await givenUp(name)).toMatch(/^no sign of life for 4 s/);
    } finally {
      frontend.signal("SIGKILL");
    }
  });
});
