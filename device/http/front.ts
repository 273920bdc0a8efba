/**
 * The device's listening socket. It gives every connection a place, passes the first request to
 * Node's HTTP parser, and refuses requests that can't be served.
 *
 *   TCP ──► FrontSocket ──► http.Server (parses, never listens) ──► page(...) or upgrade(...)
 *                 └ Places: requests, pages, frontends before hello
 */
import {
  createServer as createParser,
  type IncomingMessage,
  type Server as Parser,
  ServerResponse,
} from "node:http";
import { type AddressInfo, createServer, type Server, type Socket } from "node:net";
import { RETRY_SECONDS, rawAnswer, reply, TEXT_TYPE } from "../../shared/http/answers.ts";
import { HostRule, isForeign } from "../../shared/http/host-rule.ts";
import { readTarget, type Target, TargetError } from "../../shared/http/target.ts";
import type { Logger } from "../../shared/log.ts";
import { LogLimit } from "../../shared/log-limit.ts";
import type { DeviceStatus } from "../../shared/status/device-status.ts";
import { held } from "../../shared/transport/stream.ts";
import { type Caller, type Denial, Identity } from "../access/gate.ts";
import { ETHERNET_PATH } from "../access/roles.ts";
import { FirstRefusals } from "./first-refusals.ts";
import { FrontSocket, Stage } from "./front-socket.ts";
import { Handshakes, type TlsTexts } from "./handshakes.ts";
import { mostSockets } from "./open-files.ts";
import { addressKey, type PlaceLimits, Places } from "./places.ts";

/**
 * Connections without a whole request, and those that only wait for their client to close. One
 * address may open more than the kernel's backlog (511) in one turn of the event loop.
 */
const REQUEST_PLACES: PlaceLimits = { total: 1024, perAddress: 640 };
/** Whole requests that are being answered, including captures. */
const PAGE_PLACES: PlaceLimits = { total: 512, perAddress: 256 };
/** Frontends that have not sent hello. A host may start hundreds of them at once. */
const HELLO_PLACES: PlaceLimits = { total: 1024, perAddress: 640 };
/** Time limit (ms) for a request to be whole, and for a client to read an answer. */
const REQUEST_MS = 10_000;
/** Most bytes of a request's head. */
const MAX_HEAD_BYTES = 16 * 1024;
/** Pages that are served without a free place. Their answers are small and need no work. */
const ALWAYS_SERVED = new Set(["/livez", "/readyz"]);

export const NO_PLACE = "the device has no place for another connection; try again in a moment";

/** Reasons of refused connections and requests, with their names in status and metrics. */
export const Refused = {
  /** An idle connection was closed to give its place to a newer one. */
  EVICTED: "evicted",
  /** No place was free, or the process may open no more files. */
  NO_PLACE: "no_place",
  /** The request was not whole in time, or the client did not read the answer in time. */
  TIMEOUT: "timeout",
  /** The bytes are not HTTP, or the target or Host names nothing. */
  MALFORMED: "malformed",
  /** A head of more than 16 KB. */
  HEAD_TOO_LARGE: "head_too_large",
  /** The device does not serve this Host. */
  HOST: "host",
  /** A page of another origin sent the request. */
  ORIGIN: "origin",
  /** The upgrade does not come from a frontend. */
  UPGRADE: "upgrade",
  /** The connection does not begin with TLS as this device wants it. */
  TLS: "tls",
  /** The client is not known, or not yet or no longer. */
  UNKNOWN_CLIENT: "unknown_client",
  /** The client is known, and may not do this. */
  FORBIDDEN: "forbidden",
  /** The client sent more requests behind the first. Counted once for each connection. */
  PIPELINED: "pipelined",
} as const;
export type Refused = (typeof Refused)[keyof typeof Refused];

