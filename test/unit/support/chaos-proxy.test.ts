import { once } from "node:events";
import { connect, createServer, type Server, type Socket } from "node:net";
import { afterEach, describe, expect, it } from "vitest";
import { BUFFER_BYTES, ChaosProxy, type Toxics } from "../../support/chaos-proxy.ts";
import { sameBytes } from "../../support/same.ts";

/** Bytes that encode their position, so that loss, duplication and reordering are noticed. */
function pattern(bytes: number): Buffer {
  const buffer = Buffer.alloc(bytes);
  for (let at = 0; at + 4 <= bytes; at += 4) buffer.writeUInt32LE(at, at);
  return buffer;
}

interface Rig {
  readonly proxy: ChaosProxy;
  readonly client: Socket;
  /** The target's end of the proxied connection. */
  readonly far: Socket;
}

const rigs: { proxy: ChaosProxy; server: Server; sockets: Socket[] }[] = [];

async function rig(toxics: { up?: Toxics; down?: Toxics }): Promise<Rig> {
  const server = createServer({ allowHalfOpen: true });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address() as { port: number };
  const proxy = await ChaosProxy.start({ target: address.port, ...toxics });
  const arrived = once(server, "connection");
  const client = connect({ host: "127.0.0.1", port: proxy.port, allowHalfOpen: true });
  const [far] = (await arrived) as [Socket];
  for (const socket of [client, far]) socket.on("error", () => {});
  rigs.push({ proxy, server, sockets: [client, far] });
  return { proxy, client, far };
}

/** All bytes until the stream ends or the connection closes. */
function received(socket: Socket): Promise<Buffer> {
  const chunks: Buffer[] = [];
  socket.on("data", (chunk: Buffer) => chunks.push(chunk));
  const { promise, resolve } = Promise.withResolvers<Buffer>();
  for (const event of ["end", "close"]) socket.once(event, () => resolve(Buffer.concat(chunks)));
  return promise;
}

afterEach(async () => {
  for (const { proxy, server, sockets } of rigs.splice(0)) {
    for (const socket of sockets) socket.destroy();
    await proxy.close();
    server.close();
  }
});

describe("chaos proxy", () => {
  it("passes bytes both ways and each end of stream by itself", async () => {
    const { proxy, client, far } = await rig({});
    const up = received(far);
    const down = received(client);
    client.end(pattern(300_000));
    sameBytes(await up, pattern(300_000));
    far.end(pattern(200_000));
    sameBytes(await down, pattern(200_000));
    if (!client.closed) await once(client, "close");
    while (proxy.connections.size > 0) await new Promise(setImmediate);
  });

  it("keeps bytes and their order under latency and a slow line together", async () => {
    const { client, far } = await rig({ up: { latencyMs: 20, bitsPerSecond: 20_000_000 } });
    const up = received(far);
    client.end(pattern(200_000));
    sameBytes(await up, pattern(200_000));
  });

  // These two lower bounds fail only when bytes are early, never because a machine is slow.
  it("delays", async () => {
    const { client, far } = await rig({ up: { latencyMs: 80 } });
    const began = performance.now();
    client.write("x");
    await once(far, "data");
    expect(performance.now() - began).toBeGreaterThan(75);
  });

  it("keeps to the rate of the line", async () => {
    const { client, far } = await rig({ up: { bitsPerSecond: 4_000_000 } });
    const up = received(far);
    const began = performance.now();
    client.end(pattern(100_000));
    expect((await up).length).toBe(100_000);
    expect(performance.now() - began).toBeGreaterThan(190);
  });

  it("stops reading a sender that is faster than the line", async () => {
    const { proxy, client, far } = await rig({ up: { bitsPerSecond: 80_000_000 } });
    let most = 0;
    far.on("data", () => {
      for (const { up: lane } of proxy.connections) most = Math.max(most, lane.queuedBytes);
    });
    const up = received(far);
    client.end(pattern(2_000_000));
    sameBytes(await up, pattern(2_000_000));
    expect(most).toBeGreaterThan(0);
    // The bytes that may wait, and one read of the socket that was in progress.
    expect(most).toBeLessThanOrEqual(BUFFER_BYTES + (64 << 10));
  });

  it("swallows everything as a black hole, until it is told otherwise", async () => {
    const { proxy, client, far } = await rig({ up: { lost: true } });
    const up = received(far);
    client.write("lost");
    while (client.bytesWritten < 4) await new Promise(setImmediate);
    far.write("x");
    await once(client, "data");
    proxy.toxics.up = {};
    client.end("found");
    expect((await up).toString()).toBe("found");
  });

  it("ends the client's connection when the target can't be reached", async () => {
    const proxy = await ChaosProxy.start({ target: 1 });
    const client = connect({ host: "127.0.0.1", port: proxy.port });
    const error = once(client, "error");
    expect(((await error)[0] as NodeJS.ErrnoException).code).toBe("ECONNRESET");
    await proxy.close();
  });
});
