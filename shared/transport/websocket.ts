/**
 * The handshake of a WebSocket (RFC 6455, section 4) by the `ws` library. No other file imports that
 * library. After the handshake the connection belongs to a FramedTransport.
 */
import type { IncomingMessage } from "node:http";
import type { Socket } from "node:net";
import type { Duplex } from "node:stream";
import { createSecureContext, type TLSSocket, type Server as TlsServer } from "node:tls";
import WebSocket, { WebSocketServer } from "ws";
import type { MemoryAccount } from "../memory-budget.ts";
import { prepareReactor, reactor } from "../reactor/index.ts";
import { SUBPROTOCOL } from "../wire/protocol.ts";
import { type CredentialSource, requestOptions } from "./credentials.ts";
import { FramedTransport, type Masking } from "./framed.ts";
import { DIALLING } from "./lookup.ts";
import { NodeStream } from "./node-stream.ts";
import type { Transport } from "./transport.ts";

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
  /** What this end shows to the server. Default: nothing. */
  readonly credentials?: CredentialSource | undefined;
  /** Time (ms) until the server has answered the upgrade. Default 5000. */
  readonly timeoutMs?: number;
  /** Time (ms) until TCP is connected, a part of `timeoutMs`. Default: all of `timeoutMs`. */
  readonly connectMs?: number;
}

/** The class of streams on descriptors; undefined where the reactor can't be had. */
let FdStream: typeof import("./fd-stream.ts").FdStream | undefined;
/** Takes TLS over; undefined where the OpenSSL of Node can't be called. */
let takeover: typeof import("./tls-takeover.ts") | undefined;

/**
 * Decides whether the reactor or libuv waits for the connections of this process. A program that
 * accepts connections calls it before the first one.
 */
export async function prepareTransport(): Promise<void> {
  await prepareReactor();
  if (reactor() === undefined) return;
  ({ FdStream } = await import("./fd-stream.ts"));
  try {
    takeover = await import("./tls-takeover.ts");
  } catch {
    // Another OpenSSL, or another Node. TLS stays on the streams of Node, which are slower.
  }
}

/** Called before the first handshake of a server, and after each change of its certificate. */
export function watchTlsServer(server: TlsServer): void {
  takeover?.watchServer(server);
}

/** Called in the event that ends a TLS handshake, and before any other code runs. */
export function tlsShaken(socket: TLSSocket): void {
  takeover?.shaken(socket);
}

/** Opens a WebSocket to a device. Rejects with ConnectError. */
export async function dial(options: DialOptions): Promise<Transport> {
  await prepareTransport();
  return new Promise((resolve, reject) => {
    const { timeoutMs = 5000, connectMs } = options;
    let connected = false;
    let late: NodeJS.Timeout | undefined;
    const { headers, ...tls } = requestOptions(options.credentials);
    const isTls = new URL(options.url).protocol === "wss:";
    // The library would make the same context.
    const secureContext = isTls ? createSecureContext(tls) : undefined;
    if (secureContext !== undefined) takeover?.watchContext(secureContext);
    const ws = new WebSocket(options.url, [SUBPROTOCOL], {
      ...DIALLING,
      ...(secureContext === undefined ? {} : { secureContext }),
      headers,
      perMessageDeflate: false,
      handshakeTimeout: timeoutMs,
      followRedirects: false,
      finishRequest: (request) => {
        request.once("socket", (s) => {
          s.once("secureConnect", () => tlsShaken(s as TLSSocket));
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
    });
    let socket: Socket | undefined;
    let release = (): void => {};
    ws.once("upgrade", (response: IncomingMessage) => {
      socket = response.socket;
      release = lease(socket);
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
      release();
      resolve(framed(socket, options.zeroMask === true ? "zero" : "random", NOTHING));
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

const upgrades = new WebSocketServer({
  perMessageDeflate: false,
  noServer: true,
  clientTracking: false,
  handleProtocols: (offered) => (offered.has(SUBPROTOCOL) ? SUBPROTOCOL : false),
});

/**
 * Turns an HTTP upgrade into a transport, whose unfinished messages `account` pays for. The caller has
 * checked that the peer may upgrade. The socket may end at once, when the reactor has taken its
 * connection over.
 */
export function acceptUpgrade(
  request: IncomingMessage,
  socket: Duplex,
  head: Buffer,
  account: MemoryAccount,
  take: (transport: Transport) => void,
): void {
  const release = lease(socket);
  // The bytes behind the request are not for the library.
  upgrades.handleUpgrade(request, socket, NOTHING, () => {
    release();
    const join = (): void => take(framed(socket as Socket, "none", head, account));
    if (socket.writableLength === 0) join();
    else {
      // TLS tells of the written answer in a later tick.
      socket.pause();
      socket.write("", join);
    }
  });
}

const NOTHING = Buffer.alloc(0);
const LEASED = ["data", "end", "close", "error"] as const;

/** Lends a socket to the library. The returned function removes the listeners added since. */
function lease(socket: Duplex): () => void {
  const before = LEASED.map((event) => new Set(socket.listeners(event)));
  return () => {
    for (const [i, event] of LEASED.entries()) {
      for (const listener of socket.listeners(event)) {
        if (before[i]!.has(listener) !== true) {
          socket.removeListener(event, listener as (...args: unknown[]) => void);
        }
      }
    }
  };
}

/** Takes a socket out of the hands of the library. `head`: bytes that arrived with the handshake. */
function framed(
  socket: Socket,
  masking: Masking,
  head: Buffer,
  account?: MemoryAccount,
): Transport {
  socket.pause();
  const rest = socket.read() as Buffer | null;
  const bytes = rest === null ? head : Buffer.concat([head, rest]);
  const waiting = reactor();
  const stream =
    (waiting && FdStream?.takeOver(waiting, socket, takeover?.takeTls)) ?? new NodeStream(socket);
  return new FramedTransport(stream, masking, bytes, account);
}
