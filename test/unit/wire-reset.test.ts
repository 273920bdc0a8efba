/** A connection that is reset in the middle of a message: nothing of that message is delivered. */
import { createHash } from "node:crypto";
import { once } from "node:events";
import { type AddressInfo, createServer, type Socket } from "node:net";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Device } from "../../device/index.ts";
import { Session } from "../../frontend/session.ts";
import { silentLogger } from "../../shared/log.ts";
import { Op } from "../../shared/wire/catalogue.ts";
import { testDevice } from "../support/device-server.ts";
import { eventually } from "../support/process.ts";
import { column, packBatch } from "../support/raw-frontend.ts";
import { RawSocket, WsOpcode, wsFrame } from "../support/raw-socket.ts";
import { WELCOME } from "../support/rogue-device.ts";
import { allPorts } from "../support/status.ts";

const PAGE = 4096;
/** Connections at the same time. */
const TOGETHER = 16;

const nameOf = (cut: number): string => `cut${1000 + cut}`;
const helloOf = (personality: string, cut: number): Buffer =>
  wsFrame(packBatch([[Op.HELLO, { version: 1, personality, name: nameOf(cut), instance: "raw" }]]));

/** A message that would leave traces if any part of it were applied. */
const work: Readonly<Record<string, Buffer>> = {
  ena: packBatch([
    [Op.WINDOW, PAGE, PAGE],
    column(Op.PUSH, [{ address: 3 * PAGE, bytes: Buffer.alloc(20) }]),
    [Op.MMIO_READ, 1, 0, 0, 4],
  ]),
  xen: packBatch([
    [Op.WINDOW, PAGE, PAGE],
    [Op.GRANT, 1, Buffer.from([8, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0])],
    [Op.HYPERCALL, 1, 32, 6, Buffer.alloc(8)],
  ]),
};

/** One message in one frame, and in three with a ping between two of them. */
const shapes: readonly [string, (message: Buffer) => Buffer][] = [
  ["one frame", (message) => wsFrame(message)],
  [
    "three fragments and a ping",
    (message) => {
      const third = Math.floor(message.length / 3);
      const { CONTINUATION: opcode, PING } = WsOpcode;
      return Buffer.concat([
        wsFrame(message.subarray(0, third), { fin: false }),
        wsFrame(Buffer.from("ping"), { opcode: PING }),
        wsFrame(message.subarray(third, 2 * third), { opcode, fin: false }),
        wsFrame(message.subarray(2 * third), { opcode }),
      ]);
    },
  ],
];

describe("a device", () => {
  let device: Device;
  let port: number;
  /** Number of whole batches received, by NIC. */
  const heard = new Map<string, number>();

  beforeAll(async () => {
    device = await testDevice({
      maxQueues: 1,
      tap: (name) => (direction) => {
        if (direction === "in") heard.set(name, (heard.get(name) ?? 0) + 1);
      },
    });
    ({ port } = device);
  });
  afterAll(async () => await device.close());

  /** Waits until nothing is left of the connections. */
  const clean = async (): Promise<void> => {
    await eventually("the sessions to be gone", () => {
      const left = device.status();
      const { length: ports } = allPorts(left);
      return Promise.resolve(
        left.connections === 0 && left.nics.length === 0 && ports === 0 ? true : undefined,
      );
    });
  };

  /** Sends `whole`, then the first `cut` bytes of `part`, then a reset. */
  async function resetAfter(whole: Buffer | undefined, part: Buffer, cut: number): Promise<void> {
    const raw = await RawSocket.upgraded(port);
    if (whole !== undefined) {
      raw.write(whole);
      await eventually("hello to be heard", () =>
        Promise.resolve(heard.has(nameOf(cut)) ? true : undefined),
      );
    }
    if (cut > 0) {
      await new Promise<void>((resolve) => {
        raw.socket.write(part.subarray(0, cut), () => resolve());
      });
    }
    raw.socket.resetAndDestroy();
    await raw.ended();
  }

  /** Calls `reset` for each number of bytes below `length`; then expects that nothing is left. */
  async function atEachByte(length: number, reset: (cut: number) => Promise<void>): Promise<void> {
    heard.clear();
    for (let from = 0; from < length; from += TOGETHER) {
      const count = Math.min(TOGETHER, length - from);
      await Promise.all(Array.from({ length: count }, (_, i) => reset(from + i)));
    }
    await clean();
  }

  test.each(["ena", "xen"])(
    "fault-A14: reset at each byte of the hello of %s: no NIC comes of it",
    async (personality) => {
      const frame = (cut: number): Buffer => helloOf(personality, cut);
      await atEachByte(frame(0).length, (cut) => resetAfter(undefined, frame(cut), cut));
      expect(heard.size).toBe(0);
    },
  );

  for (const personality of ["ena", "xen"]) {
    test.each(shapes)(
      `fault-A14: reset at each byte of a message of ${personality} in %s: the session is cleaned up`,
      async (_shape, shape) => {
        const part = shape(work[personality]!);
        await atEachByte(part.length, (cut) => resetAfter(helloOf(personality, cut), part, cut));
        // Each connection delivered its hello, and never the message behind it.
        expect(heard.size).toBe(part.length);
        expect(new Set(heard.values())).toEqual(new Set([1]));
      },
    );
  }
});

