/**
 * TLS connections that leave Node: the records are opened and sealed on the descriptor. The peers are
 * Node's own TLS and the program `openssl`, which know nothing of that.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import {
  connect as connectTcp,
  createServer as createTcp,
  type Server,
  type Socket,
} from "node:net";
import { setImmediate as turn } from "node:timers/promises";
import { connect, createServer, type SecureVersion, type TLSSocket } from "node:tls";
import { afterEach, describe, expect, it } from "vitest";
import { prepareReactor, reactor } from "../../shared/reactor/index.ts";
import { FdStream } from "../../shared/transport/fd-stream.ts";
import { ReadBuffer } from "../../shared/transport/read-buffer.ts";
import { held, type StreamOwner } from "../../shared/transport/stream.ts";
import { shaken, takeTls, watchServer } from "../../shared/transport/tls-takeover.ts";
import { CERTIFICATES, KEY } from "../support/certificates.ts";
import { missingProgram } from "../support/installed.ts";
import { slow, WaitedTooLong } from "../support/slowness.ts";

/** More than the buffers of both sockets hold. */
const MUCH = 16 << 20;
const HANG_MS = 10_000;
const VERSIONS: readonly SecureVersion[] = ["TLSv1.2", "TLSv1.3"];

const ends: (() => void)[] = [];
afterEach(() => {
  for (const end of ends.splice(0).reverse()) end();
});

async function until(is: () => boolean): Promise<void> {
  const end = performance.now() + slow(HANG_MS);
  while (!is()) {
    if (performance.now() > end) throw new WaitedTooLong(slow(HANG_MS), String(is));
    await turn();
  }
}

/** Its length is a prime, so that no record of the same bytes follows another. */
const PATTERN = Buffer.from(Uint8Array.from({ length: 65_521 }, (_, i) => i * 31 + (i >> 8)));
const counting = (length: number): Buffer => Buffer.alloc(length, PATTERN);

/** An owner that keeps or echoes what it receives. */
class Keeper implements StreamOwner {
  readonly input = new ReadBuffer();
  readonly parts: Buffer[] = [];
  length = 0;
  endings = 0;
  echo: FdStream | undefined;

  received(): boolean {
    const { input } = this;
    const part = Buffer.from(input.bytes.slice(input.start, input.end));
    input.start = input.end;
    this.parts.push(part);
    this.length += part.length;
    if (part.length > 0)
      this.echo?.write(Buffer.concat([part], part.length + 65), 0, part.length, () => {});
    input.settle();
    return false;
  }

  ended(): void {
    this.endings++;
  }

  get all(): Buffer {
    return Buffer.concat(this.parts);
  }
}

interface Accepted {
  readonly socket: TLSSocket;
  readonly stream: Promise<FdStream>;
  readonly owner: Keeper;
}

/** A server whose connections are taken over when `may` resolves. */
async function serving(may: Promise<void> = Promise.resolve()) {
  await prepareReactor();
  const accepted: Accepted[] = [];
  const server: Server = createServer({ key: KEY, cert: CERTIFICATES.SELF_SIGNED }, (socket) => {
    shaken(socket);
    socket.on("error", () => {});
    socket.pause();
    const owner = new Keeper();
    const stream = may.then(async () => {
      // Node still has the end of the handshake of TLS 1.2 to send.
      await turn();
      const head = socket.read() as Buffer | null;
      const taken = FdStream.takeOver(reactor()!, socket, takeTls)!;
      ends.push(() => taken.destroy());
      if (head !== null) {
        owner.input.bytes = Uint8Array.from(head);
        owner.input.end = head.length;
      }
      taken.read(owner);
      return taken;
    });
    accepted.push({ socket, stream, owner });
  });
  watchServer(server as Parameters<typeof watchServer>[0]);
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  ends.push(() => server.close());
  return { port: (server.address() as { port: number }).port, accepted };
}

