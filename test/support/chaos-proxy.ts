/**
 * A TCP proxy that spoils a connection on purpose, in the words of Toxiproxy. Each direction has
 * its own toxics, which may change while connections are open.
 *
 *   client ──► [waits for the line, then on its way: latency] ──► target      "up"
 *   client ◄── [on its way: latency, after waiting for the line] ◄── target   "down"
 *
 * The bytes that wait for the line are bounded. At the bound the proxy stops reading the sender, so
 * the sender feels a slow line, as behind a router with a small queue.
 */
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";

export interface Toxics {
  /** Delays every byte by this long. Order is kept. */
  readonly latencyMs?: number;
  /** Rate of the line; unlimited when absent. */
  readonly bitsPerSecond?: number;
  /** A black hole: bytes vanish. */
  readonly lost?: boolean;
}

export interface ProxyOptions {
  readonly listen?: { readonly host: string; readonly port: number };
  /** Port of the target, on loopback. */
  readonly target: number;
  readonly up?: Toxics;
  readonly down?: Toxics;
}

/** Bytes that may wait for the line before the proxy stops reading the sender. */
export const BUFFER_BYTES = 64 << 10;
/** Most bytes in flight on an unlimited line with latency. */
const PIPE_BYTES = 16 << 20;

const KEEP_HALF_OPEN = { allowHalfOpen: true, noDelay: true };

/** One direction of one connection. */
class Lane {
  readonly #from: Socket;
  readonly #to: Socket;
  readonly #toxics: () => Toxics;
  readonly #queue: { readonly bytes: Buffer; readonly due: number }[] = [];
  queuedBytes = 0;
  /** Time at which the line has sent all its bytes, and time at which the last of them arrives. */
  #lineFree = 0;
  #lastDue = 0;
  #full = false;
  #ending = false;
  #timer: NodeJS.Timeout | undefined;

  constructor(from: Socket, to: Socket, toxics: () => Toxics) {
    this.#from = from;
    this.#to = to;
    this.#toxics = toxics;
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

  stop(): void {
    clearTimeout(this.#timer);
  }

  #take(bytes: Buffer): void {
    const { latencyMs = 0, bitsPerSecond = Infinity, lost = false } = this.#toxics();
    if (lost) return;
    // A piece is at most 2 ms of the line's rate, so that a chunk does not arrive all at once.
    const piece = Math.max(256, Math.round(bitsPerSecond / 4000));
    for (let at = 0; at < bytes.length; at += piece) {
      const part = bytes.subarray(at, at + piece);
      const begin = Math.max(performance.now(), this.#lineFree);
      this.#lineFree = begin + (part.length * 8000) / bitsPerSecond;
      this.#lastDue = Math.max(this.#lastDue, this.#lineFree + latencyMs);
      this.#queue.push({ bytes: part, due: this.#lastDue });
      this.queuedBytes += part.length;
    }
    const underWay = latencyMs === 0 ? 0 : Math.min(PIPE_BYTES, (bitsPerSecond * latencyMs) / 8000);
    if (this.queuedBytes >= BUFFER_BYTES + underWay) this.#from.pause();
    this.#run();
  }

  /** Passes on the bytes that are due. A full receiver calls this again by "drain". */
  #run(): void {
    clearTimeout(this.#timer);
    const now = performance.now();
    for (;;) {
      const [first] = this.#queue;
      if (first === undefined) {
        this.#from.resume();
        if (this.#ending) this.#to.end();
        return;
      }
      if (this.#full) return;
      if (first.due > now) {
        this.#timer = setTimeout(() => this.#run(), Math.max(1, first.due - now));
        return;
      }
      this.#queue.shift();
      this.queuedBytes -= first.bytes.length;
      this.#full = !this.#to.write(first.bytes);
    }
  }
}

type Connection = Readonly<Record<"client" | "target", Socket> & Record<"up" | "down", Lane>>;

export class ChaosProxy {
  /** The toxics may change at any time, and apply to open connections too. */
  readonly toxics: { up: Toxics; down: Toxics };
  readonly connections = new Set<Connection>();
  readonly #target: number;
  readonly #server: Server;

  private constructor({ target, up = {}, down = {} }: ProxyOptions) {
    this.#target = target;
    this.toxics = { up, down };
    this.#server = createServer(KEEP_HALF_OPEN, (client) => this.#join(client));
  }

  static async start(options: ProxyOptions): Promise<ChaosProxy> {
    const proxy = new ChaosProxy(options);
    proxy.#server.listen(options.listen ?? { host: "127.0.0.1", port: 0 });
    await once(proxy.#server, "listening");
    return proxy;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  async close(): Promise<void> {
    const closed = once(this.#server.close(), "close");
    for (const { client, target } of this.connections) {
      client.destroy();
      target.destroy();
    }
    await closed;
  }

  #join(client: Socket): void {
    const target = connect({ port: this.#target, host: "127.0.0.1", ...KEEP_HALF_OPEN });
    const up = new Lane(client, target, () => this.toxics.up);
    const down = new Lane(target, client, () => this.toxics.down);
    const connection = { client, target, up, down };
    this.connections.add(connection);

    let open = 2;
    const closed = (other: Socket, failed: boolean) => {
      open--;
      // After a clean close all bytes have been passed on. An error of one end resets the other.
      if (failed) other.resetAndDestroy();
      if (open > 0) return;
      up.stop();
      down.stop();
      this.connections.delete(connection);
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
