/**
 * The portable transport: one WebSocket (RFC 6455) by the `ws` library. This is the only file
 * that imports it.
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
import { CloseCode, Limits, SUBPROTOCOL } from "../wire/transactions.ts";
import { DataFrameReader, frameInPlace } from "./frames.ts";
import { DIALLING } from "./lookup.ts";
import type { Transport } from "./transport.ts";

/** Longest reason that fits a close frame (RFC 6455, 5.5: 125 bytes with the code). */
const REASON_BYTES = 123;

/** Limits on what one message may cost before it is whole. */
const RECEIVE_LIMITS = {
  maxPayload: Limits.MESSAGE_BYTES,
  maxFragments: 1024,
  maxBufferedChunks: 65_536,
  perMessageDeflate: false,
  /** How long a peer may take to answer a close before its socket is cut. */
  closeTimeout: 5000,
  autoPong: false,
} as const;

/** What a peer may still send after it was told that the connection ends, in bytes and time. */
const LAST_BYTES = 256 * 1024;
const LAST_MS = 1000;

/** Answers to pings that may wait for a peer that does not read them. */
const MAX_PENDING_PONGS = 64;
/** What the library's receiver refuses, in words: it closes with the bare code (RFC 6455, 7.4.1). */
const RECEIVER_WORDS: Readonly<Record<number, string>> = {
  1002: "a frame that RFC 6455 does not allow",
  1007: "text that is not UTF-8",
  1008: "a message in too many pieces",
  1009: `a message of more than ${Limits.MESSAGE_BYTES} bytes`,
};

/** A WebSocket of the library whose close frames always say why. */
class WordedWebSocket extends WebSocket {
  /** What its own receiver refused last. */
  refused: { readonly code: number; readonly reason: string } | undefined;

  override close(code?: number, reason?: string | Buffer): void {
    const words = reason === undefined ? RECEIVER_WORDS[code ?? 0] : undefined;
    if (code !== undefined && words !== undefined) this.refused = { code, reason: words };
    super.close(code, reason ?? words);
  }
}

/** Masking keys, drawn many at a time. */
const KEY_BYTES = 4;
const KEY_POOL_BYTES = 4096;

/** Who masks: nobody (a server), a client, or a client with the zero key. */
type Masking = "none" | "random" | "zero";

class WebSocketTransport implements Transport {
  readonly #ws: WordedWebSocket;
  readonly #socket: Socket;
  readonly #masking: Masking;
  /** Only a client masks. */
  readonly #keys: Uint8Array;
  #nextKey = KEY_POOL_BYTES;
  /** The peer broke a rule of WebSocket: what it still sends is not looked at. */
  #cut = false;
  /** `receivedBytes` behind which nothing is read any more; set when this side ends. */
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
    // Without a listener, what goes wrong in the receiver would end the process.
    ws.on("error", () => {
      if (ws.refused === undefined) return;
      this.#cut = true;
      this.#stopReading();
      this.onClose(ws.refused.code, ws.refused.reason);
    });
    ws.on("close", (code, reason) => this.onClose(code, reason.toString()));
  }

  /** Our owner hears of the end now, however long the peer takes to answer the close. */
  #end(code: number, reason: string): void {
    this.#cut = true;
    this.#ws.close(code, reason);
    this.#stopReading();
    this.onClose(code, reason);
  }

  /**
   * A peer that goes on sending costs nothing more: its bytes stay in the kernel, whose window
   * closes. It may read the close frame and the end of the stream, then the socket is cut.
   */
  #stopReading(): void {
    if (this.#deaf) return;
    this.#deaf = true;
    const socket = this.#socket;
    socket.pause();
    // The library resumes, in the next tick, a socket whose receiver has failed.
    setImmediate(() => socket.pause());
    socket.end();
    setTimeout(() => socket.destroy(), LAST_MS).unref();
  }

  /** One whole binary message. */
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
    // Control frames and unfinished messages come by here, whole messages by `receive`.
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

