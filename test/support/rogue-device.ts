/**
 * A device that lies. It welcomes frontends at its port, and then says what the test wants; or it
 * passes on what a real device says, and slips in words of its own:
 *
 *   frontend ◄── inject(...) ── rogue ◄──► real device
 *
 * What a frontend reports as progress then counts injected bytes too; it is told to the device
 * without them.
 */
import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { Packr } from "msgpackr";
import WebSocket, { WebSocketServer } from "ws";
import { Op } from "../../shared/wire/catalogue.ts";
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

/** A window that the frontend has told, or memory that it has pushed. */
export interface Range {
  readonly address: number;
  readonly length: number;
}

/** One frontend's connection. */
export class RogueLink {
  readonly ws: WebSocket;
  readonly windows: Range[] = [];
  /** Transactions that are worth a look: replies to reads, faults. */
  readonly replies = new Map<number, { status: number; bytes: Uint8Array }>();
  readonly faults = new Set<string>();
  /** What the frontend said, before the real device hears it. */
  onTold: (transaction: readonly unknown[]) => void = () => {};
  /** Puts something in the place of what the real device says; undefined leaves it as it is. */
  tamper: ((batch: readonly unknown[][]) => readonly unknown[][]) | undefined;
  #injected = 0;
  #progress = 0;
  /** Tags of reads that are ours: their replies are not for the real device. */
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

  /** Bytes of ours to the frontend. */
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

  /** True when the frontend has seen all that was sent and has not closed. */
  flushed(): Promise<boolean> {
    return pinged(this.ws);
  }

  /** What the frontend said; with its progress as an honest device may hear it. */
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
        // It may have been said before it had all that was injected: it never goes backwards.
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

  /** Joins this frontend to a real device; with `say` still ours to use. */
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
