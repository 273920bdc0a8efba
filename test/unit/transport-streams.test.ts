/** The two streams under a WebSocket, on TCP connections of this host: one story, told for both. */
import { once } from "node:events";
import { connect, createServer, type Server, type Socket } from "node:net";
import { setImmediate as turn } from "node:timers/promises";
import { afterEach, describe, expect, it } from "vitest";
import { prepareReactor, reactor } from "../../shared/reactor/index.ts";
import { FdStream } from "../../shared/transport/fd-stream.ts";
import { NodeStream } from "../../shared/transport/node-stream.ts";
import { ReadBuffer } from "../../shared/transport/read-buffer.ts";
import { type ByteStream, held, type StreamOwner } from "../../shared/transport/stream.ts";
import { slow, WaitedTooLong } from "../support/slowness.ts";

/** More than the buffers of both sockets hold. */
const MUCH = 24 << 20;
const HANG_MS = 10_000;
/** The system accepts a part of a large write, and all or nothing of a small one. */
const LARGE = 1 << 20;
const SMALL = 4096;

const servers: Server[] = [];
const sockets: Socket[] = [];
const streams: ByteStream[] = [];
afterEach(() => {
  for (const stream of streams.splice(0)) stream.destroy();
  for (const socket of sockets.splice(0)) socket.destroy();
  for (const server of servers.splice(0)) server.close();
});

/** Two ends of a connection: a socket of the peer, and one for a stream. */
async function connected(): Promise<{ peer: Socket; socket: Socket }> {
  const server = createServer({ allowHalfOpen: true, noDelay: true }).listen(0, "127.0.0.1");
  servers.push(server);
  await once(server, "listening");
  const { port } = server.address() as { port: number };
  const peer = connect({ port, host: "127.0.0.1", allowHalfOpen: true, noDelay: true });
  const [[socket]] = (await Promise.all([once(server, "connection"), once(peer, "connect")])) as [
    [Socket],
    unknown,
  ];
  peer.on("error", () => {});
  sockets.push(peer, socket);
  return { peer, socket };
}

/** An owner that keeps what it receives. `most`: bytes that it processes in one call. */
class Keeper implements StreamOwner {
  readonly input = new ReadBuffer();
  readonly bytes: Uint8Array[] = [];
  most = Number.POSITIVE_INFINITY;
  calls = 0;
  ends = 0;

  received(): boolean {
    const { input } = this;
    this.calls++;
    const end = Math.min(input.end, input.start + this.most);
    this.bytes.push(input.bytes.slice(input.start, end));
    input.start = end;
    return input.start < input.end;
  }

  ended(): void {
    this.ends++;
  }

  get length(): number {
    return this.bytes.reduce((all, part) => all + part.length, 0);
  }
}

/** Resolves when `is` holds; looks once in a turn of the event loop. Rejects on a hang. */
async function until(is: () => boolean): Promise<void> {
  const end = performance.now() + slow(HANG_MS);
  while (!is()) {
    if (performance.now() > end) throw new WaitedTooLong(slow(HANG_MS), String(is));
    await turn();
  }
}

const counting = (length: number): Uint8Array =>
  Uint8Array.from({ length }, (_, i) => (i * 31 + (i >> 8)) & 0xff);

/** Reads `peer` to the end of what was written, and returns all. */
async function readAll(peer: Socket, length: number): Promise<Buffer> {
  const parts: Buffer[] = [];
  let got = 0;
  peer.on("data", (part: Buffer) => {
    parts.push(part);
    got += part.length;
  });
  peer.resume();
  await until(() => got >= length);
  return Buffer.concat(parts);
}

/** Writes `MUCH` bytes in chunks. Returns which of them are done, in order. */
function writeMuch(stream: ByteStream, bytes = LARGE): { done: number[]; whole: Buffer } {
  const done: number[] = [];
  const chunk = counting(bytes);
  const chunks = Array.from({ length: MUCH / bytes }, (_, i) => chunk.slice().fill(i, 0, 512));
  for (const [i, chunk] of chunks.entries())
    stream.write(chunk, 0, chunk.length, () => done.push(i));
  return { done, whole: Buffer.concat(chunks) };
}