describe("a frontend", () => {
  /** RFC 6455, 4.2.2. */
  const GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

  test.each(shapes)(
    "fault-A14: reset at each byte of the welcome in %s: no driver is made, a sentence says so",
    async (_shape, shape) => {
      // A server does not mask. Removing a zero mask changes only the header.
      const frame = unmasked(shape(packBatch([[Op.WELCOME, WELCOME]])));
      let cut = 0;
      const upgrade = (socket: Socket, request: string): void => {
        const key = /^Sec-WebSocket-Key: (.*)\r$/im.exec(request)?.[1] ?? "";
        const accept = createHash("sha1")
          .update(key + GUID)
          .digest("base64");
        socket.write(
          "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
            `Sec-WebSocket-Protocol: ringwire.v1\r\nSec-WebSocket-Accept: ${accept}\r\n\r\n`,
        );
        // The client's first message shows that it has read the answer.
        socket.once("data", () => {
          socket.write(frame.subarray(0, cut), () => socket.resetAndDestroy());
        });
      };
      const server = createServer((socket) => {
        socket.on("error", () => {});
        socket.once("data", (request) => upgrade(socket, request.toString("latin1")));
      });
      server.listen(0, "127.0.0.1");
      await once(server, "listening");
      const { port } = server.address() as AddressInfo;
      let drivers = 0;
      const codes = new Set<string>();
      for (; cut < frame.length; cut++) {
        const session = new Session({
          connect: `ws://127.0.0.1:${port}`,
          name: "victim",
          personality: "ena",
          driver: () => {
            drivers++;
            throw new Error("a driver of half a welcome");
          },
          agent: "test",
          log: silentLogger,
        });
        await session.start().catch((error: { code: string }) => codes.add(error.code));
        await session.close();
      }
      server.close();
      expect(drivers).toBe(0);
      expect(codes.size).toBe(1);
    },
  );

  /** The same frames as a server sends them, without mask bit and without the four zero bytes. */
  function unmasked(frames: Buffer): Buffer {
    const out: Buffer[] = [];
    for (let at = 0; at < frames.length; ) {
      const short = frames[at + 1]! & 0x7f;
      const size = short === 126 ? 4 : 2;
      const length = short === 126 ? frames.readUInt16BE(at + 2) : short;
      const head = Buffer.from(frames.subarray(at, at + size));
      head[1] = short;
      out.push(head, frames.subarray(at + size + 4, at + size + 4 + length));
      at += size + 4 + length;
    }
    return Buffer.concat(out);
  }
});
