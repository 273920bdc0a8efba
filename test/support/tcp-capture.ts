/**
 * A WebSocket connection as tcpdump would have captured it: Ethernet, IPv4, TCP, the HTTP upgrade,
 * and messages in either direction. Checksums are left 0: nobody here looks at them.
 */
import { NIC_PATH, SUBPROTOCOL } from "../../shared/wire/protocol.ts";
import { ETHERNET, RingFile } from "./dissector.ts";
import { wsFrame } from "./raw-socket.ts";

const SEGMENT_BYTES = 32_000;
const CLIENT_PORT = 40_000;
const MASK = Buffer.of(0x12, 0x34, 0x56, 0x78);

export class TcpCapture {
  readonly file = new RingFile(ETHERNET);
  readonly #serverPort: number;
  readonly #sequence = { client: 1, server: 1 };

  constructor(serverPort = 7700) {
    this.#serverPort = serverPort;
  }

  /** The upgrade; without it a capture begins in the middle of a connection. */
  upgrade(protocol = SUBPROTOCOL): this {
    const lines = (...all: string[]) => Buffer.from(`${all.join("\r\n")}\r\n\r\n`);
    this.#send(
      "client",
      lines(
        `GET ${NIC_PATH} HTTP/1.1`,
        "Host: device",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version: 13",
        `Sec-WebSocket-Protocol: ${protocol}`,
      ),
    );
    this.#send(
      "server",
      lines(
        "HTTP/1.1 101 Switching Protocols",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
        `Sec-WebSocket-Protocol: ${protocol}`,
      ),
    );
    return this;
  }

  /** Messages that leave together: their frames share segments. */
  toDevice(...messages: readonly Uint8Array[]): this {
    this.#send("client", Buffer.concat(messages.map((message) => frameOf(message, true))));
    return this;
  }

  toFrontend(...messages: readonly Uint8Array[]): this {
    this.#send("server", Buffer.concat(messages.map((message) => frameOf(message, false))));
    return this;
  }

  /** A message to the device that the capture has missed. */
  missToDevice(message: Uint8Array): this {
    this.#sequence.client += frameOf(message, true).length;
    return this;
  }

  #send(from: "client" | "server", bytes: Buffer): void {
    const to = from === "client" ? "server" : "client";
    for (let at = 0; at < bytes.length; at += SEGMENT_BYTES) {
      const part = bytes.subarray(at, at + SEGMENT_BYTES);
      const header = Buffer.alloc(14 + 20 + 20);
      header.writeUInt16BE(0x0800, 12);
      header[14] = 0x45;
      header.writeUInt16BE(40 + part.length, 16);
      header[22] = 64;
      header[23] = 6;
      header.set([10, 0, 0, from === "client" ? 2 : 1], 26);
      header.set([10, 0, 0, from === "client" ? 1 : 2], 30);
      header.writeUInt16BE(from === "client" ? CLIENT_PORT : this.#serverPort, 34);
      header.writeUInt16BE(from === "client" ? this.#serverPort : CLIENT_PORT, 36);
      header.writeUInt32BE(this.#sequence[from], 38);
      header.writeUInt32BE(this.#sequence[to], 42);
      header[46] = 0x50;
      header[47] = 0x18; // PSH, ACK
      header.writeUInt16BE(0xffff, 48);
      this.#sequence[from] += part.length;
      this.file.packet(Buffer.concat([header, part]));
    }
  }
}

/** One binary message in one frame. */
const frameOf = (message: Uint8Array, masked: boolean): Buffer =>
  wsFrame(message, { masked, mask: MASK });