/** Not a Buffer, whose `slice` is a view: who slices a message means a copy. */
function plain(bytes: Buffer): Uint8Array {
  return new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

const ZERO_KEY = new Uint8Array(KEY_BYTES);

/** A refusal on the HTTP level, before there is a WebSocket. */
export class ConnectError extends Error {
  readonly code: string;
  readonly status: number | undefined;
  /** What the server's Retry-After asks for; 0 without one. */
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
  /** Mask with the zero key: legal on the wire, for TLS or loopback only (RFC 6455, 10.3). */
  readonly zeroMask?: boolean;
  /** Time until the server has answered the upgrade; 5000. */
  readonly timeoutMs?: number;
  /** Time until there is a TCP connection, a part of the other; as long when not given. */
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
      const parts: Buffer[] = [];
      let size = 0;
      response.on("data", (part: Buffer) => {
        size += part.byteLength;
        if (size <= 1024) parts.push(part);
      });
      const settle = () => {
        request.destroy();
        reject(
          new ConnectError(
            "HTTP_STATUS",
            Buffer.concat(parts).toString().trim(),
            response.statusCode,
            retryAfterMs(response.headers["retry-after"]),
          ),
        );
      };
      response.on("end", settle);
      response.on("error", settle);
    });
    ws.once("error", (error: NodeJS.ErrnoException) => {
      clearTimeout(late);
      // A host behind a wall says nothing at all; the library's time-out tells the two not apart.
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

const MAX_RETRY_AFTER_SECONDS = 30;

/** Of Retry-After in seconds (RFC 9110, 10.2.3); its other form, a date, is not looked at. */
function retryAfterMs(header: string | undefined): number {
  if (header === undefined || !/^\d{1,9}$/.test(header)) return 0;
  return 1000 * Math.min(Number(header), MAX_RETRY_AFTER_SECONDS);
}

/** One read of a socket: what the kernel gives at once. */
const READ_BYTES = 256 * 1024;
/** The same for a peer that has not filled one such read yet: most strangers never do. */
const FIRST_READ_BYTES = 4096;

/**
 * Reads a socket into one buffer. Until `start`, and for all that is no data frame, the bytes go
 * where they would go without us: to the socket's `data` listeners.
 */
class SocketReading {
  #buffer = new Uint8Array(FIRST_READ_BYTES);
  #socket: Socket | undefined;
  #frames: DataFrameReader | undefined;
  /** The handshake's answer was followed by more: the library has it, so it keeps reading. */
  #behindHead = false;

  /** Node's option for a socket that is to read here. */
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

  /** For a client: opens the socket. */
  readonly connect = (options: object): Socket => {
    this.#socket = connect({ ...(options as TcpNetConnectOpts), onread: this.onread });
    return this.#socket;
  };

  /**
   * For a server, which Node gives no such option: puts a new socket on the handle of the one that
   * was accepted. Undefined where the handle is not to be had (TLS, another runtime): the library
   * reads there.
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
    // The server counts its connections by the sockets it made: that one ends when this one does.
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

/** Turns HTTP upgrades into transports; who may upgrade is decided before this is called. */
export class WebSocketAcceptor {
  readonly #server = new WebSocketServer({
    ...RECEIVE_LIMITS,
    WebSocket: WordedWebSocket,
    noServer: true,
    clientTracking: false,
    handleProtocols: (offered) => (offered.has(SUBPROTOCOL) ? SUBPROTOCOL : false),
  });

  accept(
    request: IncomingMessage,
    socket: Duplex,
    head: Buffer,
    take: (transport: Transport) => void,
  ): void {
    const reading = new SocketReading();
    const accepted = socket as Socket;
    // Bytes behind the request are in the library's hands already.
    const own = (head.byteLength === 0 ? reading.adopt(accepted) : undefined) ?? accepted;
    this.#server.handleUpgrade(request, own, head, (ws) => {
      const transport = new WebSocketTransport(ws, own, "none");
      reading.start(transport, true);
      take(transport);
    });
  }
}

function clip(reason: string): string {
  let text = reason;
  while (Buffer.byteLength(text) > REASON_BYTES) text = text.slice(0, -1);
  return text;
}
