/**
 * A device that lies. It welcomes frontends at its port, and then sends what the test asks for. Or
 * it passes on the messages of a real device and injects others:
 *
 *   frontend ◄── inject(...) ── rogue ◄──► real device
 *
 * The progress that a frontend reports counts injected bytes too, so they are subtracted before the
 * device gets it.
 */
import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { Packr } from "msgpackr";
import WebSocket, { WebSocketServer } from "ws";
import { Op, type Sent } from "../../shared/wire/catalogue.ts";
import { NIC_PATH, SUBPROTOCOL } from "../../shared/wire/protocol.ts";
import { packBatch, pinged } from "./raw-frontend.ts";

const packr = new Packr({ useRecords: false, int64AsType: "number" });

export const WELCOME = {
  version: 1,
  name: "victim",
  mac: "02:00:00:00:00:77",
  segment: "lan0",
  epoch: 1,
  queues: 1,
  maxMtu: 9216,
  pushBytes: 1 << 24,
  revision: 0,
  deviceMemory: true,
};

/** One frontend's connection. */
export class RogueLink {
  readonly ws: WebSocket;
  readonly windows: Sent<"window">[] = [];
  /** Recorded transactions: replies to reads, faults. */
  readonly replies = new Map<number, { status: number; bytes: Uint8Array }>();
  readonly faults = new Set<string>();
  /** Called for each transaction of the frontend, before the real device gets it. */
  onTold: (transaction: readonly unknown[]) => void = () => {};
  /**
   * Returns the transactions that replace a batch of the real device; undefined passes batches on.
   */
  tamper: ((batch: readonly unknown[][]) => readonly unknown[][]) | undefined;
  #injected = 0;
  #progress = 0;
  /** Tags of injected reads; their replies do not go to the real device. */
  readonly #tags = new Set<number>();
  #upstream: WebSocket | undefined;

  constructor(ws: WebSocket) {
    this.ws = ws;
    ws.on("error", () => {});
    ws.on("close", () => this.#upstream?.terminate());
  }

  get open(): boolean {
    return this.ws.readyState === WebSocket.OPEN;
  }

  /** Sends bytes that do not come from the real device. */
  inject(message: Uint8Array): void {
    if (!this.open) return;
    this.#injected += message.length;
    this.ws.send(message);
  }

  say(...transactions: unknown[]): void {
    for (const t of transactions as unknown[][]) {
      if (t[0] === Op.READ) this.#tags.add(t[1] as number);
    }
    this.inject(packBatch(transactions));
  }

  /** Resolves to true when the frontend has read everything sent and has not closed. */
  flushed(): Promise<boolean> {
    return pinged(this.ws);
  }

  /** The frontend's message without replies to injected reads, and with corrected progress. */
  hear(message: Buffer): Buffer {
    const batch = packr.unpack(message) as unknown[][];
    for (const t of batch) {
      this.onTold(t);
      const [op, a, b, c] = t as [number, number, number | string, Buffer | string];
      if (op === Op.WINDOW) this.windows.push({ address: a, length: Number(b) });
      else if (op === Op.READ_REPLY) {
        this.replies.set(a, { status: Number(b), bytes: Buffer.from(c) });
      } else if (op === Op.FAULT) {
        this.faults.add(String(b));
      } else if (op === Op.PROGRESS) {
        // The report may be older than the last injection, and progress must never go back.
        this.#progress = Math.max(this.#progress, a - this.#injected);
        t[1] = this.#progress;
      }
    }
    const ours = (t: unknown[]) => t[0] === Op.READ_REPLY && this.#tags.has(t[1] as number);
    return packBatch(batch.filter((t) => !ours(t)));
  }

  #tampered(message: Buffer): Buffer {
    if (this.tamper === undefined) return message;
    return packBatch(this.tamper(packr.unpack(message) as unknown[][]));
  }

  /** Joins this frontend to a real device; `say` still works. */
  passOn(url: string): void {
    const upstream = new WebSocket(`${url.replace(/^http/, "ws")}${NIC_PATH}`, [SUBPROTOCOL]);
    this.#upstream = upstream;
    const early: Buffer[] = [];
    const up = (message: Buffer) => {
      const told = this.hear(message);
      if (upstream.readyState === WebSocket.OPEN) upstream.send(told);
      else early.push(told);
    };
    this.ws.on("message", up);
    upstream.on("error", () => {});
    upstream.on("message", (data: Buffer) => {
      if (!this.open) return;
      const told = this.#tampered(data);
      this.#injected += told.length - data.length;
      this.ws.send(told);
    });
    upstream.on("close", (code, reason) => {
      if (this.open) this.ws.close(code === 1006 ? 1001 : code, reason.toString().slice(0, 100));
    });
    upstream.once("open", () => {
      for (const message of early) upstream.send(message);
    });
  }
}

export class RogueDevice {
  readonly links: RogueLink[] = [];
  readonly port: number;
  readonly #server: WebSocketServer;

  private constructor(server: WebSocketServer) {
    this.#server = server;
    this.port = (server.address() as AddressInfo).port;
  }

  /** `behave` is called for each frontend that connects. */
  static async start(behave: (link: RogueLink, n: number) => void): Promise<RogueDevice> {
    const server = new WebSocketServer({ host: "127.0.0.1", port: 0 });
    await once(server, "listening");
    const rogue = new RogueDevice(server);
    server.on("connection", (ws) => {
      const link = new RogueLink(ws);
      rogue.links.push(link);
      behave(link, rogue.links.length - 1);
    });
    return rogue;
  }

  get url(): string {
    return `ws://127.0.0.1:${this.port}`;
  }

  async close(): Promise<void> {
    for (const { ws } of this.links) ws.terminate();
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }
}