/** A client of Node's TLS, and the taken over end of its connection. */
async function joined(
  version: SecureVersion = "TLSv1.3",
  through?: (port: number) => Promise<number>,
) {
  const { port, accepted } = await serving();
  const peer = connect({
    port: through === undefined ? port : await through(port),
    host: "127.0.0.1",
    ca: CERTIFICATES.SELF_SIGNED,
    maxVersion: version,
    minVersion: version,
  });
  ends.push(() => peer.destroy());
  const errors: Error[] = [];
  peer.on("error", (error) => errors.push(error));
  await once(peer, "secureConnect");
  await until(() => accepted.length === 1);
  const { owner } = accepted[0]!;
  return { peer, errors, owner, stream: await accepted[0]!.stream };
}

/** A relay that gives each chunk of the client to `change`, which may cut, damage or hold it. */
function relay(change: (bytes: Buffer, to: Socket) => void) {
  return async (port: number): Promise<number> => {
    const server = createTcp({ allowHalfOpen: true }, (client) => {
      const target = connectTcp({ port, host: "127.0.0.1", noDelay: true });
      for (const socket of [client, target]) socket.on("error", () => {});
      client.on("data", (bytes) => change(bytes, target));
      client.on("end", () => target.end());
      target.pipe(client);
      ends.push(() => {
        client.destroy();
        target.destroy();
      });
    });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    ends.push(() => server.close());
    return (server.address() as { port: number }).port;
  };
}

describe.each(VERSIONS)("a connection of %s", (version) => {
  it("carries bytes both ways, in order, more than the sockets hold", async () => {
    const { peer, stream, owner } = await joined(version);
    const whole = counting(MUCH);
    peer.pause();
    let done = 0;
    const chunk = 1 << 20;
    for (let at = 0; at < MUCH; at += chunk) stream.write(whole, at, chunk, () => done++);
    await turn();
    expect(stream.unsentBytes).toBeGreaterThan(0);
    expect(done).toBeLessThan(MUCH / chunk);
    peer.write(whole);
    const got: Buffer[] = [];
    let length = 0;
    peer.on("data", (part: Buffer) => {
      got.push(part);
      length += part.length;
    });
    peer.resume();
    await until(() => length === MUCH && owner.length === MUCH);
    expect(Buffer.concat(got).equals(whole)).toBe(true);
    expect(owner.all.equals(whole)).toBe(true);
    await until(() => done === MUCH / chunk);
    expect(stream.unsentBytes).toBe(0);
  });

  it("ends with close_notify behind all that is unsent, and notices the peer's", async () => {
    const { peer, stream, owner } = await joined(version);
    const whole = counting(4 << 20);
    peer.pause();
    stream.write(whole, 0, whole.length, () => {});
    stream.end();
    let length = 0;
    peer.on("data", (part: Buffer) => {
      length += part.length;
    });
    peer.resume();
    await once(peer, "end");
    expect(length).toBe(whole.length);
    await until(() => owner.endings > 0);
    await turn();
    expect(owner.endings).toBe(1);
  });

  it("survives records in pieces of one byte", async () => {
    const oneByOne = relay((bytes, to) => {
      for (const byte of bytes) to.write(Buffer.of(byte));
    });
    const { peer, owner } = await joined(version, oneByOne);
    const whole = counting(3000);
    peer.write(whole);
    await until(() => owner.length === whole.length);
    expect(owner.all.equals(whole)).toBe(true);
  });

  it("ends at a record that was changed on its way; another connection goes on", async () => {
    let isDamaging = false;
    const damage = relay((bytes, to) => {
      if (isDamaging) bytes[bytes.length - 1]! ^= 1;
      to.write(bytes);
    });
    const before = held.descriptors;
    const honest = await joined(version);
    const { peer, owner, errors } = await joined(version, damage);
    peer.write("whole");
    await until(() => owner.length === 5);
    isDamaging = true;
    peer.write("damaged");
    await until(() => owner.endings === 1);
    expect(owner.all.toString()).toBe("whole");
    expect(held.descriptors).toBe(before + 1);
    // The peer got the alert of RFC 8446, 6.2.
    await until(() => errors.length > 0);
    expect(String(errors[0])).toMatch(/bad record mac/i);
    honest.peer.write("still here");
    await until(() => honest.owner.length === 10);
  });

  it("ends once when a record breaks off, or plain text or a huge record comes", async () => {
    for (const bytes of [
      Buffer.of(23, 3, 3, 0, 100, 1, 2, 3),
      Buffer.from("GET / HTTP/1.1\r\n\r\n"),
      Buffer.concat([Buffer.of(23, 3, 3, 0xff, 0xff), Buffer.alloc(0xffff)]),
      Buffer.of(22, 3, 3, 0, 4, 0, 0, 0, 0),
    ]) {
      let target: Socket | undefined;
      const keep = relay((part, to) => {
        target = to;
        to.write(part);
      });
      const { owner, stream } = await joined(version, keep);
      target!.end(bytes);
      await until(() => owner.endings > 0);
      await turn();
      expect([owner.endings, owner.length, stream.unsentBytes]).toEqual([1, 0, 0]);
    }
  });

  it("has the bytes and the part of a record that Node had received before", async () => {
    const { promise: may, resolve: take } = Promise.withResolvers<void>();
    const { port, accepted } = await serving(may);
    let isHolding = false;
    let rest: (() => void) | undefined;
    const hold = relay((bytes, to) => {
      if (!isHolding) return void to.write(bytes);
      const cut = bytes.length - 20;
      to.write(bytes.subarray(0, cut));
      rest = () => to.write(bytes.subarray(cut));
    });
    const peer = connect({
      port: await hold(port),
      host: "127.0.0.1",
      ca: CERTIFICATES.SELF_SIGNED,
      maxVersion: version,
    });
    peer.on("error", () => {});
    ends.push(() => peer.destroy());
    await once(peer, "secureConnect");
    await until(() => accepted.length === 1);
    const { socket, owner, stream } = accepted[0]!;
    // Node reads until it has a chunk for its user.
    socket.resume();
    const first = once(socket, "data");
    peer.write("head");
    expect(String((await first)[0])).toBe("head");
    isHolding = true;
    peer.write("the second record");
    await until(() => rest !== undefined && socket.bytesRead > 0);
    for (let i = 0; i < 20; i++) await turn();
    socket.pause();
    take();
    await stream;
    rest!();
    await until(() => owner.length > 0);
    expect(owner.all.toString()).toBe("the second record");
  });

  it("is closed by its end of the process at once", async () => {
    const { peer, stream, errors } = await joined(version);
    const closed = once(peer, "close");
    stream.destroy();
    peer.end();
    await closed;
    expect(errors.filter((error) => !/ECONNRESET|EPIPE/.test(String(error)))).toEqual([]);
  });
});

