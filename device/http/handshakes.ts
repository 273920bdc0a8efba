/**
 * The TLS handshakes of a port. A connection in its handshake has the place of a request.
 *
 *   TCP ──► begin ──► tls.Server (handshakes, never listens) ──► done(socket, certificate)
 *               └ Places                                   └──► refused(TLS), and the end
 */
import type { Socket } from "node:net";
import { createServer, type Server, type TLSSocket } from "node:tls";
import { tlsShaken, watchTlsServer } from "../../shared/transport/websocket.ts";
import { peerOf } from "./front-socket.ts";
import type { Occupant, Places } from "./places.ts";

/** PEM texts for a port that speaks TLS. */
export interface TlsTexts {
  readonly cert: string;
  readonly key: string;
  /** Issuers of the certificates that clients may show. Without it clients show none. */
  readonly ca?: string | undefined;
}

export interface HandshakesOptions {
  readonly texts: TlsTexts;
  readonly places: Places;
  /**
   * The handshake is over. `address` is that of `begin`; `certificate` is the common name of the
   * client's certificate, if it showed one of a known issuer.
   */
  done(socket: TLSSocket, address: string, certificate: string | undefined): void;
  /** A newer connection needs the place of this one. Its socket is closed. */
  evicted(peer: string): void;
  /** The handshake failed, or was too slow. Its socket is closed. */
  failed(peer: string, why: string): void;
  /** As `failed`, for a handshake that was not over in time. */
  late(peer: string): void;
}

/** A connection whose handshake is not over. */
interface Handshake extends Occupant {
  readonly raw: Socket;
  /** HOST:PORT of the client. */
  readonly peer: string;
  readonly since: number;
}

export class Handshakes {
  readonly #options: HandshakesOptions;
  /** It never listens; it gets the sockets of `begin`. */
  readonly #server: Server;
  /** By the client's address and port, oldest first. */
  readonly #all = new Map<string, Handshake>();

  constructor(options: HandshakesOptions) {
    this.#options = options;
    this.#server = createServer({ ...tlsOptions(options.texts), allowHalfOpen: true }, (socket) =>
      this.#done(socket),
    );
    this.#server.on("tlsClientError", ({ message }, socket) => {
      const handshake = this.#all.get(peerOf(socket));
      if (handshake === undefined) return;
      options.failed(handshake.peer, message);
      handshake.raw.destroy();
    });
  }

  /** Called before the first handshake, when the transport is prepared. */
  prepare(): void {
    watchTlsServer(this.#server);
  }

  /** Uses other certificates from the next handshake on. Throws the error of OpenSSL. */
  renew(texts: TlsTexts): void {
    this.#server.setSecureContext(tlsOptions(texts));
    watchTlsServer(this.#server);
  }

  begin(raw: Socket, address: string): void {
    const peer = peerOf(raw);
    const evict = (): void => {
      this.#options.evicted(peer);
      raw.destroy();
    };
    const handshake: Handshake = { raw, address, peer, since: performance.now(), evict };
    this.#all.set(peer, handshake);
    this.#options.places.add(handshake);
    raw.on("close", () => this.#forget(handshake));
    this.#server.emit("connection", raw);
  }

  /** Ends the handshakes that began before `due` (ms, performance.now). */
  endBefore(due: number): void {
    for (const { raw, peer, since } of this.#all.values()) {
      if (since > due) break;
      this.#options.late(peer);
      raw.destroy();
    }
  }

  close(): void {
    for (const { raw } of this.#all.values()) raw.destroy();
  }

  #done(socket: TLSSocket): void {
    tlsShaken(socket);
    const handshake = this.#all.get(peerOf(socket));
    if (handshake === undefined) {
      socket.destroy();
      return;
    }
    this.#forget(handshake);
    socket.on("error", () => {
      // "close" follows.
    });
    this.#options.done(socket, handshake.address, certificateOf(socket));
  }

  #forget(handshake: Handshake): void {
    if (this.#all.get(handshake.peer) === handshake) this.#all.delete(handshake.peer);
    this.#options.places.delete(handshake);
  }
}

/** Options of a port for Node's TLS. A certificate of a client is optional; a gate looks at it. */
const tlsOptions = ({ cert, key, ca }: TlsTexts) => ({
  cert,
  key,
  minVersion: "TLSv1.2" as const,
  ALPNProtocols: ["http/1.1"],
  rejectUnauthorized: false,
  requestCert: ca !== undefined,
  ...(ca === undefined ? {} : { ca }),
});

/** The common name of the certificate that the client has shown, if its issuer is one of `ca`. */
function certificateOf(socket: TLSSocket): string | undefined {
  if (!socket.authorized) return undefined;
  const name = socket.getPeerCertificate().subject?.CN;
  return typeof name === "string" && name !== "" ? name : undefined;
}
