/**
 * A TCP proxy that spoils a connection on purpose, in the words of Toxiproxy: latency, bandwidth,
 * slow close, timeout, reset, slicer, limit data. Each direction has toxics of its own, which may
 * change while connections are open; what is random comes from a seed.
 *
 *   client ──► [waiting for the line] ──► [on its way: latency] ──► target      "up"
 *   client ◄── [on its way: latency] ◄── [waiting for the line] ◄── target      "down"
 *
 * What waits for the line is bounded in bytes, and then the sender is read no more: so a sender
 * feels a slow line, as it would behind a router with a small queue.
 *
 * As a program: node test/support/chaos-proxy.ts --listen H:P --target H:P [--up JSON]
 * [--down JSON] [--seed N]. It prints {"ready":true,"port":N}; lines on stdin change it:
 * {"up":{...}}, {"down":{...}}, {"reset":true}.
 */
import { createServer, type Server, Socket } from "node:net";
import process from "node:process";
import { createInterface } from "node:readline";
import { parseArgs } from "node:util";

export interface Toxics {
  /** Every byte comes this much later, plus or minus a random part of the jitter. Order is kept. */
  readonly latencyMs?: number;
  readonly jitterMs?: number;
  /** Rate of the line; unlimited when absent. */
  readonly bitsPerSecond?: number;
  /** Bytes that may wait for the line before the sender is no longer read. */
  readonly bufferBytes?: number;
  /** The end of the stream is passed on this much later. */
  readonly slowCloseMs?: number;
  /** A black hole: bytes vanish; after so many ms the connection closes, at 0 never. */
  readonly timeoutMs?: number;
  /** The connection is reset after so many ms, whatever flows. */
  readonly resetMs?: number;
  /** Bytes are passed on in pieces of this size, so much apart. */
  readonly slice?: {
    readonly averageBytes: number;
    readonly variationBytes?: number;
    readonly delayMs?: number;
  };
  /** After so many bytes in this direction the connection closes. */
  readonly limitBytes?: number;
}

export interface Endpoint {
  readonly host: string;
  readonly port: number;
}

export interface ProxyOptions {
  /** Port 0 takes any free one: see `port`. */
  readonly listen: Endpoint;
  readonly target: Endpoint;
  readonly up?: Toxics;
  readonly down?: Toxics;
  readonly seed?: number;
}

const BUFFER_BYTES = 64 << 10;
/** Bytes under way through the latency; only an unlimited line ever gets there. */
const PIPE_BYTES = 16 << 20;
/** The line runs so far ahead of the clock, so that coarse timers don't cost rate. */
const AHEAD_MS = 2;

/** Numbers in [0, 1) from a seed (mulberry32). */
function randomFrom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

interface Parcel {
  readonly bytes: Buffer;
  readonly due: number;
}

/** One direction of one connection. */
class Lane {
  readonly #from: Socket;
  readonly #to: Socket;
  readonly #random: () => number;
  #toxics: Toxics;
  #passed = 0;
  readonly #waiting: Buffer[] = [];
  #waitingBytes = 0;
  readonly #pipe: Parcel[] = [];
  #pipeBytes = 0;
  #lineFree = 0;
  #lastDue = 0;
  #full = false;
  #ending = false;
  #ended = false;
  #timer: NodeJS.Timeout | undefined;
  #fate: NodeJS.Timeout | undefined;

  constructor(from: Socket, to: Socket, toxics: Toxics, random: () => number) {
    this.#from = from;
    this.#to = to;
    this.#random = random;
    this.#toxics = toxics;
    this.change(toxics);
    from.on("data", (bytes: Buffer) => this.#take(bytes));
    from.on("end", () => {
      this.#ending = true;
      this.#run();
    });
    to.on("drain", () => {
      this.#full = false;
      this.#run();
    });
  }

  change(toxics: Toxics): void {
    this.#toxics = toxics;
    clearTimeout(this.#fate);
    if (toxics.resetMs !== undefined) {
      this.#fate = setTimeout(() => reset(this.#from, this.#to), toxics.resetMs);
    } else if (toxics.timeoutMs !== undefined && toxics.timeoutMs > 0) {
      this.#fate = setTimeout(() => {
        this.#from.destroy();
        this.#to.destroy();
      }, toxics.timeoutMs);
    }
    this.#run();
  }

