/**
 * A frontend that is not ours. It sends whatever the test asks for, valid or not, and records
 * everything that the device sends.
 *
 *   test ──► send(bytes), batch([...]) ──► WebSocket ──► device
 *   test ◄── heard.told, onRead, onWrite ◄── batches ◄───┘
 *
 * By default it answers heartbeats and reports progress, as the protocol page requires.
 */
import { randomUUID } from "node:crypto";
import { on, once } from "node:events";
import { Packr } from "msgpackr";
import WebSocket from "ws";
import { viewOf } from "../../shared/bytes/words.ts";
import { Op } from "../../shared/wire/catalogue.ts";
import { applyBatch } from "../../shared/wire/decode.ts";
import { NIC_PATH, PROTOCOL_VERSION, SUBPROTOCOL } from "../../shared/wire/protocol.ts";
import { busAddress, RECORD_BYTES, record } from "../../shared/wire/records.ts";
import { RecordingSink, type Told } from "./recording-sink.ts";
import { Watchers } from "./watchers.ts";

/** Transactions recorded at most; the oldest are dropped first. */
const KEEP_TOLD = 4096;

const packr = new Packr({ useRecords: false });

export interface Closing {
  readonly code: number;
  readonly reason: string;
}

/** One record of a column: its address, and its bytes. `space` is the BAR for mmio_write. */
export interface Piece {
  readonly address: number;
  readonly bytes: Uint8Array;
  readonly type?: number;
  readonly space?: number;
  /** Length in the record; defaults to the length of `bytes`. */
  readonly length?: number;
}

/** A column transaction. */
export function column(op: number, pieces: readonly Piece[]): unknown[] {
  const records = Buffer.alloc(pieces.length * RECORD_BYTES);
  const view = viewOf(records);
  pieces.forEach(({ address, bytes, length = bytes.length, type = 0, space = 0 }, i) => {
    record.write(view, i * RECORD_BYTES, busAddress(address), length, type, space);
  });
  return [op, Buffer.concat(pieces.map((piece) => piece.bytes)), records];
}

/** A write of a register or doorbell. */
export function mmio(offset: number, value: number): unknown[] {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value >>> 0);
  return column(Op.MMIO_WRITE, [{ address: offset, bytes, type: 2 }]);
}

/** The bytes of a batch. Integers above 32 bits are encoded as uint64, as the protocol requires. */
export function packBatch(transactions: readonly unknown[]): Buffer {
  return packr.pack(transactions.map(wide)) as Buffer;
}

function wide(value: unknown): unknown {
  if (typeof value === "number" && Number.isInteger(value) && value > 0xffff_ffff) {
    return BigInt(value);
  }
  return Array.isArray(value) ? value.map(wide) : value;
}

/**
 * Resolves to true when the peer's WebSocket has read everything and the connection is still open.
 */
export async function pinged(ws: WebSocket): Promise<boolean> {
  if (ws.readyState !== WebSocket.OPEN) return false;
  const mark = randomUUID();
  ws.ping(mark);
  try {
    for await (const [data] of on(ws, "pong", { close: ["close"] })) {
      if (String(data) === mark) break;
    }
  } catch {
    // "close" follows an error of the connection.
  }
  return ws.readyState === WebSocket.OPEN;
}

export class RawFrontend {
  readonly ws: WebSocket;
  readonly heard = new RecordingSink();
  /** Resolves once, with the device's close code and text. */
  readonly closed: Promise<Closing>;
  closing: Closing | undefined;
  /** Answers a read of the device: bytes, "refuse", or undefined for no answer. */
  onRead: (address: number, length: number, tag: number) => Uint8Array | "refuse" | undefined =
    () => "refuse";
  onWrite: (address: number, bytes: Uint8Array) => void = () => {};
  onXenstore: (message: Uint8Array) => void = () => {};
  readonly #alive: boolean;
  #receivedBytes = 0;
  #reportedBytes = 0;
  #nextTag = 1;
  readonly #watchers = new Watchers();

