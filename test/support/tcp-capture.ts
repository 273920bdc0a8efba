/**
 * A WebSocket connection as tcpdump would have captured it: Ethernet, IPv4, TCP, the HTTP upgrade,
 * and messages in either direction.
 */
import { SUBPROTOCOL } from "../../shared/wire/protocol.ts";
import { ETHERNET, RingFile } from "./dissector.ts";
import { buildPacket } from "./packets.ts";
import { upgradeRequest, wsFrame } from "./raw-socket.ts";

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

  /** Adds the upgrade; without it a capture begins in the middle of a connection. */
  upgrade(protocol = SUBPROTOCOL): this {
    const headers = { "Sec-WebSocket-Protocol": protocol };
    this.#send("client", Buffer.from(upgradeRequest(this.#serverPort, headers)));
    const answer = ["101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade"];
    answer.push("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    answer.push(`Sec-WebSocket-Protocol: ${protocol}`);
    this.#send("server", Buffer.from(`HTTP/1.1 ${answer.join("\r\n")}\r\n\r\n`));
    return this;
  }

  /** Adds messages that are sent together: their frames share segments. */
  toDevice(...messages: readonly Uint8Array[]): this {
    this.#send("client", Buffer.concat(messages.map((message) => frameOf(message, true))));
    return this;
  }

  toFrontend(...messages: readonly Uint8Array[]): this {
    this.#send("server", Buffer.concat(messages.map((message) => frameOf(message, false))));
    return this;
  }

  /** Sends a message to the device that the capture misses. */
  missToDevice(message: Uint8Array): this {
    this.#sequence.client += frameOf(message, true).length;
    return this;
  }

  #send(from: "client" | "server", bytes: Buffer): void {
    const isClient = from === "client";
    const ports = [CLIENT_PORT, this.#serverPort] as const;
    for (let at = 0; at < bytes.length; at += SEGMENT_BYTES) {
      const payload = bytes.subarray(at, at + SEGMENT_BYTES);
      const packet = buildPacket({
        addresses: isClient ? [10, 0, 0, 2, 10, 0, 0, 1] : [10, 0, 0, 1, 10, 0, 0, 2],
        sourcePort: ports[isClient ? 0 : 1],
        destinationPort: ports[isClient ? 1 : 0],
        sequence: this.#sequence[from],
        acknowledgement: this.#sequence[isClient ? "server" : "client"],
        payload,
      });
      this.#sequence[from] += payload.length;
      this.file.packet(packet.bytes);
    }
  }
}

/** One binary message in one frame. */
const frameOf = (message: Uint8Array, masked: boolean): Buffer =>
  wsFrame(message, { masked, mask: MASK });