  get waitingBytes(): number {
    return this.#waitingBytes;
  }

  stop(): void {
    clearTimeout(this.#timer);
    clearTimeout(this.#fate);
    this.#ended = true;
  }

  #take(bytes: Buffer): void {
    if (this.#toxics.timeoutMs !== undefined) return;
    const piece = this.#pieceBytes();
    for (let at = 0; at < bytes.length; at += piece) {
      this.#waiting.push(bytes.subarray(at, Math.min(at + piece, bytes.length)));
    }
    this.#waitingBytes += bytes.length;
    if (this.#waitingBytes >= this.#bufferBytes) this.#from.pause();
    this.#run();
  }

  get #bufferBytes(): number {
    return this.#toxics.bufferBytes ?? BUFFER_BYTES;
  }

  #pieceBytes(): number {
    const { slice, bitsPerSecond } = this.#toxics;
    if (slice !== undefined) {
      const off = (this.#random() * 2 - 1) * (slice.variationBytes ?? 0);
      return Math.max(1, Math.round(slice.averageBytes + off));
    }
    // Two ms of the line at most, so that a chunk does not cross it in one jump.
    return bitsPerSecond === undefined ? Infinity : Math.max(256, Math.round(bitsPerSecond / 4000));
  }

  /** Moves what is due: from the queue onto the line, from the line to the receiver. */
  #run(): void {
    if (this.#ended) return;
    clearTimeout(this.#timer);
    const now = performance.now();
    this.#load(now);
    this.#deliver(now);
    if (this.#waitingBytes < this.#bufferBytes) this.#from.resume();

    if (this.#waiting.length === 0 && this.#pipe.length === 0) {
      if (this.#ending) this.#end();
      return;
    }
    // A full receiver wakes us with "drain".
    let next = this.#full ? Infinity : (this.#pipe[0]?.due ?? Infinity);
    if (this.#waiting.length > 0 && this.#pipeBytes < PIPE_BYTES) {
      next = Math.min(next, this.#lineFree - AHEAD_MS);
    }
    if (next !== Infinity) this.#timer = setTimeout(() => this.#run(), Math.max(1, next - now));
  }

  #load(now: number): void {
    const { bitsPerSecond, latencyMs = 0, jitterMs = 0, slice } = this.#toxics;
    while (this.#waiting.length > 0 && this.#lineFree <= now + AHEAD_MS) {
      if (this.#pipeBytes >= PIPE_BYTES) return;
      const bytes = this.#waiting.shift()!;
      this.#waitingBytes -= bytes.length;
      const onLine = bitsPerSecond === undefined ? 0 : (bytes.length * 8000) / bitsPerSecond;
      this.#lineFree = Math.max(now, this.#lineFree) + onLine + (slice?.delayMs ?? 0);
      const late = latencyMs + (this.#random() * 2 - 1) * jitterMs;
      this.#lastDue = Math.max(this.#lastDue, this.#lineFree + late);
      this.#pipe.push({ bytes, due: this.#lastDue });
      this.#pipeBytes += bytes.length;
    }
  }

  #deliver(now: number): void {
    const limit = this.#toxics.limitBytes ?? Infinity;
    while (!this.#full && this.#pipe.length > 0 && this.#pipe[0]!.due <= now) {
      const bytes = this.#pipe.shift()!.bytes;
      this.#pipeBytes -= bytes.length;
      const rest = limit - this.#passed;
      this.#passed += Math.min(rest, bytes.length);
      this.#full = !this.#to.write(rest < bytes.length ? bytes.subarray(0, rest) : bytes);
      if (this.#passed >= limit) {
        this.#to.destroySoon();
        this.#from.destroy();
        this.stop();
        return;
      }
    }
  }

  #end(): void {
    this.#ended = true;
    const later = this.#toxics.slowCloseMs ?? 0;
    if (later === 0) this.#to.end();
    else this.#fate = setTimeout(() => this.#to.end(), later);
  }
}

function reset(...sockets: Socket[]): void {
  for (const socket of sockets) socket.resetAndDestroy();
}

interface Connection {
  readonly client: Socket;
  readonly target: Socket;
  readonly up: Lane;
  readonly down: Lane;
}

export class ChaosProxy {
  readonly #options: ProxyOptions;
  readonly #server: Server;
  readonly #connections = new Set<Connection>();
  readonly #random: () => number;
  #up: Toxics;
  #down: Toxics;

  private constructor(options: ProxyOptions) {
    this.#options = options;
    this.#up = options.up ?? {};
    this.#down = options.down ?? {};
    this.#random = randomFrom(options.seed ?? 1);
    this.#server = createServer({ allowHalfOpen: true, noDelay: true }, (client) =>
      this.#join(client),
    );
  }

  static async start(options: ProxyOptions): Promise<ChaosProxy> {
    const proxy = new ChaosProxy(options);
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    proxy.#server.once("error", reject);
    proxy.#server.listen(options.listen.port, options.listen.host, resolve);
    await promise;
    return proxy;
  }

  get port(): number {
    const address = this.#server.address();
    if (address === null || typeof address === "string")
      throw new Error("the proxy does not listen");
    return address.port;
  }

  get connections(): number {
    return this.#connections.size;
  }

  /** Bytes that wait for the line in one direction, over all connections. */
  waitingBytes(direction: "up" | "down"): number {
    let bytes = 0;
    for (const connection of this.#connections) bytes += connection[direction].waitingBytes;
    return bytes;
  }

  /** Changes one direction, on open connections too. Times begin anew. */
  set(direction: "up" | "down", toxics: Toxics): void {
    if (direction === "up") this.#up = toxics;
    else this.#down = toxics;
    for (const connection of this.#connections) connection[direction].change(toxics);
  }

  /** Resets every open connection at both ends. */
  reset(): void {
    for (const { client, target } of this.#connections) reset(client, target);
  }

  async close(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    for (const { client, target } of this.#connections) {
      client.destroy();
      target.destroy();
    }
    await closed;
  }

  #join(client: Socket): void {
    const target = new Socket({ allowHalfOpen: true });
    target.setNoDelay(true);
    target.connect(this.#options.target);
    const up = new Lane(client, target, this.#up, this.#random);
    const down = new Lane(target, client, this.#down, this.#random);
    const connection = { client, target, up, down };
    this.#connections.add(connection);

    let open = 2;
    const closed = (other: Socket, failed: boolean) => {
      open--;
      // A clean close has passed on all it got; a broken one breaks the other end as well.
      if (failed) reset(other);
      if (open > 0) return;
      up.stop();
      down.stop();
      this.#connections.delete(connection);
    };
    client.on("close", (failed) => closed(target, failed));
    target.on("close", (failed) => closed(client, failed));
    for (const socket of [client, target]) {
      socket.on("error", () => {
        // "close" follows and says that it failed.
      });
    }
  }
}

function endpoint(text: string): Endpoint {
  const colon = text.lastIndexOf(":");
  return { host: text.slice(0, colon), port: Number(text.slice(colon + 1)) };
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      listen: { type: "string", default: "127.0.0.1:0" },
      target: { type: "string" },
      up: { type: "string", default: "{}" },
      down: { type: "string", default: "{}" },
      seed: { type: "string", default: "1" },
    },
  });
  if (values.target === undefined) throw new Error("--target HOST:PORT is needed");
  const proxy = await ChaosProxy.start({
    listen: endpoint(values.listen),
    target: endpoint(values.target),
    up: JSON.parse(values.up) as Toxics,
    down: JSON.parse(values.down) as Toxics,
    seed: Number(values.seed),
  });
  for (const signal of ["SIGTERM", "SIGINT"] as const) process.once(signal, () => process.exit(0));
  createInterface({ input: process.stdin }).on("line", (line) => {
    const order = JSON.parse(line) as { up?: Toxics; down?: Toxics; reset?: boolean };
    if (order.up !== undefined) proxy.set("up", order.up);
    if (order.down !== undefined) proxy.set("down", order.down);
    if (order.reset) proxy.reset();
  });
  process.stdout.write(`${JSON.stringify({ ready: true, port: proxy.port })}\n`);
}

if (import.meta.main) await main();
