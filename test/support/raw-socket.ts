/**
 * A TCP socket for hand-made HTTP and WebSocket: sends and records bytes, and reports the end.
 * Frame layout: RFC 6455, section 5.2.
 */
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { NIC_PATH, SUBPROTOCOL } from "../../shared/wire/protocol.ts";
import { Watchers } from "./watchers.ts";

/** Written anew from RFC 6455, 11.8: tests of the transport must not take its numbers from it. */
export const WsOpcode = {
  CONTINUATION: 0,
  TEXT: 1,
  BINARY: 2,
  CLOSE: 8,
  PING: 9,
  PONG: 10,
} as const;

export interface FrameOptions {
  readonly opcode?: number;
  readonly fin?: boolean;
  /** RSV1 to RSV3, as the three bits 0x40, 0x20, 0x10. */
  readonly reserved?: number;
  readonly masked?: boolean;
  /** Four bytes. The default is zero, which is a valid mask. */
  readonly mask?: Uint8Array;
  /** The declared payload length, always in eight bytes; the real length when absent. */
  readonly declared?: bigint;
}

/** One WebSocket frame. */
export function wsFrame(payload: Uint8Array, options: FrameOptions = {}): Buffer {
  const { opcode = WsOpcode.BINARY, fin = true, reserved = 0, masked = true } = options;
  const { declared, mask = Buffer.alloc(4) } = options;
  const bit = masked ? 0x80 : 0;
  const { length } = payload;
  const first = (fin ? 0x80 : 0) | reserved | opcode;
  let head = Buffer.of(first, bit | length);
  if (declared !== undefined || length > 0xffff) {
    head = Buffer.alloc(10, Buffer.of(first, bit | 127));
    head.writeBigUInt64BE(declared ?? BigInt(length), 2);
  } else if (length > 125) head = Buffer.of(first, bit | 126, length >> 8, length & 0xff);
  if (!masked) return Buffer.concat([head, payload]);
  return Buffer.concat([head, mask, payload.map((byte, i) => byte ^ mask[i % 4]!)]);
}

/**
 * An upgrade request. `lines` replace headers of the same name; an empty line removes the header.
 */
export function upgradeRequest(
  port: number,
  lines: Readonly<Record<string, string>> = {},
  path: string = NIC_PATH,
): string {
  const headers: Record<string, string> = {
    Host: `127.0.0.1:${port}`,
    Upgrade: "websocket",
    Connection: "Upgrade",
    "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Protocol": SUBPROTOCOL,
    ...lines,
  };
  const text = Object.entries(headers)
    .filter(([, value]) => value !== "")
    .map(([name, value]) => `${name}: ${value}\r\n`);
  return `GET ${path} HTTP/1.1\r\n${text.join("")}\r\n`;
}

export class RawSocket {
  readonly socket: Socket;
  /** Everything received. */
  received: Buffer = Buffer.alloc(0);
  over = false;
  readonly #watchers = new Watchers();

  private constructor(socket: Socket) {
    this.socket = socket;
    socket.on("data", (bytes) => {
      this.received = Buffer.concat([this.received, bytes]);
      this.#watchers.changed();
    });
    socket.on("error", () => {
      // A reset counts as an end like any other here.
    });
    socket.on("close", () => {
      this.over = true;
      this.#watchers.changed();
    });
  }

  /** `localAddress`: from which the connection comes. Default: the system chooses. */
  static async connect(port: number, localAddress?: string): Promise<RawSocket> {
    const from = localAddress === undefined ? {} : { localAddress };
    const raw = new RawSocket(connect({ host: "127.0.0.1", port, noDelay: true, ...from }));
    await once(raw.socket, "connect");
    return raw;
  }

  /** A socket that has been upgraded. */
  static async upgraded(
    port: number,
    lines: Readonly<Record<string, string>> = {},
  ): Promise<RawSocket> {
    const raw = await RawSocket.connect(port);
    raw.write(upgradeRequest(port, lines));
    const answer = await raw.response();
    if (!answer.startsWith("HTTP/1.1 101 ")) throw new Error(answer);
    return raw;
  }

  write(bytes: Uint8Array | string): void {
    if (this.socket.writable) this.socket.write(bytes);
  }

  /** The head of the HTTP answer, or all bytes received when the connection ended earlier. */
  async response(): Promise<string> {
    await this.#until("an HTTP answer", () => this.over || this.received.includes("\r\n\r\n"));
    const end = this.received.indexOf("\r\n\r\n");
    const head = this.received.subarray(0, end < 0 ? this.received.length : end + 4);
    this.received = this.received.subarray(head.length);
    return head.toString("latin1");
  }

  /** Waits until the peer ends the connection. Returns its close code, or 1006 without one. */
  async closeCode(): Promise<number> {
    await this.#until("the end", () => this.over || this.#close() !== undefined);
    const code = this.#close() ?? 1006;
    this.socket.destroy();
    return code;
  }

  async ended(): Promise<void> {
    await this.#until("the end", () => this.over);
  }

  /** The code of the close frame in the received bytes, if any. */
  #close(): number | undefined {
    const b = this.received;
    for (let at = 0; at + 2 <= b.length; ) {
      const short = b[at + 1]! & 0x7f;
      const head = short === 126 ? 4 : short === 127 ? 10 : 2;
      if (at + head > b.length) return undefined;
      let length = short;
      if (short === 126) length = b.readUInt16BE(at + 2);
      else if (short === 127) length = Number(b.readBigUInt64BE(at + 2));
      const whole = at + head + length <= b.length;
      if ((b[at]! & 0x0f) === WsOpcode.CLOSE && whole) {
        return length >= 2 ? b.readUInt16BE(at + head) : 1005;
      }
      at += head + length;
    }
    return undefined;
  }

  async #until(what: string, test: () => boolean): Promise<void> {
    const got = () => `${what}; got ${this.received.subarray(0, 200)}`;
    await this.#watchers.until(got, () => test() || undefined);
  }
}