  private constructor(ws: WebSocket, alive: boolean) {
    this.ws = ws;
    this.#alive = alive;
    ws.on("message", (data: Buffer) => this.#receive(data));
    ws.on("error", () => {
      // The close event that follows reports the error.
    });
    this.closed = new Promise((resolve) => {
      ws.on("close", (code, reason) => {
        this.closing = { code, reason: reason.toString() };
        this.#watchers.changed();
        resolve(this.closing);
      });
    });
  }

  /** `alive`: answers heartbeats and reports progress. `token`: shown to the device. */
  static async connect(
    port: number,
    { alive = true, token = "" }: { readonly alive?: boolean; readonly token?: string } = {},
  ): Promise<RawFrontend> {
    const headers = token === "" ? {} : { authorization: `Bearer ${token}` };
    const ws = new WebSocket(`ws://127.0.0.1:${port}${NIC_PATH}`, SUBPROTOCOL, { headers });
    const raw = new RawFrontend(ws, alive);
    await once(ws, "open");
    return raw;
  }

  /** Connects, says hello as `name` and waits for the welcome. */
  static async join(
    port: number,
    name: string,
    hello: object = {},
    token?: string,
  ): Promise<RawFrontend> {
    const raw = await RawFrontend.connect(port, token === undefined ? {} : { token });
    raw.hello(name, hello);
    await raw.until("welcome", ([what]) => what === "welcome");
    return raw;
  }

  get open(): boolean {
    return this.ws.readyState === WebSocket.OPEN;
  }

  /** Sends bytes as a message; does nothing once the connection is over. */
  send(message: Uint8Array): void {
    if (this.open) this.ws.send(message);
  }

  batch(...transactions: unknown[]): void {
    this.send(packBatch(transactions));
  }

  hello(name: string, more: object = {}): void {
    this.batch([
      Op.HELLO,
      { version: PROTOCOL_VERSION, personality: "ena", name, instance: `raw-${name}`, ...more },
    ]);
  }

  /**
   * Waits for a transaction of the device that satisfies `test`, already recorded or to come.
   * Rejects when the device closes.
   */
  async until(what: string, test: (told: Told) => boolean): Promise<Told> {
    return await this.#wait(what, () => this.heard.told.find(test));
  }

  /**
   * Reads a register after everything sent so far: its answer proves that all was applied.
   * Undefined when the connection ended.
   */
  async read(offset: number, length = 4, bar = 0): Promise<Uint8Array | undefined> {
    const tag = this.#nextTag++;
    this.batch([Op.MMIO_READ, tag, bar, offset, length]);
    const answer = await this.#wait(`the answer to register read ${tag}`, () => {
      if (!this.open) return "over";
      return this.heard.told.findLast(([name, t]) => name === "mmioReadReply" && t === tag);
    });
    return answer === "over" ? undefined : Uint8Array.from(answer[2] as number[]);
  }

  async read32(offset: number): Promise<number> {
    const bytes = await this.read(offset);
    if (bytes === undefined) throw new Error(`closed instead: ${JSON.stringify(this.closing)}`);
    return Buffer.from(bytes).readUInt32LE();
  }

  /** Resolves to true when everything sent is applied and the connection is still open. */
  async survived(): Promise<boolean> {
    return (await this.read(0)) !== undefined;
  }

  /**
   * Resolves to true when the peer's WebSocket has read everything sent and the connection is still
   * open. Uses a ping, so it also works before hello and after the end of a session.
   */
  flushed(): Promise<boolean> {
    return pinged(this.ws);
  }

  /** Codes of the faults that the device reported. */
  get faults(): string[] {
    return this.heard.told.filter(([name]) => name === "fault").map(([, , code]) => String(code));
  }

  /** Ends the connection, by a close frame or by a reset of its socket, and waits for the end. */
  async end(how: "close" | "reset" = "close"): Promise<Closing> {
    if (how === "close") this.ws.close(1000);
    else this.ws.terminate();
    return await this.closed;
  }

  #wait<T>(what: string, look: () => T | undefined): Promise<T> {
    return this.#watchers.until(what, () => {
      const found = look();
      if (found !== undefined || this.closing === undefined) return found;
      const { code, reason } = this.closing;
      throw new Error(`closed with ${code} "${reason}" before ${what}`);
    });
  }

  #receive(message: Buffer): void {
    this.#receivedBytes += message.length;
    const { told } = this.heard;
    const before = told.length;
    applyBatch(message, this.heard, this.heard);
    const answers: unknown[] = [];
    for (const [name, ...fields] of told.slice(before)) this.#react(name, fields, answers);
    if (told.length > 2 * KEEP_TOLD) told.splice(0, told.length - KEEP_TOLD);
    if (this.#alive && this.#receivedBytes - this.#reportedBytes > 16_384) {
      this.#reportedBytes = this.#receivedBytes;
      answers.push([Op.PROGRESS, this.#receivedBytes]);
    }
    if (answers.length > 0) this.batch(...answers);
    this.#watchers.changed();
  }

  #react(name: string, fields: unknown[], answers: unknown[]): void {
    if (name === "heartbeat") {
      const [sent] = fields as number[];
      if (this.#alive && sent !== 0) answers.push([Op.HEARTBEAT, 0, sent]);
    } else if (name === "read") {
      const [tag, , address, length] = fields as [number, number, number, number];
      const answer = this.onRead(address, length, tag);
      if (answer === "refuse") answers.push([Op.READ_REPLY, tag, 1, Buffer.alloc(0)]);
      else if (answer !== undefined) answers.push([Op.READ_REPLY, tag, 0, Buffer.from(answer)]);
    } else if (name === "write") {
      const [, address, , bytes] = fields as [number, number, number, number[]];
      this.onWrite(address, Uint8Array.from(bytes));
    } else if (name === "xenstore") this.onXenstore(Uint8Array.from(fields[0] as number[]));
  }
}