export interface FrontOptions {
  readonly host: string;
  /** TCP port; 0 lets the system choose. */
  readonly port: number;
  readonly allowHosts: readonly string[];
  readonly log: Logger;
  /** Certificate and key, if the port speaks TLS. */
  readonly tls?: TlsTexts | undefined;
  /** Decides about the client of a request, before anything exists for it. */
  admit(path: string, caller: Caller): Identity | Denial;
  /** Answers a request that can't be served to any client. Returns false for other requests. */
  misses(target: Target, request: IncomingMessage, response: ServerResponse): boolean;
  /** Answers a request that passed all checks. */
  page(asked: Asked, request: IncomingMessage, response: ServerResponse): void;
  /** Returns the HTTP status and a sentence for a refused upgrade, or undefined to accept it. */
  upgradeRefusal(
    target: Target,
    request: IncomingMessage,
    identity: Identity,
  ): readonly [string, string] | undefined;
  upgrade(request: IncomingMessage, socket: Socket, head: Buffer, peer: Peer): void;
}

/** A request that passed all checks. */
export interface Asked extends Target {
  readonly identity: Identity;
  /** Reads the request's body. Without this call all bytes behind the head are dropped. */
  wantBody(): void;
  /** Declares that the answer goes on until its reader leaves. */
  stream(): void;
}

/** Refusals that matter to an operator. They are logged as warnings. */
const LOUD: ReadonlySet<Refused> = new Set([
  ...[Refused.EVICTED, Refused.NO_PLACE, Refused.HOST, Refused.ORIGIN, Refused.UPGRADE],
]);

/** Refusals that matter to an operator once: the first of an address in a minute is a warning. */
const CLIENTS: ReadonlySet<Refused> = new Set([Refused.UNKNOWN_CLIENT, Refused.FORBIDDEN]);

/** The remote end of a connection. */
export interface Peer {
  /** HOST:PORT, for logs. */
  readonly name: string;
  /** Key of the address, as addressKey returns it. */
  readonly address: string;
  readonly identity: Identity;
  readonly target: Target;
}

export class Front {
  /** Frontends that have not sent hello. The server adds and deletes them. */
  readonly hellos = new Places(HELLO_PLACES);
  readonly #refused = new Map<Refused, number>();
  readonly #log: LogLimit;
  readonly #firsts = new FirstRefusals();
  readonly #options: FrontOptions;
  readonly #rule: HostRule;
  readonly #listener: Server;
  readonly #parser: Parser;
  /** Undefined for a port without TLS. */
  readonly #tls: Handshakes | undefined;
  readonly #requests = new Places(REQUEST_PLACES);
  readonly #pages = new Places(PAGE_PLACES);
  readonly #fronts = new Set<FrontSocket>();
  readonly #mostSockets = mostSockets();
  #accepted = 0;
  /** Number of open sockets of Node. NICs hold further descriptors. */
  #sockets = 0;

