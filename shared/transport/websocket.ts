/**
 * The portable transport: one WebSocket (RFC 6455) by the `ws` library. No other file imports that
 * library.
 */
import { randomFillSync } from "node:crypto";
import type { IncomingMessage } from "node:http";
import {
  connect,
  type OnReadOpts,
  Socket,
  type SocketConstructorOpts,
  type TcpNetConnectOpts,
} from "node:net";
import type { Duplex } from "node:stream";
import WebSocket, { WebSocketServer } from "ws";
import { CloseCode, Limits, SUBPROTOCOL } from "../wire/protocol.ts";
import { DataFrameReader, frameInPlace } from "./frames.ts";
import { DIALLING } from "./lookup.ts";
import type { Transport } from "./transport.ts";

/** Longest reason that fits a close frame (RFC 6455, 5.5: 125 bytes with the code). */
const REASON_BYTES = 123;

/** Limits on the cost of an incomplete message. */
const RECEIVE_LIMITS = {
  maxPayload: Limits.MESSAGE_BYTES,
  maxFragments: 1024,
  maxBufferedChunks: 65_536,
  perMessageDeflate: false,
  /** Time (ms) in which a peer must answer a close before its socket is cut. */
  closeTimeout: 5000,
  autoPong: false,
} as const;

/** Bytes and time (ms) that a peer may still send after this side has sent its close frame. */
const LAST_BYTES = 256 * 1024;
const LAST_MS = 1000;

/** Most answers to pings that may wait for a peer that does not read. */
const MAX_PENDING_PONGS = 64;
/** Reasons for the library's receiver, which closes with a code only (RFC 6455, 7.4.1). */
const RECEIVER_WORDS: Readonly<Record<number, string>> = {
  1002: "a frame that RFC 6455 does not allow",
  1007: "text that is not UTF-8",
  1008: "a message in too many pieces",
  1009: `a message of more than ${Limits.MESSAGE_BYTES} bytes`,
};

/** A WebSocket of the library whose close frames always contain a reason. */
class WordedWebSocket extends WebSocket {
  /** The last error of the receiver: close code and reason. */
  refused: { readonly code: number; readonly reason: string } | undefined;

  override close(code?: number, reason?: string | Buffer): void {
    const words = reason === undefined ? RECEIVER_WORDS[code ?? 0] : undefined;
    if (code !== undefined && words !== undefined) this.refused = { code, reason: words };
    super.close(code, reason ?? words);
  }
}

/** Masking keys. Random bytes are drawn for many keys at a time. */
const KEY_BYTES = 4;
const KEY_POOL_BYTES = 4096;

/** Masking of sent frames: none (a server), random keys (a client), or the zero key (a client). */
type Masking = "none" | "random" | "zero";

class WebSocketTransport implements Transport {
  readonly #ws: WordedWebSocket;
  readonly #socket: Socket;
  readonly #masking: Masking;
  /** Pool of random keys, empty unless frames are masked with random keys. */
  readonly #keys: Uint8Array;
  #nextKey = KEY_POOL_BYTES;
  /** True after the peer broke a rule of WebSocket. Further input is ignored. */
  #cut = false;
  /** Value of `receivedBytes` after which reading stops; set when this side ends. */
  #lastByte = Number.POSITIVE_INFINITY;
  #deaf = false;
  onMessage: (message: Uint8Array) => void = () => {};
  onClose: (code: number, reason: string) => void = () => {};