it("stays with Node while Node has records to send", async () => {
  await prepareReactor();
  const server = createServer({ key: KEY, cert: CERTIFICATES.SELF_SIGNED, maxVersion: "TLSv1.2" });
  watchServer(server);
  const taken = new Promise<FdStream | undefined>((resolve) => {
    server.on("secureConnection", (socket) => {
      shaken(socket);
      resolve(FdStream.takeOver(reactor()!, socket, takeTls));
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as { port: number };
  const peer = connect({ port, host: "127.0.0.1", ca: CERTIFICATES.SELF_SIGNED });
  ends.push(
    () => server.close(),
    () => peer.destroy(),
  );
  await once(peer, "secureConnect");
  expect(await taken).toBeUndefined();
});

it("is never taken for another: a socket whose handshake is not the last one stays with Node", async () => {
  await prepareReactor();
  const server = createServer({ key: KEY, cert: CERTIFICATES.SELF_SIGNED });
  watchServer(server);
  const sockets: TLSSocket[] = [];
  server.on("secureConnection", (socket) => sockets.push(socket.on("error", () => {})));
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  ends.push(() => server.close());
  const { port } = server.address() as { port: number };
  for (const count of [1, 2]) {
    const peer = connect({ port, host: "127.0.0.1", ca: CERTIFICATES.SELF_SIGNED });
    ends.push(() => peer.destroy());
    await until(() => sockets.length === count);
  }
  const [first, second] = sockets as [TLSSocket, TLSSocket];
  // The second handshake came between the first one and this call.
  shaken(first);
  expect(FdStream.takeOver(reactor()!, first, takeTls)).toBeUndefined();
  shaken(second);
  const taken = FdStream.takeOver(reactor()!, second, takeTls);
  expect(taken).toBeInstanceOf(FdStream);
  taken?.destroy();
});

/** `openssl s_client` at an echoing connection. It obeys lines with one letter. */
async function client(...args: string[]) {
  const { port, accepted } = await serving();
  const child = spawn("openssl", ["s_client", "-connect", `127.0.0.1:${port}`, ...args]);
  ends.push(() => child.kill());
  let output = "";
  for (const pipe of [child.stdout, child.stderr]) pipe.on("data", (part) => (output += part));
  await until(() => accepted.length === 1);
  const stream = await accepted[0]!.stream;
  accepted[0]!.owner.echo = stream;
  /** Says a line, and waits for its echo. */
  const echoed = async (line: string): Promise<void> => {
    child.stdin.write(`${line}\n`);
    await until(() => output.includes(`\n${line}\n`) || output.includes(`${line}\n`));
  };
  return { child, echoed, output: () => output, owner: accepted[0]!.owner };
}

describe.skipIf(missingProgram("openssl"))("openssl s_client", () => {
  it("changes its keys and ours, and both sides understand each other", async () => {
    const { child, echoed, output } = await client("-tls1_3");
    await echoed("first");
    for (const [i, command] of ["k", "K", "K", "k", "K"].entries()) {
      child.stdin.write(`${command}\n`);
      await until(() => output().split("KEYUPDATE").length === i + 2);
      await echoed(`line ${i}`);
    }
  });

  it("that wants new keys again and again, and reads nothing, is cut", async () => {
    const { port, accepted } = await serving();
    const child = spawn("openssl", ["s_client", "-connect", `127.0.0.1:${port}`]);
    ends.push(() => child.kill());
    let output = "";
    for (const pipe of [child.stdout, child.stderr]) pipe.on("data", (part) => (output += part));
    await until(() => accepted.length === 1);
    const { owner, stream: taken } = accepted[0]!;
    const stream = await taken;
    // From now on the answers of our end wait behind what nobody reads.
    child.stdout.pause();
    stream.write(counting(MUCH), 0, MUCH, () => {});
    await turn();
    expect(stream.unsentBytes).toBeGreaterThan(0);
    let asked = 0;
    for (; asked < 100 && owner.endings === 0; asked++) {
      const { length } = owner;
      // A record with data between them: OpenSSL has a limit of its own for those in a row.
      child.stdin.write("x\n");
      await until(() => owner.length > length || owner.endings > 0);
      child.stdin.write("K\n");
      await until(() => output.split("KEYUPDATE").length > asked + 1 || owner.endings > 0);
    }
    expect(owner.endings).toBe(1);
    expect(asked).toBeGreaterThan(30);
  });

  it("begins no second handshake with TLS 1.2", async () => {
    const { child, echoed, output, owner } = await client("-tls1_2");
    await echoed("first");
    child.stdin.write("R\n");
    await until(() => output().includes("RENEGOTIATING"));
    // The alert no_renegotiation ends this client.
    await until(() => owner.endings === 1 || child.exitCode !== null);
    expect(output()).toMatch(/no renegotiation/i);
  });
});

describe("records without keys", () => {
  it("are refused behind the handshake", async () => {
    let target: Socket | undefined;
    const keep = relay((part, to) => {
      target = to;
      to.write(part);
    });
    const { owner } = await joined("TLSv1.3", keep);
    // RFC 8446, 5: change_cipher_spec after the handshake is refused.
    const one = Buffer.of(20, 3, 3, 0, 1, 1);
    target!.write(Buffer.concat(Array(1000).fill(one)));
    await until(() => owner.endings === 1);
  });
});