  constructor(options: FrontOptions) {
    this.#options = options;
    this.#log = new LogLimit(options.log);
    this.#rule = new HostRule(options.allowHosts);
    this.#parser = createParser(
      { maxHeaderSize: MAX_HEAD_BYTES, requireHostHeader: false },
      (request, response) => this.#page(request, response),
    );
    // No limit, so that readTarget sees all headers and refuses a second Host at any position.
    this.#parser.maxHeadersCount = 0;
    this.#parser.maxRequestsPerSocket = 1;
    this.#parser.on("upgrade", (request) => this.#upgrade(request));
    this.#parser.on("connect", (request) =>
      this.#refuse(frontOf(request), Refused.MALFORMED, "405 Method Not Allowed", NO_PROXY),
    );
    this.#parser.on("checkExpectation", (request) =>
      this.#refuse(frontOf(request), Refused.MALFORMED, "417 Expectation Failed", EXPECTATION),
    );
    this.#parser.on("clientError", (error: NodeJS.ErrnoException, socket) => {
      this.#broken(error, socket as unknown as FrontSocket);
    });
    this.#tls = options.tls === undefined ? undefined : this.#createTls(options.tls);
    this.#listener = createServer({ allowHalfOpen: true, noDelay: true }, (socket) =>
      this.#accept(socket),
    );
  }

  /** Binds the port. Rejects with the system's error. */
  async listen(): Promise<AddressInfo> {
    this.#tls?.prepare();
    await new Promise<void>((resolve, reject) => {
      this.#listener.once("error", reject);
      this.#listener.listen(this.#options.port, this.#options.host, () => {
        this.#listener.off("error", reject);
        resolve();
      });
    });
    this.#listener.on("error", (error: NodeJS.ErrnoException) => this.#acceptFailed(error));
    return this.#listener.address() as AddressInfo;
  }

  /** Stops listening. Closes idle connections now, and the rest after `graceMs`. */
  async close(graceMs: number): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#listener.close(() => resolve()));
    this.#tls?.close();
    for (const front of this.#fronts) if (front.stage !== Stage.PAGE) front.destroy();
    setTimeout(() => {
      for (const front of this.#fronts) front.destroy();
    }, graceMs).unref();
    await closed;
  }

  /** Cuts connections that are too slow. Called once a second. */
  tick(): void {
    this.#log.tick();
    const due = performance.now() - REQUEST_MS;
    this.#tls?.endBefore(due);
    for (const front of this.#fronts) {
      if (front.incomplete) {
        if (front.since <= due) this.#refuse(front, Refused.TIMEOUT, TIMEOUT, SLOW);
      } else if (front.unreadSince > 0 && front.unreadSince <= due) {
        this.count(Refused.TIMEOUT, front.peer, "the answer was not read in time");
        front.destroy();
      }
    }
  }

  /**
   * Counts a refusal. At most one refusal of each reason is logged in a second, and one more with
   * level warn where a client of a new address is not known or may not do what it asks.
   */
  count(reason: Refused, peer: string, sentence: string): void {
    const isFirst = CLIENTS.has(reason) && this.#firsts.isFirst(reason, peer);
    const level = isFirst || LOUD.has(reason) ? "warn" : "debug";
    const kind = isFirst ? `${reason} first` : reason;
    this.#log.of(kind)[level]({ peer, reason }, `refused a connection: ${sentence}`);
    this.#refused.set(reason, (this.#refused.get(reason) ?? 0) + 1);
  }

  snapshot(): DeviceStatus["http"] {
    return {
      accepted: this.#accepted,
      requests: this.#requests.size,
      pages: this.#pages.size,
      hellos: this.hellos.size,
      refused: Object.fromEntries(this.#refused),
    };
  }

  // Connections.

  #accept(raw: Socket): void {
    this.#accepted++;
    this.#sockets++;
    raw.on("close", () => {
      this.#sockets--;
    });
    raw.on("error", () => {
      // "close" follows, and its listener does all the work.
    });
    const sockets = this.#sockets + held.descriptors;
    if (sockets > this.#mostSockets && !this.#requests.shed() && !this.hellos.shed()) {
      this.count(Refused.NO_PLACE, raw.remoteAddress ?? "", "no file is left for its socket");
      raw.end(NO_PLACE_ANSWER, () => raw.destroy());
      return;
    }
    const address = addressKey(raw.remoteAddress ?? "");
    if (this.#tls === undefined) this.#begin(raw, address);
    else this.#tls.begin(raw, address);
  }

  #begin(socket: Socket, address: string, certificate?: string): void {
    const front = new FrontSocket(socket, address, this.#owner, certificate);
    this.#fronts.add(front);
    this.#requests.add(front);
  }

  /** Uses other certificates from the next handshake on. Throws the error of OpenSSL. */
  renewTls(texts: TlsTexts): void {
    if (this.#tls === undefined) throw new TypeError("this port does not speak TLS");
    this.#tls.renew(texts);
  }

  #createTls(texts: TlsTexts): Handshakes {
    return new Handshakes({
      texts,
      places: this.#requests,
      done: (socket, address, certificate) => this.#begin(socket, address, certificate),
      evicted: (peer) => this.count(Refused.EVICTED, peer, NO_PLACE),
      failed: (peer, why) => this.count(Refused.TLS, peer, `the handshake of TLS failed: ${why}`),
      late: (peer) =>
        this.count(Refused.TIMEOUT, peer, "the handshake of TLS was not over in time"),
    });
  }

  readonly #owner = {
    begun: (front: FrontSocket): void => {
      this.#parser.emit("connection", front);
    },
    headEnded: (front: FrontSocket): void => {
      // The bytes looked like a head, but the parser waits for more. HTTP/2's preface does that.
      if (front.stage === Stage.REQUEST) {
        this.#refuse(front, Refused.MALFORMED, "400 Bad Request", "this port speaks HTTP/1.1");
      }
    },
    answered: (front: FrontSocket): void => {
      this.#pages.delete(front);
      this.#requests.delete(front);
      if (this.#fronts.has(front)) this.#requests.add(front);
    },
    evicted: (front: FrontSocket): void => {
      this.count(Refused.EVICTED, front.peer, NO_PLACE);
      front.dismiss(NO_PLACE_ANSWER);
    },
    pipelined: (front: FrontSocket): void => {
      this.count(Refused.PIPELINED, front.peer, "only its first request is answered");
    },
    left: (front: FrontSocket): void => {
      this.#fronts.delete(front);
      this.#requests.delete(front);
      this.#pages.delete(front);
    },
  };

  /** Handles a failed accept. The connection waits in the kernel or is gone; listening goes on. */
  #acceptFailed(error: NodeJS.ErrnoException): void {
    this.count(Refused.NO_PLACE, "", `the system accepts no more: ${error.message}`);
    this.#requests.shed();
  }

  // Requests.

  #page(request: IncomingMessage, response: ServerResponse): void {
    const front = frontOf(request);
    front.stage = Stage.PAGE;
    response.on("error", () => {
      // The client left before the end of the answer, so there is no receiver for an error.
    });
    const refuse: Refuse = (reason, status, text, headers = {}): void => {
      this.count(reason, front.peer, text);
      reply(response, Number.parseInt(status, 10), TEXT_TYPE, `${text}\n`, headers);
      front.takeBody();
    };
    const target = targetOf(request, refuse);
    if (target === undefined) return;
    if (this.#options.misses(target, request, response)) {
      front.takeBody();
      return;
    }
    if (!this.#allows(target, request, true, refuse)) return;
    const identity = this.#identify(target, request, front, refuse);
    if (identity === undefined) return;
    if (request.method === "POST") {
      // A POST keeps its request place until its body is whole. Then at most one per NIC waits.
      request.once("end", () => this.#requests.delete(front));
    } else if (this.#pages.tryAdd(front) || ALWAYS_SERVED.has(target.path)) {
      this.#requests.delete(front);
    } else {
      refuse(Refused.NO_PLACE, FULL, NO_PLACE, { "retry-after": String(RETRY_SECONDS) });
      return;
    }
    let wanted = false;
    const wantBody = (): void => {
      wanted = true;
      front.takeBody(() => request.complete);
    };
    const stream = (): void => {
      front.streams = true;
    };
    this.#options.page({ ...target, identity, wantBody, stream }, request, response);
    if (!wanted) front.takeBody();
  }

  #upgrade(request: IncomingMessage): void {
    const front = frontOf(request);
    if (!WEBSOCKET.test(request.headers.upgrade ?? "")) {
      // RFC 9110, 7.8: a server may ignore an upgrade to another protocol (h2c) and serve the page.
      const response = new ServerResponse(request);
      response.assignSocket(front as unknown as Socket);
      response.on("finish", () => front.end());
      this.#page(request, response);
      return;
    }
    const refuse: Refuse = (...refusal) => this.#refuse(front, ...refusal);
    const target = targetOf(request, refuse);
    if (target === undefined) return;
    const { headers } = request;
    // Browsers send Origin with every upgrade. A request without it comes from a program, which may
    // use any host name.
    const browser = headers.origin !== undefined || headers["sec-fetch-site"] !== undefined;
    // A URL with a token is for pages of any origin: no other site can make a browser use it.
    if (target.secret === undefined && !this.#allows(target, request, browser, refuse)) return;
    // A browser's upgrade has no header for a token.
    const ticket = new URLSearchParams(target.query).get("ticket") ?? undefined;
    const identity = this.#identify(target, request, front, refuse, ticket);
    if (identity === undefined) return;
    const refusal = this.#options.upgradeRefusal(target, request, identity);
    if (refusal !== undefined) {
      const [status, sentence] = refusal;
      refuse(status === FULL ? Refused.NO_PLACE : Refused.UPGRADE, status, sentence);
      return;
    }
    const { socket, head } = front.detach();
    const { peer: name, address } = front;
    this.#options.upgrade(request, socket, head, { name, address, identity, target });
  }

  /** Returns the client of a request, or undefined after `refuse` was called. */
  #identify(
    { path, secret: urlToken }: Target,
    { headers }: IncomingMessage,
    { address, certificate }: FrontSocket,
    refuse: Refuse,
    ticket?: string,
  ): Identity | undefined {
    const found = this.#options.admit(path, { headers, address, certificate, ticket, urlToken });
    if (found instanceof Identity) return found;
    const isKnown = found.status.startsWith("403");
    const reason = isKnown ? Refused.FORBIDDEN : Refused.UNKNOWN_CLIENT;
    refuse(reason, found.status, found.sentence, found.headers);
    return undefined;
  }

  /** Calls `refuse` for a request that another site may have made a browser send. */
  #allows(target: Target, request: IncomingMessage, browser: boolean, refuse: Refuse): boolean {
    if (browser && !this.#rule.allows(target.hostname)) {
      refuse(Refused.HOST, "421 Misdirected Request", this.#rule.refusal(target.hostname));
      return false;
    }
    if (!isForeign(request.headers, target)) return true;
    refuse(Refused.ORIGIN, "403 Forbidden", FOREIGN);
    return false;
  }

  #broken(error: NodeJS.ErrnoException & { reason?: string }, front: FrontSocket): void {
    // An answer is under way, or the socket itself failed.
    if (front.answeredSince > 0 || !error.code?.startsWith("HPE_")) {
      front.destroy();
    } else if (error.code === "HPE_HEADER_OVERFLOW") {
      this.#refuse(front, Refused.HEAD_TOO_LARGE, HEAD_TOO_LARGE, LONG_HEAD);
    } else {
      const why = error.reason === undefined ? "" : `: ${error.reason}`;
      this.#refuse(front, Refused.MALFORMED, "400 Bad Request", `this is no HTTP request${why}`);
    }
  }

  #refuse(
    front: FrontSocket,
    reason: Refused,
    status: string,
    sentence: string,
    headers: Readonly<Record<string, string>> = {},
  ): void {
    this.count(reason, front.peer, sentence);
    front.stage = Stage.OVER;
    const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}`);
    const fixed = HEADERS_OF[status.slice(0, 3)] ?? [];
    front.answer(rawAnswer(status, sentence, [...fixed, ...lines]));
  }
}

type Refuse = (
  reason: Refused,
  status: string,
  sentence: string,
  headers?: Readonly<Record<string, string>>,
) => void;

const SECRET_PATH = `${ETHERNET_PATH}/`;

/** Returns the target, or undefined after `refuse` was called. */
function targetOf(request: IncomingMessage, refuse: Refuse): Target | undefined {
  try {
    const target = readTarget(request);
    const secret = target.path.startsWith(SECRET_PATH) ? target.path.slice(SECRET_PATH.length) : "";
    return secret === "" ? target : { ...target, path: ETHERNET_PATH, secret };
  } catch (error) {
    if (!(error instanceof TargetError)) throw error;
    refuse(Refused.MALFORMED, "400 Bad Request", error.message);
    return undefined;
  }
}

const FULL = "503 Service Unavailable";
const WEBSOCKET = /^\s*websocket\s*$/i;
const TIMEOUT = "408 Request Timeout";
const SLOW = `the request was not whole within ${REQUEST_MS / 1000} s`;
const HEAD_TOO_LARGE = "431 Request Header Fields Too Large";
const LONG_HEAD = `the request line and the headers have more than ${MAX_HEAD_BYTES} bytes`;
const NO_PROXY = "CONNECT is not served here: this port is no proxy";
const EXPECTATION = "only Expect: 100-continue is understood";
const FOREIGN = "pages of another origin may not ask this device";
const RETRY_AFTER = `Retry-After: ${RETRY_SECONDS}`;
const HEADERS_OF: Readonly<Record<string, readonly string[]>> = {
  "405": ["Allow: GET, HEAD, POST"],
  "503": [RETRY_AFTER],
};
const NO_PLACE_ANSWER = rawAnswer(FULL, NO_PLACE, [RETRY_AFTER]);

/** Returns the FrontSocket of a request. The parser has no sockets of another class. */
const frontOf = ({ socket }: IncomingMessage): FrontSocket => socket as unknown as FrontSocket;