  constructor(ws: WordedWebSocket, socket: Socket, masking: Masking) {
    this.#ws = ws;
    this.#socket = socket;
    this.#masking = masking;
    this.#keys = new Uint8Array(masking === "random" ? KEY_POOL_BYTES : 0);
    socket.setNoDelay(true);
    ws.on("message", (data, isBinary) => {
      if (isBinary) this.receive(plain(data as Buffer));
      else if (this.#cut) return;
      else this.#end(CloseCode.TEXT_MESSAGE, "only binary messages are understood here");
    });
    let pongs = 0;
    ws.on("ping", (data) => {
      if (this.#cut || ws.readyState !== WebSocket.OPEN) return;
      if (pongs === MAX_PENDING_PONGS) {
        this.#end(CloseCode.POLICY, "pings come faster than their answers are read");
        return;
      }
      pongs++;
      ws.pong(data, undefined, () => {
        pongs--;
      });
    });
    // Without a listener, an error of the receiver would end the process.
    ws.on("error", () => {
      if (ws.refused === undefined) return;
      this.#cut = true;
      this.#stopReading();
      this.onClose(ws.refused.code, ws.refused.reason);
    });
    ws.on("close", (code, reason) => this.onClose(code, reason.toString()));
  }

  /** Closes the connection and calls `onClose` at once, without waiting for the peer's answer. */
  #end(code: number, reason: string): void {
    this.#cut = true;
    this.#ws.close(code, reason);
    this.#stopReading();
    this.onClose(code, reason);
  }

  /**
   * Stops reading, so that further bytes of the peer stay in the kernel and the TCP window closes.
   * The peer may still read the close frame and the end of the stream; then the socket is cut.
   */
  #stopReading(): void {
    if (this.#deaf) return;
    this.#deaf = true;
    const socket = this.#socket;
    socket.pause();
    // After an error of the receiver the library resumes the socket in the next tick.
    setImmediate(() => socket.pause());
    socket.end();
    setTimeout(() => socket.destroy(), LAST_MS).unref();
  }

  /** Accepts one whole binary message. */
  receive(message: Uint8Array): void {
    if (this.#cut || this.#deaf) return;
    if (this.#socket.bytesRead > this.#lastByte) this.#stopReading();
    else this.onMessage(message);
  }

  get open(): boolean {
    return this.#ws.readyState === WebSocket.OPEN;
  }

  send(message: Uint8Array, done: () => void): void {
    if (!this.open) {
      done();
      return;
    }
    // The library's own frames are written whole as well, so the two never mix inside a frame.
    this.#socket.write(frameInPlace(message, this.#key()), done);
  }

  #key(): Uint8Array | undefined {
    if (this.#masking === "none") return undefined;
    if (this.#masking === "zero") return ZERO_KEY;
    if (this.#nextKey === KEY_POOL_BYTES) {
      randomFillSync(this.#keys);
      this.#nextKey = 0;
    }
    this.#nextKey += KEY_BYTES;
    return this.#keys.subarray(this.#nextKey - KEY_BYTES, this.#nextKey);
  }

  get unsentBytes(): number {
    return this.#socket.writableLength;
  }

  get receivedBytes(): number {
    return this.#socket.bytesRead;
  }

  close(code: number, reason: string): void {
    this.#ws.close(code, clip(reason));
    if (this.#lastByte !== Number.POSITIVE_INFINITY) return;
    const socket = this.#socket;
    this.#lastByte = socket.bytesRead + LAST_BYTES;
    // Counts control frames and unfinished messages. `receive` counts whole messages.
    socket.on("data", () => {
      if (socket.bytesRead > this.#lastByte) this.#stopReading();
    });
  }

  terminate(): void {
    this.#ws.terminate();
  }

  cork(): void {
    this.#socket.cork();
  }

  uncork(): void {
    this.#socket.uncork();
  }
}

/** Returns a plain Uint8Array, whose `slice` copies. The `slice` of a Buffer is a view. */
function plain(bytes: Buffer): Uint8Array {
  return new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

const ZERO_KEY = new Uint8Array(KEY_BYTES);

/** A refusal on the HTTP level, before there is a WebSocket. */
export class ConnectError extends Error {
  readonly code: string;
  readonly status: number | undefined;
  /** Time (ms) of the server's Retry-After; 0 without one. */
  readonly retryAfterMs: number;
  constructor(code: string, message: string, status?: number, retryAfterMs = 0) {
    super(message);
    this.name = "ConnectError";
    this.code = code;
    this.status = status;
    this.retryAfterMs = retryAfterMs;
  }
}

export interface DialOptions {
  /** ws: or wss: URL. */
  readonly url: string;
  /** True to mask with the zero key. Legal on the wire; for TLS or loopback only (RFC 6455, 10.3). */
  readonly zeroMask?: boolean;
  /** Time (ms) until the server has answered the upgrade. Default 5000. */
  readonly timeoutMs?: number;
  /** Time (ms) until TCP is connected, a part of `timeoutMs`. Default: all of `timeoutMs`. */
  readonly connectMs?: number;
}

/** Opens a WebSocket to a device. Rejects with ConnectError. */
export function dial(options: DialOptions): Promise<Transport> {
  return new Promise((resolve, reject) => {
    const reading = new SocketReading();
    const { timeoutMs = 5000, connectMs } = options;
    let connected = false;
    let late: NodeJS.Timeout | undefined;
    const ws = new WordedWebSocket(options.url, [SUBPROTOCOL], {
      ...RECEIVE_LIMITS,
      ...DIALLING,
      handshakeTimeout: timeoutMs,
      followRedirects: false,
      finishRequest: (request) => {
        request.once("socket", (s) => {
          s.once("connect", () => {
            connected = true;
            clearTimeout(late);
          });
        });
        if (connectMs !== undefined && connectMs < timeoutMs) {
          late = setTimeout(() => {
            request.destroy(Object.assign(new Error("no connection"), { code: "ETIMEDOUT" }));
          }, connectMs);
        }
        request.end();
      },
      // A TLS socket has no buffer of its own to read into; there the library reads.
      ...(options.url.startsWith("ws:") ? { createConnection: reading.connect } : {}),
    });
    let socket: Socket | undefined;
    ws.once("upgrade", (response: IncomingMessage) => {
      socket = response.socket;
    });
    ws.once("unexpected-response", (request, response) => {
      const { statusCode, headers } = response;
      const after = retryAfterMs(headers["retry-after"]);
      void firstText(response).then((text) => {
        request.destroy();
        reject(new ConnectError("HTTP_STATUS", text.trim(), statusCode, after));
      });
    });
    ws.once("error", (error: NodeJS.ErrnoException) => {
      clearTimeout(late);
      // A host behind a firewall sends nothing. The library's timeout has one error for both phases.
      const silent = !connected && /timed out/.test(error.message) ? "ETIMEDOUT" : "WEBSOCKET";
      reject(new ConnectError(error.code ?? silent, error.message));
    });
    ws.once("open", () => {
      if (socket === undefined) throw new Error("a WebSocket opened without an upgrade");
      ws.removeAllListeners("error");
      const masking = options.zeroMask === true ? "zero" : "random";
      const transport = new WebSocketTransport(ws, socket, masking);
      reading.start(transport, false);
      resolve(transport);
    });
  });
}

/** Returns the text of an answer until it ends, breaks off or is longer than a sentence. */
async function firstText(response: IncomingMessage): Promise<string> {
  let text = "";
  try {
    for await (const part of response.setEncoding("utf8")) {
      text += part;
      if (text.length > MAX_TEXT) break;
    }
  } catch {
    // The connection broke. The text received until then is returned.
  }
  return text.slice(0, MAX_TEXT);
}

const MAX_TEXT = 1024;
const MAX_RETRY_AFTER_SECONDS = 30;

/** Parses Retry-After in seconds (RFC 9110, 10.2.3). Returns 0 for its other form, a date. */
function retryAfterMs(header: string | undefined): number {
  if (header === undefined || !/^\d{1,9}$/.test(header)) return 0;
  return 1000 * Math.min(Number(header), MAX_RETRY_AFTER_SECONDS);
}

/** Bytes of one read of a socket. */
const READ_BYTES = 256 * 1024;
/** Bytes of a read until a peer has filled one such read. Most unknown peers never do. */
const FIRST_READ_BYTES = 4096;

/**
 * Reads a socket into one buffer. Until `start`, and for all other than data frames, the bytes go
 * to the socket's `data` listeners, as without this class.
 */
class SocketReading {
  #buffer = new Uint8Array(FIRST_READ_BYTES);
  #socket: Socket | undefined;
  #frames: DataFrameReader | undefined;
  /** True when bytes followed the handshake's answer. The library has them and continues to read. */
  #behindHead = false;

  /** Node's option for a socket that this class reads. */
  get onread(): OnReadOpts {
    return {
      buffer: () => this.#buffer,
      callback: (n) => {
        this.#take(n);
        if (n === FIRST_READ_BYTES && this.#buffer.byteLength === n) {
          this.#buffer = new Uint8Array(READ_BYTES);
        }
        return true;
      },
    };
  }

  /** Opens the socket of a client. */
  readonly connect = (options: object): Socket => {
    this.#socket = connect({ ...(options as TcpNetConnectOpts), onread: this.onread });
    return this.#socket;
  };

  /**
   * Puts a new socket on the handle of a socket that a server has accepted, because Node has no such
   * option for a server. Returns undefined when there is no handle (TLS, another runtime). The
   * library then reads the socket.
   */
  adopt(accepted: Socket): Socket | undefined {
    const owner = accepted as unknown as { _handle?: object | null };
    const handle = owner._handle;
    if (accepted.constructor !== Socket || handle === undefined || handle === null)
      return undefined;
    accepted.setTimeout(0);
    accepted.removeAllListeners("data");
    owner._handle = null;
    const options = { handle, onread: this.onread, allowHalfOpen: accepted.allowHalfOpen };
    this.#socket = new Socket(options as SocketConstructorOpts);
    // The server counts the sockets that it created, so the accepted one must end with this one.
    this.#socket.once("close", () => accepted.destroy());
    return this.#socket;
  }

  start(transport: WebSocketTransport, masked: boolean): void {
    if (this.#socket === undefined || this.#behindHead) return;
    this.#frames = new DataFrameReader(
      masked,
      Limits.MESSAGE_BYTES,
      (message) => transport.receive(message),
      (bytes) => this.#socket!.emit("data", bytes),
    );
  }

  #take(n: number): void {
    if (this.#frames !== undefined) {
      this.#frames.feed(this.#buffer, n);
      return;
    }
    const bytes = Buffer.from(this.#buffer.slice(0, n).buffer);
    const end = bytes.indexOf("\r\n\r\n");
    if (end >= 0 && end + 4 < n) this.#behindHead = true;
    this.#socket!.emit("data", bytes);
  }
}

const upgrades = new WebSocketServer({
  ...RECEIVE_LIMITS,
  WebSocket: WordedWebSocket,
  noServer: true,
  clientTracking: false,
  handleProtocols: (offered) => (offered.has(SUBPROTOCOL) ? SUBPROTOCOL : false),
});

/** Turns an HTTP upgrade into a transport. The caller has checked that the peer may upgrade. */
export function acceptUpgrade(
  request: IncomingMessage,
  socket: Duplex,
  head: Buffer,
  take: (transport: Transport) => void,
): void {
  const reading = new SocketReading();
  const accepted = socket as Socket;
  // The library already has the bytes behind the request.
  const own = (head.byteLength === 0 ? reading.adopt(accepted) : undefined) ?? accepted;
  upgrades.handleUpgrade(request, own, head, (ws) => {
    const transport = new WebSocketTransport(ws, own, "none");
    reading.start(transport, true);
    take(transport);
  });
}

function clip(reason: string): string {
  let text = reason;
  while (Buffer.byteLength(text) > REASON_BYTES) text = text.slice(0, -1);
  return text;
}