describe.each([
  [
    "a stream of the reactor",
    async (socket: Socket): Promise<ByteStream> => {
      await prepareReactor();
      return FdStream.takeOver(reactor()!, socket)!;
    },
  ],
  ["a stream of Node", async (socket: Socket): Promise<ByteStream> => new NodeStream(socket)],
])("%s", (_name, make) => {
  async function joined(owner = new Keeper()) {
    const { peer, socket } = await connected();
    const stream = await make(socket);
    streams.push(stream);
    stream.read(owner);
    return { peer, stream, owner };
  }

  it.each([LARGE, SMALL])(
    "mutant-T1 sends what the system does not accept at once later, in order: chunks of %i",
    async (bytes) => {
      const { peer, stream } = await joined();
      peer.pause();
      const { done, whole } = writeMuch(stream, bytes);
      await turn();
      expect(stream.unsentBytes).toBeGreaterThan(0);
      expect(stream.unsentBytes).toBeLessThan(MUCH);
      expect(done.length).toBeLessThan(MUCH / bytes);
      const got = await readAll(peer, MUCH);
      await until(() => done.length >= MUCH / bytes);
      expect(got.equals(whole)).toBe(true);
      expect(done).toEqual(Array.from({ length: MUCH / bytes }, (_, i) => i));
      expect(stream.unsentBytes).toBe(0);
    },
  );

  it("drops what waits, but for the write of which the peer may have a part", async () => {
    const { peer, stream } = await joined();
    peer.pause();
    const [first, dropped, last] = [MUCH, 1000, 500].map((length, i) =>
      counting(length).fill(i, 0, 512),
    );
    const done: string[] = [];
    stream.write(first!, 0, MUCH, () => done.push("first"));
    stream.write(dropped!, 0, 1000, () => done.push("dropped"));
    expect(done).toEqual([]);
    stream.dropWaiting();
    expect(done).toEqual(["dropped"]);
    stream.write(last!, 0, 500, () => done.push("last"));
    const got = await readAll(peer, MUCH + 500);
    expect(got.equals(Buffer.concat([first!, last!]))).toBe(true);
    await until(() => done.length === 3);
    expect(stream.unsentBytes).toBe(0);
  });

  it("mutant-T2 announces its end behind all that is unsent", async () => {
    const { peer, stream } = await joined();
    peer.pause();
    const { whole } = writeMuch(stream);
    stream.end();
    const ended = once(peer, "end");
    const got = await readAll(peer, MUCH);
    await ended;
    expect(got.equals(whole)).toBe(true);
    // Nothing follows the end.
    let isDone = false;
    stream.write(counting(100), 0, 100, () => {
      isDone = true;
    });
    await until(() => isDone);
  });

  it("that is destroyed has no use for unsent bytes, and the peer sees its end", async () => {
    const { peer, stream } = await joined();
    peer.pause();
    const { done } = writeMuch(stream);
    const closed = once(peer, "close");
    stream.destroy();
    await until(() => done.length === MUCH / LARGE);
    expect(stream.unsentBytes).toBe(0);
    peer.resume();
    peer.end();
    await closed;
  });

  it("mutant-T4 passes on the bytes that came with the handshake, though no other follow", async () => {
    const owner = new Keeper();
    owner.input.bytes = counting(100);
    owner.input.end = 100;
    await joined(owner);
    await until(() => owner.length === 100);
    expect(Buffer.concat(owner.bytes).equals(counting(100))).toBe(true);
  });

  it("mutant-T5 calls an owner that had no time again, though nothing more comes", async () => {
    const { peer, owner } = await joined();
    owner.most = 10;
    peer.write(counting(100));
    await until(() => owner.length === 100);
    expect(Buffer.concat(owner.bytes).equals(counting(100))).toBe(true);
    expect(owner.calls).toBeGreaterThanOrEqual(10);
  });

  it("reads no more while its owner is behind", async () => {
    const { peer, stream, owner } = await joined();
    owner.most = 1;
    let sent = 0;
    const more = (): void => {
      sent += LARGE;
      if (sent < MUCH) peer.write(new Uint8Array(LARGE), more);
    };
    more();
    await until(() => owner.calls > 200);
    // One read of at most 256 KiB, and a chunk of Node that was on its way.
    expect(stream.receivedBytes).toBeLessThanOrEqual(1 << 20);
    expect(owner.length).toBeLessThan(stream.receivedBytes);
  });

  it("reads no more once its owner has stopped in the middle of its input", async () => {
    const owner = new Keeper();
    const { peer, stream } = await joined(owner);
    const process = owner.received.bind(owner);
    owner.received = () => {
      stream.stopReading();
      return process();
    };
    peer.write(new Uint8Array(MUCH));
    await until(() => owner.calls > 0);
    for (let i = 0; i < 20; i++) await turn();
    expect(stream.receivedBytes).toBeLessThanOrEqual(1 << 20);
    expect(owner.calls).toBeLessThanOrEqual(2);
  });

  it("tells once that the peer has ended", async () => {
    const { peer, owner } = await joined();
    peer.end(counting(10));
    await until(() => owner.ends > 0);
    await turn();
    expect([owner.length, owner.ends]).toEqual([10, 1]);
  });

  it("that reads no more leaves bytes to the kernel, and notices a reset", async () => {
    const before = held.descriptors;
    const { peer, stream, owner } = await joined();
    stream.stopReading();
    peer.write(counting(100));
    for (let i = 0; i < 20; i++) await turn();
    expect([owner.length, owner.ends]).toEqual([0, 0]);
    peer.resetAndDestroy();
    if (stream instanceof FdStream) await until(() => held.descriptors === before);
    let isDone = false;
    stream.write(counting(100), 0, 100, () => {
      isDone = true;
    });
    await until(() => isDone);
  });
});

describe("a stream of the reactor", () => {
  it("does not take a socket over that has unsent bytes", async () => {
    await prepareReactor();
    const { peer, socket } = await connected();
    peer.pause();
    socket.write(new Uint8Array(MUCH));
    expect(FdStream.takeOver(reactor()!, socket)).toBeUndefined();
  });
});
