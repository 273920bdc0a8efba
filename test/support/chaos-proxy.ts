/**
 * A TCP proxy that spoils a connection on purpose, in the words of Toxiproxy. Each direction has
 * toxics of its own, which may change while connections are open.
 *
 *   client ──► [waits for the line, then on its way: latency] ──► target      "up"
 *   client ◄── [on its way: latency, after waiting for the line] ◄── target   "down"
 *
 * What waits for the line is bounded in bytes, and then the sender is read no more: so a sender
 * feels a slow line, as it would behind a router with a small queue.
 */
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";

export interface Toxics {
  /** Every byte comes this much later. Order is kept. */
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

/** Bytes that may wait for the line before the sender is no longer read. */
export const BUFFER_BYTES = 64 << 10;
/** Bytes under way through the latency of an unlimited line. */
const PIPE_BYTES = 16 << 20;

const KEEP_HALF_OPEN = { allowHalfOpen: true, noDelay: true };

/** One direction of one connection. */
class Lane {
  readonly #from: Socket;
  readonly #to: Socket;
  readonly #toxics: () => Toxics;
  readonly #queue: { readonly bytes: Buffer; readonly due: number }[] = [];
  queuedBytes = 0;
  /** When the line has sent all that it has been given, and when the last byte of that arrives. */
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
    // Two ms of the line at most, so that a chunk does not cross it in one jump.
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

  /** Hands on what is due. A full receiver wakes us with "drain". */
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
  /** May be changed at any time, and concerns open connections too. */
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
      // A clean close has passed on all it got; a broken one breaks the other end as well.
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
