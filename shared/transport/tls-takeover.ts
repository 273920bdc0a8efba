/**
 * Takes TLS connections over from Node when their handshake is over. Node makes the handshake, checks
 * the certificates and serves HTTP. A WebSocket's records are then sealed and opened without Node.
 *
 *   context ── watchContext        each SSL of it calls `seen` for each message of the handshake
 *   socket  ── shaken              the last such SSL is that of the socket
 *           ── takeTls             the SSL gets new BIOs, and Node's socket ends
 *
 * Node has no function that returns the SSL of a socket. OpenSSL passes it to a callback during the
 * handshake, and the Finished message proves to which socket it belongs.
 */
import type { SecureContext, Server, TLSSocket } from "node:tls";
import { inspect } from "node:util";
import * as ssl from "../reactor/openssl.ts";
import { TlsDescriptor } from "./tls-descriptor.ts";

/** The versions whose internals are known to be as this file needs them, by their first number. */
const KNOWN_NODES: ReadonlySet<string> = new Set(["24"]);
if (!KNOWN_NODES.has(process.versions.node.split(".")[0]!)) {
  throw new Error(`TLS of Node ${process.versions.node} is not taken over`);
}

/** Room for the check value of a Finished message, which has the length of a hash. */
const FINISHED_BYTES = 64;

/** The SSL that had a message last, with a reference of its own; 0 for none. */
let last = 0;
const seen = ssl.messageCallback((connection) => {
  if (connection === last) return;
  if (last !== 0) ssl.free(last);
  ssl.keep(connection);
  last = connection;
});

/** The SSL of a socket, with a reference of its own; 0 when it is closed or taken over. */
interface Kept {
  ssl: number;
}
const kept = new WeakMap<TLSSocket, Kept>();

/** Prepares a context. Its connections without a handshake yet can be taken over later. */
export function watchContext(context: SecureContext): void {
  // Node has no other way to read the pointer in an External. Addresses of Linux have 47 bits.
  const text = inspect((context.context as { _external?: unknown } | undefined)?._external);
  const digits = /^\[External: ([0-9a-f]{4,12})\]$/.exec(text)?.[1];
  if (digits !== undefined) ssl.watchMessages(Number.parseInt(digits, 16), seen);
}

/** As `watchContext`, for the present context of a server. Called again after `setSecureContext`. */
export function watchServer(server: Server): void {
  const { _sharedCreds: context } = server as { _sharedCreds?: SecureContext };
  if (context !== undefined) watchContext(context);
}

/** Called in the event that ends a handshake, and before any other code runs. */
export function shaken(socket: TLSSocket): void {
  if (last === 0) return;
  const finished = new Uint8Array(FINISHED_BYTES + 1);
  const length = ssl.getFinished(last, finished, FINISHED_BYTES);
  if (length === 0 || socket.getFinished()?.equals(finished.subarray(0, length)) !== true) return;
  const own: Kept = { ssl: last };
  last = 0;
  ssl.watchNoMessages(own.ssl);
  kept.set(socket, own);
  socket.once("close", () => {
    if (own.ssl !== 0) ssl.free(own.ssl);
    own.ssl = 0;
  });
}

/**
 * Returns the connection of `socket` on `fd`, a duplicate of its descriptor. Node must not use the
 * socket any more, but destroy it. Returns undefined when the connection must stay with Node.
 */
export function takeTls(socket: TLSSocket, fd: number): TlsDescriptor | undefined {
  const own = kept.get(socket);
  if (own === undefined || own.ssl === 0) return undefined;
  const connection = own.ssl;
  // Somebody wants to read the secrets of this connection (--tls-keylog), also after a change of keys.
  if (ssl.logsSecrets(connection)) return undefined;
  if (ssl.hasUnsent(connection)) return undefined;
  own.ssl = 0;
  ssl.dropCallbacks(connection);
  const { early, release } = ssl.takeBios(connection);
  socket.once("close", release);
  return new TlsDescriptor(fd, connection, early);
}
